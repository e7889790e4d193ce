"""Correction after recognition: what was sure stays, what helps on dev is chosen, and doing nothing is a choice."""

from __future__ import annotations

import dataclasses
import doctest
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechft import correction
from speechft.config import SpeechRecipe
from speechft.correction import (
    NBest,
    answer_rows,
    best_level,
    constrained,
    n_best_lists,
    preference_rows,
    question,
    report,
)
from speechft.errors import SpeechftError
from speechft.manifest import Manifest

TEXT = st.lists(st.sampled_from("abcde"), max_size=8)


def heard(words: str, sure: list[float], reference: str, *others: str) -> NBest:
    return NBest("1", "s", tuple(words.split()), tuple(sure), (words, *others), reference)


def test_examples_in_docstrings() -> None:
    assert doctest.testmod(correction).failed == 0


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcde"), st.floats(0, 1)), max_size=8), TEXT, st.floats(0, 1.2))
def test_sure_words_stay_in_order(parts: list[tuple[str, float]], proposal: list[str], level: float) -> None:
    one = heard(" ".join(w for w, _ in parts), [s for _, s in parts], "")
    left = iter(constrained(one, " ".join(proposal), level).split())
    assert all(word in left for word in (w for w, s in parts if s >= level))


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcde"), st.floats(0, 1)), max_size=8), TEXT)
def test_the_ends_of_the_scale(parts: list[tuple[str, float]], proposal: list[str]) -> None:
    one = heard(" ".join(w for w, _ in parts), [s for _, s in parts], "")
    assert constrained(one, " ".join(proposal), 0.0).split() == list(one.words)
    assert constrained(one, " ".join(proposal), 1.1).split() == proposal


def test_the_level_is_chosen_on_errors_and_nothing_is_a_choice() -> None:
    clips = [heard("turn tha lamp", [0.95, 0.4, 0.95], "turn the lamp")] * 3
    helpful, harmful = ["turn the lamb"] * 3, ["burn that lamp"] * 3
    level, rates = best_level(clips, helpful)
    assert level == 0.5
    assert rates[0.5] == 0
    assert rates[1.1] == pytest.approx(1 / 3)
    assert best_level(clips, harmful)[0] == 0.0
    found = report(clips, helpful, level)
    assert (found["before"]["wer"], found["after"]["wer"]) == (pytest.approx(1 / 3), 0)
    assert (found["changed"], found["better"], found["worse"]) == (3, 3, 0)


def test_case_and_commas_of_a_proposal_are_no_word_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hypotheses and references are normalised, so what a language model writes must be."""
    monkeypatch.setattr(correction, "answers", lambda text, asked, **settings: ["Turn, the lamp!"] * len(asked))
    clips = [heard("turn tha lamp", [0.4, 0.4, 0.4], "turn the lamp")]
    assert correction.propose(None, clips, "whisper-english") == ["turn the lamp"]  # type: ignore[arg-type]
    assert best_level(clips, correction.propose(None, clips, "basic"))[0] == 0.5  # type: ignore[arg-type]


def test_rows_teach_what_was_said() -> None:
    clip = heard("turn tha lamp", [0.95, 0.4, 0.95], "turn the lamp", "turn the lamb")
    assert "1. turn [tha] lamp\n2. turn the lamb" in question(clip)[0]["content"]
    assert answer_rows([clip], "train")[0]["completion"] == "turn the lamp"
    assert preference_rows([clip], "train")[0]["rejected"] == "turn tha lamp"
    right = heard("yes", [0.9], "yes")
    assert preference_rows([right], "train") == []


def test_no_clip_is_heard_by_an_adapter_that_knows_it_or_its_sentence(
    voice: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sentences come twice, spelt in two ways; a recogniser is called by its adapter's folder here."""
    twice = [
        dataclasses.replace(u, id=f"{u.id}-{i}", text=text)
        for u in voice
        for i, text in enumerate((u.text.upper() + "!", u.text.lower()))
    ]
    whole = Manifest(twice, voice.path)
    trained: dict[str, set[str]] = {}
    heard_by: dict[str, str] = {}

    def fit(recipe: SpeechRecipe, rest: Manifest, dev: Manifest) -> SimpleNamespace:
        assert dev is voice
        trained[str(recipe.output_dir)] = {u.id for u in rest}
        return SimpleNamespace(adapter=str(recipe.output_dir))

    def listen(recogniser: str, own: Manifest, *more: object) -> list[NBest]:
        heard_by.update({u.id: recogniser for u in own})
        return [NBest(u.id, "", (), (), (), u.text) for u in own]

    monkeypatch.setattr(correction, "fit", fit)
    monkeypatch.setattr(correction, "load", lambda model, adapter: adapter)
    monkeypatch.setattr(correction, "n_best_lists", listen)
    recipe = SpeechRecipe(manifest=tmp_path / "m.jsonl", output_dir=tmp_path)
    found = correction.cross_validated(recipe, whole, voice, tmp_path, folds=3)
    assert sorted(one.id for one in found) == sorted(u.id for u in whole)
    assert len(trained) == 3
    for name, folder in heard_by.items():
        sentence = name.rsplit("-", 1)[0]
        assert not trained[folder] & {f"{sentence}-0", f"{sentence}-1"}
    with pytest.raises(SpeechftError, match="Use fewer folds"):
        correction.cross_validated(recipe, whole[:2], voice, tmp_path, folds=3)


def test_n_best_lists_come_with_a_confidence_for_every_word(voice: Manifest) -> None:
    from speechft import load

    clips = n_best_lists(load("bundled:tiny.en"), voice[:4], beams=3)
    assert [clip.id for clip in clips] == [u.id for u in voice[:4]]
    for clip in clips:
        assert len(clip.words) == len(clip.confidences) > 0
        assert all(0 <= sure <= 1 for sure in clip.confidences)
        assert clip.hypotheses[0] == " ".join(clip.words)
        assert len(set(clip.hypotheses)) == len(clip.hypotheses)
    assert any(len(clip.hypotheses) > 1 for clip in clips)
