"""Ctrl-C and SIGTERM at random moments, clocks that jump, and two runs on one folder; then the same command again.

    python benchmarks/faults/stops.py [--count 12]

A stopped run must say how to go on and end with 130 or 143 (or without a word, while its modules are loaded), and the
next must leave what an undisturbed one does, bit for bit. Of two runs at once one must be told so.
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

from common import OVER, Tally, complaint, counted, run, speechft, until
from kills import all_jobs, forget_caches
from outcome import differs, undisturbed

# Runs before all else in a process: every look at the clock finds it somewhere within twenty years.
JUMPING = """
import random, time
now, rng = time.time, random.Random(0)
time.time = lambda: now() + rng.uniform(-10, 10) * 365 * 86400
"""


def main(a: argparse.Namespace) -> Tally:
    tally = Tally("stops, jumping clocks, two runs at once", notes="SIGINT and SIGTERM in training; then resumed")
    rng = random.Random(0)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what runs in the background ignores it, its children too
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        jobs = all_jobs(folder)
        for name in ("training", "caching"):
            disturb(tally, name, jobs[name], folder, a.count // 2, rng)
    return tally


def disturb(tally: Tally, name: str, words: list[str], folder: Path, count: int, rng: random.Random) -> None:
    """Count everything that may happen to a job."""
    out = folder / "out"

    def fresh() -> None:
        shutil.rmtree(out, ignore_errors=True)
        forget_caches(folder)

    fresh()
    started = time.perf_counter()
    expected, seconds = undisturbed(words, out), time.perf_counter() - started

    def attempt(number: int) -> bool:
        nonlocal seconds
        wanted = (signal.SIGINT, signal.SIGTERM)[number % 2]
        fresh()
        started = time.perf_counter()
        found = stopped(words, wanted, rng.uniform(0.0, 1.0) * seconds)
        if found == OVER:  # the machine has less to do than it had before
            seconds = min(seconds, time.perf_counter() - started)
        if is_case := counted(tally, f"{name}: {wanted.name}", found):
            tally.count(f"{name} goes on", finished(words, out, expected))
        return is_case

    until(count, attempt)
    fresh()
    tally.count(f"{name}: clock", finished(words, out, expected, jumping(folder)))
    fresh()
    tally.count(f"{name}: two at once", at_once(words, out, expected))


def stopped(words: list[str], wanted: signal.Signals, after: float) -> str | None:
    """What is wrong with how a command ends when it is asked to; None if nothing is, or OVER."""
    command = [sys.executable, "-m", "speechft.cli", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        process.wait(timeout=after)
    except subprocess.TimeoutExpired:
        process.send_signal(wanted)
    shown, said = process.communicate()
    if process.returncode == 0 or (process.returncode == -wanted and "Report:" in shown):  # Python was on its way out
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


def jumping(folder: Path) -> dict[str, str]:
    """An environment whose clock jumps."""
    (folder / "clock").mkdir(exist_ok=True)
    (folder / "clock" / "sitecustomize.py").write_text(JUMPING)
    return os.environ | {"PYTHONPATH": f"{folder / 'clock'}:{os.environ.get('PYTHONPATH', '')}"}


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
    run(main, __doc__, 12)
