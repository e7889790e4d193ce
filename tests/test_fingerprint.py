"""Copies of a recording are found in other formats, at other levels and cut; other recordings are not."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest
import soundfile

from speechft.fingerprint import copies, fingerprint
from speechft.manifest import Manifest

Change = Callable[[np.ndarray], np.ndarray]


@pytest.fixture(scope="module")
def clips(voice: Manifest) -> list[np.ndarray]:
    return [u.load() for u in voice]


def coded(samples: np.ndarray, **how: object) -> np.ndarray:
    file = BytesIO()
    soundfile.write(file, samples, 16_000, **how)
    file.seek(0)
    return soundfile.read(file, dtype="float32")[0]


CHANGES: dict[str, Change] = {
    "mp3": lambda x: coded(x, format="MP3"),
    "opus": lambda x: coded(x, format="OGG", subtype="OPUS"),
    "8 bits": lambda x: coded(x, format="WAV", subtype="ULAW"),
    "quieter": lambda x: (0.2 * x).astype(np.float32),
    "cut": lambda x: x[2345:-1234],
    "telephone": lambda x: np.repeat(x[::2], 2),
    "the second half": lambda x: x[x.size // 2 :],
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_copy_is_found(clips: list[np.ndarray], name: str) -> None:
    changed = [CHANGES[name](x) for x in clips[:8]]
    pairs = copies([fingerprint(x) for x in [*clips, *changed]])
    assert pairs == [(i, len(clips) + i) for i in range(8)]


def test_other_sentences_of_one_voice_are_not_copies(clips: list[np.ndarray]) -> None:
    assert copies([fingerprint(x) for x in clips]) == []


def test_short_silent_and_no_clips() -> None:
    silence = fingerprint(np.zeros(32_000, np.float32))
    assert fingerprint(np.ones(100, np.float32)).size == 0
    assert copies([]) == copies([fingerprint(np.ones(9, np.float32))]) == []
    noise = np.random.default_rng(0)
    assert copies([fingerprint(noise.standard_normal(16_000).astype(np.float32)) for _ in range(30)]) == []
    assert copies([silence] * 50) == []  # what everybody has says nothing
