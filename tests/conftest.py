"""What several tests need: the bundled model, and a small simulated voice made once a session."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from speechft.manifest import Manifest
from speechft.whisper import Whisper, load_whisper

# `make test` draws the same examples each time, so that it fails for a change and not by chance; `make test-all` looks
# further.
settings.register_profile("same", derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

# In the commands that tests start, too, our own use of what is deprecated is an error, as pyproject.toml has it for the
# tests themselves. PYTHONWARNINGS takes a module's name as it stands, so each has a line; others' warnings stay theirs.
PACKAGE = Path(__file__).parents[1] / "speechft"
MODULES = [".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts) for path in PACKAGE.rglob("*.py")]
os.environ["PYTHONWARNINGS"] = ",".join(
    f"error::{kind}:{module.removesuffix('.__init__')}"
    for module in sorted(MODULES)
    for kind in ("DeprecationWarning", "FutureWarning")
)


@pytest.fixture(scope="session")
def tiny() -> Whisper:
    """The bundled tiny.en in fp32; tests that change weights make their own."""
    return load_whisper("bundled:tiny.en", device="cpu", dtype=torch.float32)


@pytest.fixture(scope="session")
def voice(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """A few sentences by the simulated voice, mildly impaired."""
    from speechft.corpora.simulated import prepare_simulated

    out: Path = tmp_path_factory.mktemp("voice")
    return Manifest.load(prepare_simulated(out, n_sentences=30, severity=0.5))
