"""kill -9 at random moments of preparing, training, caching and exporting; then the same command again.

    python benchmarks/faults/kills.py [--count 100]

Survived is when the second run ends well and leaves the same adapter, bit for bit, as one that nobody disturbed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import Tally, run, speechft

from speechft.corpora.simulated import prepare_simulated


def main(a: argparse.Namespace) -> Tally:
    tally = Tally("kill -9, then the same command again", notes="prepare, train, train from a cache, export")
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        manifest = prepare_simulated(folder / "voice", n_sentences=20, severity=0.5)
        jobs = {
            "prepare": ["prepare", "folder", str(paired(folder)), "{out}"],
            "train": [
                "train", f"manifest={manifest}", "output_dir={out}", "max_steps=12", "batch_size=4", "dev_clips=2",
                "checkpoint_every=2", "test=false",
            ],
            "train from a cache": [
                "train", f"manifest={manifest}", "output_dir={out}", "max_steps=8", "batch_size=4", "dev_clips=2",
                "checkpoint_every=2", "test=false", "adapter.placement=decoder", "cache=on", "views=2",
            ],
        }  # fmt: skip
        results = {}
        for name, words in jobs.items():
            out = folder / f"undisturbed {name}"
            started = time.perf_counter()
            done = speechft(*(word.replace("{out}", str(out)) for word in words))
            assert done.returncode == 0, done.stderr
            results[name] = (outcome(out), time.perf_counter() - started)
        adapter = folder / "undisturbed train" / "adapter"
        if adapter.is_dir():
            jobs["export"] = ["export", str(adapter), "{out}", "--to", "huggingface"]
            out = folder / "undisturbed export"
            started = time.perf_counter()
            speechft(*(word.replace("{out}", str(out)) for word in jobs["export"]))
            results["export"] = (outcome(out), time.perf_counter() - started)
        for number in range(a.count):
            name = rng.choice(list(jobs))
            expected, seconds = results[name]
            tally.count(
                f"{name} {number}", killed(jobs[name], folder / "disturbed", expected, rng.uniform(0.3, 1.0) * seconds)
            )
    return tally


def paired(folder: Path) -> Path:
    """The voice as a folder of recordings with texts beside them."""
    from speechft.manifest import Manifest

    out = folder / "pairs"
    out.mkdir()
    for u in Manifest.load(folder / "voice" / "manifest.jsonl"):
        shutil.copy(u.audio, out)
        (out / f"{u.audio.stem}.txt").write_text(u.text)
    return out


def killed(words: list[str], out: Path, expected: str, after: float) -> str | None:
    """What is wrong after a kill and a second run; None if nothing is."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "speechft.cli", *(word.replace("{out}", str(out)) for word in words)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        process.wait(timeout=after)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    again = speechft(*command[3:])
    if again.returncode != 0 or "Traceback" in again.stderr:
        return f"the second run ended with {again.returncode}: {again.stderr.strip()[-300:]}"
    return None if outcome(out) == expected else "the second run's result differs"


def outcome(out: Path) -> str:
    """A hash of what matters: manifests, adapters, exported weights; not of times or of logs."""
    digest = hashlib.sha256()
    for path in sorted(out.rglob("*")):
        if path.name in ("manifest.jsonl", "adapter_model.safetensors", "model.safetensors", "left_out.csv"):
            digest.update(path.relative_to(out).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


if __name__ == "__main__":
    run(main, __doc__, 100)
