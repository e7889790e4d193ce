"""Two texts: the closer one counts, by the rule of the Speech Accessibility Project challenge."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest

from speechft.error_rate import ErrorRate, word_errors
from speechft.manifest import Utterance
from speechft.references import clipped_errors, closer_text
from speechft.scoring import score


def by_the_challenge(pairs: list[tuple[ErrorRate, ErrorRate]]) -> float:
    """The arithmetic of the challenge's script, written out: clip, compare rates, mean on ties."""
    errors = words = 0.0
    for one, two in pairs:
        clipped = [min(e.errors, e.length) for e in (one, two)]
        rates = [count / e.length for count, e in zip(clipped, (one, two), strict=True)]
        if rates[0] == rates[1]:
            errors, words = errors + sum(clipped) / 2, words + (one.length + two.length) / 2
        else:
            better = int(rates[1] < rates[0])
            errors, words = errors + clipped[better], words + (one, two)[better].length
    return errors / words


def test_by_hand() -> None:
    # text 3 words, verbatim 5: two errors of three, none of five, and one of each
    follows = (ErrorRate(insertions=2, length=3), ErrorRate(length=5))
    meant = (ErrorRate(length=3), ErrorRate(deletions=2, length=5))
    loops = (ErrorRate(insertions=9, length=3), ErrorRate(insertions=7, length=5))
    found = closer_text([follows, meant, loops, (ErrorRate(length=2), None)])
    assert (found.text, found.verbatim, found.equal) == (1, 2, 0)
    assert found.rate == (0 + 0 + 7 + 0) / (5 + 3 + 5 + 2)
    clipped = closer_text([follows, meant, loops, (ErrorRate(length=2), None)], clip=True)
    # 3 of 3 against 5 of 5 is a tie: the mean of both
    assert (clipped.text, clipped.verbatim, clipped.equal) == (1, 1, 1)
    assert clipped.rate == (0 + 0 + 4 + 0) / (5 + 3 + 4 + 2)


def test_equal_to_the_challenge_on_random_pairs() -> None:
    rng = random.Random(0)
    words = ["b", "um", "the", "door", "open", "please"]
    pairs = []
    for _ in range(2_000):
        text, verbatim, heard = (" ".join(rng.choices(words, k=rng.randint(1, 6))) for _ in range(3))
        pairs.append((word_errors(text, heard), word_errors(verbatim, heard)))
    assert closer_text(pairs, clip=True).rate == pytest.approx(by_the_challenge(pairs), abs=1e-12)
    assert closer_text(pairs).rate >= closer_text(pairs, clip=True).rate


def test_without_words_or_without_verbatim() -> None:
    assert math.isnan(closer_text([]).rate)
    assert math.isnan(closer_text([(ErrorRate(length=3), None)]).rate)
    found = closer_text([(ErrorRate(insertions=1), ErrorRate(length=1))])  # "hmm" against "" and against "hmm"
    assert (found.rate, found.verbatim) == (0.0, 1)
    assert closer_text([(ErrorRate(insertions=4), ErrorRate(insertions=4))]).errors == 4
    assert clipped_errors(ErrorRate(insertions=4)) == 0  # it has no words, so clips have at most none


def test_nothing_heard_of_a_text_without_words_is_right() -> None:
    nothing, said = ErrorRate(), ErrorRate(deletions=2, length=2)
    for clip in (False, True):
        found = closer_text([(nothing, said)], clip=clip)
        assert (found.errors, found.words, found.text) == (0, 0, 1)
        heard = closer_text([(ErrorRate(insertions=3), ErrorRate(insertions=1, deletions=0, length=2))], clip=clip)
        assert (heard.errors, heard.words, heard.verbatim) == (1, 2, 1)
    row = Utterance(Path("/a.wav"), "Hmm.", "a", "x", text_verbatim="b b hmm")
    rows = [row, Utterance(Path("/b.wav"), "open", "b", "x", text_verbatim="o open")]
    found = score(rows, ["", "open"], "whisper-english").to_dict()
    assert found["wer"] == found["wer_closer_text"] == 0.0


@pytest.mark.parametrize("empty", ["", "  "])
def test_an_empty_verbatim_text_is_none(empty: str) -> None:
    rows = [Utterance(Path(f"/{i}.wav"), "open the door", f"{i}", "x", text_verbatim=empty) for i in range(3)]
    found = score(rows, ["open the door"] * 3).to_dict()
    assert found["closer_text"] is found["wer_closer_text"] is None


def test_words_heard_in_silence_count_in_neither_clipped_rate() -> None:
    rows = [
        Utterance(Path("/a.wav"), "open the door now", "a", "x", text_verbatim="um open the door now"),
        Utterance(Path("/b.wav"), "", "b", "x", extra={"no_speech": True}),
    ]
    found = score(rows, ["open the door now", "thank you for watching this video"]).to_dict()
    assert found["wer"] == 6 / 4
    assert (found["wer_clipped"], found["wer_closer_text_clipped"]) == (0.0, 0.0)


def test_a_result_says_which_text_was_closer() -> None:
    rows = [
        Utterance(Path("/a.wav"), "open the door", "a", "x", text_verbatim="b b open um the door"),
        Utterance(Path("/b.wav"), "yes please", "b", "x"),
    ]
    found = score(rows, ["b b open the door", "yes yes yes yes yes"]).to_dict()
    assert found["closer_text"] == {"text": 0, "verbatim": 1, "equal": 0}
    assert found["wer_closer_text"] == 4 / 7
    assert found["wer_closer_text_clipped"] == 2 / 7
    assert score(rows[1:], ["yes"]).to_dict()["closer_text"] is None
