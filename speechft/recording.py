"""Whole recordings to text: cut at pauses where they are longer than the model's window, decoded as a batch, timed.

Cutting at pauses rather than by Whisper's own timestamps lets adapted models, which are trained without
timestamps, do long recordings; and a stretch in which nobody speaks is never shown to the model, which would
invent something (Koenecke et al., 2024, arXiv 2402.08021).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from speechft.audio import HOP_LENGTH, SAMPLE_RATE, SILENT_PEAK, Seconds, load_audio, log_mel
from speechft.context import Context
from speechft.decode import decode
from speechft.decoder import inference_copy
from speechft.normalize import join_texts
from speechft.transcript import DecodeOptions, Transcript
from speechft.whisper import Whisper
from speechft.word_times import Word, word_times

LONGEST: Seconds = 28.0  # of one piece; the window is 30 s and wants some silence at the end
PAUSE: Seconds = 0.3  # shorter quiet stretches are parts of words
MARGIN: Seconds = 0.2  # kept around speech: onsets are quieter than the threshold
SUBTITLE: Seconds = 6.0  # longest subtitle line group


@dataclass(frozen=True)
class Segment:
    """A stretch of speech.

    Attributes:
        start_s, end_s: seconds from the start of the recording.
        transcript: what was said.
        words: with times, if they were asked for.
    """

    start_s: Seconds
    end_s: Seconds
    transcript: Transcript
    words: tuple[Word, ...] = ()

    @property
    def text(self) -> str:
        return self.transcript.text


@dataclass(frozen=True)
class Recording:
    """A transcribed recording.

    Attributes:
        audio: the file, or empty for samples.
        duration_s: of all of it, pauses included.
        segments: in order.
    """

    audio: str
    duration_s: Seconds
    segments: tuple[Segment, ...]

    @property
    def text(self) -> str:
        return join_texts((segment.text for segment in self.segments), self.language)

    @property
    def language(self) -> str:
        return next((segment.transcript.language for segment in self.segments), "")


def speech_pieces(samples: np.ndarray, longest: Seconds = LONGEST) -> list[tuple[int, int]]:
    """Cut a recording into pieces of at most `longest` seconds, at pauses, leaving out long silence.

    A recording that fits in one piece is one piece, so that a short clip is decoded exactly as in evaluation.

    Args:
        samples: mono 16 kHz.

    Returns:
        (first sample, one past the last) of each piece; none if there is no sound.
    """
    if not samples.size or float(np.abs(samples).max()) <= SILENT_PEAK:
        return []
    if len(samples) <= longest * SAMPLE_RATE:
        return [(0, len(samples))]
    level = levels(samples)
    quiet, loud = np.percentile(level, [10, 95])
    threshold = max(quiet + 0.25 * (loud - quiet), loud - 45.0)
    speech = _stretches(level > threshold, round(PAUSE * 100), round(MARGIN * 100))
    pieces: list[tuple[int, int]] = []
    for start, end in speech:
        if pieces and end - pieces[-1][0] <= longest * 100 and start - pieces[-1][1] < 2.0 * 100:
            pieces[-1] = (pieces[-1][0], end)  # the pause between is short: one breath of talk, more context
        else:
            pieces.append((start, end))
    cut = [part for piece in pieces for part in _cut(piece, level, round(longest * 100))]
    return [(start * HOP_LENGTH, min(len(samples), end * HOP_LENGTH)) for start, end in cut]


def levels(samples: np.ndarray) -> np.ndarray:
    """Level of every 10 ms, smoothed over 50 ms."""
    n = len(samples) // HOP_LENGTH
    if n == 0:
        return np.zeros(0)
    power = np.square(samples[: n * HOP_LENGTH].reshape(n, HOP_LENGTH)).mean(axis=1)
    power = np.convolve(power, np.ones(5) / 5, mode="same")
    return 10 * np.log10(power + 1e-10)


def _stretches(active: np.ndarray, pause: int, margin: int) -> list[tuple[int, int]]:
    """(start, end) of active runs, joined over gaps below `pause` and widened by `margin`."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], active.astype(np.int8), [0]])))
    runs: list[tuple[int, int]] = []
    for start, end in edges.reshape(-1, 2).tolist():
        if runs and start - runs[-1][1] < pause:
            runs[-1] = (runs[-1][0], end)
        elif end - start >= 3:  # clicks of less than 30 ms are not speech
            runs.append((start, end))
    wide = [(max(0, start - margin), min(len(active), end + margin)) for start, end in runs]
    joined: list[tuple[int, int]] = []
    for start, end in wide:
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined


def _cut(piece: tuple[int, int], level: np.ndarray, longest: int) -> list[tuple[int, int]]:
    """Cut a stretch without long pauses at its quietest place in the later half, until each part fits."""
    start, end = piece
    parts = []
    while end - start > longest:
        first = start + longest // 2
        place = first + int(np.argmin(level[first : start + longest]))
        parts.append((start, place))
        start = place
    return [*parts, (start, end)]


def transcribe(
    whisper: Whisper,
    audio: str | Path | np.ndarray,
    options: DecodeOptions | None = None,
    *,
    context: Context | None = None,
    language: str | None = None,
    words: bool = False,
    ready: bool = False,
    progress: Callable[[int], None] | None = None,
) -> Recording:
    """Transcribe a recording of any length.

    Args:
        whisper: the model, adapted or not.
        audio: a file in any container, or mono 16 kHz samples.
        options: how to decode; greedy with guards unless given.
        context: overrides the policy of model or adapter.
        language: forced; else the model's, else detected.
        words: also find when each word was said.
        ready: `whisper` is an inference copy already.
        progress: called with the number of pieces just finished.
    """
    samples = load_audio(audio) if isinstance(audio, str | Path) else np.asarray(audio, np.float32)
    model = whisper if ready else inference_copy(whisper)
    pieces = speech_pieces(samples)
    clips = [samples[start:end] for start, end in pieces]
    found = decode(model, clips, options, context=context, language=language, progress=progress, ready=True)
    segments = tuple(
        segment(clip, start, transcript, timed_words(model, clip, start, transcript, context) if words else ())
        for (start, _), clip, transcript in zip(pieces, clips, found, strict=True)
    )
    name = str(audio) if isinstance(audio, str | Path) else ""
    return Recording(name, round(len(samples) / SAMPLE_RATE, 2), segments)


def segment(clip: np.ndarray, start: int, transcript: Transcript, words: tuple[Word, ...] = ()) -> Segment:
    """A decoded piece with its place in the recording.

    Args:
        clip: its samples.
        start: of the clip in the recording, samples.
        transcript: what was found in it.
        words: from `timed_words`, if they were asked for.
    """
    offset = start / SAMPLE_RATE
    return Segment(round(offset, 2), round(offset + len(clip) / SAMPLE_RATE, 2), transcript, words)


def timed_words(
    model: Whisper, clip: np.ndarray, start: int, transcript: Transcript, context: Context | None = None
) -> tuple[Word, ...]:
    """When each word of a piece was said, in seconds from the start of the recording.

    Args:
        model: the inference copy that decoded it.
        clip, start, transcript: as in `segment`.
        context: it was decoded with, where that is not the model's own.
    """
    if not transcript.text:
        return ()
    offset, frames = start / SAMPLE_RATE, log_mel(clip, model.n_mels)
    length = (context or model.context).for_decoding().frames(frames.shape[1])
    return tuple(
        Word(w.text, round(w.start_s + offset, 2), round(w.end_s + offset, 2), w.confidence)
        for w in word_times(model, frames, transcript, length)
    )
