"""Commands and entities: the words that matter, and a clear error where a manifest names them wrongly."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from speechft.errors import SpeechftError
from speechft.manifest import Utterance
from speechft.scoring import score
from speechft.tasks import entity_errors


def one(i: int, text: str, **extra: object) -> Utterance:
    return Utterance(Path(f"/c/{i}.wav"), text, f"u{i}", "a", extra=extra)


def test_a_command_is_right_when_its_words_are() -> None:
    rows = [
        one(0, "Turn the lamp on, please.", command="lamp on"),
        one(1, "Turn the lamp off.", command="Lamp off!"),
        one(2, "Call Anna.", command=True),
        one(3, "Good morning."),
    ]
    found = score(rows, ["turned a lamp on", "turn the lamb off", "call anna", ""]).to_dict()["command_success"]
    # "the lamb off" has no "lamp off" in it, but is nearer to it than to "lamp on" or "call anna"
    assert found == {"clips": 3, "commands": 3, "exact": 2 / 3, "nearest": 1.0}
    assert score(rows[3:], ["good morning"]).to_dict()["command_success"] is None
    assert score(rows[:1], ["lamp"]).to_dict()["command_success"] == {
        "clips": 1, "commands": 1, "exact": 0.0, "nearest": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "command"),
    [("true", "call anna"), ("Yes", "call anna"), ("1", "call anna"), (1, "call anna"), ("no", None), (0, None),
     (False, None), ("", None), ("Anna!", "anna")],
)  # fmt: skip
def test_commands_as_tables_write_them(value: object, command: str | None) -> None:
    assert score([one(0, "Call Anna.", command=value)], [""]).rows[0].command == command


def test_yes_may_be_what_is_said() -> None:
    rows = [one(0, "Yes, please.", command="yes"), one(1, "No, thank you.", command="no")]
    assert [row.command for row in score(rows, ["", ""]).rows] == ["yes", "no"]


def test_the_nearest_command_is_the_one_with_the_fewest_edits() -> None:
    rows = [one(0, "on", command=True), one(1, "turn the lamp on", command=True)]
    found = score(rows, ["turn on", "turn on"]).to_dict()["command_success"]
    assert found["nearest"] == 0.5  # 5 letters in front of "on", and 9 are missing of "turn the lamp on"


def test_nothing_heard_is_no_nearest_command() -> None:
    rows = [one(0, "lamp on", command=True), one(1, "call anna", command=True)]
    assert score(rows, ["", ""]).to_dict()["command_success"]["nearest"] == 0.0


def test_entities_are_counted_one_by_one() -> None:
    rows = [
        one(0, "Anna and Ben meet Anna at half past two.", entities=["Anna", "Anna", "Ben", "half past two"]),
        one(1, "Nothing to see."),
    ]
    found = score(rows, ["Hannah and Ben meet Anna at half past two", ""]).to_dict()
    assert found["entity_errors"] == {"entities": 4, "missed": 1, "rate": 1 / 4}
    assert score(rows[1:], [""]).to_dict()["entity_errors"] is None


@pytest.mark.parametrize(
    ("text", "words", "right", "wrong"),
    [
        ("It costs twenty dollars.", ["twenty"], "It costs $20.", "It costs $200."),
        ("It costs twenty dollars.", ["dollars", "twenty"], "it costs 20 dollars", "It costs 20 pounds."),
        ("Take two hundred fifty milligrams.", ["fifty milligrams"], "Take 250 milligrams", "Take 260 milligrams."),
        ("Volume twenty percent, please.", ["Volume twenty"], "Volume 20% please", "Volume 30% please"),
        ("Call five five five one two", ["five five", "one two"], "Call 55512.", "Call 55513."),
    ],
)
def test_words_that_are_joined_with_others_count_with_them(text: str, words: list[str], right: str, wrong: str) -> None:
    row = one(0, text, entities=words, command=words[0])
    for heard, missed in ((right, 0), (wrong, len(words))):
        found = score([row], [heard], "whisper-english").to_dict()
        assert found["entity_errors"] == {"entities": len(words), "missed": missed, "rate": missed / len(words)}
        assert found["command_success"]["exact"] == (not missed)


@pytest.mark.parametrize(
    ("text", "heard", "right"),
    [
        ("call five five two one", "Call 5-5-2-1.", True),
        ("call 5, 5, 2, 1", "call five five two one", True),
        ("call five five two one", "Call 5, 5, 2, 7.", False),
        ("call five five two one", "Call 5, 5, 2, 1, 7.", False),
        ("channel two", "channel 21", False),
        ("channel two", "channel 2 1", False),
        ("channel 3", "channel 3.5", False),
    ],
)
def test_numbers_that_are_only_written_apart_are_right(text: str, heard: str, right: bool) -> None:
    number = text.partition(" ")[2]
    found = score([one(0, text, command=True, entities=[number])], [heard], "whisper-english").to_dict()
    assert found["command_success"]["exact"] == right
    assert found["entity_errors"]["missed"] == (not right)


@pytest.mark.parametrize(
    ("text", "entities", "right", "wrong"),
    [
        ("on May 5, 2021", ["May 5", "2021"], "on May five twenty twenty one", "on June fifty twenty twenty two"),
        ("Call 555 1234", ["555", "1234"], "Call five five five one two three four.", "Call 5555 12345"),
        ("take 2 500 mg tablets", ["2", "500 mg"], "take two five hundred mg tablets", "take 3500 mg tablets"),
        ("take 2 500 mg tablets", ["2", "500 mg"], "take 2 500 mg tablets", "take 2600 mg tablets"),
        ("go to room 5 5 times", ["room 5", "5 times"], "Go to room five five times.", "go to room 6 six times"),
        ("on May five twenty twenty one", ["May five", "twenty twenty one"], "On May 5, 2021.", "On May 5, 2022."),
    ],
)
def test_numbers_side_by_side_are_found_by_their_place(text: str, entities: list[str], right: str, wrong: str) -> None:
    row = one(0, text, entities=entities, command=entities[0])
    for heard, missed in ((right, 0), (text, 0), (wrong, len(entities))):
        found = score([row], [heard], "whisper-english").to_dict()
        assert found["entity_errors"] == {"entities": len(entities), "missed": missed, "rate": missed / len(entities)}
        assert found["command_success"]["exact"] == (not missed)


def test_one_of_two_numbers_side_by_side_may_be_wrong() -> None:
    row = one(0, "take 2 500 mg tablets", entities=["2", "500 mg"])
    for heard in ("take 2 600 mg tablets", "take 3 500 mg tablets"):
        assert score([row], [heard], "whisper-english").to_dict()["entity_errors"]["missed"] == 1


SPOKEN = {
    "0": "zero",
    "1": "one",
    "2": "two",
    "5": "five",
    "20": "twenty",
    "25": "twenty five",
    "105": "one hundred five",
}


def test_what_is_heard_exactly_is_never_missed() -> None:
    """Numbers and words in any order, written in words on one side and in digits on the other."""
    rng = random.Random(2)
    rows, heard = [], []
    for i in range(800):
        words = rng.choices([*SPOKEN, *SPOKEN, "call", "room", "Anna"], k=rng.randint(1, 6))
        texts = [" ".join(words), " ".join(SPOKEN.get(word, word) for word in words)]
        entity = rng.choice(words)
        rows.append(one(i, texts[i % 2], entities=[SPOKEN.get(entity, entity) if i % 2 else entity]))
        heard.append(texts[1 - i % 2])
    scores = score(rows, heard, "whisper-english")
    same = [row for row in scores.rows if row.digits is not None and not row.digits.errors]
    assert len(same) > 600
    assert (entity_errors(same) or {})["missed"] == 0


def test_numbers_are_whole_in_any_language() -> None:
    rows = [
        replace(one(0, "打开5频道", command="5频道", entities=["5"]), language="zh"),
        replace(one(1, "Kanal 5, bitte", command="Kanal 5", entities=["5"]), language="de"),
    ]
    for row, right, wrong in zip(
        rows, ("打开5频道。", "kanal 5 bitte"), ("打开15频道", "Kanal 5 2 bitte"), strict=True
    ):
        for heard, missed in ((right, 0), (wrong, 1)):
            assert score([row], [heard]).to_dict()["entity_errors"]["missed"] == missed


def test_the_nearest_number_is_the_one_with_the_same_digits() -> None:
    texts = ["call five five two one", "call five five two seven", "call 5, 5, 2, 7"]
    rows = [one(i, text, command=True) for i, text in enumerate(texts)]
    found = score(rows, ["Call 5-5-2-1.", "Call 5, 5, 2, 7.", "call 5527"], "whisper-english").to_dict()
    assert found["command_success"] == {"clips": 3, "commands": 2, "exact": 1.0, "nearest": 1.0}


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ({"command": 3}, "'command' is not text"),
        ({"command": "lamp up"}, "the command 'lamp up' is not in the text"),
        ({"entities": "Anna"}, "not a list of texts"),
        ({"entities": [1]}, "not a list of texts"),
        ({"entities": ["Carla"]}, "'Carla' is not in the text"),
    ],
)
def test_wrong_fields_are_named(extra: dict[str, object], message: str) -> None:
    with pytest.raises(SpeechftError, match=message):
        score([one(0, "call anna", **extra)], ["call anna"])
