"""Segments and their test are those of NIST's sc_stats, and of a computation by hand where there are few."""

from __future__ import annotations

import doctest
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import speechft.matched_pairs
from speechft.error_rate import align
from speechft.matched_pairs import error_segments, mapsswe

# What NIST's sc_stats 1.3 (SCTK 2.4.10) prints for these two systems is asserted below: # segs 4, mean 0.250,
# std dev 1.500, Z Stat 0.333.
TIMES = "it was the best of times it was the worst of times it was"
TIMES_A = "its the best of times it is the worst of times or it was"
TIMES_B = "it was the best times it won the test of times it was"


def test_segments_are_those_of_sc_stats() -> None:
    one, two = (align(TIMES.split(), heard.split()) for heard in (TIMES_A, TIMES_B))
    segments = error_segments(one, two)
    assert segments == [(2, 0), (0, 1), (1, 2), (1, 0)]
    differences = np.array([a - b for a, b in segments])
    assert differences.mean() == 0.25
    assert differences.std(ddof=1) == 1.5
    z = 0.25 / (1.5 / math.sqrt(4))
    assert round(z, 3) == 0.333
    # Four segments are too few for a normal p, so ours is exact: no flip of 2, -1, -1, 1 has a sum nearer to 0 than 1.
    assert mapsswe(*zip(*segments, strict=True)) == 1.0
    assert error_segments(one, two, correct=3) == [(4, 3)]
    assert error_segments(one, one, correct=99) == [(4, 4)]
    right = align(TIMES.split(), TIMES.split())
    assert error_segments(right, right) == []


def test_mapsswe_agrees_with_sc_stats_on_a_corpus() -> None:
    """60 utterances by two noisy copiers; sc_stats: # segs 78, mean 0.487, std dev 1.634, Z Stat 2.634."""
    rng = random.Random(0)

    def noisy(words: list[str], share: float) -> list[str]:
        out = []
        for word in words:
            chance = rng.random()
            if chance < share / 3:
                out.append(f"z{rng.randint(0, 999999)}")
            elif 2 * share / 3 <= chance < share:
                out += [word, f"y{rng.randint(0, 99999)}"]
            elif chance >= share:
                out.append(word)
        return out

    segments = []
    for u in range(60):
        said = [f"w{u}x{i}" for i in range(rng.randint(1, 14))]
        one, two = noisy(said, 0.35), noisy(said, 0.25)
        segments += error_segments(align(said, one), align(said, two))
    differences = np.array([a - b for a, b in segments])
    assert len(differences) == 78
    assert round(differences.mean(), 3) == 0.487
    assert round(differences.std(ddof=1), 3) == 1.634
    assert mapsswe(*zip(*segments, strict=True)) == pytest.approx(math.erfc(2.634 / math.sqrt(2)), abs=1e-4)


@pytest.mark.parametrize("n", [56, 28])
def test_mapsswe_by_hand(n: int) -> None:
    """
    half of n segments better by 1, the others the same:
    mean           = 1/2
    variance       = (n/2 - n/4) / (n - 1)
    W              = mean / sqrt(variance / n) = sqrt(n - 1)
    n = 56, normal = 2 * (1 - Phi(sqrt(55)))
    n = 28, t      = 2 * (1 - T27(sqrt(27)))
    """
    w = math.sqrt(n - 1)
    expected = math.erfc(w / math.sqrt(2)) if n >= 50 else 2 * (1 - stats.t(n - 1).cdf(w))
    assert mapsswe([1] * n, [0, 1] * (n // 2)) == pytest.approx(expected, rel=1e-6)


def test_mapsswe_of_few_segments_is_exact() -> None:
    """
    1 1 1 1 0 0 0 0: of the 16 flips of the four that differ, 2 reach a sum of 4.
    """
    assert mapsswe([3, 1, 2, 4, 0, 1, 2, 0], [2, 0, 1, 3, 0, 1, 2, 0]) == 2 / 16
    assert mapsswe([3, 2], [0, 0]) == 0.5
    assert mapsswe([3, *[1] * 99], [0, *[1] * 99]) == 1.0  # one of many differs
    assert mapsswe([2] * 5 + [1] * 95, [1] * 100) == 2**-4


@pytest.mark.parametrize("segments", [2, 3, 5, 8, 12, 20, 40, 60])
def test_mapsswe_of_few_segments_finds_chance_no_more_often_than_stated(segments: int) -> None:
    """The normal approximation found it in 17% of cases with 3 segments, 13% with 5 and 9% with 8."""
    rng = np.random.default_rng(segments)
    found = sum(mapsswe(*rng.poisson(1.0, (2, segments))) < 0.05 for _ in range(1000)) / 1000
    assert found <= 0.065  # two standard errors above


def test_mapsswe_without_difference_or_deviation() -> None:
    assert mapsswe([], []) == 1.0
    assert mapsswe([1, 2], [1, 2]) == 1.0
    assert mapsswe([1], [0]) == 1.0
    assert mapsswe([2, 1, 3, 1], [1, 0, 2, 0]) == 2**-3  # all better by one: the sign test, not certainty
    with pytest.raises(ValueError, match="zip"):
        mapsswe([1, 2, 3], [1])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=30))
def test_mapsswe_is_a_p_value_and_symmetric(pairs: list[tuple[int, int]]) -> None:
    one, two = [a for a, _ in pairs], [b for _, b in pairs]
    assert 0.0 <= mapsswe(one, two) <= 1.0
    assert mapsswe(one, two) == mapsswe(two, one)


def test_mapsswe_finds_chance_about_as_often_as_stated() -> None:
    rng = np.random.default_rng(10)
    found = sum(mapsswe(*rng.binomial(10, 0.3, (2, 200))) < 0.05 for _ in range(400)) / 400
    assert 0.02 <= found <= 0.09


def test_documentation_examples() -> None:
    result = doctest.testmod(speechft.matched_pairs)
    assert result.attempted
    assert result.failed == 0
