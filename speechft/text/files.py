"""The kinds of files that text comes in, and the splits that their names say."""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from speechft.errors import SpeechftError
from speechft.files import LONGEST_FIELD, refuse_special

SPLITS = {  # the names, and below the rule, of https://huggingface.co/docs/hub/datasets-file-names-and-splits
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("dev", "val", "valid", "validation"), "dev"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
NO_SPLIT = "names neither train, dev nor test"
DOCUMENT_CHARACTERS = 2_000  # a text file is cut at blank lines into documents of about this length


class NoRow(dict[str, Any]):
    """In the place of a row that is left out, with the reason."""

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason


def split_of(name: str) -> str | None:
    """The split that a name of a file, of a hub's split or in a row says: its first word of `SPLITS`, or None.

    >>> split_of("test_sft"), split_of("c4-validation.00000-of-00008.json.gz"), split_of("contest")
    ('test', 'dev', None)
    """
    return next((SPLITS[word] for word in re.split(r"[\W\d_]+", name.lower()) if word in SPLITS), None)


def opened(path: Path) -> Any:
    """A text file, unpacked where it is packed."""
    refuse_special(path)
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def json_lines(path: Path) -> Iterator[Any]:
    """One object a line; a line that is not JSON becomes an empty row, which is then left out by name."""
    with opened(path) as file:
        for line in file:
            if line.strip():
                try:
                    yield json.loads(line)
                except (ValueError, RecursionError):
                    yield {}


def table(path: Path, delimiter: str = ",") -> Iterator[dict[str, Any]]:
    """A table with a head."""
    csv.field_size_limit(LONGEST_FIELD)
    with opened(path) as file:
        yield from csv.DictReader(file, delimiter=delimiter)


def documents(path: Path) -> Iterator[dict[str, Any]]:
    """A text file, cut at blank lines into documents of about `DOCUMENT_CHARACTERS`."""
    with opened(path) as file:
        paragraphs = [part.strip() for part in file.read().replace("\r\n", "\n").split("\n\n")]
    held: list[str] = []
    for paragraph in filter(None, paragraphs):
        held.append(paragraph)
        if sum(map(len, held)) >= DOCUMENT_CHARACTERS:
            yield {"text": "\n\n".join(held)}
            held = []
    if held:
        yield {"text": "\n\n".join(held)}


def load_json(path: Path) -> Any:
    """A JSON file as a whole."""
    with opened(path) as file:
        try:
            return json.load(file)
        except UnicodeDecodeError:
            raise
        except (ValueError, RecursionError) as error:
            raise SpeechftError(f"is not JSON ({error})", where=path, fix="Write it again, or copy it again.") from None


def json_rows(path: Path) -> Iterable[Any]:
    """A JSON list, the list under `data`, or one row a line."""
    if _has_a_row_a_line(path):
        return json_lines(path)
    value = load_json(path)
    if isinstance(value, dict):
        value = value.get("data", [value])
    return value if isinstance(value, list) else []


def _has_a_row_a_line(path: Path) -> bool:
    """Whether a file called .json is JSON Lines, as C4's are: its first line is an object, and another one follows."""
    with opened(path) as file:
        lines = filter(str.strip, file)
        try:
            return isinstance(json.loads(next(lines, "")), dict) and next(lines, None) is not None
        except (ValueError, RecursionError):
            return False


def parquet(path: Path) -> Iterable[Any]:
    """A Parquet table."""
    import pyarrow.parquet

    return pyarrow.parquet.read_table(path).to_pylist()
