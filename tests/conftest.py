"""What several tests need: the bundled model, and a small simulated voice made once a session."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from speechft.manifest import Manifest
from speechft.whisper import Whisper, load_whisper


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
