"""Markdown from text of any origin: what a cell holds cannot end it, start a row or become markup."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

MARKUP = "\\|`*_[]<>"


def escaped(value: object) -> str:
    """One line of text that stands for itself.

    >>> print(escaped("*a* | b"))
    \\*a\\* \\| b
    """
    text = " ".join(str(value).split())
    for character in MARKUP:
        text = text.replace(character, f"\\{character}")
    return text


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table whose columns but the first hold numbers."""
    rule = "|" + "|".join(["---", *["--:"] * (len(headings) - 1)]) + "|"
    return "\n".join([_line(headings), rule, *map(_line, rows)]) + "\n"


def _line(cells: Sequence[object]) -> str:
    return "| " + " | ".join(map(escaped, cells)) + " |"
