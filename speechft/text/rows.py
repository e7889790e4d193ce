"""From files, folders and the hub to rows; what the rows mean is a matter of `speechft.text.data`."""

from __future__ import annotations

import csv
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatch
from itertools import islice
from pathlib import Path
from typing import Any

from speechft.errors import SpeechftError
from speechft.files import expanded
from speechft.plain_text import encodable
from speechft.text.corpora import FILES, HUB_ROWS, READERS, each
from speechft.text.files import NO_SPLIT, NoRow, documents, json_lines, json_rows, parquet, split_of, table

BESIDE = ("", ".md", ".rst", ".py", ".yaml", ".yml", ".cff", ".bib", ".pdf", ".png", ".jpg", ".jpeg", ".gif", ".svg")
ABOUT = re.compile(r"(readme|licen[cs]e|notice|citation|changelog|dataset_infos?)\.(txt|json)", re.IGNORECASE)
DAMAGE = (OSError, EOFError, zlib.error, ValueError, csv.Error, RecursionError)  # what reading a broken file raises


def rows_of(source: str, reader: str | None, most: int | None) -> Iterator[tuple[str, dict[str, Any], str | None]]:
    """(where, row, split named by the file) of everything in a source."""
    if source.startswith("hub:"):
        yield from _hub_rows(source.removeprefix("hub:"), reader, most)
        return
    path = expanded(source)
    if not os.path.isfile(path) and not os.path.isdir(path):  # nor does this raise for names no file can have
        what = "is not a file" if os.path.lexists(path) else "does not exist"
        raise SpeechftError(what, where=encodable(source), fix="Give a file, a folder or hub:NAME.")
    files = [path] if path.is_file() else _data_files(path, reader)
    splits = [split_of(file.name) for file in files]
    for file, split in zip(files, splits, strict=True):
        if split is None and any(splits):  # it may hold what is to be held out
            raise SpeechftError(
                "names no split, but other files in its folder do", where=file,
                fix="Put train, dev or test in its name, or take it out of the folder.",
            )  # fmt: skip
        for number, row in enumerate(islice(read_file(file, reader), most), 1):
            yield f"{encodable(file.name)}:{number}", row, split


def _data_files(folder: Path, reader: str | None) -> list[Path]:
    """The files of a folder without those that archives and hubs put beside data: a readme, a licence, a script."""
    files = sorted(p for p in folder.iterdir() if p.is_file() and p.name[0] != ".")
    if reader not in FILES:
        data = [p for p in files if p.suffix.lower() not in BESIDE and not ABOUT.fullmatch(p.name)]
        return data or files
    pattern = FILES[reader]
    files = [file for file in files if fnmatch(file.name.removesuffix(".gz"), pattern)]
    if not files:
        raise SpeechftError(
            f"holds no {pattern.lstrip('*')} file for {reader}", where=folder, fix="Give the corpus's own folder."
        )
    return files


def read_file(path: Path, reader: str | None = None) -> Iterator[dict[str, Any]]:
    """The rows of one file, through a named reader or by its ending."""
    if reader is not None:
        if reader not in READERS:
            raise SpeechftError(f"unknown reader '{reader}'", fix=f"Readers: {', '.join(READERS)}.")
        try:
            yield from READERS[reader](path)
        except (*DAMAGE, AttributeError, LookupError, TypeError) as error:
            raise SpeechftError(
                f"is not in the form in which {reader} is distributed ({error!r:.200})", where=path,
                fix="Give the corpus's own file, or leave reader out for files of your own.",
            ) from None  # fmt: skip
        return
    ending = (path.suffixes[-2] if path.suffix == ".gz" and len(path.suffixes) > 1 else path.suffix).lower()
    readers: dict[str, Callable[[Path], Iterable[Any]]] = {
        ".jsonl": json_lines, ".json": json_rows, ".csv": table, ".tsv": lambda p: table(p, "\t"), ".txt": documents,
        ".parquet": parquet,
    }  # fmt: skip
    if ending not in readers:
        raise SpeechftError(f"'{ending}' is not a known kind of data", where=path, fix=f"Known: {', '.join(readers)}.")
    number = 0
    try:
        for number, row in enumerate(readers[ending](path), 1):  # noqa: B007 - the last one is told below
            yield row if isinstance(row, dict) else {}
    except DAMAGE as error:
        where = f"{path}, after row {number}"
        raise SpeechftError(
            f"cannot be read ({error!s:.200})", where=where, fix="Download or write it again."
        ) from None


def _hub_rows(name: str, reader: str | None, most: int | None) -> Iterator[tuple[str, dict[str, Any], str | None]]:
    from datasets import load_dataset

    if reader and reader not in HUB_ROWS:
        raise SpeechftError(
            f"reader '{reader}' cannot read rows from a hub", where=f"hub:{name}",
            fix=f"Give a file of that corpus, or one of {', '.join(HUB_ROWS)}.",
        )  # fmt: skip
    dataset, _, config = name.partition(":")
    splits = dict(_fetched(name, lambda: load_dataset(dataset, config or None, streaming=most is not None).items()))
    named = {str(name): split_of(str(name)) for name in splits}
    for split, rows in splits.items():
        if named[str(split)] is None and any(named.values()):  # it may be what others hold out
            yield f"{dataset}/{split}", NoRow(f"'{split}' {NO_SPLIT}, but other splits do"), None
            continue
        for number, row in enumerate(islice(_fetched(name, rows.__iter__), most), 1):
            for made in each(HUB_ROWS[reader], [row]) if reader else [dict(row)]:
                yield f"{dataset}/{split}:{number}", made, named[str(split)]


def _fetched(name: str, iterable: Callable[[], Iterable[Any]]) -> Iterator[Any]:
    """What a hub gives; it may fail at the start, or, where rows are streamed, at any of them."""
    try:
        yield from iterable()
    except Exception as error:  # datasets raises dozens of kinds
        reason = (str(error).splitlines() or [""])[0][:200]
        raise SpeechftError(
            f"cannot be loaded ({type(error).__name__}: {reason})", where=f"hub:{name}",
            fix="Check the name and the connection, or give a local file.",
        ) from None  # fmt: skip
