"""One thread that decodes for everybody: the pieces of all waiting recordings, in batches, whoever sent them.

A batch takes what waits while the last one is decoded, so a lone request never waits for company. First pieces go
before second ones of recordings that came about when they did: a sentence is not held up by somebody's lecture, nor a
lecture for ever by sentences.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field

import numpy as np

from speechft.audio import SAMPLE_RATE, Seconds
from speechft.decode import decode
from speechft.errors import SpeechftError
from speechft.precision import NoNumbers
from speechft.recording import Recording, Segment, segment, speech_pieces, timed_words
from speechft.server.voices import Voices, bad_voice
from speechft.transcript import DecodeOptions, Transcript
from speechft.word_times import Word

BATCH_SECONDS: Seconds = 140.0  # of sound in one call of `decode`, which cuts it further to what memory allows
BATCH_PIECES = 64
OVERTAKING = 16  # later recordings that go before a recording's second piece, twice as many before its third, and so on


class Busy(SpeechftError):
    """The queue is full; `retry_after` is when it should have room, in seconds."""

    def __init__(self, retry_after: Seconds) -> None:
        super().__init__("the server has more work than it takes at once", fix=f"Try again in {retry_after:.0f} s.")
        self.retry_after = retry_after


@dataclass
class _Job:
    """A recording on its way: its segments fill up as their pieces are decoded."""

    voice: str | None
    language: str | None
    options: DecodeOptions
    words: bool
    seconds: Seconds
    future: Future[Recording]
    on_segment: Callable[[Segment], None] | None
    segments: list[Segment | None]
    shared: bool  # its voice can be decoded in one batch with others
    told: int = 0

    def put(self, number: int, found: Segment) -> None:
        """Keep a segment, tell of those whose turn it is, and finish after the last."""
        self.segments[number] = found
        while self.told < len(self.segments) and (ready := self.segments[self.told]) is not None:
            if self.on_segment:
                self.on_segment(ready)
            self.told += 1
        if self.told == len(self.segments):
            self.finish()

    def finish(self) -> None:
        done = tuple(s for s in self.segments if s is not None)
        with contextlib.suppress(InvalidStateError):  # cancelled, perhaps just now
            self.future.set_result(Recording("", round(self.seconds, 2), done))

    def fail(self, error: Exception) -> None:
        with contextlib.suppress(InvalidStateError):
            self.future.set_exception(error)


@dataclass(order=True)
class _Piece:
    place: int  # in the line
    number: int  # in its recording
    arrival: int  # breaks ties
    start: int = field(compare=False)  # sample
    clip: np.ndarray = field(compare=False)
    job: _Job = field(compare=False)

    @property
    def seconds(self) -> Seconds:
        return len(self.clip) / SAMPLE_RATE


class Engine:
    """Transcribes recordings in the order that serves most people soonest.

    Args:
        voices: what to decode with.
        most_waiting: seconds of sound that may wait; more is refused.
        on_batch: called after each batch with pieces, seconds of sound, and seconds it took.
    """

    def __init__(
        self,
        voices: Voices,
        most_waiting: Seconds = 1800.0,
        on_batch: Callable[[int, Seconds, Seconds], None] = lambda pieces, sound, took: None,
    ) -> None:
        self.voices, self.most_waiting, self.on_batch = voices, most_waiting, on_batch
        self.waiting: Seconds = 0.0  # of sound, not decoded yet
        self.speed = 10.0  # seconds of sound a second, measured as it goes
        self._heap: list[_Piece] = []
        self._count = itertools.count()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="speechft-engine", daemon=True)
        self._thread.start()

    def submit(
        self,
        voice: str | None,
        samples: np.ndarray,
        *,
        language: str | None = None,
        words: bool = False,
        options: DecodeOptions | None = None,
        on_segment: Callable[[Segment], None] | None = None,
    ) -> Future[Recording]:
        """Queue a recording.

        Args:
            voice: name of an adapter; None is the base model.
            samples: mono 16 kHz, of any length.
            language: forced; else the model's, else detected.
            words: also find when each word was said.
            options: greedy with guards unless given.
            on_segment: called from the engine's thread with each segment, in order.

        Returns:
            the recording to be; cancel it and what was not decoded yet never will be.

        Raises:
            Busy: too much waits already.
            UnknownVoice: there is no such voice.
        """
        pieces = speech_pieces(samples)
        seconds = sum(end - start for start, end in pieces) / SAMPLE_RATE
        future: Future[Recording] = Future()
        job = _Job(
            voice, language, options or DecodeOptions(), words, len(samples) / SAMPLE_RATE, future, on_segment,
            [None] * len(pieces), self.voices.shares_batch(voice),
        )  # fmt: skip
        if not pieces:
            job.finish()
            return future
        with self._changed:
            if self._closed:
                raise Busy(5.0)
            if self.waiting and self.waiting + seconds > self.most_waiting:
                raise Busy(max(1.0, self.waiting / self.speed))
            self.waiting += seconds
            arrival = next(self._count)
            for number, (start, end) in enumerate(pieces):
                place = arrival + OVERTAKING * number
                heapq.heappush(self._heap, _Piece(place, number, arrival, start, samples[start:end], job))
            self._changed.notify()
        return future

    def close(self) -> None:
        """Finish the batch at work and fail what waits."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout=60)
        for piece in self._heap:
            piece.job.fail(Busy(5.0))

    def _work(self) -> None:
        while batch := self._next():
            started = time.perf_counter()
            self._decode(batch)
            took, sound = time.perf_counter() - started, sum(piece.seconds for piece in batch)
            self.speed += 0.2 * (sound / max(took, 1e-3) - self.speed)
            with self._changed:
                self._less(sound)
            self.on_batch(len(batch), sound, took)

    def _next(self) -> list[_Piece]:
        """The pieces to decode together, those first in line and what can go with them; empty when closed."""
        with self._changed:
            while True:
                self._drop_cancelled()
                if self._closed:
                    return []
                if self._heap:
                    break
                self._changed.wait()
            batch, others, room = [heapq.heappop(self._heap)], [], BATCH_SECONDS
            room -= batch[0].seconds
            while self._heap and room > 0 and len(batch) < BATCH_PIECES:
                piece = heapq.heappop(self._heap)
                if _kind(piece) == _kind(batch[0]):
                    batch.append(piece)
                    room -= piece.seconds
                else:
                    others.append(piece)
            for piece in others:
                heapq.heappush(self._heap, piece)
            # a voice's clips side by side: its matrices are then multiplied with a slice of the batch
            return sorted(batch, key=lambda piece: piece.job.voice or "")

    def _less(self, seconds: Seconds) -> None:
        """So much less waits; rounded, or what floats leave over would keep an idle engine busy for ever."""
        self.waiting = max(0.0, round(self.waiting - seconds, 6))

    def _drop_cancelled(self) -> None:
        kept = [piece for piece in self._heap if not piece.job.future.cancelled()]
        if len(kept) < len(self._heap):
            gone = sum(piece.seconds for piece in self._heap if piece.job.future.cancelled())
            self._less(gone)
            self._heap = kept
            heapq.heapify(self._heap)

    def _decode(self, batch: list[_Piece]) -> None:
        job = batch[0].job
        try:
            with self.voices.using([piece.job.voice for piece in batch]) as model:
                clips = [piece.clip for piece in batch]
                found = decode(model, clips, job.options, language=job.language, ready=True)
            for piece, transcript in zip(batch, found, strict=True):
                self._finish(piece, transcript)
        except Exception as error:
            if len(batch) > 1:  # find the one that cannot be decoded; the others must not suffer
                for piece in batch:
                    self._decode([piece])
            elif job.voice and isinstance(error, NoNumbers):
                job.fail(bad_voice(job.voice, error))
            else:
                job.fail(error)

    def _finish(self, piece: _Piece, transcript: Transcript) -> None:
        job = piece.job
        if job.future.cancelled():
            return
        words: tuple[Word, ...] = ()
        if job.words:
            with self.voices.using([job.voice]) as model:
                words = timed_words(model, piece.clip, piece.start, transcript)
        job.put(piece.number, segment(piece.clip, piece.start, transcript, words))


def _kind(piece: _Piece) -> tuple[object, ...]:
    """What must agree in a batch."""
    job = piece.job
    return None if job.shared else job.voice, job.language, job.options
