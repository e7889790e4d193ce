"""A Hugging Face dataset, from the Hub or from a folder, as a manifest with its recordings beside it.

Recordings are written as the bytes they are stored in: nothing is decoded and encoded again, and the decoder
that `datasets` would want isn't needed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from speechft.audio import encoded
from speechft.corpora.columns import match_columns, name_repeated_ids, rename_columns
from speechft.corpora.prepared import Preparation, Prepared
from speechft.errors import SpeechftError
from speechft.files import read_bytes, safe_name
from speechft.manifest import Utterance, probe_duration
from speechft.problems import BadRow
from speechft.split import PARTS, usual_name
from speechft.utterance import CLOSE, CLOSE_SHARE

# How sound files begin; the ending only matters to people, as decoders look at the content.
MAGIC = {
    b"RIFF": ".wav",
    b"fLaC": ".flac",
    b"OggS": ".ogg",
    b"ID3": ".mp3",
    b"\xff\xfb": ".mp3",
    b"\xff\xf3": ".mp3",
    b"\x1aE\xdf\xa3": ".webm",
}


def prepare_hub(
    source: str | Path,
    out: str | Path,
    split: str | None = None,
    text_column: str | None = None,
    audio_column: str | None = None,
    config: str | None = None,
    revision: str | None = None,
    allow_outside: bool = False,
) -> Prepared:
    """A manifest of a Hugging Face dataset.

    Args:
        source: its name on the Hub, or a folder: one that `save_to_disk` wrote, or of parquet files.
        out: folder for manifest.jsonl, left_out.csv and the recordings, or the manifest's own path.
        split: take only this one, such as "train" or "train[:100]"; None takes all, under their names. The
            rows of a dataset with a single split get none, so that one can be made for them.
        text_column, audio_column: where the guess would be wrong.
        config: the dataset's configuration, where it has several, such as a language.
        revision: a commit or tag of the dataset, so that the same data can be had again.
        allow_outside: take recordings that a row only names by a path outside a source folder.

    Raises:
        SpeechftError: the dataset cannot be had (without the network, say), has no column of audio or text,
            or not a single row that can be used.
    """
    parts = _load(str(source), split, config, revision)
    given = {"text": text_column, "audio": audio_column}
    names = {name: _columns(name, rows, given) for name, rows in parts.items()}
    name_repeated_ids(list(names.values()), _ids(parts, names))
    work = Preparation(Path(out).parent if str(out).endswith(".jsonl") else Path(out), out)
    inside = Path(source).resolve() if Path(source).is_dir() and not allow_outside else None
    for name, rows in parts.items():
        named = name if len(parts) > 1 or split else ""
        _add_rows(work, name, rows, names[name], named, inside)
    return work.finish()


def _load(source: str, split: str | None, config: str | None, revision: str | None) -> dict[str, Any]:
    """The dataset's splits by name."""
    import datasets  # 0.5 s to import

    folder = Path(source)
    saved = any((folder / name).is_file() for name in ("dataset_dict.json", "state.json"))
    try:
        if saved:
            loaded = datasets.load_from_disk(source)
            if split and isinstance(loaded, datasets.DatasetDict):
                loaded = loaded[split]
        else:
            loaded = datasets.load_dataset(source, config, split=split, revision=revision)
    except Exception as error:  # whatever a dataset, a network or a file system can raise
        raise _cannot_load(source, error, folder.is_dir()) from error
    if isinstance(loaded, Mapping):
        return dict(loaded)
    return {re.split(r"[\[+]", split or "train")[0]: loaded}


def _cannot_load(source: str, error: Exception, is_folder: bool) -> SpeechftError:
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    if is_folder:
        fix = "A folder of recordings and transcripts is read by prepare_folder ('speechft prepare folder')."
    elif isinstance(error, ConnectionError):
        fix = (
            "Is this machine online, and is the name right? Otherwise, where there is a network, run "
            f"datasets.load_dataset({source!r}).save_to_disk('FOLDER') and give that folder here."
        )
    else:
        fix = "Check the name; some datasets want a configuration, or a login (hf auth login) first."
    return SpeechftError(f"the dataset cannot be loaded ({reason})", where=source, fix=fix)


def _columns(name: str, rows: Any, given: Mapping[str, str | None]) -> dict[str, str]:
    """The dataset's name of each column to ours."""
    columns = {ours: theirs for ours, theirs in given.items() if theirs}
    sounds = [column for column, kind in rows.features.items() if _is_sound(kind)]
    if "audio" not in columns and sounds:
        columns["audio"] = sounds[0]
    return match_columns(list(rows.features), columns, Path(name))


def _ids(parts: Mapping[str, Any], names: Mapping[str, dict[str, str]]) -> Iterator[tuple[Any, Any, Any]]:
    """Ids and texts of all parts, each of a recording of its own."""
    for name, rows in parts.items():
        theirs = {ours: column for column, ours in names[name].items()}
        if "id" in theirs:
            for number, (id_, text) in enumerate(zip(rows[theirs["id"]], rows[theirs["text"]], strict=True)):
                yield id_, text, f"{name}:{number}"


