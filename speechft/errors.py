"""The one exception a user of speechft is meant to see."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)  # the system's numbers for a disk that is full


class SpeechftError(Exception):
    """Something the user gave us is wrong, and we can say what to do about it.

    Args:
        what: what is wrong, a clause without the final full stop.
        where: file, file and row, speaker or setting it was found at.
        fix: what to do about it, one or more whole sentences.
        kind: a short name for programs that tell such errors apart, as `Problem.kind` is one.

    `str()` reads `where: what. fix`, so a message is complete wherever it is printed.
    """

    def __init__(self, what: str, *, where: object = None, fix: str = "", kind: str = "") -> None:
        self.what = what.rstrip(".")
        self.where = None if where is None else str(where)
        self.fix, self.kind = fix, kind
        super().__init__(str(self))

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        return place + self.without_place

    @property
    def without_place(self) -> str:
        """What is wrong and what to do about it, in whole sentences."""
        end = "" if self.what.endswith(("?", "!")) else "."
        return f"{self.what}{end} {self.fix}".rstrip()


def missing_extra(package: str, extra: str | None) -> SpeechftError:
    """The error for a feature whose optional packages are not installed; no extra for those that none of ours has."""
    fix = f"It comes with an extra of this package: pip install 'speechft[{extra}]'."
    return SpeechftError(f"{package} is not installed", fix=fix if extra else f"Install it: pip install {package}.")


def error_number(error: BaseException) -> int | None:
    """The system's number (`errno`) for what went wrong; None where it was nothing of the system's."""
    told = re.search(r"os error (\d+)", str(error))  # safetensors has an error of its own
    return error.errno if isinstance(error, OSError) else int(told[1]) if told else None


def disk_error(error: BaseException | None) -> OSError | None:
    """The error of a disk that is full or may not be written to, where that is behind another error; else None."""
    while error:
        number = error_number(error)
        if number in (*NO_ROOM, errno.EROFS):
            return OSError(number, os.strerror(number), getattr(error, "filename", None))
        error = error.__context__  # also of those that are raised "from None"
    return None


def is_utf8(text: str) -> bool:
    """Whether a text can be written: Python reads a name that is not UTF-8 as one with halves of characters."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _withheld(where: object) -> SpeechftError | None:
    """The error for files that are in order, but cannot be opened; None where that is not it."""
    path = Path(str(where))
    if not is_utf8(str(path)):
        what = "has a name that is not UTF-8, which what reads it cannot open"
        return SpeechftError(what, where=where, fix="Rename it.")
    try:
        for file in sorted(path.iterdir()) if os.path.isdir(path) else [path]:
            if os.path.isfile(file):
                file.open("rb").close()
    except PermissionError as error:
        return SpeechftError("may not be read by you", where=error.filename, fix="Check its permissions.")
    return None


@contextmanager
def readable(where: object, fix: str) -> Iterator[None]:
    """Turns what libraries raise on damaged files into a sentence about `where`."""
    try:
        yield
    except (SpeechftError, ImportError, MemoryError, RuntimeError):  # torch's memory runs out in a RuntimeError
        raise
    except Exception as error:  # tokenizers and safetensors have no narrower one in common
        if "trust_remote_code" in str(error):  # transformers' advice is to run it
            what, other = "needs code that comes with it, which is not run", "Use a model that transformers knows."
            raise SpeechftError(what, where=where, fix=other) from None
        if found := _withheld(where):
            raise found from None
        said = (str(error).splitlines() or [""])[0][:200]
        raise SpeechftError(f"cannot be read ({type(error).__name__}: {said})", where=where, fix=fix) from None
