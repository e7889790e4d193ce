"""Recordings in a folder, with a transcript beside each, or a table that says what is in each.

    recordings/                      recordings/                 recordings/
      anna/hello.wav                   metadata.csv                clips/0001.mp3
      anna/hello.txt                   clips/0001.mp3              table.tsv
      ben/monday/tea.m4a
      ben/monday/tea.txt             prepare_folder              prepare_csv("recordings/table.tsv", ...)

The first folder under the source names the speaker and the next one the session; folders called train, dev or
test name the split.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from unicodedata import normalize

from speechft.corpora.columns import match_columns, name_repeated_ids, rename_columns
from speechft.corpora.prepared import Preparation, Prepared
from speechft.corpora.reading import AUDIO_ENDINGS, read_text
from speechft.errors import SpeechftError
from speechft.files import LONGEST_FIELD
from speechft.problems import BadRow
from speechft.rows import read_rows
from speechft.split import PARTS, usual_name

TRANSCRIPT_ENDINGS = (".txt", ".lab", ".transcript", ".normalized.txt")
Table = tuple[list[str], list[tuple[int, dict[str, Any]]]]  # the headings; rows by them, with their line numbers
TABLES = ("metadata.csv", "metadata.tsv", "metadata.jsonl")  # as Hugging Face's audiofolder has them
# Folders that say what is in them and not who speaks.
PLAIN_FOLDERS = {"audio", "audios", "clips", "data", "recordings", "sounds", "wav", "wavs", "flac", "mp3"}


def prepare_folder(source: str | Path, out: str | Path, copy: bool = True, allow_outside: bool = False) -> Prepared:
    """A manifest of a folder of recordings and whatever says what is in them.

    That is a file of the same name ending in .txt or .lab beside each clip, lines of "name text" in a
    *.trans.txt, or a metadata.csv or .jsonl as Hugging Face's audiofolder has it.

    Args:
        source: the folder; searched with all folders in it.
        out: folder for manifest.jsonl and left_out.csv, or the manifest's own path.
        copy: copy recordings into OUT/audio unless they lie under OUT already; False refers to them where
            they are, and the manifest is then read with `allow_outside`.
        allow_outside: take recordings outside `source` that links or tables in it lead to.

    Returns:
        the manifest, and what was left out and why: recordings without words, words without a recording,
        recordings that cannot be read.

    Raises:
        SpeechftError: there is no such folder, or nothing in it can be used.
    """
    root = Path(source).resolve()
    if not root.is_dir():
        raise SpeechftError("is not a folder", where=source, fix="Give the folder that the recordings are in.")
    work = Preparation(root, out, copy, allow_outside)
    own = work.folder if work.folder != root else None
    files = [path for path in sorted(_files(root, own)) if not path.name.startswith(".")]
    taken: set[str] = set()
    for path in files:
        if path.name in TABLES:
            _add_table(work, path, None, taken)
    _add_pairs(work, files, taken)
    return work.finish()


def prepare_csv(
    source: str | Path,
    out: str | Path,
    copy: bool = True,
    allow_outside: bool = False,
    columns: Mapping[str, str] | None = None,
) -> Prepared:
    """A manifest of a table (CSV, TSV or JSON lines) that names recordings and what is said in them.

    Args:
        source: the table. Its first line names the columns, in nearly any words (see `columns.COLUMNS`); comma,
            semicolon, tab or bar between them. Paths are relative to it, or to a `clips`, `audio` or `wavs`
            folder beside it. Columns that mean nothing to us become groups to break results down by.
        out, copy: as for `prepare_folder`.
        allow_outside: take recordings outside the table's folder, such as absolute paths.
        columns: our name to the table's, where the guess would be wrong: {"text": "what_was_said"}.

    Raises:
        SpeechftError: no such table, no column for audio or text, or no row that can be used.
    """
    path = Path(source)
    if not path.is_file():
        raise SpeechftError("the table does not exist", where=path, fix="Check the path.")
    work = Preparation(path.resolve().parent, out, copy, allow_outside)
    _add_table(work, path.resolve(), columns, set())
    return work.finish(searched=False)


def _files(root: Path, own: Path | None) -> Iterator[Path]:
    """All files under `root`, without following linked folders, and without those we wrote ourselves."""
    for name, folders, names in os.walk(root):
        folder = Path(name)
        folders[:] = [sub for sub in folders if folder / sub != own and not sub.startswith(".")]
        yield from (folder / file for file in names)


def _add_pairs(work: Preparation, files: list[Path], taken: set[str]) -> None:
    """Recordings with a transcript beside them, or a line for them in a *.trans.txt of their folder."""
    there = {path.with_suffix(path.suffix.lower()): path for path in files}  # recorders write REC01.WAV, and .TXT
    lines = _transcript_lines(work, files)
    used: set[Path] = set()
    first: dict[Path, Path] = {}  # a clip without its ending to the file taken for it
    recordings = [path for path in files if path.suffix.lower() in AUDIO_ENDINGS]
    for path in sorted(recordings, key=lambda path: AUDIO_ENDINGS.index(path.suffix.lower())):
        if os.path.realpath(path) in taken:
            continue
        clip = path.with_suffix("")
        if clip in first:
            work.leave_out(path, f"the same clip as {first[clip].name}")
            continue
        named = (clip.with_name(clip.name + ending) for ending in TRANSCRIPT_ENDINGS)
        beside = [there[path] for path in named if path in there]
        transcript = next(iter(beside), None)
        if transcript is None and clip not in lines:
            work.leave_out(path, "no transcript beside it" if not taken else "in no table, and no transcript")
            continue
        first[clip] = path
        used.update(beside)
        text = lines.get(clip) if transcript is None else _read_text(work, transcript)
        if text is not None:
            work.add({"audio": str(path), "text": text, **_place_names(work.source, path)}, path)
    with_sound = {path.parent for path in recordings}
    for path in files:
        ours = path.suffix.lower() in TRANSCRIPT_ENDINGS and not path.name.endswith(".trans.txt")
        words = not path.stem.casefold().startswith(("readme", "license", "licence"))
        if ours and words and path not in used and path.parent in with_sound:
            work.leave_out(path, "a transcript without a recording of the same name")


def _transcript_lines(work: Preparation, files: list[Path]) -> dict[Path, str]:
    """Clips by path without ending, and their text, from LibriSpeech's *.trans.txt: "name words ..."."""
    found: dict[Path, str] = {}
    for path in files:
        if path.name.endswith(".trans.txt"):
            for number, line in enumerate((work.text_of(path, "strict") or "").splitlines(), 1):
                name, _, text = line.partition(" ")
                if name and found.setdefault(path.parent / name, text.strip()) != text.strip():
                    work.leave_out(f"{work.name_of(path)}:{number}", f"an earlier line has another text for '{name}'")
    return found


