"""Whether a stretch of a text was heard, at the edges of its numbers."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

import speechft.heard
from speechft.heard import times_heard
from speechft.manifest import Utterance
from speechft.scoring import score


@pytest.mark.parametrize(
    ("text", "stretch", "heard", "times"),
    [
        ("anna and ben", "anna", "ben and anna and anna", 2),  # words, wherever they are
        ("call 555 1234", "1234", "call five five one two three four", 1),  # a digit of the number before is lost
        ("call 555 1234", "555", "call five five one two three four", 0),
        ("call 555 or 1234", "555", "call 5551234", 0),  # "or" is lost too, and it is one number now
        ("take 2 of 500", "500", "take 2500", 0),
        ("channel 2 at 5", "channel 2", "channel 25", 0),
        ("gate 7 and gate 7", "gate 7", "gate 7, gate 70", 1),
        ("it costs $20", "$20", "it costs $20.50", 0),
        ("the 2nd time", "2nd", "the second time", 1),
        ("two", "2", "2 2", 0),
        ("", "", "anything", 0),
    ],
)
def test_at_the_edges_of_numbers(text: str, stretch: str, heard: str, times: int) -> None:
    row = score([Utterance(Path("/c/a.wav"), text, "a")], [heard], "whisper-english").rows[0]
    assert times_heard(row, stretch) == times


def test_documentation_examples() -> None:
    result = doctest.testmod(speechft.heard)
    assert (result.attempted > 0, result.failed) == (True, 0)
