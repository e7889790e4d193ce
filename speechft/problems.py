"""What is wrong in a manifest: a problem to report, and the exception that becomes one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from speechft.errors import SpeechftError

TRUNCATED = "truncated"  # the kind of a recording that is only the beginning of one, which all who use it must know


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a manifest, its audio or its splits.

    Attributes:
        severity: "error" (the row cannot be used), "warning" (results may mislead) or "note".
        kind: a short name that stays the same between versions, such as "silent" or "duplicate-id".
        where: file and row, such as "train.jsonl:17".
        what: what is wrong, a clause.
        fix: what to do about it, in whole sentences.
    """

    severity: Literal["error", "warning", "note"]
    kind: str
    where: str
    what: str
    fix: str = ""

    def __str__(self) -> str:
        return str(self.error())

    def error(self) -> SpeechftError:
        """The same as an exception to raise."""
        return SpeechftError(self.what, where=self.where, fix=self.fix)


class BadRow(Exception):
    """A row that cannot be used; becomes a Problem, and the next rows are still read."""

    def __init__(self, kind: str, what: str, fix: str) -> None:
        self.kind, self.what, self.fix = kind, what, fix

    def problem(self, where: str) -> Problem:
        return Problem("error", self.kind, where, self.what, self.fix)
