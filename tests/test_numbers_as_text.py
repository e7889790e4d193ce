"""Numbers are written one way everywhere, and what does not exist is a dash."""

from __future__ import annotations

import doctest

import speechft.numbers_as_text
from speechft.numbers_as_text import interval, p_value, percent, points, points_interval


def test_what_does_not_exist_is_a_dash() -> None:
    assert {percent(None), interval(None), interval([0.1, None]), points(None), points_interval([None, None])} == {"–"}
    assert p_value(None) == p_value(None, "p") == "–"


def test_intervals() -> None:
    assert interval([0.1, 0.25]) == "10.0% to 25.0%"
    assert points_interval([-0.1, 0.25]) == "−10.0 to +25.0"
    assert points_interval([-0.001, 0.0], digits=2) == "−0.10 to +0.00"


def test_documentation_examples() -> None:
    result = doctest.testmod(speechft.numbers_as_text)
    assert (result.attempted >= 4, result.failed) == (True, 0)
