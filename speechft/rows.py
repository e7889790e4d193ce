"""One row of a manifest: what it holds, what is read from it, and what is said when it is wrong.

`speechft.manifest` is the module to import from; this one keeps the reading apart from the collection.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from speechft.errors import SpeechftError

if TYPE_CHECKING:
    import numpy as np

Seconds = float

# Fields that hold a short string; a whole number is taken as one.
WORDS: tuple[str, ...] = (
    *("id", "speaker", "split", "prompt_id", "session"),
    *("severity", "aetiology", "gender", "text_verbatim", "language"),
)
TIMES = ("start_s", "end_s", "duration_s")
# Fields that hold true or false; tables and spreadsheets write them as words or 1 and 0.
FLAGS = ("no_speech", "simulated", "synthetic")
TRUTH = dict.fromkeys(("true", "yes", "1", "1.0"), True) | dict.fromkeys(("false", "no", "0", "0.0"), False)
MAX_SECONDS = 1e7  # 115 days: a longer recording is a mistake of unit
CLOSE, CLOSE_SHARE = 0.5, 0.1  # seconds, and of a length: what people write of it may be wrong by the larger of them
FRAMES_TO_WRITE = 50  # a row is read with more of the stack left than it may be written with
LONGEST_NAME, LONGEST_PATH = 255, 4095  # bytes, on all common file systems and on Linux
ALLOW_OUTSIDE = (
    "Copy it into the manifest's folder and name it from there; or, if you trust this manifest, allow it "
    "with --allow-outside (allow_outside=True)."
)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a manifest, its audio or its splits.

    Attributes:
        severity: "error" (the row cannot be used), "warning" (results may mislead) or "note".
        kind: a short name that stays the same between versions, such as "silent" or "duplicate-id".
        where: file and row, such as "train.jsonl:17".
        what: what is wrong, a clause.
        fix: what to do about it, in whole sentences.
    """

    severity: Literal["error", "warning", "note"]
    kind: str
    where: str
    what: str
    fix: str = ""

    def __str__(self) -> str:
        return str(self.error())

    def error(self) -> SpeechftError:
        """The same as an exception to raise."""
        return SpeechftError(self.what, where=self.where, fix=self.fix)


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
        """The value of a field to break results down by, as text; "" when the row has none."""
        value = self.extra.get(name, "") if name in self.extra else getattr(self, name, None)
        return "" if value is None else str(value)

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


class BadRow(Exception):
    """A row that cannot be used; becomes a Problem, and the next rows are still read."""

    def __init__(self, kind: str, what: str, fix: str) -> None:
        self.kind, self.what, self.fix = kind, what, fix

    def problem(self, where: str) -> Problem:
        return Problem("error", self.kind, where, self.what, self.fix)


def read_rows(path: Path) -> tuple[list[tuple[int, dict[str, Any]]], list[Problem]]:
    """Rows with their line numbers from 1, and the lines that aren't JSON objects."""
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):  # a device would be read for ever
            raise SpeechftError("the manifest is not a file", where=path, fix="Check the path.")
        data = path.read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        if isinstance(error, FileNotFoundError):
            reason = "does not exist"
        elif path.is_dir():
            reason = "is a folder without a manifest.jsonl"
        raise SpeechftError(f"the manifest {reason}", where=path, fix="Check the path.") from None
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise SpeechftError("the manifest is saved as UTF-16", where=path, fix="Save it as UTF-8.")
    data = data.removeprefix(b"\xef\xbb\xbf")  # the mark Windows editors put first
    if data.lstrip()[:1] == b"[":
        fix = "Write one JSON object per line, without brackets and commas around them (JSON lines)."
        raise SpeechftError("the manifest is one JSON array", where=path, fix=fix)
    rows: list[tuple[int, dict[str, Any]]] = []
    problems: list[Problem] = []
    # Not str.splitlines: that also breaks lines at characters which may stand inside a JSON string.
    for number, line in enumerate(data.split(b"\n"), 1):
        if line.strip():
            try:
                rows.append((number, _json_object(line)))
            except BadRow as bad:
                problems.append(bad.problem(f"{path.name}:{number}"))
    return rows, problems


