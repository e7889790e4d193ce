"""Intervals hold the truth about as often as they say; tests of differences equal hand-computed ones."""

from __future__ import annotations

import doctest
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import speechft.significance
from speechft.error_rate import ErrorRate
from speechft.scoring import total
from speechft.significance import (
    bootstrap_ci,
    holm,
    paired_bootstrap,
    shuffled_gap,
    sign_flip,
    standard_error,
)

SPEAKERS, CLIPS, WORDS = 25, 8, 10
NAMES = [f"s{i // CLIPS}" for i in range(SPEAKERS * CLIPS)]
TRUE_RATE = 0.25  # mean of Beta(2, 6), which speakers' rates are drawn from


def substituted(errors: int, length: int = WORDS) -> ErrorRate:
    return ErrorRate(substitutions=errors, length=length)


def corpus(rng: np.random.Generator) -> list[ErrorRate]:
    """Speakers with different true rates, a few clips each."""
    rates = rng.beta(2, 6, SPEAKERS).repeat(CLIPS)
    return [substituted(int(errors)) for errors in rng.binomial(WORDS, rates)]


def coverage(blocks: list[str] | None, corpora: int = 1_000) -> float:
    """Share of simulated corpora whose 95% interval holds the true rate."""
    held = 0
    for seed in range(corpora):
        clips = corpus(np.random.default_rng(seed))
        clips = clips[: len(blocks)] if blocks else clips
        low, high = bootstrap_ci(clips, blocks, draws=500, seed=seed)
        held += low <= TRUE_RATE <= high
    return held / corpora


def test_interval_over_speakers_covers_as_stated() -> None:
    assert 0.93 <= coverage(NAMES) <= 0.975


def test_interval_of_five_speakers_is_widened() -> None:
    """Plain percentiles of five speakers hold the truth in about 83 of 100 cases."""
    assert 0.87 <= coverage(NAMES[: 5 * CLIPS]) <= 0.99


def test_interval_of_fewer_is_about_these_people_and_covers_as_stated() -> None:
    """Three speakers whose own rates are known: it is their recordings that another day would bring others of."""
    rates = np.array([0.1, 0.3, 0.5]).repeat(CLIPS)
    held = 0
    for seed in range(1_000):
        clips = [substituted(int(errors)) for errors in np.random.default_rng(seed).binomial(WORDS, rates)]
        low, high = bootstrap_ci(clips, NAMES[: 3 * CLIPS], draws=500, seed=seed)
        held += low <= rates.mean() <= high
    assert held / 1_000 >= 0.94  # more than stated: speakers differ, and how many clips are whose is drawn too


def test_interval_over_utterances_would_be_too_narrow() -> None:
    """The reason why speakers are drawn: clips of one voice are alike."""
    assert coverage(None, 200) < 0.8


def test_interval_is_deterministic_and_holds_the_rate() -> None:
    errors = corpus(np.random.default_rng(1))
    low, high = bootstrap_ci(errors, NAMES)
    assert (low, high) == bootstrap_ci(errors, NAMES)
    assert (low, high) != bootstrap_ci(errors, NAMES, seed=1)
    assert low < sum(e.errors for e in errors) / sum(e.length for e in errors) < high


def test_order_of_rows_within_speakers_does_not_matter() -> None:
    errors = corpus(np.random.default_rng(2))
    order = np.random.default_rng(3).permutation(len(errors))
    shuffled = bootstrap_ci([errors[i] for i in order], [NAMES[i] for i in order])
    assert shuffled == pytest.approx(bootstrap_ci(errors, NAMES), abs=1e-12)


def test_how_the_draws_are_cut_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = corpus(np.random.default_rng(4))
    whole = bootstrap_ci(errors, NAMES, draws=999)
    monkeypatch.setattr(speechft.significance, "DRAWN_AT_ONCE", 7 * SPEAKERS)
    assert bootstrap_ci(errors, NAMES, draws=999) == pytest.approx(whole, abs=1e-12)


@pytest.mark.parametrize(("speakers", "drawn"), [(1, "utterances"), (4, "utterances"), (5, "speakers")])
def test_few_speakers_fall_back_to_utterances(speakers: int, drawn: str) -> None:
    errors = corpus(np.random.default_rng(5))
    better = [substituted(max(0, e.errors - i % 2)) for i, e in enumerate(errors)]
    names = [str(i % speakers) for i in range(len(errors))]
    over_utterances = drawn == "utterances"
    assert (bootstrap_ci(errors, names) == bootstrap_ci(errors)) == over_utterances
    assert (paired_bootstrap(errors, better, names) == paired_bootstrap(errors, better)) == over_utterances
    assert (sign_flip(errors, better, names) == sign_flip(errors, better)) == over_utterances


def test_wider_level_wider_interval() -> None:
    errors = corpus(np.random.default_rng(6))
    narrow, wide = bootstrap_ci(errors, NAMES, level=0.8), bootstrap_ci(errors, NAMES, level=0.99)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_without_a_word_there_is_no_interval() -> None:
    for errors in ([], [ErrorRate(insertions=3)], [ErrorRate(), ErrorRate()], [substituted(1)]):
        assert all(map(math.isnan, bootstrap_ci(errors)))
    difference, bounds = paired_bootstrap([], [])
    assert all(map(math.isnan, (difference, *bounds)))


