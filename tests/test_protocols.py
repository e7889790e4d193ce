"""Each protocol puts every row where its paper does, leaks no more than that, and refuses what it does not fit."""

from __future__ import annotations

from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from speechft.errors import SpeechftError
from speechft.manifest import Manifest, Utterance
from speechft.overlap import overlap
from speechft.protocols import PROTOCOLS, protocol
from speechft.split import UNUSED, auto_split

TORGO = ("F01", "F03", "M01", "M02", "FC01", "MC01")
WORDS = ("tea", "help", "stop", "left", "right", "up", "down", "yes", "no", "open")


def row(id_: str, text: str, speaker: str, split: str | None = None, **more: Any) -> Utterance:
    return Utterance(Path(f"/c/{id_}.wav"), text, id_, speaker, split, **{"duration_s": 2.0, **more})


def torgo() -> Manifest:
    """Every speaker reads the same words, in two sessions; F01 alone says something else too."""
    rows = [row(f"{s}-{i}", w, s, session=f"S{1 + i % 2}") for s, (i, w) in product(TORGO, enumerate(WORDS))]
    return Manifest([*rows, row("F01-own", "only mine", "F01", session="S1")])


def uaspeech() -> Manifest:
    """Common words in every block, uncommon ones in one block each; two patients and a control."""
    rows = []
    for speaker, block in product(("M04", "F02", "CF02"), ("B1", "B2", "B3")):
        words = [("CW1", "the"), ("CW2", "of"), *((f"{block}_UW{i}", f"word {block} {i}") for i in range(4))]
        rows += [row(f"{speaker}_{block}_{p}", t, speaker, session=block, prompt_id=p) for p, t in words]
    return Manifest(rows)


def nameless() -> Manifest:
    """As `torgo`, and three rows of nobody knows whom."""
    return Manifest([*torgo(), *(row(f"n{i}", f"more {i}", "") for i in range(3))])


def counts(manifest: Manifest) -> Counter[str | None]:
    return Counter(u.split for u in manifest)


def test_leave_one_speaker_out_is_what_papers_do_and_its_leak_is_said() -> None:
    done = protocol(torgo(), "torgo", speaker="F01", dev=0.0)
    assert done.split("test").speakers == ("F01",)
    assert set(done.split("train").speakers) == set(TORGO) - {"F01"}
    pair = overlap(done, audio=False).between("train", "test")
    assert not pair.speakers
    assert (len(pair.texts), pair.text_rows, pair.rows) == (10, 10, 11)  # all but what only F01 says


def test_dev_is_taken_from_the_other_speakers_by_sentence() -> None:
    done = protocol(torgo(), "torgo", speaker="M01")
    assert set(done.splits) == {"train", "dev", "test"}
    assert set(done.split("dev").speakers) == set(TORGO) - {"M01"}
    assert not overlap(done, audio=False).between("train", "dev").texts


def test_unseen_prompts_keep_sentences_apart_and_lose_no_row() -> None:
    done = protocol(torgo(), "torgo", speaker="F01", unseen_prompts=True)
    pair = overlap(done, audio=False).between("train", "test")
    assert not pair.speakers
    assert not pair.texts
    assert done.split("test").speakers == ("F01",)
    assert len(done) == 61
    assert counts(done)[UNUSED] > 0


def test_uaspeech_unseen_words_are_unseen_however_they_are_written() -> None:
    rows = [row("a", "ten", "M04", session="B1", prompt_id="D10"), row("b", "10", "M04", session="B2")]
    rows += [row("c", "new", "M04", session="B2", prompt_id=" d10 "), row("d", "other", "M04", session="B2")]
    rows += [row("e", "...", "M04", session="B1"), row("f", "!", "M04", session="B2")]
    done = protocol(Manifest(rows), "uaspeech", unseen_prompts=True)
    assert {u.id for u in done.split("test")} == {"d", "f"}


def test_uaspeech_blocks() -> None:
    done = protocol(uaspeech(), "uaspeech")
    assert {(u.session, u.split) for u in done if u.speaker != "CF02"} == {
        ("B1", "train"), ("B3", "train"), ("B2", "test"),
    }  # fmt: skip
    assert {u.split for u in done if u.speaker == "CF02"} == {"train", UNUSED}
    pair = overlap(done, audio=False).between("train", "test")
    assert pair.texts == ("of", "the")
    assert pair.text_rows == 4


def test_uaspeech_unseen_words_and_one_speaker() -> None:
    unseen = protocol(uaspeech(), "uaspeech", unseen_prompts=True)
    assert counts(unseen) == {"train": 36, "test": 8, UNUSED: 10}
    assert not overlap(unseen, audio=False).between("train", "test").texts
    alone = protocol(uaspeech(), "uaspeech", speaker="M04", dev=0.2)
    assert {u.speaker for u in alone if u.split != UNUSED} == {"M04"}
    assert len(alone.split("test")) == 6
    assert alone.split("dev")


def test_official_is_left_as_it_is() -> None:
    manifest = Manifest([row("a", "x", "s", "train"), row("b", "y", "t", "validation"), row("c", "z", "u", "test")])
    assert [u.split for u in protocol(manifest, "official")] == ["train", "dev", "test"]


def test_sessions_stay_whole() -> None:
    rows = [row(f"{s}{d}{i}", f"{s} {d} {i}", s, session=d) for s, d, i in product("ab", "1234567", range(4))]
    done = protocol(Manifest(rows), "session-disjoint")
    for pair in overlap(done, audio=False).pairs:
        assert not pair.sessions
        assert pair.speakers  # session 1 of a is not session 1 of b, and a is in several parts


