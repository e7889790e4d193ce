"""What is missing is named with the extra that brings it, and that extra does."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

import speechft
from speechft.errors import SpeechftError
from speechft.sources import BUNDLES
from speechft.tracking import Tracking

ROOT = Path(__file__).parents[1]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]


def packages(extra: str) -> set[str]:
    """Names of what an extra installs, those of other extras that it names included."""
    found = set()
    for requirement in EXTRAS[extra]:
        match = re.match(r"([A-Za-z0-9._-]+)(?:\[([^]]*)\])?", requirement)
        assert match
        inner = match[2].split(",") if match[1] == "speechft" else []
        found |= {name for other in inner for name in packages(other)} | ({match[1].lower()} - {"speechft"})
    return found


def calls() -> list[tuple[str, list[ast.expr]]]:
    found = []
    for path in sorted(Path(speechft.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "missing_extra":
                found.append((f"{path.name}:{node.lineno}", node.args))
    return found


def test_every_hint_names_an_extra_that_brings_the_package() -> None:
    assert len(calls()) > 15
    for where, (package, extra) in calls():
        if isinstance(extra, ast.Constant):
            assert extra.value in EXTRAS, where
            if isinstance(package, ast.Constant):
                assert package.value in packages(extra.value), where


def test_every_bundle_names_the_extra_of_its_wheels() -> None:
    for bundle in BUNDLES.values():
        assert {name.replace("_", "-") for name in bundle.packages} <= packages(bundle.extra)


@pytest.mark.parametrize("name", ["wandb", "trackio", "tensorboard"])
def test_a_tracker_that_is_not_installed_names_what_brings_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("accelerate.tracking.get_available_trackers", list)
    with pytest.raises(SpeechftError, match=r"speechft\[(\w+)\]|pip install (\w+)\.") as error:
        Tracking(name, tmp_path)
    if match := re.search(r"speechft\[(\w+)\]", str(error.value)):
        assert name in packages(match[1])
    else:
        assert f"pip install {name}." in str(error.value)
