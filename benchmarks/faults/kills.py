"""kill -9 at random moments of preparing, caching, training, saving, exporting, studies and fleets; then once more.

    python benchmarks/faults/kills.py [--count 100] [--jobs prepare training ...] [--seed 0]

Survived is when the second run ends well and leaves the same files, bit for bit, as one that nobody disturbed
(`outcome.py`; the voice says one word only, so that every run learns it and keeps an adapter). Of a fleet half the
kills hit a worker instead, which must be noticed without a second run. A run that was over before the kill is not
counted; another moment is tried instead. The recordings must be as before all of it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import Popen

from common import OVER, Tally, counted, run, speechft, until
from outcome import differs, outcome, undisturbed

from speechft import cache
from speechft.corpora.simulated import prepare_simulated
from speechft.manifest import Manifest

ENOUGH = 3600  # seconds; the longest job takes a minute or two
INPUTS = ("voice", "pairs", "adapter")
JOBS = ("prepare", "caching", "training", "saving", "exporting", "study", "fleet")


def main(a: argparse.Namespace) -> Tally:
    rng = random.Random(a.seed)
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        jobs = {name: words for name, words in all_jobs(folder).items() if name in a.jobs}
        tally = Tally("kill -9, then the same command again", notes=", ".join(jobs))
        recordings = inputs(folder)
        expected = {}
        for name, words in jobs.items():
            forget_caches(folder)
            started = time.perf_counter()
            expected[name] = undisturbed(words, folder / "out"), time.perf_counter() - started
            shutil.rmtree(folder / "out")

        def attempt(number: int) -> bool:
            name = list(jobs)[number % len(jobs)]
            before, seconds = expected[name]
            after = rng.uniform(0.2, 1.0) * seconds
            disturb = kill_worker if name == "fleet" and number // len(jobs) % 2 else kill
            forget_caches(folder)
            started = time.perf_counter()
            found = disturbed(jobs[name], folder / "out", before, after, disturb)
            if found == OVER:  # the machine has less to do than it had before
                expected[name] = before, min(seconds, time.perf_counter() - started)
            return counted(tally, f"{name}, {disturb.__name__} after {after:.1f} s", found)

        until(a.count, attempt)
        tally.count("the recordings", None if inputs(folder) == recordings else "they were changed")
    return tally


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--jobs", nargs="+", default=JOBS, choices=JOBS)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")


def all_jobs(folder: Path) -> dict[str, list[str]]:
    """Commands by name, whose output folder is `out` in this one."""
    out = folder / "out"
    simulated = Manifest.load(prepare_simulated(folder / "voice", n_sentences=20, severity=0.5))
    one_word = [replace(u, text="Yes.", prompt_id=None) for u in simulated]  # a few steps are enough to learn it
    manifest, cohort = folder / "voice" / "one_word.jsonl", folder / "voice" / "cohort.jsonl"
    Manifest(one_word).save(manifest)
    two = [replace(u, speaker=("ann", "ben")[i % 2], split="dev" if i < 4 else "train") for i, u in enumerate(one_word)]
    Manifest(two).save(cohort)
    small = [f"output_dir={out}", "batch_size=4", "epochs=3", "dev_clips=2", "min_steps=0", "test=false"]
    small += ["learning_rate=0.002"]
    own = [f"manifest={manifest}", *small]
    searched = "search={learning_rate: [0.001, 0.003]}"
    cached = ["adapter.placement=decoder", "cache=on", "views=2"]
    return {
        "prepare": ["prepare", "folder", str(paired(folder)), str(out)],
        "caching": ["train", *own, "max_steps=4", "checkpoint_every=2", *cached],
        "training": ["train", *own, "max_steps=12", "checkpoint_every=5"],
        "saving": ["train", *own, "max_steps=12", "checkpoint_every=1", "evaluations=4"],
        "exporting": ["export", str(trained(folder)), str(out), "--to", "huggingface"],
        "study": ["tune", *own, "max_steps=4", "evaluations=1", "--trials", "3", searched],
        "fleet": ["fleet", f"manifest={cohort}", *small, "max_steps=4", "evaluations=1"],
    }


def trained(folder: Path) -> Path:
    """An adapter to export: of random weights, for whether it is any good does not matter here."""
    from speechft import adapters
    from speechft.sources import resolve
    from speechft.whisper import load_whisper

    base = "bundled:tiny.en"
    model = adapters.attach(load_whisper(base, device="cpu").model, rank=2)
    card = {"model": base, "context": "clip", "base_sha256": adapters.base_hash(resolve(base))}
    return adapters.save(model, folder / "adapter", card, base, resolve(base))


def paired(folder: Path) -> Path:
    """The voice as a folder of recordings with texts beside them."""
    out = folder / "pairs"
    out.mkdir()
    for u in Manifest.load(folder / "voice" / "manifest.jsonl"):
        shutil.copy(u.audio, out)
        (out / f"{u.audio.stem}.txt").write_text(u.text)
    return out


def disturbed(
    words: list[str], out: Path, expected: dict[str, str], after: float, disturb: Callable[[Popen], bool | None]
) -> str | None:
    """What is wrong after a disturbance, and a second run where it ended the first; None if nothing is, or OVER.

    Args:
        after: seconds until the disturbance.
        disturb: does it; whether the run ends by it, and has to be started again; None where it came too late.
    """
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "speechft.cli", *words]
    process = Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        process.wait(timeout=after)
        return OVER
    except subprocess.TimeoutExpired:
        ended = disturb(process)
    if ended is None:
        process.wait()
        return OVER
    if not ended:
        if process.wait() != 0:
            return f"ended with {process.returncode}"
        return differs(out, expected)
    if words[0] == "export" and outcome(out) == expected:
        return None  # killed at its very end: a whole export is there, and is not made again
    try:
        again = speechft(*words, timeout=ENOUGH)
    except subprocess.TimeoutExpired:
        return f"the second run did not end in {ENOUGH} s"
    if again.returncode != 0 or "Traceback" in again.stderr:
        return f"the second run ended with {again.returncode}: {again.stderr.strip()[-300:]}"
    wrong = differs(out, expected)
    return wrong and f"after the second run {wrong}"


def kill(process: Popen) -> bool | None:
    """The process and what it started, at once; None where it was over."""
    import psutil

    others = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGKILL)
    for other in others:
        with contextlib.suppress(psutil.NoSuchProcess):
            other.kill()
    return True if process.wait() == -signal.SIGKILL else None


def kill_worker(process: Popen) -> bool | None:
    """One of Ray's workers, as soon as one trains; None where the run was over before."""
    import psutil

    while process.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess):  # of processes that end while they are asked
            for other in psutil.Process(process.pid).children(recursive=True):
                if "train_speaker" in f"{other.name()} {other.cmdline()}":
                    other.kill()
                    return False
        time.sleep(0.05)
    return None


def forget_caches(folder: Path) -> None:
    """Remove what earlier runs kept beside the voice, so that the next has to make it."""
    shutil.rmtree(folder / "voice" / cache.FOLDER, ignore_errors=True)


def inputs(folder: Path) -> dict[str, dict[str, str]]:
    """All that the jobs read, without the caches beside it, which are hidden."""
    return {name: outcome(folder / name) for name in INPUTS}


if __name__ == "__main__":
    run(main, __doc__, 100, options)