def _add_rows(
    work: Preparation, name: str, rows: Any, names: Mapping[str, str], split: str, inside: Path | None
) -> None:
    import datasets

    audio_name = next(theirs for theirs, ours in names.items() if ours == "audio")
    if isinstance(rows.features[audio_name], datasets.Audio):
        rows = rows.cast_column(audio_name, datasets.Audio(decode=False))
    usual = usual_name(split) in PARTS
    for number, values in enumerate(_plain(rows, audio_name), 1):
        where = f"{name}:{number}"
        try:
            row = rename_columns(values, names)
            file, content = _stored(row["audio"], number, inside)
        except BadRow as bad:
            work.leave_out(where, bad.what)
            continue
        audio = work.copies.put(Path(safe_name(name), file), content)
        own = row.get("split")
        if own and usual:  # such as "clean" of a column that is called subset
            row |= {theirs: own for theirs, ours in names.items() if ours == "split" != theirs}
        row |= {"audio": str(audio), "split": split if usual else own or split}
        if _is_cut(audio, row):
            row |= {f"original_{key}": row.pop(key) for key in ("start_s", "end_s") if key in row}
        if work.add(row, where) is None:
            work.copies.drop(audio)


def _is_cut(audio: Path, row: Mapping[str, Any]) -> bool:
    """Whether the recording is the stretch itself, and the times are of the one that it was cut from."""
    start, end = row.get("start_s"), row.get("end_s")
    if start is None and end is None:
        return False
    try:
        seconds = probe_duration(Utterance(audio, "", ""))
    except SpeechftError:
        return False  # it is left out with that reason
    over = end is not None and end > seconds
    if start is None or start >= seconds:
        return start is not None or over
    stretch = end - start if end is not None else 0.0
    return start > 0 and over and abs(stretch - seconds) <= max(CLOSE, CLOSE_SHARE * seconds)


def _is_sound(kind: Any) -> bool:
    import datasets

    return isinstance(kind, datasets.Audio) or (
        isinstance(kind, Mapping) and ("bytes" in kind or {"array", "sampling_rate"} <= set(kind))
    )


def _plain(rows: Any, audio_name: str) -> Iterator[dict[str, Any]]:
    """Rows without what a manifest has no use for, such as lists of numbers; classes by name instead of number."""
    import datasets

    classes = {name: kind for name, kind in rows.features.items() if isinstance(kind, datasets.ClassLabel)}
    others = [name for name, kind in rows.features.items() if _is_sound(kind) and name != audio_name]
    for row in rows.remove_columns(others):
        for name, kind in classes.items():
            if row[name] is not None and row[name] >= 0:  # -1 is "no label"
                row[name] = kind.int2str(row[name])
        yield {k: v for k, v in row.items() if k == audio_name or isinstance(v, str | int | float) or _are_texts(v)}


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value)


def _stored(sound: Any, number: int, inside: Path | None) -> tuple[str, bytes]:
    """One recording as it is stored, by the name of a file; samples without a file become flac.

    Args:
        sound: {"bytes", "path"} or {"array", "sampling_rate"} as `datasets` has them, or a path.
        inside: where files must lie that are only named; None takes any, such as those a hub's cache has.
    """
    value = sound if isinstance(sound, Mapping) else {"path": sound}
    path = value.get("path") or ""
    stem = re.sub(r"[^\w.-]", "_", Path(str(path)).stem)[:80]
    base = f"{number:06d}-{stem}" if stem else f"{number:06d}"
    if value.get("array") is not None:
        return f"{base}.flac", _flac(value)
    data = value.get("bytes")
    if data is None and path:
        if inside and not Path(path).resolve().is_relative_to(inside):
            raise BadRow("outside", f"audio '{Path(path).name}' lies outside the dataset", "--allow-outside takes it.")
        try:
            data = read_bytes(Path(path))
        except OSError as error:
            raise BadRow("missing", f"audio '{Path(path).name}' cannot be read ({error.strerror})", "") from None
    if not data:
        raise BadRow("empty", "there is no recording", "")
    known = next((ending for magic, ending in MAGIC.items() if data.startswith(magic)), "")
    return f"{base}{known or Path(str(path)).suffix or '.audio'}", data


def _flac(value: Mapping[str, Any]) -> bytes:
    """Samples as `datasets` has them, as a file. Raises BadRow for what is no sound."""
    import numpy as np
    import soundfile

    try:
        return encoded(np.asarray(value["array"], float).T, int(value["sampling_rate"]), "flac", "PCM_24")
    except (KeyError, ValueError, TypeError, OverflowError, soundfile.SoundFileError):
        raise BadRow("type", "its samples are no sound that can be written", "") from None