def test_speakers_must_match_utterances() -> None:
    with pytest.raises(ValueError, match="2 utterances but 1 speakers"):
        bootstrap_ci([substituted(1), substituted(2)], ["a"])
    with pytest.raises(ValueError, match="zip"):
        paired_bootstrap([substituted(1)], [])


def test_paired_difference_is_negative_for_an_improvement() -> None:
    base = corpus(np.random.default_rng(7))
    better = [substituted(max(0, e.errors - 1)) for e in base]
    difference, (low, high) = paired_bootstrap(base, better, NAMES)
    assert low < difference < high < 0
    assert difference == pytest.approx(sum(b.errors - a.errors for a, b in zip(base, better, strict=True)) / 2000)
    back, (back_low, back_high) = paired_bootstrap(better, base, NAMES)
    assert (back, back_low, back_high) == pytest.approx((-difference, -high, -low))


def test_differences_that_do_not_vary_have_no_interval() -> None:
    base = corpus(np.random.default_rng(8))
    for more in (0, 1):
        other = [substituted(e.errors + more) for e in base]
        difference, bounds = paired_bootstrap(base, other, NAMES)
        assert difference == pytest.approx(more / WORDS)
        assert all(map(math.isnan, bounds))  # "10.0 to 10.0 points" would be certainty


def test_rates_that_do_not_vary_are_no_certainty() -> None:
    """
    six clips all right: a clip with errors may still be 1 - 0.025 ** (1 / 6) = 45.9% of all
    """
    assert bootstrap_ci([substituted(0)] * 6) == (0.0, pytest.approx(0.4593, abs=1e-4))
    assert bootstrap_ci([substituted(10)] * 6) == (pytest.approx(0.5407, abs=1e-4), 1.0)
    assert all(map(math.isnan, bootstrap_ci([substituted(1, 4), substituted(2, 8), substituted(1, 4)])))
    silent = [ErrorRate()] * 5  # clips without a word are no evidence
    assert bootstrap_ci([*[substituted(0)] * 6, *silent]) == bootstrap_ci([substituted(0)] * 6)
    assert bootstrap_ci([substituted(0)] * 60, NAMES[:60])[1] > bootstrap_ci([substituted(0)] * 60)[1]  # 8 speakers


def test_interval_of_rates_near_nought_covers_as_stated() -> None:
    """Of eight clips at 2% most are without an error; 0.0% to 0.0% would miss the truth each time."""
    held = 0
    for seed in range(400):
        errors = [substituted(int(e)) for e in np.random.default_rng(seed).binomial(WORDS, 0.02, 8)]
        low, high = bootstrap_ci(errors, draws=500, seed=seed)
        held += low <= 0.02 <= high
    assert held / 400 > 0.9


def test_pairing_is_narrower_than_two_intervals() -> None:
    base = corpus(np.random.default_rng(9))
    better = [substituted(max(0, e.errors - 1)) for e in base]
    _, (low, high) = paired_bootstrap(base, better, NAMES)
    one, two = bootstrap_ci(base, NAMES), bootstrap_ci(better, NAMES)
    assert high - low < min(one[1] - one[0], two[1] - two[0])


def test_sign_flip_by_hand() -> None:
    """Four speakers better by 3, 2, 1 and 1: only all or none of the 16 flips reach a sum of 7."""
    base, other = [substituted(n) for n in (3, 2, 1, 1)], [substituted(0)] * 4
    assert sign_flip(base, other, list("abcd")) == 2 / 16
    # 4 + 2 - 1 - 0: sums of at least 5 either way are 7, 5 and their mirrors, each twice for the 0
    base, other = [substituted(n) for n in (4, 2, 0, 1)], [substituted(n) for n in (0, 0, 1, 1)]
    assert sign_flip(base, other, list("abcd")) == 8 / 16
    assert sign_flip(base, base, list("abcd")) == sign_flip([], []) == 1.0


