"""A disk that is full, at every stage: the command ends in a sentence, and goes on once there is space.

    sudo python benchmarks/faults/full_disk.py

A small file system in memory is mounted under the output folder (root only), too small by a different amount each time.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from common import Tally, complaint, run, speechft
from kills import outcome, paired

from speechft.corpora.simulated import prepare_simulated

SIZES_MB = (0.1, 0.5, 1, 2, 4, 8, 12, 20, 30, 45)


def main(a: argparse.Namespace) -> Tally:
    tally = Tally("full disk, then more space", notes="prepare, train; tmpfs of ten sizes")
    if os.geteuid() != 0:
        tally.notes += "; not run: mounting needs root"
        return tally
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        manifest = prepare_simulated(folder / "voice", n_sentences=20, severity=0.5)
        small = folder / "small"
        train = [
            "train", f"manifest={manifest}", f"output_dir={small / 'out'}", "max_steps=6", "batch_size=4",
            "dev_clips=2", "checkpoint_every=2", "test=false", "adapter.rank=16",
        ]  # fmt: skip
        jobs = {"prepare": ["prepare", "folder", str(paired(folder)), str(small / "out")], "train": train}
        for name, words in jobs.items():
            expected = at_size(words, small, 500)[1]
            for size in SIZES_MB:
                tally.count(f"{name} with {size} MB", squeezed(words, small, size, expected))
        read_only(tally, train, small)
    return tally


def at_size(words: list[str], small: Path, megabytes: float) -> tuple[subprocess.CompletedProcess[str], str]:
    mount(small, megabytes)
    try:
        done = speechft(*words)
        return done, outcome(small / "out")
    finally:
        unmount(small)


def squeezed(words: list[str], small: Path, megabytes: float, expected: str) -> str | None:
    """Too small at first; then the same file system is made larger."""
    mount(small, megabytes)
    try:
        first = speechft(*words)
        if wrong := complaint(first, (0, 2)):
            return wrong
        if first.returncode == 2 and "space" not in first.stderr.lower():
            return f"does not say that space is missing: {first.stderr.strip()[-200:]}"
        subprocess.run(["mount", "-o", "remount,size=500m", str(small)], check=True)
        again = speechft(*words)
        if wrong := complaint(again, (0,)):
            return f"with more space: {wrong}"
        return None if outcome(small / "out") == expected else "the result differs"
    finally:
        unmount(small)


def read_only(tally: Tally, words: list[str], small: Path) -> None:
    mount(small, 100)
    subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
    try:
        tally.count("train on a read-only disk", complaint(speechft(*words)))
    finally:
        unmount(small)


def mount(small: Path, megabytes: float) -> None:
    small.mkdir(exist_ok=True)
    size = f"size={int(megabytes * 1024)}k"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(small)], check=True)


def unmount(small: Path) -> None:
    subprocess.run(["umount", "-l", str(small)], check=True)
    shutil.rmtree(small, ignore_errors=True)


if __name__ == "__main__":
    run(main, __doc__, 0)
