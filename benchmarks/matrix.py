"""The tests of the core at both ends of what is supported, each in an environment of its own.

    python benchmarks/matrix.py [3.11:oldest 3.12:newest 3.13:newest] [--work .matrix] [--tests tests/test_train.py ...]
        [--absent-ok] [--once] [--out DIR]

An entry is a Python and a file of constraints. A Python that is not on this machine is a failure, or with --absent-ok
only named; where none of them is here, nothing was tried, and that is a failure too.
Environments are kept under --work until their constraints or pyproject.toml change: a second run installs nothing. With
--once each is removed before the next is made, for they take some gigabytes.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from faults.tally import Tally

ROOT = Path(__file__).parents[1]
ENTRIES = ("3.11:oldest", "3.12:newest", "3.13:newest")
# What depends on the core packages; extras are not installed here.
TESTS = (
    "adapters", "audio", "augment", "cache", "cli", "config", "decode", "error_rate", "interruption", "manifest",
    "matched_pairs", "normalize", "paired", "recording", "result_schema", "scoring", "significance", "sources", "split",
    "train", "whisper",
)  # fmt: skip
TOOLS = ("pytest>=9", "pytest-timeout", "hypothesis", "httpx")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("entries", nargs="*", default=ENTRIES)
    parser.add_argument("--absent-ok", action="store_true", help="leave out Pythons that are not here")
    parser.add_argument("--once", action="store_true", help="keep no environment")
    parser.add_argument("--work", type=Path, default=ROOT / ".matrix")
    parser.add_argument("--tests", nargs="+", default=[f"tests/test_{name}.py" for name in TESTS])
    parser.add_argument("--out", type=Path, help="folder for the count as JSON")
    a = parser.parse_args()
    absent = [entry for entry in a.entries if not interpreter(entry.partition(":")[0])] if a.absent_ok else []
    for entry in absent:
        print(f"{entry}: no such Python here, left out")
    results = {entry: tested(entry, a.work, a.tests, a.once) for entry in a.entries if entry not in absent}
    print("\n| Python: constraints | result | |\n|---|---|---|")
    for entry, (passed, said) in results.items():
        print(f"| {entry} | {'passed' if passed else 'FAILED'} | {said} |")
    tally = Tally("Pythons and core packages", notes=", ".join(results))
    for entry, (passed, said) in results.items():
        tally.count(entry, None if passed else said)
    tally.save(a.out)
    sys.exit(bool(tally.lost) or not tally.tried)


def tested(entry: str, work: Path, tests: list[str], once: bool) -> tuple[bool, str]:
    """Whether the tests pass with a Python and constraints, and pytest's last line."""
    version, _, constraints = entry.partition(":")
    python = interpreter(version)
    if not python:
        return False, f"no Python {version} here"
    venv = work / f"{version}-{constraints}"
    started = time.perf_counter()
    file = ROOT / "constraints" / f"{constraints}.txt"
    if not is_ready(venv, wanted := made_of(file)):
        subprocess.run([python, "-m", "venv", "--clear", venv], check=True)
        command = [venv / "bin" / "pip", "install", "--quiet", "-e", f"{ROOT}[quickstart]", *TOOLS, "-c", file]
        if subprocess.run(command).returncode:
            return False, "its packages cannot be installed together"
        (venv / "ready").write_text(wanted)
    installed = time.perf_counter() - started
    command = [venv / "bin" / "python", "-m", "pytest", "-q", "-m", "not slow and not gpu", *tests]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if once:
        shutil.rmtree(venv)
    print(done.stdout[-3000:] if done.returncode else "", flush=True)
    last = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else done.stderr[-200:]
    return done.returncode == 0, f"{last}; installed in {installed:.0f} s"


def made_of(constraints: Path) -> str:
    """A hash of what decides which packages an environment has."""
    return hashlib.sha256(constraints.read_bytes() + (ROOT / "pyproject.toml").read_bytes()).hexdigest()


def is_ready(venv: Path, wanted: str) -> bool:
    """Whether an environment was installed to its end, and of what is wanted now."""
    ready = venv / "ready"
    return ready.is_file() and ready.read_text() == wanted


def interpreter(version: str) -> str | None:
    """A Python of this version: on the path, or where pyenv keeps them."""
    if found := shutil.which(f"python{version}"):
        works = subprocess.run([found, "-c", ""], capture_output=True).returncode == 0  # pyenv leaves shims that do not
        if works:
            return found
    kept = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    return next((str(p) for p in sorted(kept.glob(f"{version}.*/bin/python"), reverse=True)), None)


if __name__ == "__main__":
    main()