def test_sign_flip_of_many_speakers_is_close_to_the_exact_one(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(11)
    base, other = ([substituted(int(n)) for n in rng.binomial(10, p, 12)] for p in (0.4, 0.3))
    exact = sign_flip(base, other)
    monkeypatch.setattr(speechft.significance, "ALL_FLIPS", 3)
    assert sign_flip(base, other) == pytest.approx(exact, abs=0.02)
    assert sign_flip(base, other) == sign_flip(other, base)


def test_holm_by_hand() -> None:
    """
    sorted   0.01   0.03   0.04   0.2
    times    4      3      2      1
    product  0.04   0.09   0.08   0.2
    highest  0.04   0.09   0.09   0.2     (never below a smaller p value's)
    """
    assert holm([0.04, 0.2, 0.01, 0.03]) == pytest.approx([0.09, 0.2, 0.04, 0.09])


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_properties(p_values: list[float]) -> None:
    corrected = holm(p_values)
    assert len(corrected) == len(p_values)
    assert all(p <= q <= 1 for p, q in zip(p_values, corrected, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert all(np.diff(np.asarray(corrected)[order]) >= 0)


def test_documentation_examples() -> None:
    result = doctest.testmod(speechft.significance)
    assert result.attempted >= 2
    assert result.failed == 0


def test_standard_error() -> None:
    assert standard_error(0.2, 100) == pytest.approx(0.04)
    assert standard_error(0.0, 100) == pytest.approx(standard_error(0.01, 100))
    assert standard_error(3.0, 100) == pytest.approx(standard_error(0.01, 100))
    assert standard_error(1.0, 1) == 0


def test_groups_drawn_by_chance_have_a_wide_gap_as_often_as_p_says() -> None:
    groups = [f"g{int(name[1:]) % 4}" for name in NAMES]
    found = [shuffled_gap(corpus(np.random.default_rng(seed)), groups, NAMES, seed=seed) for seed in range(200)]
    p = np.array(found, float)
    assert 0.01 <= np.mean(p <= 0.05) <= 0.10
    assert 0.4 <= np.mean(p <= 0.5) <= 0.6


def test_a_gap_between_groups_of_speakers_who_differ_is_not_chance() -> None:
    groups = ["severe" if int(name[1:]) < 10 else "mild" for name in NAMES]
    errors = [substituted(6 if group == "severe" else 1) for group in groups]
    assert shuffled_gap(errors, groups, NAMES) == pytest.approx(1 / 2001)
    # two against two: 2 of the 6 ways to part them are as wide, however large the gap
    few = {name: group for name, group in zip(NAMES, groups, strict=True) if name in ("s1", "s2", "s20", "s21")}
    p = shuffled_gap([substituted(6 if g == "severe" else 1) for g in few.values()], list(few.values()), list(few))
    assert p == pytest.approx(1 / 3, abs=0.05)


def test_a_gap_that_cannot_be_judged_has_no_p() -> None:
    two = [substituted(1), substituted(2), substituted(3), substituted(0, 0)]
    speakers = ["a", "b", "c", "d"]
    assert shuffled_gap(two, ["x", "x", "x", "x"], speakers) is None
    assert shuffled_gap(two, ["x", "x", "x", "y"], speakers) is None  # y has no word
    assert shuffled_gap(two, ["x", "y", "x", "y"], ["a", "a", "b", "b"]) is None  # a and b are in both
    assert shuffled_gap([], [], []) is None
    assert shuffled_gap(two, ["x", "x", "y", "y"], ["a"] * 4) is not None  # one speaker: recordings are shuffled


def test_who_has_no_word_is_no_block_to_draw_or_to_swap() -> None:
    """Five speakers are 2 of 32 flips; three silent rooms are no more people, but what was heard there is wrong too."""
    names, rooms = [name for name in "abcde" for _ in range(4)], ["room", "hall", "hall"]
    base = [substituted(i % 4 + 1) for i in range(20)]
    other = [substituted(i % 4 // 2) for i in range(20)]
    invented, quiet = [ErrorRate(insertions=2)] * 3, [ErrorRate()] * 3
    everyone = [*names, *rooms]
    assert sign_flip(base, other, names) == sign_flip(base + invented, other + quiet, everyone) == 2 / 32
    of_people, with_rooms = (bootstrap_ci(e, b) for e, b in ((base, names), (base + quiet, everyone)))
    assert of_people == with_rooms
    uneven = [substituted(i // 4) for i in range(20)]
    shift = 6 / total(uneven).length
    bounds, shifted = bootstrap_ci(uneven, names), bootstrap_ci(uneven + invented, everyone)
    assert shifted == pytest.approx([bound + shift for bound in bounds])
    assert shifted[0] <= total(uneven + invented).rate <= shifted[1]
    plain, (low, high) = paired_bootstrap(uneven, other, names)
    difference, found = paired_bootstrap(uneven + invented, other + quiet, everyone)
    assert difference == pytest.approx(plain - shift)
    assert found == pytest.approx((low - shift, high - shift))


def test_silence_among_the_recordings_of_one_voice_is_one_of_them() -> None:
    errors = [*(substituted(i % 3) for i in range(8)), ErrorRate(insertions=2)]
    low, high = bootstrap_ci(errors, ["a"] * 9)
    assert low <= total(errors).rate <= high
    assert bootstrap_ci([ErrorRate(insertions=2)] * 6, list("abcdef")) == pytest.approx((np.nan, np.nan), nan_ok=True)


def test_silent_rooms_change_no_p_of_a_gap() -> None:
    names = [name for name in "abcdef" for _ in range(2)]
    groups = ["mild" if name in "abc" else "severe" for name in names]
    errors = [substituted(0 if group == "mild" else 2) for group in groups]
    p = shuffled_gap(errors, groups, names)
    silent = [ErrorRate()] * 3
    for room in (["mild"] * 3, ["severe"] * 3, ["mild", "severe", "elsewhere"]):
        for speakers in (["x", "y", "z"], ["", "", ""]):
            assert shuffled_gap(errors + silent, groups + room, names + speakers) == p
