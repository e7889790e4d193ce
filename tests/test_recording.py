"""Recordings of any length, word times, and the formats they are written in."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from speechft import formats
from speechft.evaluate import evaluate_model
from speechft.manifest import Manifest, Utterance
from speechft.recording import LONGEST, Recording, Segment, speech_pieces, transcribe
from speechft.transcript import Transcript, joined
from speechft.whisper import Whisper
from speechft.word_times import Word

RATE = 16_000
TEXT = ["I'd", "like", "<tea>", "&", "milk,", "please."]


@pytest.fixture(scope="module")
def long_recording(voice: Manifest) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """Sentences with 1.5 s of faint noise between them, and where each lies."""
    rng = np.random.default_rng(0)
    parts, places, now = [], [], 0.0
    for utterance in voice[:14]:
        clip = utterance.load()
        gap = rng.normal(0, 1e-4, int(1.5 * RATE)).astype(np.float32)
        places.append((now, now + len(clip) / RATE))
        parts += [clip, gap]
        now += (len(clip) + len(gap)) / RATE
    return np.concatenate(parts), places


def test_long_recordings_are_cut_at_pauses(long_recording: tuple[np.ndarray, list]) -> None:
    samples, places = long_recording
    pieces = [(a / RATE, b / RATE) for a, b in speech_pieces(samples)]
    assert len(samples) / RATE > LONGEST
    assert all(end - start <= LONGEST for start, end in pieces)
    for start, end in places:  # no sentence is cut
        middle = (start + end) / 2
        assert any(a <= middle <= b for a, b in pieces)
        assert not any(start + 0.5 < edge < end - 0.5 for piece in pieces for edge in piece)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.floats(0.2, 40), st.floats(0, 12)), min_size=1, max_size=6))
def test_pieces_fit_are_in_order_and_hold_all_sound(stretches: list[tuple[float, float]]) -> None:
    rng = np.random.default_rng(0)
    parts = []
    for loud, quiet in stretches:
        parts += [rng.normal(0, 0.1, int(loud * RATE)), np.zeros(int(quiet * RATE))]
    samples = np.concatenate(parts).astype(np.float32)
    pieces = speech_pieces(samples)
    assert all(0 <= a < b <= len(samples) and b - a <= max(LONGEST * RATE, 1) for a, b in pieces)
    assert all(one[1] <= two[0] for one, two in pairwise(pieces))
    inside = np.zeros(len(samples), bool)
    for a, b in pieces:
        inside[a:b] = True
    power = np.square(samples)
    assert power[inside].sum() > 0.97 * power.sum()


def test_silence_and_nothing_have_no_pieces() -> None:
    assert speech_pieces(np.zeros(0, np.float32)) == []
    assert speech_pieces(np.zeros(40 * RATE, np.float32)) == []


def test_words_lie_where_they_were_said(tiny: Whisper, long_recording: tuple[np.ndarray, list]) -> None:
    samples, places = long_recording
    found = transcribe(tiny, samples, words=True)
    words = [word for segment in found.segments for word in segment.words]
    assert " ".join(w.text for w in words).split() == found.text.split()
    starts = [w.start_s for w in words]
    assert starts == sorted(starts)
    spoken = sum(any(a - 0.5 <= (w.start_s + w.end_s) / 2 <= b + 0.5 for a, b in places) for w in words)
    assert spoken >= 0.9 * len(words)
    assert all(0 <= w.confidence <= 1 for w in words)


def test_evaluation_hears_long_clips_to_their_end(
    tiny: Whisper, voice: Manifest, long_recording: tuple[np.ndarray, list], tmp_path: Path
) -> None:
    samples, _ = long_recording
    soundfile.write(tmp_path / "long.wav", samples, RATE, subtype="FLOAT")  # 16 bits can change a borderline word
    text = " ".join(u.text for u in voice[:14])
    long = Utterance(tmp_path / "long.wav", text, "long", "ann", duration_s=len(samples) / RATE)
    found = evaluate_model(tiny, Manifest([long, *voice[:2]]), confidences=True)
    whole, *short = found.transcripts
    assert not found.unreadable
    assert whole.text == transcribe(tiny, samples).text
    assert [t.text for t in short] == [transcribe(tiny, u.load()).text for u in voice[:2]]
    assert " ".join(word for word, _ in found.written[0]) == whole.text
    assert len(whole.text.split()) > 0.8 * len(text.split()), "sentences after 30 s are heard"


def test_a_file_and_its_samples_say_the_same(tiny: Whisper, voice: Manifest) -> None:
    utterance = voice[0]
    assert transcribe(tiny, utterance.audio).text == transcribe(tiny, utterance.load()).text


def recording() -> Recording:
    words = tuple(Word(t, i * 0.5, i * 0.5 + 0.5, 0.9) for i, t in enumerate(TEXT))
    one = Segment(0.0, 3.0, Transcript("I'd like <tea> & milk, please.", (1,), (-0.1,), language="en"), words)
    two = Segment(3661.5, 3662.0, Transcript("Thanks.", (1,), (-0.1,), language="en"))
    return Recording("a.wav", 3662.0, (one, two))


def test_subrip_and_webvtt() -> None:
    srt = formats.render(recording(), "srt")
    assert re.findall(r"\d+:\d\d:\d\d,\d{3} --> ", srt)[0] == "00:00:00,000 --> "
    assert "01:01:01,500 --> 01:01:02,000\nThanks." in srt
    vtt = formats.render(recording(), "vtt")
    assert vtt.startswith("WEBVTT\n\n00:00:00.000 --> 00:00:03.000\n")
    assert "&lt;tea&gt; &amp; milk" in vtt


def test_text_and_json() -> None:
    assert formats.render(recording(), "txt") == "I'd like <tea> & milk, please. Thanks.\n"
    data = json.loads(formats.render(recording(), "json"))
    assert data["segments"][0]["words"][2] == {
        "text": "<tea>",
        "start_s": 1.0,
        "end_s": 1.5,
        "confidence": 0.9,
    }
    assert data["language"] == "en"


def test_empty_recordings_render() -> None:
    empty = Recording("", 0.0, ())
    assert [formats.render(empty, kind) for kind in ("txt", "srt")] == ["\n", ""]
    assert formats.render(empty, "vtt") == "WEBVTT\n"


def test_subtitles_of_languages_without_spaces_have_none() -> None:
    words = tuple(Word(t, i * 0.3, i * 0.3 + 0.3, 0.9) for i, t in enumerate("今天天气"))
    one = Segment(0.0, 2.0, Transcript("今天天气", (1,), (-0.1,), language="zh"), words)
    assert "今天天气" in formats.render(Recording("a.wav", 2.0, (one,)), "srt")


def test_pieces_of_languages_without_spaces_are_joined_without_them() -> None:
    parts = [Transcript(text, (1,), (-0.1,), language="zh") for text in ("今天", "", "天气")]
    assert joined(parts).text == "今天天气"
    segments = tuple(Segment(float(i), i + 1.0, part) for i, part in enumerate(parts))
    assert formats.render(Recording("a.wav", 3.0, segments), "txt") == "今天天气\n"
