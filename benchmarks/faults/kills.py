"""kill -9 amid preparing, caching, training, saving, exporting, text, studies and fleets; then the same once more.

    python benchmarks/faults/kills.py [--count 100] [--jobs prepare training ...] [--seed 0]

Survived is when the second run ends well and leaves the same files, bit for bit, as one that nobody disturbed
(`outcome.py`; the voice says one word only, so that every run learns it and keeps an adapter). Half the kills of the
long jobs, and all of the short ones, whose time is mostly that of starting, hit the process at one of its changes to
files, drawn from as many as an undisturbed run makes, or a few milliseconds later; the others come at a random moment.
Of a fleet half the kills hit a worker instead, which must be noticed without a second run. A run that was over before
the kill is not counted; another moment is tried instead. The recordings must be as before all of it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
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

from common import OVER, counted, run, speechft, until
from hooks import changes, killing
from outcome import differs, outcome, undisturbed
from tally import Tally

from speechft import cache
from speechft.corpora.simulated import prepare_simulated
from speechft.manifest import Manifest

ENOUGH = 3600  # seconds; the longest job takes a minute or two
INPUTS = ("voice", "pairs", "adapter", "llama")
JOBS = ("prepare", "caching", "training", "saving", "exporting", "text", "study", "fleet")
SHORT = ("prepare", "exporting")
LATEST = 0.02  # seconds from a change to files to the kill: what is written is then half there, or just whole


def main(a: argparse.Namespace) -> Tally:
    rng = random.Random(a.seed)
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        jobs = {name: words for name, words in all_jobs(folder).items() if name in a.jobs}
        tally = Tally("kill -9, then the same command again", notes=", ".join(jobs))
        recordings = inputs(folder)
        expected, steps = {}, {}
        for name, words in jobs.items():
            forget_caches(folder)
            environment = killing(folder, at=0)
            started = time.perf_counter()
            expected[name] = undisturbed(words, folder / "out", environment), time.perf_counter() - started
            steps[name] = changes(folder)
            print(f"{name}: {steps[name]} changes to files in {expected[name][1]:.1f} s", flush=True)
            shutil.rmtree(folder / "out")

        def attempt(number: int) -> bool:
            name = list(jobs)[number % len(jobs)]
            before, seconds = expected[name]
            second = number // len(jobs) % 2 == 1
            forget_caches(folder)
            if name in SHORT or (second and name != "fleet"):
                at, late = rng.randint(1, steps[name]), rng.choice((0.0, rng.uniform(0, LATEST)))
                found = killed_at(jobs[name], folder, before, at, late)
                return counted(tally, f"{name}, {late * 1000:.0f} ms after change {at} of {steps[name]}", found)
            after = rng.uniform(0.2, 1.0) * seconds
            disturb = kill_worker if name == "fleet" and second else kill
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
        "evaluate": ["evaluate", "--manifest", str(cohort), "--split", "dev", "--out", str(out)],
        "text": ["train", *text(folder), f"output_dir={out}", "max_steps=12", "checkpoint_every=3", "evaluations=2"],
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


def text(folder: Path) -> list[str]:
    """What instruction tuning of a tiny model on a few rows is told."""
    sys.path.append(str(Path(__file__).parents[2] / "tests"))
    from tiny_llama import WORDS, make_tiny_llama

    rows, splits = folder / "texts.jsonl", ("train", "train", "train", "dev", "test")
    pairs = [{"prompt": f"say {w}", "completion": w, "split": splits[i % 5]} for i, w in enumerate(WORDS.split())]
    rows.write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    small = ["batch_size=4", "learning_rate=0.01", "max_length=64", "max_new_tokens=4", "dev_examples=4"]
    return ["task=sft", f"model={make_tiny_llama(folder / 'llama')}", f"data={rows}", *small]


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
    return goes_on(words, out, expected)


def killed_at(words: list[str], folder: Path, expected: dict[str, str], at: int, late: float) -> str | None:
    """What is wrong after a kill at a change to files, by its number, and a second run; None if nothing is, or OVER."""
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "speechft.cli", *words]
    environment, nowhere = killing(folder, at, late), subprocess.DEVNULL
    process = Popen(command, stdout=nowhere, stderr=nowhere, env=environment, start_new_session=True)
    code = process.wait()
    with contextlib.suppress(ProcessLookupError):  # what it had started
        os.killpg(process.pid, signal.SIGKILL)
    if code == 0:
        return OVER
    return goes_on(words, out, expected) if code == -signal.SIGKILL else f"ended with {code}"


def goes_on(words: list[str], out: Path, expected: dict[str, str]) -> str | None:
    """What is wrong with the same command after it was killed."""
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
