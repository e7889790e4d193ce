"""A model on a manifest: transcripts, their scores, and how long it took."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from speechft.audio import SAMPLE_RATE, WINDOW_SECONDS
from speechft.decode import DecodeOptions, Transcript, decode
from speechft.errors import SpeechftError
from speechft.manifest import Manifest, Utterance
from speechft.scoring import Scores, score
from speechft.whisper import Context, Whisper


@dataclass(frozen=True)
class Evaluation:
    """What a model made of a manifest.

    Attributes:
        scores: error rates over all utterances; an unreadable clip counts as an empty transcript.
        transcripts: one an utterance, in order.
        unreadable: rows whose audio could not be read, or not to its end, with the reason.
        seconds: of wall-clock time, audio decoding and features included.
        audio_seconds: of sound.
    """

    scores: Scores
    transcripts: list[Transcript]
    unreadable: dict[str, str]
    seconds: float
    audio_seconds: float

    @property
    def real_time_factor(self) -> float:
        """Seconds of work for a second of sound."""
        return self.seconds / self.audio_seconds if self.audio_seconds else 0.0


def evaluate_model(
    whisper: Whisper,
    manifest: Manifest,
    normalizer: str = "whisper-english",
    *,
    options: DecodeOptions | None = None,
    context: Context | None = None,
    on_event: Callable[[dict[str, Any]], None] = lambda event: None,
) -> Evaluation:
    """Transcribe every utterance and score it against its text.

    Args:
        whisper: the model, adapted or not.
        manifest: utterances with texts.
        normalizer: see `speechft.normalize`.
        options: how to decode; greedy with guards unless given.
        context: overrides the policy of model or adapter.
        on_event: called with `{"event": "decoded", "clips": n, "of": all}` as it goes.

    Raises:
        SpeechftError: the manifest is empty.
    """
    if not len(manifest):
        raise SpeechftError("no utterance to evaluate on", where=manifest.path)
    unreadable: dict[str, str] = {}
    lengths: list[float] = []

    def loader(utterance: Utterance) -> Callable[[], np.ndarray]:
        def load() -> np.ndarray:
            try:
                samples = utterance.load()
            except SpeechftError as error:
                unreadable[utterance.where] = error.what
                on_event({"event": "left out", "where": utterance.where, "reason": error.what})
                return np.zeros(0, np.float32)
            seconds = len(samples) / SAMPLE_RATE
            lengths.append(seconds)
            if seconds > WINDOW_SECONDS:
                unreadable[utterance.where] = f"it lasts {seconds:.1f} s; only its first 30 s were transcribed"
            return samples

        return load

    started = time.perf_counter()
    transcripts = decode(
        whisper,
        [loader(utterance) for utterance in manifest],
        options,
        context=context,
        progress=lambda n: on_event({"event": "decoded", "clips": n, "of": len(manifest)}),
    )
    seconds = time.perf_counter() - started
    scores = score(list(manifest), [t.text for t in transcripts], normalizer)
    return Evaluation(scores, transcripts, unreadable, seconds, sum(lengths))
