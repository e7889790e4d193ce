"""A disk that is full, at every stage: the command ends in a sentence, and goes on once there is space.

    sudo python benchmarks/faults/full_disk.py [--jobs prepare caching ...]

A small file system in memory is mounted under the output folder and the caches (root only). It holds each time another
share of what an undisturbed run leaves, and at last as much as it wants, but read-only: the message must name the
folder and say what to do, and nothing may be left anywhere.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common import complaint, run, speechft
from kills import JOBS, all_jobs
from outcome import differs, undisturbed
from tally import Tally

SHARES = (0.001, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
ROOMY_MB = 1000


def main(a: argparse.Namespace) -> Tally:
    if os.geteuid() != 0:
        sys.exit("mounting needs root")
    tally = Tally("full or read-only disk, then more space", notes=f"{', '.join(a.jobs)}; {len(SHARES)} sizes each")
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        small = folder / "small"
        jobs = all_jobs(folder)
        for name in a.jobs:
            # the caches are beside the manifest, so it has to be on the small disk too
            places = {str(folder / place): str(small / place) for place in ("out", "voice")}
            words = [replaced(word, places) for word in jobs[name]]
            with disk(small, ROOMY_MB, folder / "voice") as given_mb:
                expected = undisturbed(words, small / "out")
                needed = used_mb(small) - given_mb
            for share in SHARES:
                with disk(small, share * needed, folder / "voice"):
                    tally.count(f"{name} with {share:.1%} of {needed:.1f} MB", squeezed(words, small, expected))
            with disk(small, ROOMY_MB, folder / "voice"):
                tally.count(f"{name} on a read-only disk", refused_read_only(words, folder, small))
    return tally


def squeezed(words: list[str], small: Path, expected: dict[str, str]) -> str | None:
    """What is wrong when there is too little space at first, and more for the same command later."""
    first = speechft(*words)
    if wrong := complaint(first, (0, 2), place=False):
        return wrong
    if first.returncode == 2 and "space" not in first.stderr.lower():
        return f"does not say that space is missing: {first.stderr.strip()[-200:]}"
    if first.returncode == 2:  # it had enough otherwise
        remount(small, f"size={ROOMY_MB}m")
        if wrong := complaint(speechft(*words), (0,)):
            return f"with more space: {wrong}"
    return differs(small / "out", expected)


def refused_read_only(words: list[str], folder: Path, small: Path) -> str | None:
    """What is wrong with how a command ends that may not write."""
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    remount(small, "ro")
    before = everything(folder)
    done = speechft(*words, env=os.environ | {"TMPDIR": str(temporary)})
    if wrong := complaint(done, place=False):
        return wrong
    said = "".join(done.stderr.split())  # which may be broken into lines anywhere
    if f"{small}/" not in said:
        return f"does not name the folder: {done.stderr.strip()[-200:]}"
    if "Choose" not in said:
        return f"does not say what to do: {done.stderr.strip()[-200:]}"
    left = sorted(map(str, everything(folder) ^ before))
    return f"left or removed {', '.join(left)}"[:300] if left else None


def everything(folder: Path) -> set[Path]:
    """All that lies in a folder, however deep."""
    return set(folder.rglob("*"))


@contextmanager
def disk(small: Path, megabytes: float, voice: Path) -> Iterator[float]:
    """A file system with the voice in it and this much space beside; gives what the voice takes, in MB."""
    small.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={ROOMY_MB}m", "tmpfs", str(small)], check=True)
    try:
        shutil.copytree(voice, small / "voice")
        given_mb = used_mb(small)
        remount(small, f"size={max(4, int((given_mb + megabytes) * 1024))}k")
        yield given_mb
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)
        shutil.rmtree(small, ignore_errors=True)


def used_mb(small: Path) -> float:
    return shutil.disk_usage(small).used / 2**20


def replaced(word: str, places: dict[str, str]) -> str:
    for old, new in places.items():
        word = word.replace(old, new)
    return word


def remount(small: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", str(small)], check=True)


if __name__ == "__main__":
    run(main, __doc__, 0, lambda parser: parser.add_argument("--jobs", nargs="+", default=JOBS, choices=JOBS))
