"""What can be heard to be wrong with a recording at once, said so that nobody feels blamed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from speechft.audio import SAMPLE_RATE, WINDOW_SECONDS, Seconds
from speechft.manifest import Utterance
from speechft.recording import levels
from speechft.row_problems import sample_problems

LEAST: Seconds = 0.1  # a shorter recording is a button pressed twice
NOISY = 15.0  # dB between the quiet and the loud parts of a recording; a quiet room has 30 or more
FASTEST = 7.0  # words a second: nobody speaks so fast, the end or the start is missing

SAID = {
    "silent": "There is no sound in it. Is the microphone on, and the right one?",
    "quiet": "It is very quiet. If you can, move the microphone nearer.",
    "clipped": "It is so loud that it crackles. Move the microphone a little away.",
    "noisy": "There is a lot of noise around. If you can, close a window or turn off what hums.",
    "long": f"It is longer than {WINDOW_SECONDS:.0f} seconds, which is more than training can use. Record its parts "
    "one by one, as sentences of your own.",
    "short": "It is very short for this sentence. Perhaps the start or the end is missing.",
}


def notes(samples: np.ndarray, text: str) -> list[dict[str, str]]:
    """What to tell about a recording: `kind` and a sentence each; `silent` is the one that cannot be used.

    Args:
        samples: mono 16 kHz.
        text: what was to be read.
    """
    if len(samples) < LEAST * SAMPLE_RATE:
        return [{"kind": "silent", "text": SAID["silent"]}]
    kinds = [problem.kind for problem in sample_problems(Utterance(Path(), text, "new"), samples)]
    if "silent" not in kinds:
        level = levels(samples)
        if len(level) > 30 and np.percentile(level, 95) - np.percentile(level, 5) < NOISY:
            kinds.append("noisy")
        if len(samples) > WINDOW_SECONDS * SAMPLE_RATE:
            kinds.append("long")
        if len(text.split()) > FASTEST * len(samples) / SAMPLE_RATE:
            kinds.append("short")
    return [{"kind": kind, "text": SAID[kind]} for kind in kinds if kind in SAID]
