"""What a release promises of versions: the two ends of the matrix are those of pyproject.toml."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CORE = [Requirement(line) for line in PROJECT["dependencies"]]


def pinned(name: str) -> dict[str, Version]:
    lines = (ROOT / "constraints" / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(package): Version(version) for package, version in pairs}


@pytest.mark.parametrize("name", ["oldest", "newest"])
def test_constraints_name_every_core_package_within_its_bounds(name: str) -> None:
    versions = pinned(name)
    assert {canonicalize_name(r.name) for r in CORE} == versions.keys()
    assert [r.name for r in CORE if versions[canonicalize_name(r.name)] not in r.specifier] == []


def test_the_oldest_are_the_floors() -> None:
    versions = pinned("oldest")
    for requirement in CORE:
        (floor,) = (Version(s.version) for s in requirement.specifier if s.operator == ">=")
        assert versions[canonicalize_name(requirement.name)].release[: len(floor.release)] == floor.release, requirement


def test_the_lock_holds_what_ci_needs_with_hashes() -> None:
    """Each requirement of the extras for developing and the documents, those they name too, at a version it allows."""
    text = (ROOT / "constraints" / "lock.txt").read_text(encoding="utf-8")
    entries = [entry for entry in re.split(r"\n(?=[^ #])", text) if "==" in entry]
    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []
    locked = {
        canonicalize_name(entry.split("==")[0]): re.split(r"[ \\;]", entry.split("==")[1])[0] for entry in entries
    }
    extras = PROJECT["optional-dependencies"]
    wanted, asked = [], ["dev", "docs"]
    for extra in asked:
        for requirement in map(Requirement, extras[extra]):
            own = requirement.name == PROJECT["name"]
            asked.extend(requirement.extras - set(asked)) if own else wanted.append(requirement)
    missing = [str(r) for r in [*CORE, *wanted] if locked.get(canonicalize_name(r.name), "0") not in r.specifier]
    assert missing == [], "run `make lock`"


def test_every_supported_python_is_in_the_matrix() -> None:
    script = (ROOT / "benchmarks" / "matrix.py").read_text(encoding="utf-8")
    named = [
        c.rpartition(" ")[2] for c in PROJECT["classifiers"] if c.startswith("Programming Language :: Python :: 3.")
    ]
    assert named
    assert [version for version in named if f'"{version}:' not in script] == []


def test_the_changelog_has_this_version() -> None:
    assert f"## [{PROJECT['version']}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_types_are_shipped() -> None:
    assert (ROOT / "speechft" / "py.typed").is_file()


def test_docstrings_can_be_encoded() -> None:
    """Python 3.13 does not compile a file with half a character in a docstring."""
    for path in (ROOT / "speechft").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                (ast.get_docstring(node, clean=False) or "").encode()
