"""The one exception a user of speechft is meant to see."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


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
        said = (str(error).splitlines() or [""])[0][:200]
        raise SpeechftError(f"cannot be read ({type(error).__name__}: {said})", where=where, fix=fix) from None
