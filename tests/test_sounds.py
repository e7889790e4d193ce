"""Confusions of sounds: inside misheard words only, and of letters where no pronunciation is known."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

import speechft.sounds
from speechft.manifest import Utterance
from speechft.scoring import score
from speechft.sounds import confused_sounds, pronunciation

ROWS = [Utterance(Path(f"/{i}.wav"), text, f"u{i}", "s") for i, text in enumerate(["think of the sink", "three ships"])]
HEARD = ["sink of the sink", "tree"]


def test_sounds_of_misheard_words() -> None:
    if pronunciation() is None:
        pytest.skip("no pronunciation rules are installed")
    found = confused_sounds(score(ROWS, HEARD))
    assert found.unit == "sounds"
    # "ships" was missed, which says nothing about its sounds; "three" is 3 after normalisation
    assert found.pairs["θ", "s"] == 1
    assert not [pair for pair in found.pairs if "ʃ" in pair[0]]
    assert found.said["θ"] == 2


@pytest.mark.parametrize("missing", [True, False])
def test_letters_stand_in(missing: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if missing:
        monkeypatch.setattr(speechft.sounds, "pronunciation", lambda: None)
    found = confused_sounds(score(ROWS, HEARD, "whisper-english" if missing else "basic"))
    assert found.unit == "letters"
    assert found.pairs["t", "s"] + found.pairs["h", "s"] >= 1
    assert found.said["k"] == 2


def test_nothing_wrong_nothing_confused() -> None:
    assert confused_sounds(score(ROWS, [u.text for u in ROWS])).pairs == Counter()


def test_a_number_in_a_loop_is_said_digit_by_digit() -> None:
    """It is larger than the rules have words for, and ended the report in a traceback."""
    if pronunciation() is None:
        pytest.skip("no pronunciation rules are installed")
    found = confused_sounds(score(ROWS, ["think of the 1" + ",000" * 20, ROWS[1].text]))
    assert found.pairs["", "z"] >= 55