def _one_of_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose names are all different: of two texts nobody knows which one was said."""
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise BadRow("json", f"'{twice}' appears twice in the row", "Remove one of them.")
    return values


def _json_object(line: bytes) -> dict[str, Any]:
    fix = "Write the row again as one JSON object, in UTF-8."
    try:
        values = json.loads(line.decode("utf-8"), object_pairs_hook=_one_of_each)
    except UnicodeDecodeError:
        raise BadRow("json", "the row is not UTF-8 text", fix) from None
    except (ValueError, RecursionError) as error:
        raise BadRow("json", f"the row is not JSON ({str(error).replace('line 1 ', '')})", fix) from None
    if not isinstance(values, dict):
        raise BadRow("json", f"the row is {_kind(values)}, not a JSON object", fix)
    return values


def parse_row(values: dict[str, Any], row: int, source: str, inside: Folder) -> Utterance:
    for name in ("audio", "text"):
        if name not in values:
            raise BadRow("missing-field", f"the row has no '{name}'", "Every row needs 'audio' and 'text'.")
        _check_text(name, values[name])
    fields: dict[str, Any] = {}
    extra = {}
    for name, value in values.items():
        if name in WORDS:
            fields[name] = _word(name, value)
        elif name in TIMES:
            fields[name] = _time(name, value)
        elif name == "age":
            fields[name] = value if type(value) in (int, float) else _word(name, value)
        elif name not in ("audio", "text") and value is not None and value == value:  # pandas' empty is NaN
            _check_whole(name, value)
            extra[name] = read_flag(name, value) if name in FLAGS else value
    start, end = fields.get("start_s") or 0.0, fields.get("end_s")
    if end is not None and end <= start:
        raise BadRow("times", f"end_s ({end}) is not after start_s ({start})", "Both count from the file's start.")
    fields["id"] = fields.get("id") or ""
    fields["speaker"] = fields.get("speaker") or ""
    fields["split"] = fields.get("split") or None
    audio = inside.resolve(values["audio"])
    return Utterance(audio, values["text"], extra=extra, row=row, source=source, **fields)


def _check_text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise BadRow("type", f"'{name}' is {_kind(value)}, not text", 'Put it in quotes: "text": "two".')
    if name == "audio" and not value.strip():
        raise BadRow("missing-field", "'audio' is empty", "Name the recording.")
    _check_whole(name, value)
    if "\0" in value:
        raise BadRow("type", f"'{name}' holds a zero byte", "Write the row again as plain text.")
    return value


def _check_whole(name: str, value: object) -> None:
    """Raises BadRow for half a surrogate pair, in the name too: no file can be written with one."""
    if not name.isascii() or not isinstance(value, int | float | str) or not str(value).isascii():
        try:
            nested: object = [name, value]
            for _ in range(FRAMES_TO_WRITE):
                nested = [nested]
            json.dumps(nested, ensure_ascii=False, default=str).encode()
        except (UnicodeEncodeError, RecursionError) as error:
            wrong = "is nested too deeply" if isinstance(error, RecursionError) else "holds half a character"
            safe = name.encode("ascii", "replace").decode()
            raise BadRow("type", f"'{safe}' {wrong}", "Write the row again in UTF-8.") from None


def _word(name: str, value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)  # speaker 3, session 1: nobody means anything else
    return _check_text(name, value)


def _time(name: str, value: object) -> Seconds | None:
    if value is None:
        return None
    fix = "Times are seconds from the start of the file, such as 1.25."
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadRow("type", f"'{name}' is {_kind(value)}, not a number", fix)
    if not 0 <= value < MAX_SECONDS:  # also false for NaN
        raise BadRow("times", f"'{name}' is {value}", fix)
    return float(value)


def read_flag(name: str, value: object) -> bool:
    """Whether a field of `FLAGS` is set; an empty one is not."""
    known = TRUTH.get(f"{value}".strip().casefold() or "no")
    if known is None:
        raise BadRow("type", f"'{name}' is {value!r}, neither true nor false", f'Write "{name}": true, or false.')
    return known


def _kind(value: object) -> str:
    """What a JSON value is called in a message."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"{value}".lower()
    if isinstance(value, int | float):
        return f"a number ({value})"
    return "text" if isinstance(value, str) else "a list" if isinstance(value, list) else "an object"


class Folder:
    """Resolves paths inside one folder; each parent once, so that a row costs one lstat."""

    def __init__(self, folder: Path, allow_outside: bool) -> None:
        self.root = os.path.realpath(folder)
        self.prefix = self.root if self.root.endswith(os.sep) else self.root + os.sep
        self.allow_outside = allow_outside
        self.parents: dict[str, str] = {}

    def resolve(self, name: str) -> Path:
        joined = os.path.join(self.root, name)  # an absolute name stays as it is
        parts = os.fsencode(joined).split(b"/")
        if max(map(len, parts)) > LONGEST_NAME or sum(map(len, parts)) + len(parts) > LONGEST_PATH:
            raise BadRow("missing", f"audio '{name[:40]}...' is longer than a file name can be", "Check the path.")
        parent, leaf = os.path.split(joined)
        if leaf in ("", ".", ".."):
            real = os.path.realpath(joined)
        else:
            if parent not in self.parents:
                self.parents[parent] = os.path.realpath(parent)
            real = os.path.join(self.parents[parent], leaf)
            if os.path.islink(real):
                real = os.path.realpath(real)
        if not self.allow_outside and not real.startswith(self.prefix):
            what = f"audio '{name}' lies outside the folder '{os.path.basename(self.root)}'"
            raise BadRow("outside", what, ALLOW_OUTSIDE)
        try:
            real.removeprefix(self.prefix).encode()
        except UnicodeEncodeError:  # of a link whose own name is UTF-8; no manifest could be written with it
            raise BadRow("missing", f"audio '{name}' leads to a name that is not UTF-8", "Rename that file.") from None
        return Path(real)


def with_ids(utterances: list[Utterance], taken: set[str]) -> list[Utterance]:
    """Give the rows without an id one that no other row has."""
    done = []
    for u in utterances:
        if not u.id:
            u = replace(u, id=make_id(u.audio, u.start_s, taken))
            taken.add(u.id)
        done.append(u)
    return done


def make_id(audio: Path, start_s: Seconds | None, taken: set[str]) -> str:
    """An id that isn't `taken`: the file's name without ending, then with its folder, then numbered."""
    start = "" if start_s is None else f"-{round(start_s * 1000):07d}ms"
    for base in (f"{audio.stem}{start}", f"{audio.parent.name}-{audio.stem}{start}"):
        if base not in taken:
            return base
    number = 2
    while f"{base}-{number}" in taken:
        number += 1
    return f"{base}-{number}"


def duplicate_id(name: str) -> BadRow:
    fix = "Give each row its own id, or leave ids out."
    return BadRow("duplicate-id", f"the id '{name}' is used in an earlier row too", fix)