def _read_text(work: Preparation, path: Path) -> str | None:
    text = work.text_of(path, "strict")
    return None if text is None else " ".join(text.split())


def _place_names(root: Path, path: Path) -> dict[str, str]:
    """Split, speaker and session as the folders between the source and the recording tell them."""
    parts = [part for part in path.relative_to(root).parts[:-1] if part.casefold() not in PLAIN_FOLDERS]
    named: dict[str, str] = {}
    if parts and usual_name(parts[0]) in PARTS:
        named["split"] = parts.pop(0)
    return named | dict(zip(("speaker", "session"), parts, strict=False))


def _add_table(work: Preparation, path: Path, columns: Mapping[str, str] | None, taken: set[str]) -> None:
    """Add the rows of a table; `taken` collects the recordings it names, used or not."""
    header, rows = (_json_rows if path.suffix in (".jsonl", ".json") else _csv_rows)(work, path)
    names = match_columns(header, columns or {}, path)
    ends = [column for column, ours in names.items() if ours == "end_s"]
    if ends and "start_s" not in names.values():
        fix = f"Call the column of the starts 'start_s'. Its columns are: {', '.join(header)}."
        raise SpeechftError(f"has ends in column '{ends[0]}' and no column of starts", where=path, fix=fix)
    theirs = {ours: column for column, ours in names.items()}
    if "id" in theirs and "id" not in (columns or {}):
        parts = [theirs[name] for name in ("audio", "start_s", "end_s", "duration_s") if name in theirs]
        ids = ((row.get(theirs["id"]), row.get(theirs["text"]), [row.get(part) for part in parts]) for _, row in rows)
        name_repeated_ids([names], ids)
    defaults = _place_names(work.source, path) if path.name in TABLES else {}
    for number, values in rows:
        where = f"{path.name}:{number}"
        try:
            row = rename_columns(values, names)
        except BadRow as bad:
            work.leave_out(where, bad.what)
            continue
        if not row.get("audio"):
            work.leave_out(where, "there is no recording")
            continue
        audio = _find(path.parent, str(row["audio"]))
        if os.path.lexists(audio):
            taken.add(os.path.realpath(audio))
        work.add({**defaults, **_speaker_of(work, audio), **row, "audio": str(audio)}, where)


