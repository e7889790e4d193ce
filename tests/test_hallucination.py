"""Invented words are counted where they can be nothing else."""

from __future__ import annotations

import doctest
import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import speechft.hallucination
from speechft.hallucination import hallucinations, words_beyond_speech
from speechft.manifest import Manifest, Utterance
from speechft.scoring import score


def one(i: int, text: str, seconds: float | None = 3.0, **more: Any) -> Utterance:
    return Utterance(Path(f"/c/{i}.wav"), text, f"u{i}", duration_s=seconds, **{"speaker": "a", **more})


def test_each_kind_by_hand() -> None:
    rows = [
        one(0, "", 30.0, extra={"no_speech": True}),
        one(1, "", 30.0, extra={"no_speech": True}),
        one(2, "hmm", 2.0),  # a voice, though nothing is left of it
        one(3, "yes", 1.0),
        one(4, "no thanks", 1.2),
        one(5, "thank you", 4.0),
        one(6, "put the kettle on", 3.0),
    ]
    heard = ["thank you for watching", "", "oh", "oh yes", "no thanks", "thank you " * 6, "put a kettle on"]
    found = score(rows, heard).hallucination
    assert found == {
        "silence": {"clips": 2, "with_words": 1, "words": 4, "words_per_minute": 4.0},
        "short": {"clips": 2, "insertions": 1, "rate": 1 / 3},
        "loops": {"clips": 1, "inserted": 10},
        "above_one": {"clips": 3, "share": 3 / 7},  # both without words to say that got some, too
        "too_fast": {"clips": 0, "words": 0},
    }


def test_more_words_than_a_mouth_can_say() -> None:
    rows = score([one(0, "yes", 1.0), one(1, "a b c d e f g h i j", 1.0), one(2, "yes", None)], ["a " * 11] * 3, "none")
    assert [words_beyond_speech(row, "none") for row in rows.rows] == [11 - 8, 1, 0]  # a fast text is allowed its words
    assert rows.hallucination["too_fast"] == {"clips": 2, "words": 4}


def test_characters_are_said_faster_than_words() -> None:
    """17 kana in 1.8 s are speech; 200 are not."""
    row = replace(one(0, "こんにちはきょうはいいてんきですね", 1.8), language="ja")
    assert score([row], ["こんにちはきょうはいいてんきですねえ"]).hallucination["too_fast"]["clips"] == 0
    assert score([row], ["ね" * 200]).hallucination["too_fast"] == {"clips": 1, "words": 200 - 36}


def test_words_among_characters_take_their_time() -> None:
    """14 English words are not said in a second, alone or in a corpus that has Chinese too."""
    lamp = replace(one(0, "请打开灯", 2.0), language="zh")
    yes = replace(one(1, "yes", 1.0), language="en")
    heard = "a b c d e f g h i j k l m n"
    for rows, transcripts in (([yes], [heard]), ([lamp, yes], ["请打开灯", heard])):
        assert score(rows, transcripts).hallucination["too_fast"] == {"clips": 1, "words": 14 - 8}
    # ten characters in half a second, and four words in the other; the fifth does not fit
    both = score([lamp, replace(yes, text="是")], ["", "请打开灯请打开灯请打 a b c d e"])
    assert both.hallucination["too_fast"] == {"clips": 1, "words": 1}


def test_a_text_without_a_letter_is_silence() -> None:
    """`check` lets it pass where the row says that nobody speaks; the normaliser makes a word of its dots."""
    rows = [one(0, "...", 30.0, speaker="room", extra={"no_speech": True}), one(1, "open the door", speaker="anna")]
    scores = score(rows, ["thank you", "open the door"], "whisper-english")
    assert scores.hallucination["silence"] == {"clips": 1, "with_words": 1, "words": 2, "words_per_minute": 4.0}
    assert (scores.to_dict()["empty_references"], scores.to_dict()["n_speakers"]) == (1, 1)
    assert Manifest(rows).voices == ("anna",)