@settings(max_examples=12, deadline=None)
@given(speakers=st.integers(6, 12), words=st.integers(6, 20), seed=st.integers(0, 5))
def test_neither_speaker_nor_sentence_in_two_parts(speakers: int, words: int, seed: int) -> None:
    rows = [row(f"{s}-{w}", f"word {w}", f"s{s}") for s, w in product(range(speakers), range(words))]
    done = protocol(Manifest(rows), "speaker-and-prompt-disjoint", seed=seed)
    assert len(done) == len(rows)
    assert {"train", "dev", "test"} <= set(done.splits)
    for pair in overlap(done, audio=False).pairs:
        assert not pair.speakers
        assert not pair.texts


@example(seconds=[1.0, 1.3125, 9.78125, 19.5], share=1.0, voices=1)  # all of it, but for a bit of rounding
@settings(max_examples=25, deadline=None)
@given(
    seconds=st.lists(st.floats(0.5, 20), min_size=4, max_size=40), share=st.floats(0.2, 1.0), voices=st.integers(1, 3)
)
def test_low_resource_takes_the_first_minutes(seconds: list[float], share: float, voices: int) -> None:
    train = [row(f"{i}", f"t {i}", f"s{i % voices}", "train", duration_s=s) for i, s in enumerate(seconds)]
    manifest = Manifest([*train, row("d", "d", "s0", "dev"), row("t", "t", "s0", "test")])
    minutes = share * sum(seconds) / 60
    if max(seconds[:voices]) > minutes * 60:
        return  # nothing fits
    done = protocol(manifest, "low-resource", minutes=minutes)
    kept, left = done.split("train"), done.split(UNUSED)
    assert len(kept) + len(left) == len(train)
    assert kept.seconds <= minutes * 60 + 1e-3
    if left and voices == 1:
        assert [u.id for u in kept] == [u.id for u in train[: len(kept)]]
        assert kept.seconds + (left[0].seconds or 0) > minutes * 60
    each = Counter(u.speaker for u in kept)
    assert not left or max(each.values()) - min(each.values()) <= 1
    assert [u.split for u in done][-2:] == ["dev", "test"]


def test_unused_rows_stay_unused_in_training() -> None:
    done = protocol(torgo(), "torgo", speaker="F01", unseen_prompts=True, dev=0.0)
    trained = auto_split(done)
    assert {u.id for u in trained.split(UNUSED)} == {u.id for u in done.split(UNUSED)}
    assert trained.split("dev")
    assert "unused" not in str(overlap(trained, audio=False))


@pytest.mark.parametrize(
    ("manifest", "name", "options", "message"),
    [
        (torgo(), "torgos", {}, "unknown protocol"),
        (torgo(), "torgo", {}, "needs the speaker"),
        (torgo(), "torgo", {"speaker": "M09"}, "no speaker 'M09'"),
        (torgo(), "torgo", {"speaker": "F01", "minutes": 3}, "no option 'minutes'"),
        (Manifest([row("a", "x", "anna")]), "torgo", {"speaker": "anna"}, "none of TORGO's"),
        (Manifest([row("a", "x", "F01")]), "leave-one-speaker-out", {"speaker": "F01"}, "nobody is left to train"),
        (Manifest([row("a", "x", "")]), "leave-one-speaker-out", {"speaker": "x"}, "no 'speaker'"),
        (torgo(), "uaspeech", {}, "none of UA-Speech's"),
        (Manifest([row("a", "x", "M04", session="B4")]), "uaspeech", {}, "not a block of UA-Speech"),
        (uaspeech(), "uaspeech", {"speaker": "M99"}, "no speaker"),
        (uaspeech().filter(lambda u: u.session != "B2"), "uaspeech", {}, "held out"),
        (uaspeech().filter(lambda u: u.session == "B2"), "uaspeech", {}, "left to train on"),
        (torgo(), "official", {}, "no split"),
        (Manifest([row("a", "x", "s", "train")]), "official", {}, "held out"),
        (Manifest([row("a", "x", "s")]), "session-disjoint", {}, "no 'session'"),
        (Manifest([row("a", "x", "s", session="1")]), "session-disjoint", {}, "sessions"),
        (Manifest([row("a", "x", "s")]), "speaker-disjoint", {}, "speakers"),
        (Manifest([row("a", "x", "")]), "speaker-disjoint", {}, "utterance 'a': no row has a 'speaker'"),
        (nameless(), "speaker-disjoint", {}, "utterance 'n0': 3 of [0-9]+ rows do not have a 'speaker'"),
        (nameless(), "speaker-and-prompt-disjoint", {}, "utterance 'n0': 3 of"),
        (nameless(), "leave-one-speaker-out", {"speaker": "F01"}, "utterance 'n0': 3 of"),
        (Manifest([row("a", "x", "s")]), "prompt-disjoint", {}, "sentences"),
        (torgo(), "low-resource", {"minutes": 1}, "left to train on"),
        (torgo(), "low-resource", {}, "minutes"),
        (torgo(), "low-resource", {"minutes": float("nan")}, "minutes"),
        (torgo(), "speaker-disjoint", {"dev": float("nan")}, "shares"),
        (torgo(), "prompt-disjoint", {"test": -0.1}, "shares"),
        (torgo(), "torgo", {"speaker": "F01", "dev": float("nan")}, "shares"),
        (protocol(torgo(), "torgo", speaker="F01"), "low-resource", {"minutes": 99}, "fewer than"),
        (protocol(torgo(), "torgo", speaker="F01"), "low-resource", {"minutes": 0.01}, "not one row"),
        (Manifest([]), "official", {}, "no utterances"),
    ],
)
def test_what_does_not_fit_is_refused(manifest: Manifest, name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(SpeechftError, match=message):
        protocol(manifest, name, **options)


def test_every_protocol_is_tried_here() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    assert all(f'"{name}"' in source for name in PROTOCOLS)
