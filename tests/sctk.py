"""NIST's own scoring programs (Debian's package sctk), for the tests of rates and of their comparison."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

PROGRAM = ["sctk"] if shutil.which("sctk") else []  # Debian's way to them; elsewhere each is a command of its own
needs_sctk = pytest.mark.skipif(not PROGRAM and not shutil.which("sclite"), reason="NIST's SCTK is not installed")


def alignments(pairs: Iterable[tuple[str, str]], folder: Path, *options: str, name: str = "system") -> bytes:
    """What `sclite` makes of pairs of a reference and a hypothesis, in SGML, in their order."""
    for kind, texts in zip(("reference", name), zip(*pairs, strict=True), strict=True):
        lines = "".join(f"{text} (s_{i:05d})\n" for i, text in enumerate(texts))
        (folder / f"{kind}.trn").write_text(lines, "utf-8")
    files = ["-r", "reference.trn", "trn", "-h", f"{name}.trn", "trn", name, "-i", "spu_id", "-s"]
    command = [*PROGRAM, "sclite", *files, *options, "-o", "sgml", "stdout"]
    return subprocess.run(command, capture_output=True, cwd=folder).stdout


def matched_pairs(base: bytes, other: bytes, folder: Path) -> str:
    """What `sc_stats` prints of the matched-pair test of two systems' alignments: the statistic, then p."""
    command = [*PROGRAM, "sc_stats", "-p", "-t", "mapsswe", "-v", "-n", "-"]
    ways = (command, [*command, "-u"])  # the first has no p, the second nothing else
    return "".join(
        subprocess.run(way, input=base + other, capture_output=True, cwd=folder).stdout.decode("utf-8", "replace")
        for way in ways
    )
