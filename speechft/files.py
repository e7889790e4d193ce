"""Files and folders that are whole or absent, whatever ends the process; and files that are files when read."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechft.errors import SpeechftError

if TYPE_CHECKING:
    from torch import Tensor

LONGEST_FIELD = 1 << 30  # of a table, in characters; without it the csv module stops at 131,072
AT_FDCWD, RENAME_EXCHANGE = -100, 2  # of Linux: relative to the working folder; see renameat2(2)
NOWHERE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
LONGEST_NAME = 200  # bytes; most file systems take 255, and an ending and a hash need some


def expanded(name: str | Path) -> Path:
    """A path whose `~` or `~user` is the home it stands for; SpeechftError where there is no such user."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        raise SpeechftError(
            "begins with a user who has no home folder here", where=name, fix="Write the path out."
        ) from None


def safe_name(name: str) -> str:
    """A file's or folder's name for what is called so elsewhere: no path, not hidden, no longer than systems take.

    One that had to be changed ends in a hash, so that what had two names has two.
    """
    given = name.encode("utf-8", "replace")
    safe = re.sub(rb"[/\\\x00-\x1f\x7f]", b"_", given).lstrip(b".")[:LONGEST_NAME].decode("utf-8", "ignore")
    return safe if safe == name else f"{safe}-{hashlib.sha256(given).hexdigest()[:8]}"


class NotAFile(SpeechftError, OSError):
    """A pipe, a socket or a device under the name of a file; also an `OSError`, for callers that catch those."""

    def __init__(self, path: Path) -> None:
        super().__init__("is a pipe, a socket or a device, not a file", where=path, fix="Check the path.")
        self.strerror = self.what


def hindrance(path: Path) -> str:
    """What keeps a recording from being read, such as `does not exist`; empty where nothing does."""
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            return "is a folder, not a recording"
        if not stat.S_ISREG(mode):
            return "is not a file"
        path.open("rb").close()
    except ValueError:  # a null byte
        return "does not exist"
    except OSError as error:
        return "does not exist" if error.errno in NOWHERE else f"cannot be read ({error.strerror})"
    return ""


def refuse_special(path: Path) -> Path:
    """The path. Raises `NotAFile` for what would be waited for, or read without end."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise NotAFile(path)
    return path


def read_bytes(path: Path) -> bytes:
    """A file's bytes; raises OSError as `Path.read_bytes`, and `NotAFile`."""
    return refuse_special(path).read_bytes()


def read_text(path: Path, encoding: str = "utf-8", errors: str = "strict") -> str:
    """A file's text; raises OSError and UnicodeDecodeError as `Path.read_text`, and `NotAFile`."""
    return refuse_special(path).read_text(encoding, errors)


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


def null_for_nan(value: Any) -> Any:
    """A value for JSON, which has no word for NaN or infinity: None in their place, however deep they are."""
    if isinstance(value, Mapping):
        return {key: null_for_nan(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [null_for_nan(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, value: Any) -> Path:
    """Write a JSON file for people and programs to read; whole or not at all, as by `write_text`."""
    return write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_bytes(path: Path, data: bytes | Iterable[bytes]) -> Path:
    """Write a file so that a reader, or a crash, meets the old contents or the new; arguments as in `write_text`."""
    if path.exists() and not path.is_file():  # to replace a device or a pipe would take it from everybody
        raise SpeechftError(
            "exists and is not a file, so nothing can be written to it", where=path, fix="Name a new file."
        )
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
    _sync_folder(path.parent)
    return path


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file, whole or not at all."""
    from safetensors.torch import save_file  # which needs torch; most of those who write files do not

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}-{os.getpid()}")
    try:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial)
        os.replace(partial, path)
    except BaseException:  # the disk is full: leave it no fuller
        partial.unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk: after a power cut a new file has its contents, but perhaps no name."""
    with contextlib.suppress(OSError):  # Windows opens no folders, and some file systems sync none
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextlib.contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder to fill, which takes the place of `out` once that is done; where it fails, `out` stays as it was."""
    out.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        yield work
        replace_folder(work, out)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def holds_something(path: Path) -> bool:
    """Whether a path is more than a folder that is empty, but for the locks of runs that were killed."""
    if not path.is_dir():
        return path.exists()
    return not all(re.fullmatch(r"\.(.+\.)?lock", inside.name) for inside in path.iterdir())


def refuse_existing(out: Path) -> None:
    """Raises SpeechftError where something is there already, but for an empty folder."""
    if holds_something(out):
        raise SpeechftError("exists already", where=out, fix="Name a new folder.")


def replace_folder(new: Path, out: Path) -> None:
    """Move a finished folder into place; a reader, or a crash, meets the old one or the new one.

    Where the system cannot exchange two folders in one step, there is none for a moment, the old one being set aside.
    """
    if not out.exists():
        os.replace(new, out)
        return
    if out.is_dir() and not out.is_symlink() and _exchanged(new, out):
        shutil.rmtree(new, ignore_errors=True)
        return
    old = Path(tempfile.mkdtemp(prefix=f".old-{out.name}-", dir=out.parent))
    os.replace(out, old / out.name)
    os.replace(new, out)
    shutil.rmtree(old, ignore_errors=True)


def _exchanged(one: Path, other: Path) -> bool:
    """Whether the two have changed places, as Linux can on most file systems; Python has no function for it."""
    try:
        renameat2 = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError, TypeError):  # the last on Windows
        return False
    done: int = renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE)
    return done == 0
