"""Files and folders that are whole or absent, whatever ends the process."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from speechft.errors import SpeechftError

LONGEST_FIELD = 1 << 30  # of a table, in characters; without it the csv module stops at 131,072


def write_text(path: Path, text: str | Iterable[str], errors: str = "strict") -> Path:
    """Write a UTF-8 file so that a reader, or a crash, meets the old contents or the new.

    Args:
        path: its folder is made where it is missing.
        text: whole, or in pieces.
        errors: what to do with half a surrogate pair; `replace` writes a question mark.

    Returns:
        the path.
    """
    pieces = [text] if isinstance(text, str) else text
    return write_bytes(path, (piece.encode("utf-8", errors) for piece in pieces))


def write_json(path: Path, value: Any) -> Path:
    """Write a JSON file for people and programs to read; whole or not at all, as by `write_text`."""
    return write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_bytes(path: Path, data: bytes | Iterable[bytes]) -> Path:
    """Write a file so that a reader, or a crash, meets the old contents or the new; arguments as in `write_text`."""
    if path.exists() and not path.is_file():  # to replace a device or a pipe would take it from everybody
        raise SpeechftError("is not a file, so nothing can be written to it", where=path, fix="Name a new file.")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.parent / f".{path.name[:50]}-{secrets.token_hex(4)}.part"
    # Not by tempfile, whose files are private whatever the umask says: to learn the umask is to change it for a moment,
    # in which another thread's file would be everybody's.
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            file.writelines([data] if isinstance(data, bytes) else data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return path


def replace_folder(new: Path, out: Path) -> None:
    """Move a finished folder into place; a reader meets the old one or the new one."""
    if not out.exists():
        os.replace(new, out)
        return
    old = Path(tempfile.mkdtemp(prefix=f".old-{out.name}-", dir=out.parent))
    os.replace(out, old / out.name)
    os.replace(new, out)
    shutil.rmtree(old, ignore_errors=True)
