"""The matched-pair test on segments, MAPSSWE: whether two systems differ on these recordings, by these speakers.

It leans on the central limit theorem, so its published p is for many segments. Where few differ it finds chance too
often; the p that is used for claims here is then one that does not (`MatchedPairs.p_small_sample`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from speechft.significance import ALL_FLIPS, all_flips

NORMAL_SEGMENTS = 50  # from so many on, a mean is taken for normal
CORRECT_WORDS = 2  # right in both systems, they end a segment; the default of NIST's sc_stats

Alignment = Sequence[tuple[str, str, str]]  # as `speechft.error_rate.align` gives it
Distribution = Literal["sign flips", "Student's t", "normal"]


@dataclass(frozen=True, slots=True)
class MatchedPairs:
    """What the test found.

    Attributes:
        segments: how many there are.
        mean, deviation: of the differences in errors a segment, base - other; nan where there are too few segments.
        z: mean / (deviation / sqrt(segments)), above 0 where base has more errors; nan where there is no deviation, so
            that nothing can be told (sc_stats writes 0 there).
        p_normal: two-sided p of z as published (Gillick and Cox, 1989; Pallett et al., 1990), from the normal
            distribution however few segments there are; nan where z is. NIST's sc_stats looks it up by z cut to two
            decimals, so that it prints up to 0.008 more.
        p_small_sample: the p to go by. It is `p_normal` from `NORMAL_SEGMENTS` on. With fewer it is Student's t of the
            same statistic; where no more than `ALL_FLIPS` segments differ, all their sign flips are tried, since
            both find a difference too often then. So it is 1.0 where at most one segment differs.
        by: what `p_small_sample` comes from.
    """

    segments: int
    mean: float
    deviation: float
    z: float
    p_normal: float
    p_small_sample: float
    by: Distribution


def mapsswe(base: Sequence[int], other: Sequence[int]) -> MatchedPairs:
    """The matched-pair test on segments. It treats them as independent, so it is a statement about these speakers.

    Args:
        base, other: word errors of each segment by the two systems; see `error_segments`.

    >>> found = mapsswe([3, 2, 4, 1, 0, 2], [1, 2, 2, 1, 0, 1])
    >>> round(found.z, 2), round(found.p_normal, 3)
    (2.08, 0.038)
    >>> found.p_small_sample, found.by
    (0.25, 'sign flips')
    """
    differences = np.asarray([one - two for one, two in zip(base, other, strict=True)], float)
    n = len(differences)
    mean = float(differences.mean()) if n else math.nan
    deviation = float(differences.std(ddof=1)) if n > 1 else math.nan
    z = mean / (deviation / math.sqrt(n)) if deviation > 0 else math.nan
    p_normal = math.erfc(abs(z) / math.sqrt(2))
    return MatchedPairs(n, mean, deviation, z, p_normal, *_small_sample(differences, z, p_normal))


def _small_sample(differences: np.ndarray, z: float, p_normal: float) -> tuple[float, Distribution]:
    from scipy.special import stdtr

    n = len(differences)
    if np.count_nonzero(differences) <= ALL_FLIPS:
        return all_flips(differences[differences != 0]), "sign flips"
    if math.isnan(z):  # all differ by the same: only the flip of all or of none is as far from 0
        return 2.0 ** (1 - n), "sign flips"
    if n < NORMAL_SEGMENTS:
        return 2 * float(stdtr(n - 1, -abs(z))), "Student's t"
    return p_normal, "normal"


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
