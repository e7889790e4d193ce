"""What the columns of other people's tables and datasets mean: the fields of a manifest by nearly any name."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from speechft.errors import SpeechftError
from speechft.problems import BadRow
from speechft.rows import FLAGS

# What columns of times end in, as "Begin Time - ss.msec" of ELAN does; the milliseconds are in `MILLISECONDS`.
UNITS = ("", "_s", "_sec", "_seconds", "_ss_msec", "_hh_mm_ss_ms", "_ms", "_msec")
MILLISECONDS = re.compile(r"(?<!_ss)_ms(ec)?$")
ONSETS = tuple(f"onset{unit}" for unit in UNITS)
OFFSETS = tuple(f"offset{unit}" for unit in UNITS)  # a start (NeMo), or the end that belongs to an onset


def _times(*names: str) -> tuple[str, ...]:
    return tuple(name + unit for unit in UNITS for name in names)


# What others call the fields of a manifest, best first. Case, spaces and other signs don't matter.
COLUMNS: dict[str, tuple[str, ...]] = {
    "audio": (
        *("audio", "file_name", "filename", "path", "file", "wav", "audio_path", "audio_file", "clip"),
        *("audio_filepath", "file_path", "filepath", "wav_path", "wav_file", "recording"),
    ),
    "text": ("text", "sentence", "transcript", "transcription", "transcription_text", "words", "label"),
    "speaker": (
        *("speaker", "speaker_id", "client_id", "spk", "spk_id", "speaker_name"),
        *("participant", "participant_id", "subject_id", "patient_id"),
    ),
    "id": ("id", "utt_id", "utterance_id", "segment_id", "uid"),
    "start_s": ("start_s", *_times("start", "start_time", "begin", "begin_time"), *ONSETS, *OFFSETS),
    "end_s": ("end_s", *_times("end", "end_time", "stop", "stop_time")),
    "duration_s": ("duration_s", *_times("duration"), "seconds", "length_s"),
    "split": ("split", "subset", "partition", "set"),
    "prompt_id": ("prompt_id", "sentence_id", "prompt"),
    "session": ("session", "session_id"),
    "severity": ("severity", "severity_level"),
    "aetiology": ("aetiology", "etiology", "diagnosis"),
    "gender": ("gender", "sex"),
    "age": ("age",),
    "language": ("language", "lang", "locale"),
    "text_verbatim": ("text_verbatim", "verbatim"),
    **{name: (name,) for name in (*FLAGS, "command", "entities")},
}


def match_columns(header: list[str], columns: Mapping[str, str], path: Path) -> dict[str, str]:
    """The table's name of each column to ours.

    Args:
        header: the table's names.
        columns: our name to the table's, where it is known already.
        path: of the table, for the error.

    Raises:
        SpeechftError: a column that was named is not there, or none holds the audio or the text.
    """
    plain = {_plain(name): name for name in reversed(header)}
    matched = {theirs: ours for ours, theirs in columns.items()}
    for missing in set(matched) - set(header):
        raise SpeechftError(f"no column '{missing}'", where=path, fix=f"It has: {', '.join(header)}.")
    ends = COLUMNS["end_s"] + (OFFSETS if any(name in plain for name in ONSETS) else ())
    for ours, aliases in (COLUMNS | {"end_s": ends}).items():
        theirs = next((plain[alias] for alias in aliases if alias in plain), None)
        if ours not in columns and theirs is not None and theirs not in matched:
            matched[theirs] = ours
    for ours in ("audio", "text"):
        if ours not in matched.values():
            there = ", ".join(header) or "none"
            fix = f"Its columns are: {there}. Name one of them '{ours}' in its first line."
            raise SpeechftError(f"no column holds the {ours}", where=path, fix=fix)
    return matched


def name_repeated_ids(names: Sequence[dict[str, str]], rows: Iterable[tuple[Any, Any, Any]]) -> None:
    """Call a column of ids by what it holds: where one is of several recordings, they are no ids of recordings.

    If all recordings of an id have one text, as in FLEURS, it is their prompt's; else it is a field like any other.

    Args:
        names: the columns' names to ours, of each part of a dataset; changed in place.
        rows: id, text, and what is the same for no two recordings.
    """
    texts: dict[str, set[str]] = defaultdict(set)
    recordings: dict[str, set[str]] = defaultdict(set)
    for id_, text, recording in rows:
        if id_ is not None and id_ != "":
            texts[str(id_)].add(str(text))
            recordings[str(id_)].add(str(recording))
    if all(len(found) == 1 for found in recordings.values()):
        return
    one_text_each = all(len(said) == 1 for said in texts.values())
    for columns in names:
        is_prompt = one_text_each and "prompt_id" not in columns.values()
        columns |= {
            column: "prompt_id" if is_prompt else "dataset_id" for column, ours in columns.items() if ours == "id"
        }


def _plain(column: str) -> str:
    """A heading as `COLUMNS` has it: "Begin Time - msec" is begin_time_msec."""
    return re.sub(r"[\W_]+", "_", column.casefold()).strip("_")


def rename_columns(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """A row in our names; other columns stay as they are, to be groups."""
    row: dict[str, Any] = {}
    for theirs, value in values.items():
        ours = names.get(theirs)
        if ours in ("start_s", "end_s", "duration_s"):
            row[ours] = _seconds(theirs, value)
        elif ours is not None:
            row[ours] = value
        elif theirs not in COLUMNS:  # a column that a better one stands in for, not a group
            row[theirs] = value
    if row.get("end_s") is None and row.get("start_s") is not None and row.get("duration_s"):
        row["end_s"] = row["start_s"] + row["duration_s"]
    return row


def _seconds(column: str, value: object) -> float | None:
    """Seconds from 1.5, "1.5", "1,5" or "0:01.5"; see `MILLISECONDS` for the column's name."""
    if value is None or value == "":
        return None
    total = 0.0
    try:
        for part in str(value).replace(",", ".").split(":"):
            total = total * 60 + float(part)
    except ValueError:
        raise BadRow("times", f"'{column}' is '{value}', not a time", "") from None
    if not math.isfinite(total):
        return None
    return total / 1000 if MILLISECONDS.search(_plain(column)) else total
