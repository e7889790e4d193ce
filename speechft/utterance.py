"""One recording and what was said in it: a row of a manifest once it was read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

SIMULATED_NOTICE = "simulated voice, not evidence about real speech"
Seconds = float

# Fields that hold a short string; a whole number is taken as one.
WORDS: tuple[str, ...] = (
    *("id", "speaker", "split", "prompt_id", "session"),
    *("severity", "aetiology", "gender", "text_verbatim", "language"),
)
TIMES = ("start_s", "end_s", "duration_s")
CLOSE, CLOSE_SHARE = 0.5, 0.1  # seconds, and of a length: what people write of it may be wrong by the larger of them


@dataclass(frozen=True, slots=True)
class Utterance:
    """One recording, or a stretch of one, and what was said in it.

    Attributes:
        audio: absolute, resolved path of the recording.
        text: what was said, as it is to be written; "" where nobody speaks.
        id: unique within its manifest.
        start_s, end_s: seconds from the start of the file; None means its start and its end.
        duration_s: length in seconds where the manifest states it; see `probe_duration`.
        prompt_id: the sentence that was to be read, so that no prompt ends up in two splits.
        text_verbatim: what was said with every repetition and filler.
        extra: any other field of the row, a group to break results down by.
        row: line in the manifest, from 1; 0 when it doesn't come from a file.
        source: the manifest's file name.
    """

    audio: Path
    text: str
    id: str
    speaker: str = ""
    split: str | None = None
    start_s: Seconds | None = None
    end_s: Seconds | None = None
    duration_s: Seconds | None = None
    prompt_id: str | None = None
    session: str | None = None
    severity: str | None = None
    aetiology: str | None = None
    age: float | str | None = None
    gender: str | None = None
    text_verbatim: str | None = None
    language: str | None = None
    extra: Mapping[str, object] = field(default_factory=dict, hash=False)
    row: int = field(default=0, compare=False)
    source: str = field(default="", compare=False)

    @property
    def where(self) -> str:
        """What to name in an error: "train.jsonl:17", or the id when no file holds this utterance."""
        return f"{self.source}:{self.row}" if self.row else f"utterance '{self.id}'"

    @property
    def seconds(self) -> Seconds | None:
        """Length in seconds as far as the manifest tells, without opening the recording."""
        if self.end_s is not None:
            return self.end_s - (self.start_s or 0.0)
        return self.duration_s

    @property
    def is_simulated(self) -> bool:
        """Whether the simulated voice said it."""
        return bool(self.extra.get("simulated"))

    @property
    def is_synthetic(self) -> bool:
        """Whether it is a variation of another recording, as `speechft augment` makes."""
        return bool(self.extra.get("synthetic"))

    def within(self, seconds: Seconds) -> Utterance:
        """The same, its `end_s` no later than the recording's own end.

        Args:
            seconds: that are there from `start_s` on, up to `end_s`; see `probe_duration`.
        """
        there = (self.start_s or 0.0) + seconds
        over = self.end_s is not None and self.end_s - there > 1e-3
        return replace(self, end_s=round(there, 3)) if over else self

    def missing(self, seconds: Seconds) -> Seconds:
        """What the recording lacks of the stretch, if that is more than a time may be wrong by; arguments as above."""
        if self.end_s is None:
            return 0.0
        stretch = self.end_s - (self.start_s or 0.0)
        return stretch - seconds if stretch - seconds > max(CLOSE, CLOSE_SHARE * stretch) else 0.0

    def load(self) -> np.ndarray:
        """Decode the samples: float32 mono 16 kHz, shape (samples,). Errors name file and row."""
        from speechft.audio import load_audio

        return load_audio(self.audio, self.start_s, self.end_s, where=self.where)

    def group(self, name: str) -> str:
        """The value of a field to break results down by, as text; "" when the row has none.

        A table with empty cells has its whole numbers as 1.0, and the empty ones as null or NaN.
        """
        known = name in (*WORDS, "text", "age", *TIMES) and name not in self.extra
        value = getattr(self, name) if known else self.extra.get(name)
        if value is None or value != value:
            return ""
        return str(int(value) if isinstance(value, float) and value.is_integer() else value)

    def to_row(self, folder: Path | None = None) -> dict[str, object]:
        """The row as JSON holds it; `audio` relative to `folder` when it lies inside."""
        audio = self.audio
        if folder is not None and audio.is_relative_to(folder):
            audio = audio.relative_to(folder)
        values: dict[str, object] = {"id": self.id, "audio": audio.as_posix(), "text": self.text}
        for name in ("speaker", *WORDS[2:], "age", *TIMES):
            value = getattr(self, name)
            if value is not None and value != "":
                values[name] = value
        return {**values, **self.extra}


def says_something(text: str) -> bool:
    """Whether a text has a letter or a digit: "..." has none, as `check` reads it, and "hmm" has."""
    return any(map(str.isalnum, text))


def languages(utterances: Iterable[Utterance]) -> set[str | None]:
    """Those of the utterances with a text, as their rows name them; None among them where a row names none."""
    return {u.language or None for u in utterances if says_something(u.text)}
