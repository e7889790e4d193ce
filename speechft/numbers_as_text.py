"""Rates, differences and p values as a person reads them, the same on the terminal, the page and in Markdown.

Rates are fractions; what does not exist is a dash.
"""

from __future__ import annotations

from collections.abc import Sequence

NOTHING = "–"
LEAST = 0.001  # p values are not written any more exactly


def percent(rate: float | None) -> str:
    """
    >>> percent(0.1249)
    '12.5%'
    """
    return NOTHING if rate is None else f"{rate:.1%}"


def interval(ends: Sequence[float | None] | None) -> str:
    """Both ends of an interval in per cent, where there is one."""
    return NOTHING if not ends or None in ends else " to ".join(map(percent, ends))


def points(difference: float | None, digits: int = 1) -> str:
    """A difference of rates in percentage points, with its sign.

    >>> points(-0.071), points(0.0012, digits=2)
    ('−7.1', '+0.12')
    """
    return NOTHING if difference is None else f"{difference * 100:+.{digits}f}".replace("-", "−")


def points_interval(ends: Sequence[float | None] | None, digits: int = 1) -> str:
    """Both ends of an interval in percentage points, where there is one."""
    return NOTHING if not ends or None in ends else " to ".join(points(end, digits) for end in ends)


def p_value(p: float | None, name: str = "") -> str:
    """A p value for a table, or as an equation where it is named.

    >>> p_value(0.03125), p_value(1e-5), p_value(0.03125, "p"), p_value(1e-5, "p")
    ('0.031', '< 0.001', 'p = 0.031', 'p < 0.001')
    """
    if p is None:
        return NOTHING
    if p < LEAST:
        return f"{name} < {LEAST}".strip()
    return f"{name} = {p:.3f}" if name else f"{p:.3f}"


def how_often(p: float) -> str:
    """A chance as a share of the time; what was hardly ever seen in a few thousand draws is not never.

    >>> how_often(0.25), how_often(1 / 2001)
    ('25.0%', 'under 0.1%')
    """
    return f"under {LEAST:.1%}" if p < LEAST else percent(p)
