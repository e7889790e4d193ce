"""Reading a text aloud with the bundled voice, on this machine."""

from __future__ import annotations

import re
import threading
from functools import cache

import numpy as np

from speechft.audio import SAMPLE_RATE, encoded
from speechft.corpora.simulated import Voice

_lock = threading.Lock()  # the voice fills tables as it goes


@cache
def _voice() -> Voice:
    return Voice()


def spoken(text: str) -> bytes:
    """A text as a wav file.

    Raises:
        SpeechftError: the bundled voice is not installed.
    """
    pause = np.zeros(SAMPLE_RATE // 4, np.float32)
    parts = []
    with _lock:
        voice = _voice()
        for sentence in re.split(r"(?<=[.?!])\s+", text.strip()):
            if re.search(r"\w", sentence):
                tracks = voice.tracks(voice.phonemes(sentence))
                parts += [voice.sound(tracks, np.random.default_rng(0)), pause]
    return encoded(np.concatenate(parts or [pause]))
