"""The public names, in whatever order they are used."""

from __future__ import annotations

import subprocess
import sys
from types import FunctionType

import pytest

import speechft


def test_importing_it_needs_no_torch() -> None:
    code = "import speechft, sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("module", ["train", "evaluate"])
def test_a_module_of_the_same_name_does_not_take_the_place_of_a_function(module: str) -> None:
    """`speechft.train(...)` could be called once: the first call imported speechft/train.py under that name."""
    code = f"""
import speechft
before = getattr(speechft, {module!r})
import speechft.pipeline
from speechft.train import fit
from speechft.evaluate import evaluate_model
assert callable(getattr(speechft, {module!r})) and getattr(speechft, {module!r}) is before
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_is_there() -> None:
    for name in speechft.__all__:
        assert getattr(speechft, name) is not None
    assert isinstance(speechft.train, FunctionType)
    assert isinstance(speechft.evaluate, FunctionType)


@pytest.mark.parametrize("module", ["speechft", "speechft.train", "speechft.cli", "transformers.modeling"])
def test_deprecations_of_ours_are_errors_in_commands_too(module: str) -> None:
    code = f"import warnings; warnings.warn_explicit('old', FutureWarning, 'a.py', 1, module={module!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode == 1) == module.startswith("speechft"), done.stderr
    assert "Invalid -W" not in done.stderr
