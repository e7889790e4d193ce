"""A model on a manifest: transcripts, their scores, and how long it took."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from speechft.audio import SAMPLE_RATE, WINDOW_SECONDS
from speechft.calibration import calibration, judge_words
from speechft.context import Context
from speechft.decode import decode
from speechft.decoder import inference_copy
from speechft.errors import SpeechftError
from speechft.events import OnEvent
from speechft.left_out import tell
from speechft.manifest import Manifest, Utterance
from speechft.normalize import AUTO, name_of, normalizer_of, splits
from speechft.normalize import normalizer as named_normalizer
from speechft.recording import transcribe
from speechft.scoring import Scores, score
from speechft.tasks import command_of, entities_of
from speechft.transcript import DecodeOptions, Transcript, joined
from speechft.whisper import Whisper
from speechft.word_times import words_of

Rates = tuple[float, float]  # WER and CER: what training chooses by
NO_LANGUAGE = (
    "No row names its language and the model was told none, so texts were compared by the rules for any language, "
    "without English spellings. Give rows their 'language', or name it for all (--language)."
)


@dataclass(frozen=True)
class Evaluation:
    """The transcripts and scores of a model on a manifest.

    Attributes:
        heard: the utterances that could be heard, in order: what the scores are over.
        scores: their error rates.
        transcripts: one of each.
        unreadable: the other rows, whose audio could not be read or whose language the model does not know; with the
            reason.
        seconds: of wall-clock time, audio decoding and features included.
        audio_seconds: of sound.
        written: the words of each transcript with their confidences; empty unless asked for.
        caveats: what a reader of the scores must know.
    """

    heard: Manifest
    scores: Scores
    transcripts: list[Transcript]
    unreadable: dict[str, str]
    seconds: float
    audio_seconds: float
    written: tuple[tuple[tuple[str, float], ...], ...] = ()
    caveats: list[str] = field(default_factory=list)

    @property
    def rates(self) -> Rates:
        return self.scores.wer, self.scores.cer

    @property
    def real_time_factor(self) -> float:
        """Seconds of work for a second of sound."""
        return self.seconds / self.audio_seconds if self.audio_seconds else 0.0

    @cached_property
    def calibration(self) -> dict[str, Any] | None:
        """How far the words' confidences can be believed; see `speechft.calibration`."""
        if not self.written:
            return None
        name = name_of(self.scores.normalizer)
        pairs = zip(self.scores.rows, self.written, strict=True)
        return calibration([word for row, written in pairs for word in judge_words(row, written, name)])