@pytest.mark.parametrize("looped", ["five", "zero", "one", "twenty", "2,", "no", "one two three four", "5-5", "5,5"])
def test_a_loop_of_numbers_is_no_single_word(looped: str) -> None:
    times = 40 // len(re.findall(r"\w+", looped))  # of these words
    for text in ("turn the lamp on", ""):
        scores = score([one(0, text, 2.0)], [f"{text} {' '.join([looped] * times)}"], "whisper-english")
        found = scores.hallucination
        assert found["loops"] == {"clips": 1, "inserted": 40}
        assert found["too_fast"] == {"clips": 1, "words": len(text.split()) + 40 - 16}
        assert found["silence"]["words"] == (0 if text else 40)


@pytest.mark.parametrize(
    ("text", "heard"),
    [
        ("5555", "5, 5, 5, 5."),
        ("five five five five", "5555"),
        ("call two million people", "Call 2,000,000 people."),
        ("call two people", "Call 2,000,000 people."),
        ("nineteen ninety nine", "1999"),
        ("1999", "nineteen ninety nine"),
        ("1999", "1, 9, 9, 9"),
    ],
)
def test_numbers_written_otherwise_are_not_invented(text: str, heard: str) -> None:
    found = score([one(0, text, 0.3)], [heard], "whisper-english").hallucination
    assert found["loops"]["clips"] == found["too_fast"]["clips"] == 0
    assert found["short"]["insertions"] == 0


STUTTERED = ["twenty", "thirty", "five", "one", "two", "ten", "hundred", "eleven", "point", "dollars", "a", "the", "uh"]


@pytest.mark.parametrize(
    ("text", "heard"),
    [
        ("I am twenty twenty twenty twenty five", "I'm twenty twenty twenty twenty five now"),
        ("thirty thirty thirty thirty one", "30 30 30 30 1"),
        ("20202025", "twenty twenty twenty twenty five"),
        ("one hundred one hundred one hundred one hundred five", "I hundred one hundred one hundred one hundred five"),
    ],
)
def test_a_stuttered_number_is_no_loop(text: str, heard: str) -> None:
    assert score([one(0, text)], [heard], "whisper-english").hallucination["loops"]["clips"] == 0


def test_a_right_transcript_is_no_loop() -> None:
    rng = random.Random(0)
    texts = [
        " ".join([*[rng.choice(STUTTERED)] * rng.randint(3, 5), *rng.choices(STUTTERED, k=rng.randint(0, 2))])
        for _ in range(1_000)
    ]
    rows = [one(i, text) for i, text in enumerate(texts)]
    assert score(rows, texts, "whisper-english").hallucination["loops"] == {"clips": 0, "inserted": 0}
    assert score(rows, [f"{text} {'5 ' * 25}" for text in texts], "whisper-english").to_dict()["loops"] == 1_000


@pytest.mark.parametrize("aside", ["(upbeat music)", "[soft music playing in the room]", "<noise of a room>"])
def test_words_in_brackets_are_not_invented(aside: str) -> None:
    """The normaliser removes them, also where a digit stands beside them."""
    silence = one(0, "", 60.0, extra={"no_speech": True})
    for heard, words in ((aside, 0), (f"{aside} 5", 1), (f"{aside} 5 4 3 2 1", 5)):
        found = score([silence], [heard], "whisper-english").hallucination
        assert found["silence"]["words"] == words
    spoken = score([one(0, f"yes {aside}", 1.0)], ["yes yes yes"], "whisper-english")
    assert spoken.hallucination["short"] == {"clips": 1, "insertions": 2, "rate": 2.0}
    assert list(spoken.to_dict()["by_length"]) == ["1"]


def test_nothing_to_divide_by() -> None:
    found = hallucinations([], "none")
    assert found["silence"] == {"clips": 0, "with_words": 0, "words": 0, "words_per_minute": None}
    assert found["short"]["rate"] is None
    assert found["above_one"]["share"] is None


def test_part_of_every_result() -> None:
    assert score([one(0, "yes")], ["yes"]).to_dict()["hallucination"]["loops"] == {"clips": 0, "inserted": 0}


def test_documentation_examples() -> None:
    result = doctest.testmod(speechft.hallucination)
    assert result.attempted >= 1
    assert result.failed == 0
