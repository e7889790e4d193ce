"""Rows that cannot be used: each is told as it is met, and named in the result."""

from __future__ import annotations

from collections.abc import Iterable

from speechft.events import OnEvent
from speechft.plain_text import escape
from speechft.problems import TRUNCATED, Problem


def tell(on_event: OnEvent, where: str, reason: str) -> None:
    """Say that a row is left out."""
    on_event({"event": "left out", "where": where, "reason": reason})


def tell_errors(on_event: OnEvent, problems: Iterable[Problem]) -> dict[str, str]:
    """The rows that cannot be used, with the reason; each is told, and so are those that are heard in part."""
    problems = list(problems)
    for problem in problems:
        if problem.kind == TRUNCATED:
            on_event({"event": "cut off", "where": problem.where, "reason": f"{problem.what}. {problem.fix}"})
    found = {problem.where: problem.what for problem in problems if problem.severity == "error"}
    for where, reason in found.items():
        tell(on_event, where, reason)
    return found


def listed(rows: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    """Rows and reasons, as a result has them."""
    return [{"where": where, "reason": reason} for where, reason in rows]


def line(where: str, reason: str) -> str:
    """A row and the reason, with the markup of a terminal."""
    return f"[yellow]left out[/] {escape(where)}: {escape(reason)}"
