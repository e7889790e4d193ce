"""The matched-pair test on segments, MAPSSWE: whether two systems differ on these recordings, by these speakers.

It is exact where few segments differ, for all flips are tried; where more than `significance.ALL_FLIPS` do, it leans on
the central limit theorem.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from speechft.significance import ALL_FLIPS, all_flips

NORMAL_SEGMENTS = 50  # from so many on, a mean is taken for normal
CORRECT_WORDS = 2  # right in both systems, they end a segment; the default of NIST's sc_stats

Alignment = Sequence[tuple[str, str, str]]  # as `speechft.error_rate.align` gives it


def mapsswe(base: Sequence[int], other: Sequence[int]) -> float:
    """Two-sided p of the matched-pair test on segments (MAPSSWE; Gillick and Cox, 1989; Pallett et al., 1990).

    Args:
        base, other: word errors of each segment by the two systems; see `error_segments`.

    Returns:
        p under the normal approximation, which its authors give for 50 segments and more. With fewer it is Student's t
        of the same statistic; where no more than `ALL_FLIPS` segments differ, all their sign flips are tried, since
        both find a difference too often then. So it is 1.0 where at most one segment differs. It treats segments as
        independent, so it is a statement about these speakers.

    >>> mapsswe([3, 2, 4, 1, 0, 2], [1, 2, 2, 1, 0, 1])
    0.25
    """
    from scipy.special import stdtr

    differences = np.asarray([one - two for one, two in zip(base, other, strict=True)], float)
    n = len(differences)
    if np.count_nonzero(differences) <= ALL_FLIPS:
        return all_flips(differences[differences != 0])
    deviation = differences.std(ddof=1)
    if deviation == 0:
        return 2.0 ** (1 - n)
    w = abs(differences.mean()) / (deviation / math.sqrt(n))
    return math.erfc(w / math.sqrt(2)) if n >= NORMAL_SEGMENTS else 2 * float(stdtr(n - 1, -w))


def error_segments(base: Alignment, other: Alignment, correct: int = CORRECT_WORDS) -> list[tuple[int, int]]:
    """Errors of two systems in each stretch of an utterance where either errs.

    Stretches are parted by at least `correct` words in a row that both systems got right with nothing inserted, so
    that errors in one say little about errors in the next, as in NIST's sc_stats.

    Args:
        base, other: alignments with the same reference.

    Returns:
        (errors of base, errors of other) of each stretch, in order; none where both are right throughout.
    """
    segments: list[tuple[int, int]] = []
    one = two = right = 0
    for place, (first, second) in enumerate(zip(_errors_by_place(base), _errors_by_place(other), strict=True)):
        if first or second:
            if right >= correct and (one or two):
                segments.append((one, two))
                one = two = 0
            one, two, right = one + first, two + second, 0
        elif place % 2:
            right += 1
    return [*segments, (one, two)] if one or two else segments


def _errors_by_place(alignment: Alignment) -> list[int]:
    """Errors at each word of the reference (odd places) and inserted before, between and after them (even places)."""
    places = [0]
    for kind, _, _ in alignment:
        if kind == "insert":
            places[-1] += 1
        else:
            places += [int(kind != "equal"), 0]
    return places