def _speaker_of(work: Preparation, audio: Path) -> dict[str, str]:
    return _place_names(work.source, audio) if audio.is_relative_to(work.source) else {}


def _find(folder: Path, name: str) -> Path:
    """The file a table means: as it says or spelt otherwise, in a folder beside it, or without its ending."""
    # Of a table that was made on Windows, or on a Mac, where "é" in a file's name may be two characters.
    spellings = dict.fromkeys([name, name.replace("\\", "/"), *(normalize(form, name) for form in ("NFC", "NFD"))])
    for spelling in spellings:
        for base in (folder, *(folder / sub for sub in ("clips", "audio", "wavs", "wav"))):
            for ending in ("", ".wav", ".flac", ".mp3"):
                path = base / (spelling + ending)
                if os.path.isfile(path):  # unlike Path.is_file it takes any name
                    return path
    return folder / name


def _csv_rows(work: Preparation, path: Path) -> Table:
    csv.field_size_limit(LONGEST_FIELD)
    text = read_text(path)
    first = text.partition("\n")[0]
    delimiter = max("\t,;|", key=first.count)
    # Tab-separated corpora (Common Voice) don't quote: a sentence may begin with a quotation mark.
    file = io.StringIO(text, newline="")
    if delimiter == "\t":
        reader = csv.DictReader(file, delimiter=delimiter, quoting=csv.QUOTE_NONE)
        fix = "take the tab out of its text"
    else:
        reader = csv.DictReader(file, delimiter=delimiter, skipinitialspace=True, strict=True)
        fix = "put the text in quotes"
    rows = []
    try:
        for values in reader:
            more: Any = values.get(None)  # the key of what has no heading
            if more and any(map(str.strip, more)):
                reason = f"it has more fields than the first line; {fix}"
                work.leave_out(f"{path.name}:{reader.line_num}", reason)
                continue
            clean = {name: _unquote(v) for name, v in values.items() if name and isinstance(v, str)}
            rows.append((reader.line_num, clean))
    except csv.Error as error:
        fix = "Is a quotation mark left open?"
        raise SpeechftError(f"not a table ({error})", where=f"{path}:{reader.line_num}", fix=fix) from None
    return [name for name in reader.fieldnames or () if name], rows


def _unquote(value: str) -> str:
    value = value.strip()
    if len(value) > 1 and value[0] == value[-1] == '"':
        return value[1:-1].replace('""', '"')
    return value


def _json_rows(work: Preparation, path: Path) -> Table:
    rows, problems = read_rows(path)
    for problem in problems:
        work.leave_out(problem.where, problem.what)
    return list(dict.fromkeys(name for _, values in rows for name in values)), rows
