"""From a line of a manifest to an `Utterance`, and what is said when it is wrong.

`speechft.manifest` is the module to import from; this one keeps the reading apart from the collection.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from speechft.errors import SpeechftError
from speechft.problems import BadRow, Problem
from speechft.utterance import TIMES, WORDS, Seconds, Utterance

# Fields that hold true or false; tables and spreadsheets write them as words or 1 and 0.
FLAGS = ("no_speech", "simulated", "synthetic")
# What rows say of a recording and nothing of who speaks: results are not broken down by it.
OF_THE_RECORDING = (*FLAGS, "command", "entities", "synthetic_from", "augmentation", "amounts")
TRUTH = dict.fromkeys(("true", "yes", "1", "1.0"), True) | dict.fromkeys(("false", "no", "0", "0.0"), False)
MAX_SECONDS = 1e7  # 115 days: a longer recording is a mistake of unit
FRAMES_TO_WRITE = 50  # a row is read with more of the stack left than it may be written with
LONGEST_NAME, LONGEST_PATH = 255, 4095  # bytes, on all common file systems and on Linux
ALLOW_OUTSIDE = (
    "Copy it into the manifest's folder and name it from there; or, if you trust this manifest, allow it "
    "with --allow-outside (allow_outside=True)."
)


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
            fields[name] = value if type(value) in (int, float) and value == value else _word(name, value)
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
    if value is None or value != value:  # pandas' empty is NaN, and its 3 beside it 3.0
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
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
