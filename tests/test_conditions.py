"""All that are compared are judged by one normaliser, and that is known before anything is heard."""

from __future__ import annotations

from dataclasses import replace

import pytest
from five_sentences import corpus

from speechft.conditions import Conditions
from speechft.errors import SpeechftError
from speechft.manifest import Manifest

ROWS = Manifest(corpus())


@pytest.mark.parametrize(
    ("told", "language", "by"),
    [
        (["en", "en"], None, "auto"),  # each settles it for itself, and by the same
        ([None, None], None, "auto"),
        ([None, "de"], None, "auto"),
        ([None, "en"], None, "whisper-english"),  # who guesses says nothing of the texts
        ([None, "zh", "ja"], None, "characters"),
        (["en", "de"], "en", "auto"),
    ],
)
def test_one_normaliser_for_all(told: list[str | None], language: str | None, by: str) -> None:
    rows = Manifest(replace(u, language=language) for u in ROWS)
    silent = replace(ROWS[0], id="silent", text="", language="zh")  # which says nothing of the texts
    assert Conditions().settled(Manifest([*rows, silent]), told).normalizer == by


def test_languages_that_are_compared_differently_are_refused_with_advice() -> None:
    with pytest.raises(SpeechftError, match=r"told different languages \(de, en\)") as refused:
        Conditions().settled(ROWS, ["en", None, "de"])
    assert "basic, whisper-english" in refused.value.what
    assert "--language" in refused.value.fix
    assert "--normalizer" in refused.value.fix
    assert Conditions(normalizer="basic").settled(ROWS, ["en", "de"]).normalizer == "basic"
