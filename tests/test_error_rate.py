from __future__ import annotations

import doctest
import math
import random
import re
import string
from dataclasses import FrozenInstanceError
from pathlib import Path

import jiwer
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sctk import alignments, needs_sctk

import speechft.error_rate
from speechft.error_rate import ErrorRate, align, char_errors, sclite_char_errors, sclite_errors, word_errors

PAIRS = 10_000
LETTERS = "ab cé̈ß漢न्😀'-"
texts = st.text(alphabet=LETTERS, max_size=30)
corpora = st.lists(st.tuples(texts, texts), min_size=1, max_size=6)
counts = st.builds(lambda s, d, i, hits: ErrorRate(s, d, i, s + d + hits), *[st.integers(0, 1000)] * 4)


def jiwer_rates(references: list[str], hypotheses: list[str]) -> tuple[float, float, float, float]:
    words = jiwer.process_words(references, hypotheses)
    return words.wer, words.mer, words.wil, jiwer.process_characters(references, hypotheses).cer


def our_rates(references: list[str], hypotheses: list[str]) -> tuple[float, float, float, float]:
    words = sum(map(word_errors, references, hypotheses), ErrorRate())
    characters = sum(map(char_errors, references, hypotheses), ErrorRate())
    # Where no reference has a token, jiwer's rate is the number of insertions and ours inf.
    wer = words.rate if words.length else float(words.insertions)
    cer = characters.rate if characters.length else float(characters.insertions)
    return wer, words.match_error_rate, words.information_lost, cer


def random_pairs(n: int, seed: int) -> list[tuple[str, str]]:
    """Pairs that share words, as transcripts do, with empty texts and letters beyond ASCII."""
    rng = random.Random(seed)
    vocabulary = [
        "a",
        "the",
        "tea",
        "na\u00efve",
        "nai\u0308ve",
        "漢字",
        "नमस्ते",
        "👩‍🚀",
        "ß",
        "don't",
        *string.ascii_lowercase,
    ]
    pairs = []
    for _ in range(n):
        reference = rng.choices(vocabulary, k=rng.choice([0, 1, 2, 5, 9]))
        hypothesis = []
        for word in reference:
            hypothesis += rng.choice([[word], [word], [], [rng.choice(vocabulary)], [word, word]])
        if rng.random() < 0.1:
            hypothesis = rng.choices(vocabulary, k=rng.choice([0, 3]))
        pairs.append((" ".join(reference), " ".join(hypothesis)))
    return pairs


def test_equal_to_jiwer_on_ten_thousand_pairs() -> None:
    pairs = random_pairs(PAIRS, seed=1)
    assert any(not one for one, _ in pairs)
    assert any(not two for _, two in pairs)
    for one, two in pairs:
        assert our_rates([one], [two]) == jiwer_rates([one], [two]), (one, two)


def test_equal_to_jiwer_over_a_corpus() -> None:
    references, hypotheses = map(list, zip(*random_pairs(500, seed=2), strict=True))
    assert our_rates(references, hypotheses) == jiwer_rates(references, hypotheses)


def equal_to_jiwer(pairs: list[tuple[str, str]]) -> None:
    references, hypotheses = map(list, zip(*pairs, strict=True))
    assert our_rates(references, hypotheses) == pytest.approx(jiwer_rates(references, hypotheses), abs=1e-12)


@settings(max_examples=200, deadline=None)
@given(corpora)
def test_equal_to_jiwer_on_any_text(pairs: list[tuple[str, str]]) -> None:
    equal_to_jiwer(pairs)


@pytest.mark.slow
@settings(max_examples=10_000, deadline=None)
@given(corpora)
def test_equal_to_jiwer_on_ten_thousand_corpora_of_any_text(pairs: list[tuple[str, str]]) -> None:
    equal_to_jiwer(pairs)


@pytest.mark.parametrize(
    ("reference", "hypothesis", "counts"),
    [
        ("", "", (0, 0, 0, 0)),
        ("", "two words", (0, 0, 2, 0)),
        ("two words", "", (0, 2, 0, 2)),
        ("a b c", "a x c d", (1, 0, 1, 3)),
        ("tab\tand\nline", "tab and line", (0, 0, 0, 3)),
        ("na\u00efve", "nai\u0308ve", (1, 0, 0, 1)),  # composed or not: normalise first
    ],
)
def test_counts(reference: str, hypothesis: str, counts: tuple[int, int, int, int]) -> None:
    assert word_errors(reference, hypothesis) == ErrorRate(*counts)


def test_rates_without_a_reference() -> None:
    nothing, invented = word_errors("", ""), word_errors("", "thank you")
    assert (nothing.rate, nothing.match_error_rate, nothing.information_lost) == (0.0, 0.0, 0.0)
    assert (invented.rate, invented.match_error_rate, invented.information_lost) == (math.inf, 1.0, 1.0)
    assert (invented + word_errors("good night", "good night")).rate == 1.0  # counted in, not dropped


def test_characters_with_and_without_spaces() -> None:
    assert char_errors("a b", "ab") == ErrorRate(0, 1, 0, 3)
    assert char_errors("a b", "ab", spaces=False) == ErrorRate(0, 0, 0, 2)
    assert char_errors(" a ", "a") == ErrorRate(0, 0, 0, 1)


def test_adds_up_and_never_averages() -> None:
    parts = [word_errors("a b c d", "a b c d"), word_errors("a", "b")]
    assert sum(parts, ErrorRate()).rate == 0.2
    assert sum(parts) == parts[0] + parts[1]
    with pytest.raises(TypeError):
        parts[0] + 1  # type: ignore[operator]