def evaluate_model(
    whisper: Whisper,
    manifest: Manifest,
    normalizer: str = "auto",
    *,
    options: DecodeOptions | None = None,
    context: Context | None = None,
    confidences: bool = False,
    on_event: OnEvent = lambda event: None,
) -> Evaluation:
    """Transcribe every utterance and score it against its text.

    What is longer than the model's 30 s is cut at pauses, as `speechft transcribe` does. A multilingual model that was
    not told a language hears each clip in the one that its row names.

    Args:
        whisper: the model, adapted or not.
        manifest: utterances with texts.
        normalizer: see `speechft.normalize`.
        options: how to decode; greedy with guards unless given.
        context: overrides the policy of model or adapter.
        confidences: keep every word's confidence, for `Evaluation.calibration`.
        on_event: called with `{"event": "decoded", "clips": n, "of": all}` as it goes.

    Raises:
        SpeechftError: the manifest is empty, none of it can be heard, or a row's `command` or `entities` are no texts.
    """
    unsaid = normalizer == AUTO and told(whisper) is None and not any(u.language for u in manifest)
    normalizer = normalizer_for(whisper, manifest, normalizer)
    refuse_unfit(manifest, normalizer)  # before the work, not after it
    unheard: dict[str, tuple[str, str]] = {}  # by id: where, and why
    lengths: list[float] = []
    long: list[int] = []  # longer than the window: heard in pieces, one clip after the other

    def left_out(utterance: Utterance, reason: str) -> np.ndarray:
        unheard[utterance.id] = utterance.where, reason
        tell(on_event, utterance.where, reason)
        return np.zeros(0, np.float32)

    def loader(index: int, utterance: Utterance) -> Callable[[], np.ndarray]:
        def load() -> np.ndarray:
            try:
                samples = utterance.load()
            except SpeechftError as error:
                return left_out(utterance, error.what)
            lengths.append(len(samples) / SAMPLE_RATE)
            if lengths[-1] > WINDOW_SECONDS:
                long.append(index)
                return np.zeros(0, np.float32)
            return samples

        return load

    started = time.perf_counter()
    languages: list[str | None] = [None] * len(manifest)
    clips: list[np.ndarray | Callable[[], np.ndarray]] = []
    for index, utterance in enumerate(manifest):
        try:
            languages[index] = whisper.language_of(utterance.language)
            clips.append(loader(index, utterance))
        except SpeechftError as error:
            clips.append(left_out(utterance, f"the model {error.what}"))
    transcripts = decode(
        whisper,
        clips,
        options,
        context=context,
        languages=languages,
        progress=lambda n: on_event({"event": "decoded", "clips": n, "of": len(manifest)}),
    )
    model = inference_copy(whisper) if long else whisper  # one for all of them
    for index in sorted(long):
        samples, language = manifest[index].load(), languages[index]
        pieces = transcribe(model, samples, options, context=context, language=language, ready=True).segments
        transcripts[index] = joined([piece.transcript for piece in pieces])
    seconds = time.perf_counter() - started
    transcripts = [t for u, t in zip(manifest, transcripts, strict=True) if u.id not in unheard]
    heard = manifest.filter(lambda u: u.id not in unheard)
    if not len(heard):
        where, reason = next(iter(unheard.values()))
        what = f"{reason}, and none of the other rows can be heard"
        raise SpeechftError(what, where=where, fix="'speechft check' says why.")
    scores = score(list(heard), [t.text for t in transcripts], normalizer)
    written = tuple(written_words(whisper, t) for t in transcripts) if confidences else ()
    caveats = [NO_LANGUAGE] if unsaid and not splits(normalizer) else []
    unreadable = dict(unheard.values())
    return Evaluation(heard, scores, transcripts, unreadable, seconds, sum(lengths), written, caveats)


def normalizer_for(whisper: Whisper, rows: Sequence[Utterance], normalizer: str = AUTO) -> str:
    """The normaliser of a model's transcripts of these rows; see `speechft.normalize.normalizer_of`."""
    return normalizer_of(rows, told(whisper), normalizer)


def refuse_unfit(rows: Manifest, normalizer: str) -> None:
    """Raises SpeechftError where there is no row to score, or one with wrong words; see `refuse_wrong_words`."""
    if not len(rows):
        raise SpeechftError(
            "there is no utterance to evaluate on", where=rows.path, fix="Name a split that has utterances."
        )
    refuse_wrong_words(rows, normalizer)


def refuse_wrong_words(rows: Iterable[Utterance], normalizer: str) -> None:
    """Raises SpeechftError where a row that is scored has a `command` or `entities` that are not in its text."""
    normalize = named_normalizer(normalizer)
    for utterance in rows:
        command_of(utterance, normalize)
        entities_of(utterance, normalize)


def told(whisper: Whisper) -> str | None:
    """The language that the model writes; None where it guesses."""
    return whisper.language if whisper.is_multilingual else "en"


def written_words(whisper: Whisper, transcript: Transcript) -> tuple[tuple[str, float], ...]:
    """The words of a transcript, each with the geometric mean of its tokens' probabilities."""
    return tuple(
        (word, math.exp(sum(transcript.logprobs[first:last]) / (last - first)))
        for word, first, last in words_of(whisper, transcript)
    )
