"""Finding and reading the files of a corpus, as people have them: where it lies, its texts, what cannot be opened."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from speechft.errors import SpeechftError

AUDIO_ENDINGS = (
    *(".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".m4a", ".mp4", ".aac", ".webm", ".amr"),
    *(".wma", ".aif", ".aiff", ".3gp", ".caf", ".mka", ".mov"),
)


def corpus_root(source: str | Path, pattern: str, name: str) -> Path:
    """The folder that a corpus's files lie in as it is handed out: the one given, or the only one in it that fits.

    It is resolved, as `Preparation.source` is: paths made from it can be compared with that one.

    Args:
        pattern: glob of something that every copy of the corpus has.
        name: of the corpus.

    Raises:
        SpeechftError: it looks otherwise.
    """
    given, source = source, Path(source).resolve()
    if not source.is_dir():
        raise SpeechftError("is not a folder", where=given, fix=f"Give the folder that {name} was unpacked into.")
    try:
        next(source.iterdir(), None)
    except OSError as error:
        raise SpeechftError(f"cannot be opened ({error.strerror})", where=given, fix="Check its permissions.") from None
    if any(source.glob(pattern)):
        return source
    inside = [path for path in sorted(source.iterdir()) if path.is_dir() and any(path.glob(pattern))]
    if len(inside) == 1:
        return inside[0].resolve()
    what = f"does not look like {name}: there is no {pattern} in it"
    if inside:
        what = f"holds several parts that look like {name}: {', '.join(path.name for path in inside[:5])}"
    raise SpeechftError(what, where=given, fix="Give the folder that it was unpacked into; for your own, use folder.")


def closed_folders(source: Path) -> list[tuple[Path, str]]:
    """Folders below one, hidden ones apart, that cannot be opened, and why: to search them finds nothing."""
    found: list[tuple[Path, str]] = []

    def note(error: OSError) -> None:
        found.append((Path(error.filename), error.strerror or "no reason given"))

    for _, folders, _ in os.walk(source, onerror=note):
        folders[:] = [name for name in folders if not name.startswith(".")]
    return found


def nearest(path: Path, others: Sequence[Path]) -> list[Path]:
    """Those of `others` whose folders differ least from the path's: of files of one name, which belong together."""
    apart = [len(set(path.parent.parts) ^ set(other.parent.parts)) for other in others]
    return [other for other, folders in zip(others, apart, strict=True) if folders == min(apart)]


def read_text(path: Path, errors: str = "strict") -> str:
    """A text file of a corpus: UTF-8, with its mark or without, or UTF-16 with its mark.

    Args:
        errors: `replace` for single texts: one byte that is not UTF-8 costs a character and not the recording.

    Raises:
        SpeechftError: it is no file, such as a pipe that would be waited for; cannot be opened; or is not UTF-8.
    """
    if not os.path.isfile(path):
        raise SpeechftError("is not a file", where=path, fix="Unpack the corpus again.")
    try:
        data = path.read_bytes()
        marked = data.startswith((b"\xff\xfe", b"\xfe\xff"))
        return data.decode("utf-16" if marked else "utf-8-sig", errors)
    except UnicodeDecodeError:
        raise SpeechftError("is not UTF-8", where=path, fix="Convert it to UTF-8.") from None
    except OSError as error:
        raise SpeechftError(f"cannot be read ({error.strerror})", where=path, fix="Check its permissions.") from None


def read_json(path: Path) -> Any:
    """A JSON file of a corpus.

    Raises:
        SpeechftError: it is not JSON, or see `read_text`.
    """
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError):  # the latter of what is nested thousands deep
        raise SpeechftError("is not JSON", where=path, fix="Unpack the corpus again.") from None


def gender(word: str | None) -> str | None:
    """As manifests have it, of a letter or a word; None for anything else."""
    names = {"f": "female", "m": "male", "female": "female", "male": "male"}
    return names.get((word or "").strip().lower())
