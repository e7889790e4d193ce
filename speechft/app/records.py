"""What the app's own files of JSON say, each in its shape; a file of another shape is damaged, and said to be.

A damaged file counts as a missing one where the app works with it, so that it takes nothing else with it, and stays as
it is; `speechft.app.opening.damaged` names it at the start.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, PositiveInt, ValidationError

from speechft import complaints
from speechft.audio import Seconds
from speechft.errors import SpeechftError
from speechft.files import read_bytes, write_text

MOST = 10**9  # a larger number was not counted by anything; JSON's numbers have no end, and the page would show them


class Shape(BaseModel):
    """The fields that the app uses, all finite; others are ignored."""

    model_config = ConfigDict(allow_inf_nan=False)


class Lock(Shape):
    """vault.json"""

    salt: str
    cost: int
    word: str


class Consent(Shape):
    text: str
    given: str
    by: str


class About(Shape):
    """voice.json"""

    model_config = ConfigDict(extra="allow")

    name: str
    consent: Consent


class Said(Shape):
    """recordings/R.json"""

    text: str
    prompt: str
    seconds: Seconds = Field(ge=0, le=24 * 3600)
    recorded: str


class Phrases(Shape):
    """phrases.json"""

    sets: dict[str, list[str]]
    skipped: list[str]


class Request(Shape):
    """training/request.json"""

    model: str
    asked: AwareDatetime
    takes: int
    expected_s: Seconds


class Progress(Shape):
    """training/progress.json"""

    phase: Literal["starting", "waiting", "listening", "learning", "testing", "failed"]
    share: float
    seconds_left: Seconds | None = None
    reason: str = ""


class Process(Shape):
    """training/process.json"""

    pid: PositiveInt  # 0 and less would be groups of processes


class Pace(Shape):
    """pace.json"""

    pace: float


class Interval(Shape):
    wer_ci95: tuple[float | None, float | None] | None


class Difference(Interval):
    p_speakers: float | None = None  # of one voice: over its sentences


class Scores(Interval):
    wer: float
    n_utterances: int = Field(ge=0, le=MOST)
    n_words: int = Field(ge=0, le=MOST)


class Result(Shape):
    """run/result.json, as far as the page shows it."""

    adapter: str | None
    base: Scores
    adapted: Scores
    difference: Difference


class Damaged(SpeechftError, ValueError):
    """A file that is not JSON, or of another shape."""


def parsed(data: bytes, shape: type[Shape], where: object) -> dict[str, Any]:
    """The fields of a JSON text.

    Raises:
        Damaged: it is not JSON, or of another shape.
    """
    try:
        return shape.model_validate_json(data).model_dump(exclude_unset=True)
    except ValidationError as error:
        first = error.errors()[0]
        field = complaints.place(first)[:80]
        said = f"'{field}' {complaints.sentence(first)}" if field else f"it {complaints.sentence(first)}"
        raise Damaged(f"is damaged ({said})", where=where) from None


def read_json(path: Path, shape: type[Shape], default: Any = None) -> Any:
    """A file's fields; `default` where it is missing or damaged."""
    try:
        return parsed(read_bytes(path), shape, path)
    except (OSError, SpeechftError):
        return default


def write_json(path: Path, value: Any) -> None:
    write_text(path, json_text(value))


def json_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1) + "\n"
