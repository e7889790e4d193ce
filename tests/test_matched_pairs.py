"""Segments and their test are those of NIST's sc_stats, and of a computation by hand where there are few."""

from __future__ import annotations

import doctest
import math
import random
import re
from pathlib import Path

import numpy as np
import pytest
from five_sentences import TIMES, TIMES_A, TIMES_B
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sctk import alignments, matched_pairs, needs_sctk

import speechft.matched_pairs
from speechft.error_rate import align
from speechft.matched_pairs import MatchedPairs, error_segments, mapsswe


def segments_of(said: list[str], one: list[str], two: list[str]) -> list[tuple[int, int]]:
    """Of all utterances, as two systems heard them."""
    texts = [[text.split() for text in row] for row in zip(said, one, two, strict=True)]
    return [pair for text, a, b in texts for pair in error_segments(align(text, a), align(text, b))]


def of_segments(segments: list[tuple[int, int]]) -> MatchedPairs:
    return mapsswe([a for a, _ in segments], [b for _, b in segments])


def small_sample_p(base: object, other: object) -> float:
    return mapsswe(base, other).p_small_sample  # type: ignore[arg-type]


def as_sc_stats_prints(found: MatchedPairs) -> tuple[str, ...]:
    """Segments, mean, deviation, z and p, which it looks up in a table by two decimals of z, the others cut off."""
    p = math.erfc(math.floor(abs(found.z) * 100 + 1e-9) / 100 / math.sqrt(2))
    numbers = [f"{number:.3f}" for number in (found.mean, found.deviation, found.z)]
    return str(found.segments), *numbers, "<0.001" if p < 0.001 else f"{p:.3f}"


def test_the_published_example() -> None:
    """sc_stats 1.3 (SCTK 2.4.10): # segs 4, mean 0.250, std dev 1.500, Z Stat 0.333, p 0.741."""
    segments = segments_of([TIMES], [TIMES_A], [TIMES_B])
    assert segments == [(2, 0), (0, 1), (1, 2), (1, 0)]
    found = of_segments(segments)
    assert as_sc_stats_prints(found) == ("4", "0.250", "1.500", "0.333", "0.741")
    assert found.z == pytest.approx(1 / 3)
    assert found.p_normal == pytest.approx(0.7389, abs=5e-5)  # of 1/3, which sc_stats takes for 0.33
    # Four segments are too few for a normal p: no flip of 2, -1, -1, 1 has a sum nearer to 0 than 1.
    assert (found.p_small_sample, found.by) == (1.0, "sign flips")


def test_segments_end_at_words_that_both_got_right() -> None:
    one, two = (align(TIMES.split(), heard.split()) for heard in (TIMES_A, TIMES_B))
    assert error_segments(one, two, correct=3) == [(4, 3)]
    assert error_segments(one, one, correct=99) == [(4, 4)]
    right = align(TIMES.split(), TIMES.split())
    assert error_segments(right, right) == []


def heard_by_two(seed: int, utterances: int, shares: tuple[float, float]) -> tuple[list[str], list[str], list[str]]:
    """Texts, and what two noisy copiers make of them. All words differ, so that there is one alignment to find."""
    rng = random.Random(seed)

    def noisy(words: list[str], share: float) -> str:
        out = []
        for word in words:
            chance = rng.random()
            if chance < share / 3:
                out.append(f"z{rng.randint(0, 999999)}")
            elif 2 * share / 3 <= chance < share:
                out += [word, f"y{rng.randint(0, 99999)}"]
            elif chance >= share:
                out.append(word)
        return " ".join(out)

    said: list[str] = []
    heard: tuple[list[str], list[str]] = [], []
    for u in range(utterances):
        words = [f"w{u}x{i}" for i in range(rng.randint(1, 14))]
        said.append(" ".join(words))
        for system, share in zip(heard, shares, strict=True):
            system.append(noisy(words, share))
    return said, *heard


def test_a_corpus_as_sc_stats_has_it() -> None:
    """60 utterances; sc_stats: # segs 78, mean 0.487, std dev 1.634, Z Stat 2.634, p 0.009."""
    found = of_segments(segments_of(*heard_by_two(0, 60, (0.35, 0.25))))
    assert as_sc_stats_prints(found) == ("78", "0.487", "1.634", "2.634", "0.009")
    assert found.p_small_sample == found.p_normal == pytest.approx(math.erfc(2.634 / math.sqrt(2)), abs=1e-4)
    assert found.by == "normal"


