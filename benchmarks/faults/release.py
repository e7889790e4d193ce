"""What a release is made of: sdist and wheel, the documentation without a warning, a list of its packages, the audit.

    python benchmarks/faults/release.py [--out DIR]

Nothing is installed; `build`, `mkdocs`, `cyclonedx-py` and `pip-audit` have to be (the extras `release` and `docs`).
Where the service that knows of vulnerabilities cannot be reached, the notes say so, and the audit is not counted. Every
entry of the lock must have the SHA-256 of its files.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from common import run
from tally import Tally

ROOT = Path(__file__).parents[2]
PROGRAMS = Path(sys.executable).parent
IN_SDIST = ("pyproject.toml", "README.md", "LICENSE", "Makefile", "speechft/__init__.py", "tests/conftest.py")
IN_WHEEL = ("speechft/__init__.py", "speechft/py.typed", "speechft/app/page/index.html")
UNREACHABLE = (
    "ConnectionError",
    "MaxRetryError",
    "NameResolution",
    "timed out",
    "Failed to",
    "HTTPError",
    "ServiceError",
)


def main(a: argparse.Namespace) -> Tally:
    tally = Tally("release")
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        tally.count("sdist and wheel", packed(folder / "dist"))
        # as `make docs`, but elsewhere
        site = ["build", "--strict", "--site-dir", folder / "site", "--config-file", ROOT / "mkdocs.yml"]
        tally.count("docs", said_wrong("mkdocs", *site) or unless((folder / "site/index.html").is_file(), "no page"))
        tally.count("SBOM", listed(folder / "sbom.json"))
        tally.count("lock", locked((ROOT / "constraints" / "lock.txt").read_text(encoding="utf-8"), installed()))
        wrong, reached = audited()
        if reached:
            tally.count("audit", wrong)
    known = "no known vulnerability" if not wrong else "known vulnerabilities"
    about = known if reached else "the service that knows of vulnerabilities could not be reached"
    tally.notes = f"sdist and wheel, documentation, SBOM, hashes in the lock; audit: {about}"
    return tally


def unless(good: bool, wrong: str) -> str | None:
    return None if good else wrong


def program(name: str, *words: object) -> subprocess.CompletedProcess[str]:
    """Run a tool of this interpreter's environment."""
    command = [str(PROGRAMS / name), *map(str, words)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def said_wrong(name: str, *words: object) -> str | None:
    done = program(name, *words)
    return unless(done.returncode == 0, f"{name} ended with {done.returncode}: {(done.stdout + done.stderr)[-300:]}")


def packed(dist: Path) -> str | None:
    """What is wrong with sdist and wheel as built; `benchmarks/wheel.py` installs and uses the wheel."""
    if wrong := said_wrong("pyproject-build", "--outdir", dist, ROOT):
        return wrong
    (sdist,), (wheel,) = dist.glob("*.tar.gz"), dist.glob("*.whl")
    with tarfile.open(sdist) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    inside_wheel = set(zipfile.ZipFile(wheel).namelist())
    lacks = [f"sdist: {name}" for name in IN_SDIST if name not in inside]
    lacks += [f"wheel: {name}" for name in IN_WHEEL if name not in inside_wheel]
    lacks += [f"wheel has {name}" for name in inside_wheel if name.startswith(("tests/", "benchmarks/"))]
    return unless(not lacks, ", ".join(lacks))


def listed(sbom: Path) -> str | None:
    """What is wrong with the list of packages: it must be valid, and name each that is installed at its version."""
    words = ("environment", sys.executable, "--pyproject", ROOT / "pyproject.toml", "--output-reproducible")
    if wrong := said_wrong("cyclonedx-py", *words, "-o", sbom):
        return wrong
    return incomplete(sbom.read_text(encoding="utf-8"), installed())


def incomplete(text: str, packages: dict[str, str]) -> str | None:
    """What is wrong with a list in CycloneDX's form of packages, by name and version."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    found: dict[str, Any] = json.loads(text)
    if problem := JsonStrictValidator(SchemaVersion.from_version(found["specVersion"])).validate_str(text):
        return f"not valid CycloneDX: {problem}"[:300]
    named = [*found["components"], found["metadata"]["component"]]
    versions = {plain(part["name"]): part.get("version") for part in named}
    lacks = [f"{name} {version}" for name, version in packages.items() if versions.get(name) != version]
    return unless(not lacks, f"lacks {', '.join(lacks)}"[:300])


def locked(lock: str, packages: dict[str, str]) -> str | None:
    """What is wrong with the lock: an entry without hashes, or none of the packages that are installed is in it."""
    entries = [entry for entry in re.split(r"\n(?=[^ #])", lock) if "==" in entry]
    bare = [entry.split()[0] for entry in entries if not re.search(r"--hash=sha256:[0-9a-f]{64}\b", entry)]
    names = {plain(entry.partition("==")[0].partition("[")[0]) for entry in entries}
    if bare or not names:
        return f"without a hash: {', '.join(bare) or 'all, for it is empty'}"
    return unless(bool(names & packages.keys()), "is of other packages than are installed")


def audited() -> tuple[str | None, bool]:
    """What pip-audit found, and whether it could ask."""
    done = program("pip-audit", "--skip-editable", "--progress-spinner", "off")
    if done.returncode == 0:
        return None, True
    unreachable = "Known" not in done.stdout and any(sign in done.stderr for sign in UNREACHABLE)
    return (done.stdout.strip() or done.stderr.strip())[-300:], not unreachable


def installed() -> dict[str, str]:
    """Version of every package here, by its plain name."""
    return {plain(found.metadata["Name"]): found.version for found in distributions()}


def plain(name: str) -> str:
    """A package's name as the index writes it."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    run(main, __doc__, 0)
