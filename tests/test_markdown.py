"""Tables hold any text, and none of it becomes markup."""

from __future__ import annotations

import doctest

import speechft.markdown
from speechft.markdown import markdown_table


def test_markdown_table_holds_any_text() -> None:
    table = markdown_table(["a", "b"], [["x|y\nz", "<i>*q*</i>"]])
    assert table.splitlines() == ["| a | b |", "|---|--:|", r"| x\|y z | \<i\>\*q\*\</i\> |"]


def test_documentation_examples() -> None:
    result = doctest.testmod(speechft.markdown)
    assert (result.attempted > 0, result.failed) == (True, 0)