@needs_sctk
@pytest.mark.parametrize(("utterances", "shares"), [(4, (0.3, 0.3)), (10, (0.35, 0.25)), (40, (0.1, 0.2))])
def test_sc_stats_itself_finds_the_same(utterances: int, shares: tuple[float, float], tmp_path: Path) -> None:
    for seed in range(3):
        said, one, two = heard_by_two(seed, utterances, shares)
        base = alignments(list(zip(said, one, strict=True)), tmp_path, name="a")
        other = alignments(list(zip(said, two, strict=True)), tmp_path, name="b")
        text = matched_pairs(base, other, tmp_path)
        numbers = re.search(r"# segs: (\d+).*mean: *(\S+)\).*dev: *(\S+)\) \(Z Stat: *(\S+)\)", text)
        p = re.search(r"\| +MP +\|\| +a +\|.*?(<?\d\.\d{3})", text)
        found = as_sc_stats_prints(of_segments(segments_of(said, one, two)))
        assert found == (*(numbers.groups() if numbers else ()), p and p[1]), text


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
    found = mapsswe([1] * n, [0, 1] * (n // 2))
    assert found.z == pytest.approx(w)
    assert found.p_normal == pytest.approx(math.erfc(w / math.sqrt(2)), rel=1e-6)
    assert found.p_small_sample == pytest.approx(expected, rel=1e-6)
    assert found.by == ("normal" if n >= 50 else "Student's t")


def test_mapsswe_of_few_segments_is_exact() -> None:
    """
    1 1 1 1 0 0 0 0: of the 16 flips of the four that differ, 2 reach a sum of 4.
    """
    assert small_sample_p([3, 1, 2, 4, 0, 1, 2, 0], [2, 0, 1, 3, 0, 1, 2, 0]) == 2 / 16
    assert small_sample_p([3, 2], [0, 0]) == 0.5
    assert small_sample_p([3, *[1] * 99], [0, *[1] * 99]) == 1.0  # one of many differs
    assert small_sample_p([2] * 5 + [1] * 95, [1] * 100) == 2**-4


@pytest.mark.parametrize("segments", [2, 3, 5, 8, 12, 20, 40, 60])
def test_mapsswe_of_few_segments_finds_chance_no_more_often_than_stated(segments: int) -> None:
    """The normal approximation found it in 17% of cases with 3 segments, 13% with 5 and 9% with 8."""
    rng = np.random.default_rng(segments)
    found = sum(small_sample_p(*rng.poisson(1.0, (2, segments))) < 0.05 for _ in range(1000)) / 1000
    assert found <= 0.065  # two standard errors above


def test_mapsswe_without_difference_or_deviation() -> None:
    assert small_sample_p([], []) == 1.0
    assert small_sample_p([1, 2], [1, 2]) == 1.0
    assert small_sample_p([1], [0]) == 1.0
    assert small_sample_p([2, 1, 3, 1], [1, 0, 2, 0]) == 2**-3  # all better by one: the sign test, not certainty
    assert small_sample_p([1] * 20, [0] * 20) == 2**-19
    for one, two in (([], []), ([1], [0]), ([1, 2], [1, 2]), ([1] * 20, [0] * 20)):
        assert math.isnan(mapsswe(one, two).z)
        assert math.isnan(mapsswe(one, two).p_normal)
    with pytest.raises(ValueError, match="zip"):
        small_sample_p([1, 2, 3], [1])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=30))
def test_mapsswe_is_a_p_value_and_symmetric(pairs: list[tuple[int, int]]) -> None:
    one, two = [a for a, _ in pairs], [b for _, b in pairs]
    assert 0.0 <= small_sample_p(one, two) <= 1.0
    assert small_sample_p(one, two) == small_sample_p(two, one)


def test_mapsswe_finds_chance_about_as_often_as_stated() -> None:
    rng = np.random.default_rng(10)
    found = sum(small_sample_p(*rng.binomial(10, 0.3, (2, 200))) < 0.05 for _ in range(400)) / 400
    assert 0.02 <= found <= 0.09


def test_documentation_examples() -> None:
    result = doctest.testmod(speechft.matched_pairs)
    assert result.attempted
    assert result.failed == 0
