"""Ctrl-C and SIGTERM amid every job, clocks and files' times that jump, two runs on one folder; then the same again.

    python benchmarks/faults/stops.py [--count 28] [--jobs training prepare ...]

A stopped run must say how to go on and end with 130 or 143 (or without a word, while its modules are loaded), and the
next must leave what an undisturbed one does, bit for bit. Short jobs, whose time is mostly that of starting, are
stopped at one of their changes to files. Where files' times jump, a run is killed halfway, all its files and those of
the recordings are made twenty years older or younger, and the same command goes on. Of two runs at once one must be
told so.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import OVER, complaint, counted, run, speechft, until
from hooks import JUMPING, changes, hooked, killing
from kills import all_jobs, forget_caches, goes_on
from outcome import differs, undisturbed
from tally import Tally

SHORT = ("prepare", "exporting", "evaluate")
JOBS = ("training", "caching", "study", "fleet", *SHORT)
CLOCKS = ("training", "caching", *SHORT)  # Optuna's and Ray's own clocks are theirs
AGED = ("training", "caching", "study", "prepare")  # what goes on from files of a run before
AT_ONCE = ("training", "caching")
LAST = ("Report:", "Fleet")  # of what commands print when all is done
YEARS = 20 * 365 * 86400  # seconds


def main(a: argparse.Namespace) -> Tally:
    tally = Tally("stops, jumping clocks, two runs at once")
    tally.notes = f"SIGINT and SIGTERM in {', '.join(a.jobs)}; clocks and files' times off by years; then resumed"
    rng = random.Random(0)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background ignores it, its children too
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        jobs = all_jobs(folder)
        for name in a.jobs:
            disturb(tally, name, jobs[name], folder, a.count // len(a.jobs), rng)
    return tally


def disturb(tally: Tally, name: str, words: list[str], folder: Path, count: int, rng: random.Random) -> None:
    """Count everything that may happen to a job."""
    out = folder / "out"

    def fresh() -> None:
        shutil.rmtree(out, ignore_errors=True)
        forget_caches(folder)

    fresh()
    started = time.perf_counter()
    expected, seconds = undisturbed(words, out, killing(folder, at=0)), time.perf_counter() - started
    steps = changes(folder)

    def attempt(number: int) -> bool:
        nonlocal seconds
        wanted = (signal.SIGINT, signal.SIGTERM)[number % 2]
        fresh()
        started = time.perf_counter()
        if name in SHORT:
            found = stopped(words, wanted, None, killing(folder, rng.randint(1, steps), number=wanted))
        else:
            found = stopped(words, wanted, rng.uniform(0.0, 1.0) * seconds)
        if found == OVER:  # the machine has less to do than it had before
            seconds = min(seconds, time.perf_counter() - started)
        if is_case := counted(tally, f"{name}: {wanted.name}", found):
            tally.count(f"{name} goes on", goes_on(words, out, expected))
        return is_case

    until(count, attempt)
    if name in CLOCKS:
        fresh()
        tally.count(f"{name}: clock", finished(words, out, expected, hooked(folder / "clock", JUMPING)))
    for kind, seconds_on in (("older", -YEARS), ("younger", YEARS)) if name in AGED else ():
        fresh()
        speechft(*words, env=killing(folder, steps // 2))
        aged((out, folder / "voice"), seconds_on)
        tally.count(f"{name}: {kind} files", goes_on(words, out, expected))
        aged((out, folder / "voice"), -2 * seconds_on)  # and once more, when all is done
        tally.count(f"{name}: done, {kind} files before", goes_on(words, out, expected))
    if name in AT_ONCE:
        fresh()
        tally.count(f"{name}: two at once", at_once(words, out, expected))


def aged(folders: tuple[Path, ...], seconds: float) -> None:
    """Move the times of all files of some folders, the hidden ones too."""
    for path in (path for folder in folders for path in (folder, *folder.rglob("*")) if path.exists()):
        state = path.stat()
        os.utime(path, (state.st_atime + seconds, state.st_mtime + seconds))


def stopped(
    words: list[str], wanted: signal.Signals, after: float | None, environment: dict[str, str] | None = None
) -> str | None:
    """What is wrong with how a command ends when it is asked to; None if nothing is, or OVER.

    Args:
        after: seconds until it is asked; None where the environment does that.
    """
    command = [sys.executable, "-m", "speechft.cli", *words]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment)
    try:
        shown, said = process.communicate(timeout=after)
    except subprocess.TimeoutExpired:
        process.send_signal(wanted)
        shown, said = process.communicate()
    if process.returncode == 0:
        return OVER
    if process.returncode == -wanted and any(word in shown for word in LAST):  # Python was on its way out
        return OVER
    if "KeyboardInterrupt" in said and "speechft/cli" not in said:
        return None  # Python's own words, while it was on its way to the command line
    if process.returncode == -wanted and not said:  # while modules were loaded: nothing was begun
        return None
    # killed by the signal, which a shell calls 130 or 143 too: Python does that to itself after a Ctrl-C in `exec`
    if "Traceback" in said or process.returncode not in (128 + wanted, -wanted):
        return f"ended with {process.returncode}: {said.strip()[-300:]}"
    plain = " ".join(said.split())  # which may be broken into lines anywhere
    return None if "same command again" in plain else f"does not say how to go on: {plain[-300:]}"


def finished(
    words: list[str], out: Path, expected: dict[str, str], environment: dict[str, str] | None = None
) -> str | None:
    done = speechft(*words, env=environment)
    return complaint(done, (0,)) or differs(out, expected)


def at_once(words: list[str], out: Path, expected: dict[str, str]) -> str | None:
    """Two runs on one folder: one ends well, the other is told."""
    command = [sys.executable, "-m", "speechft.cli", *words]
    both = [subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate()[1] for process in both]
    codes = [process.returncode for process in both]
    if sorted(codes) != [0, 2]:
        return f"ended with {codes}: {said}"
    if "another run" not in said[codes.index(2)]:
        return f"the other was told: {said[codes.index(2)][-300:]}"
    return differs(out, expected)


if __name__ == "__main__":
    run(main, __doc__, 28, lambda parser: parser.add_argument("--jobs", nargs="+", default=JOBS, choices=JOBS))