@settings(max_examples=200, deadline=None)
@given(texts, texts)
def test_alignment_agrees_with_the_counts(one: str, two: str) -> None:
    aligned = align(one.split(), two.split())
    errors = word_errors(one, two)
    kinds = [kind for kind, _, _ in aligned]
    assert (kinds.count("substitute"), kinds.count("delete"), kinds.count("insert"), kinds.count("equal")) == (
        errors.substitutions,
        errors.deletions,
        errors.insertions,
        errors.hits,
    )
    assert [a for _, a, _ in aligned if a] == one.split()
    assert [b for _, _, b in aligned if b] == two.split()
    assert errors.hypothesis_length == len(two.split())
    assert all((a == b) == (kind == "equal") for kind, a, b in aligned)


@settings(max_examples=200, deadline=None)
@given(texts, texts, texts)
def test_errors_are_a_distance(one: str, two: str, three: str) -> None:
    assert word_errors(one, one) == ErrorRate(length=len(one.split()))
    assert word_errors(one, two).errors == word_errors(two, one).errors
    assert word_errors(one, three).errors <= word_errors(one, two).errors + word_errors(two, three).errors
    lengths = len(one.split()), len(two.split())
    assert max(lengths) - min(lengths) <= word_errors(one, two).errors <= max(lengths)


@given(counts, counts, counts)
def test_addition(one: ErrorRate, two: ErrorRate, three: ErrorRate) -> None:
    assert one + two == two + one
    assert (one + two) + three == one + (two + three)
    assert one + ErrorRate() == one
    assert sum([one, two, three]) == one + two + three
    assert (one + two).errors == one.errors + two.errors
    assert (one + two).hypothesis_length == one.hypothesis_length + two.hypothesis_length


def sclite(pairs: list[tuple[str, str]], folder: Path, *options: str) -> list[ErrorRate]:
    """What NIST's sclite itself counts, from its alignments."""
    text = alignments(pairs, folder, *options).decode("utf-8")
    found = {}
    for path in re.finditer(r'<PATH id="\(s_(\d+)\)"[^>]*>\n(.*?)</PATH>', text, re.DOTALL):
        kinds = re.findall(r"(?:^|:)([CSDI]),", path[2])
        counts = [kinds.count(kind) for kind in "SDI"]
        found[int(path[1])] = ErrorRate(*counts, len(kinds) - counts[2])
    return [found[i] for i in range(len(pairs))]


@needs_sctk
@pytest.mark.parametrize("letters", ["ascii", "unicode"])
def test_equal_to_sclite_itself_on_ten_thousand_pairs(tmp_path: Path, letters: str) -> None:
    pairs = random_pairs(PAIRS, seed=3)
    if letters == "ascii":  # sclite reads colons, brackets and quotes as markup, so keep to plain words
        pairs = [(one.encode("ascii", "ignore").decode(), two.encode("ascii", "ignore").decode()) for one, two in pairs]
    assert min(sum(not text for text in side) for side in zip(*pairs, strict=True)) > 1_000
    options = [] if letters == "ascii" else ["-e", "utf-8"]
    theirs = sclite(pairs, tmp_path, *options)
    words = [sclite_errors(one.split(), two.split()) for one, two in pairs]
    assert words == theirs
    assert [e.errors for e in words] == [word_errors(one, two).errors for one, two in pairs]
    theirs = sclite(pairs, tmp_path, *options, "-c")
    assert [sclite_char_errors(one, two) for one, two in pairs] == theirs
    fewest = [char_errors(one, two, spaces=False) for one, two in pairs]
    assert [e.length for e in fewest] == [e.length for e in theirs]
    more = sum(a.errors > b.errors for a, b in zip(theirs, fewest, strict=True))
    assert 0 < more < 0.01 * len(pairs)  # the fewest edits are not always the cheapest
    assert sum(theirs).rate == pytest.approx(sum(fewest).rate, rel=0.003)


@settings(max_examples=200, deadline=None)
@given(texts, texts)
def test_sclite_errors_cost_the_least(one: str, two: str) -> None:
    from rapidfuzz.distance import Levenshtein

    found = sclite_errors(one, two)
    cost = 4 * found.substitutions + 3 * (found.deletions + found.insertions)
    assert cost == Levenshtein.distance(one, two, weights=(3, 3, 4))
    assert found.hypothesis_length == len(two)
    assert found.errors >= Levenshtein.distance(one, two)


def test_nobody_changes_a_count() -> None:
    with pytest.raises(FrozenInstanceError):
        ErrorRate().length = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    ("reference", "hypothesis", "rate", "mer", "wil"),
    [
        ("one two", "", 1.0, 1.0, 1.0),
        ("one", "one two three", 2.0, 2 / 3, 2 / 3),
        ("one two", "two three", 1.0, 1.0, 1.0),
        ("one two three four", "one two four", 1 / 4, 1 / 4, 1 - (3 / 4) * (3 / 3)),
    ],
)
def test_rates_by_hand(reference: str, hypothesis: str, rate: float, mer: float, wil: float) -> None:
    errors = word_errors(reference, hypothesis)
    assert errors.rate == rate
    assert errors.match_error_rate == pytest.approx(mer)
    assert errors.information_lost == pytest.approx(wil)


def test_words_split_at_any_white_space_where_jiwer_splits_at_spaces() -> None:
    assert word_errors("one\ntwo", "one two") == ErrorRate(length=2)
    assert jiwer.process_words("one\ntwo", "one two").wer == 2.0


def test_documentation_examples() -> None:
    result = doctest.testmod(speechft.error_rate)
    assert result.attempted >= 3
    assert result.failed == 0
