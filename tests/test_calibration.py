"""Confidences: right by hand, honest in simulation, and equal to scikit-learn's area under the curve."""

from __future__ import annotations

import doctest
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import speechft.calibration
from speechft.calibration import Judged, auroc, calibration, judge_words
from speechft.evaluate import evaluate_model
from speechft.manifest import Manifest, Utterance
from speechft.scoring import score
from speechft.whisper import Whisper


def test_by_hand() -> None:
    words = [Judged(0.95, True), Judged(0.95, False), Judged(0.15, False), Judged(1.0, True)]
    found = calibration(words)
    assert found is not None
    assert [entry["words"] for entry in found["table"]] == [1, 3]
    assert found["table"][1] == pytest.approx(
        {"low": 0.9, "high": 1.0, "words": 3, "confidence": 2.9 / 3, "right": 2 / 3}
    )
    assert found["ece"] == pytest.approx(0.25 * 0.15 + 0.75 * (2.9 / 3 - 2 / 3))
    assert found["auroc"] == pytest.approx(3.5 / 4)  # four pairs of wrong and right; one of them a tie
    assert calibration([]) is None
    assert calibration([Judged(0.5, True)])["auroc"] is None  # type: ignore[index]


def test_what_a_confidence_says_is_found() -> None:
    rng = np.random.default_rng(0)
    sure = rng.beta(4, 2, 20_000)
    honest = [Judged(float(p), bool(rng.random() < p)) for p in sure]
    boasting = [Judged(float(p) ** 0.25, word.right) for p, word in zip(sure, honest, strict=True)]
    one, two = calibration(honest), calibration(boasting)
    assert one is not None
    assert two is not None
    assert one["ece"] < 0.02
    assert two["ece"] > 0.15
    assert one["auroc"] == pytest.approx(two["auroc"])  # boasting doesn't change the order


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10), st.booleans()), min_size=2, max_size=40))
def test_area_is_that_of_scikit_learn(pairs: list[tuple[int, bool]]) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    scores, wanted = np.array([a / 10 for a, _ in pairs]), np.array([float(b) for _, b in pairs])
    if len(set(wanted)) == 2:
        assert auroc(scores, wanted) == pytest.approx(metrics.roc_auc_score(wanted, scores))
    else:
        assert auroc(scores, wanted) is None


def test_words_keep_their_confidence_through_normalisation() -> None:
    row = score([Utterance(Path("/a.wav"), "I don't want tea.", "a")], ["Hmm, I don't want sea."]).rows[0]
    written = [("Hmm,", 0.1), ("I", 0.9), ("don't", 0.8), ("want", 0.7), ("sea.", 0.3)]
    judged = judge_words(row, written, "whisper-english")
    assert judged == [
        Judged(0.9, True), Judged(0.8, True), Judged(0.8, True), Judged(0.7, True), Judged(0.3, False),
    ]  # fmt: skip
    assert judge_words(row, [], "whisper-english") == []


@pytest.mark.parametrize(
    ("text", "heard", "right"),
    [
        ("It costs 5 dollars and ten cents.", "It costs five dollars and ten cents.", [True] * 7),
        (
            "It costs 5 dollars, and Ben paid.",
            "It costs six dollars and Ben paid",
            [True] * 2 + [False] * 2 + [True] * 3,
        ),
        ("zero three five", "0, 3, 5.", [True] * 3),
        ("six one six zero", "616-0, please", [True, True, False]),
        ("five " * 30, "five " * 30, [True] * 30),
    ],
)
def test_words_that_are_normalised_together_are_right_together(text: str, heard: str, right: list[bool]) -> None:
    row = score([Utterance(Path("/a.wav"), text, "a")], [heard], "whisper-english").rows[0]
    judged = judge_words(row, [(word, 0.9) for word in heard.split()], "whisper-english")
    assert [word.right for word in judged] == right


def test_of_a_real_model(tiny: Whisper, voice: Manifest) -> None:
    found = evaluate_model(tiny, voice[:6], confidences=True)
    assert [" ".join(word for word, _ in written) for written in found.written] == [t.text for t in found.transcripts]
    assert all(0 < sure <= 1 for written in found.written for _, sure in written)
    assert found.calibration is not None
    assert found.calibration["words"] == found.scores.words.hypothesis_length
    assert evaluate_model(tiny, voice[:1]).calibration is None


def test_documentation_examples() -> None:
    result = doctest.testmod(speechft.calibration)
    assert result.attempted >= 1
    assert result.failed == 0
