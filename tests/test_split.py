"""Splits share nothing they must not and stay as they are; the overlap report finds what is shared."""

from __future__ import annotations

import contextlib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from speechft.errors import SpeechftError
from speechft.evaluated_rows import rows_to_evaluate
from speechft.leaks import leaks
from speechft.manifest import Manifest, Utterance
from speechft.overlap import overlap
from speechft.result import shared_parts
from speechft.split import (
    auto_split,
    meant_split,
    sentence_key,
    sentence_keys,
    split_by_prompt,
    split_by_speaker,
    usual_splits,
)
from speechft.terminal import leakage_lines


def one(i: int, text: str = "", speaker: str = "", split: str | None = None, **more: object) -> Utterance:
    return Utterance(Path(f"/c/{i}.wav"), text or f"sentence {i}", f"u{i}", speaker, split, **more)  # type: ignore[arg-type]


def corpus(speakers: int, each: int, split: str | None = None) -> Manifest:
    return Manifest(one(100 * s + i, f"words {s} {i}", f"s{s}", split) for s in range(speakers) for i in range(each))


def homes(manifest: Manifest) -> dict[str, str | None]:
    return {u.id: u.split for u in manifest}


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        ("Well-known, isn't it?", "well known isnt IT", True),
        ("Straße", "STRASSE", True),
        ("ﬁne", "fine", True),
        ("tea please", "tea, please!", True),
        ("two teas", "two tea", False),
        ("お茶を", "お茶", False),
        ("naïve", "naive", False),
        ("请打开灯", "请 打开 灯", True),
        ("你好，请开门。", "你好请开门", True),
        ("打开 WiFi 吗", "打开wifi吗", True),
        ("open the door", "openthe door", False),
        ("문 열어", "문열어", False),
        ("مرحـــبا", "مرحبا", True),
    ],
)
def test_sentence_key(left: str, right: str, same: bool) -> None:
    assert (sentence_key(left) == sentence_key(right)) is same


@given(
    letters=st.lists(st.sampled_from([*"请打开灯々アーのສະບາຍမြန်ភាសាབོད", "ที่", "น้ำ", "wifi", "25"]), min_size=1),
    more=st.lists(st.sampled_from(["", " ", "，", "。 ", "\u200b", "་", "! "])),
)
def test_no_space_or_mark_tells_sentences_apart_that_are_written_without(letters: list[str], more: list[str]) -> None:
    written = [f"请{letter}" for letter in letters]  # so that no two words of letters meet
    between = [more[i] if i < len(more) else "" for i in range(len(written))]
    assert sentence_key("".join(map(str.__add__, written, between))) == sentence_key("".join(written))


def test_a_chinese_sentence_stays_in_one_part() -> None:
    texts = ["你好，请开门。", "你好请开门", "今天天气很好", "今天 天气 很好", "关上门", "二十五度", "我想喝水", "谢谢"]
    for seed in range(5):
        rows = split_by_prompt(Manifest(one(i, text, language="zh") for i, text in enumerate(texts)), seed=seed)
        assert (rows[0].split, rows[2].split) == (rows[1].split, rows[3].split)
    leak = Manifest([one(1, "请打开灯", "A", "train"), one(2, "请 打开 灯", "B", "test")])
    assert [problem.kind for problem in leaks(leak)] == ["text-leak"]


@pytest.mark.parametrize(
    ("left", "right", "language", "same"),
    [
        ("Come at ten o'clock.", "come at 10 oclock", None, True),
        ("I'm here.", "I am here", "en", True),
        ("isn't it", "isnt it", None, True),
        ("What a colour!", "what a color", "en-GB", True),
        ("I'm here.", "I am here", "de", False),
        ("मैं हूँ", "म ह", None, False),  # whose vowel signs the English normaliser deletes
        ("two teas", "two tea", "en", False),
    ],
)
def test_the_same_sentence_as_the_error_rate_reads_it(left: str, right: str, language: str | None, same: bool) -> None:
    rows = [one(1, left, split="train", language=language), one(2, right, split="test", language=language)]
    assert (not sentence_keys(rows[0]).isdisjoint(sentence_keys(rows[1]))) is same
    pair = overlap(Manifest(rows), audio=False).between("train", "test")
    assert (pair.text_rows, pair.texts) == ((1, (sentence_key(right),)) if same else (0, ()))
    others = [one(number, f"filler {number} words") for number in range(10, 20)]
    for seed in range(3):  # so that a split by sentence keeps such rows together
        done = {u.id: u.split for u in split_by_prompt(Manifest([*rows, *others]), seed=seed)}
        assert done["u1"] == done["u2"] or not same


def test_names_that_differ_in_case_or_spaces_are_told() -> None:
    rows = [one(1, speaker="A", split="train", prompt_id="p0"), one(2, speaker="a ", split="test", prompt_id="P0")]
    assert str(overlap(Manifest(rows), audio=False)) == (
        "train and test share nothing, and perhaps 1 speaker and 1 prompt, but for case or spaces"
    )
    (pair,) = overlap(Manifest(rows), audio=False).to_dict(named=True)
    assert pair["alike"] == ["speaker 'a '", "prompt 'P0'"]


def test_no_speaker_in_two_splits() -> None:
    done = split_by_speaker(corpus(10, 7))
    assert Counter(done.split(name).speakers.__len__() for name in ("train", "test", "dev")) == {
        7: 1,
        2: 1,
        1: 1,
    }
    assert all(not pair.speakers for pair in overlap(done, audio=False).pairs)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 8), st.none() | st.integers(0, 6)), min_size=10, max_size=60),
    seed=st.integers(0, 3),
)
def test_no_sentence_in_two_splits(rows: list[tuple[int, int | None]], seed: int) -> None:
    texts = ["Tea, please.", "TEA please", "", "help me", "Help me!", "no", "yes", "stop it", "go"]
    made = (one(i, texts[t], prompt_id=None if p is None else f"p{p}") for i, (t, p) in enumerate(rows))
    manifest = Manifest(replace(u, text="" if u.text.startswith("sentence") else u.text) for u in made)
    with contextlib.suppress(SpeechftError):  # too few sentences
        check_disjoint(split_by_prompt(manifest, seed=seed))


def check_disjoint(done: Manifest) -> None:
    assert set(done.splits) == {"train", "dev", "test"}
    for pair in overlap(done, audio=False).pairs:
        assert not pair.texts
        assert not pair.prompts


def test_shares_are_met() -> None:
    done = split_by_prompt(Manifest(one(i) for i in range(100)), dev=0.1, test=0.25)
    assert Counter(homes(done).values()) == {"train": 65, "test": 25, "dev": 10}


def test_same_data_splits_the_same_in_any_order_and_the_seed_matters() -> None:
    manifest = Manifest(one(i) for i in range(50))
    turned = Manifest(list(manifest)[::-1])
    assert homes(split_by_prompt(manifest)) == homes(split_by_prompt(turned))
    assert homes(split_by_prompt(manifest)) != homes(split_by_prompt(manifest, seed=1))


@pytest.mark.parametrize("seed", range(5))
def test_a_new_row_moves_few_others(seed: int) -> None:
    before = homes(split_by_prompt(Manifest(one(i) for i in range(100)), seed=seed))
    after = homes(split_by_prompt(Manifest(one(i) for i in range(101)), seed=seed))
    assert sum(after[name] != split for name, split in before.items()) <= 3


def test_shares_that_leave_nothing_are_refused() -> None:
    with pytest.raises(SpeechftError, match="leave nothing to train on"):
        split_by_prompt(corpus(1, 20), dev=0.5, test=0.5)
    with pytest.raises(SpeechftError, match="2 different speakers cannot fill"):
        split_by_speaker(corpus(2, 20))
    assert set(split_by_speaker(corpus(2, 20), dev=0.0).splits) == {"train", "test"}


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2))
def test_auto_split_makes_three_parts_or_says_why(speakers: int, each: int, seed: int) -> None:
    manifest = corpus(speakers, each)
    if speakers * each < 3:
        with pytest.raises(SpeechftError):
            auto_split(manifest, seed=seed)
        return
    done = auto_split(manifest, seed=seed)
    assert set(done.splits) == {"train", "dev", "test"}
    for pair in overlap(done, audio=False).pairs:
        assert not pair.texts
        assert speakers < 5 or not pair.speakers


@pytest.mark.parametrize(
    ("clips", "parts"), [(10, (6, 2, 2)), (19, (11, 4, 4)), (20, (10, 4, 6)), (25, (14, 5, 6)), (30, (18, 6, 6))]
)
def test_one_voice_has_six_test_clips_where_it_can_spare_them(clips: int, parts: tuple[int, int, int]) -> None:
    done = auto_split(corpus(1, clips))
    assert tuple(len(done.split(name)) for name in ("train", "dev", "test")) == parts


def test_existing_splits_stay() -> None:
    manifest = Manifest([*corpus(6, 5, "train"), one(9001, split="test"), one(9002, split="validation")])
    done = auto_split(manifest)
    assert homes(done) == {**homes(manifest), "u9002": "dev"}


@pytest.mark.parametrize(
    ("splits", "parts"),
    [
        (("train", "eval"), ("train", "dev")),
        (("train", "dev", "eval"), ("train", "dev", "test")),  # as Kaldi's and ESPnet's recipes have them
        (("train", "Validation", "Eval", "test"), ("train", "dev", "test", "test")),
    ],
)
def test_eval_beside_dev_is_no_part_of_it(splits: tuple[str, ...], parts: tuple[str, ...]) -> None:
    rows = Manifest(replace(u, split=name) for name, u in zip(splits, corpus(1, len(splits)), strict=True))
    assert tuple(u.split for u in usual_splits(rows)) == parts
    assert rows_to_evaluate(rows, splits[-1], False, lambda event: None).split == parts[-1]
    assert rows_to_evaluate(usual_splits(rows), splits[-1], False, lambda event: None).split == parts[-1]


def test_rows_marked_unused_are_set_aside_and_count_for_nothing() -> None:
    aside = [replace(u, id=f"aside-{u.id}", split="Unused") for u in corpus(8, 5)]
    for rows in (corpus(1, 30), corpus(6, 5)):
        done = auto_split(Manifest([*rows, *aside]))
        assert homes(done) == {**homes(auto_split(rows)), **{u.id: "unused" for u in aside}}
    with pytest.raises(SpeechftError, match="every row is marked 'unused'"):
        auto_split(Manifest(aside))


def test_only_dev_is_carved_out_of_train() -> None:
    manifest = Manifest([*corpus(8, 5, "train"), *(replace(u, split="test", speaker="t") for u in [one(9001)])])
    done = auto_split(manifest)
    assert homes(done)["u9001"] == "test"
    assert len(done.split("dev").speakers) == 1
    assert not overlap(done, audio=False).between("dev", "train").speakers


def test_dev_of_one_voice_is_carved_by_sentence() -> None:
    done = auto_split(Manifest([*corpus(1, 30, "train"), one(9001, speaker="s0", split="test")]))
    assert len(done.split("dev")) == 3
    assert len(done.split("train")) == 27


def test_new_recordings_join_the_split_of_their_sentence() -> None:
    old = auto_split(corpus(1, 30))
    again = [replace(u, id=f"again-{u.id}", split=None) for u in old]
    fresh = [one(9000 + i, speaker="s0") for i in range(10)]
    done = homes(auto_split(Manifest([*old, *again, *fresh])))
    assert all(done[u.id] == u.split == done[f"again-{u.id}"] for u in old)
    assert all(done[u.id] for u in fresh)
    shuffled = homes(auto_split(Manifest([*fresh, *again, *old])))
    assert shuffled == done


def test_new_recordings_join_the_split_of_their_speaker() -> None:
    old = auto_split(corpus(10, 3))
    new = [replace(u, id=f"new-{u.id}", text=f"new {u.text}", split=None) for u in old]
    done = homes(auto_split(Manifest([*old, *new])))
    assert all(done[f"new-{u.id}"] == u.split for u in old)


def test_overlap_reports_everything_shared(tmp_path: Path) -> None:
    for name, hertz in [("a", 300), ("b", 400), ("copy", 300)]:
        soundfile.write(tmp_path / f"{name}.wav", np.sin(np.arange(8000) * hertz / 1000), 16_000)

    def row(name: str, split: str, text: str, start: float | None = None, end: float | None = None) -> Utterance:
        more = {"session": "1", "prompt_id": "p1", "start_s": start, "end_s": end}
        return Utterance(tmp_path / f"{name}.wav", text, f"{name}{split}{start}", "anna", split, **more)  # type: ignore[arg-type]

    manifest = Manifest(
        [
            row("a", "train", "Tea!"),
            row("copy", "test", "tea"),
            row("b", "train", "x", 0.0, 0.2),
            row("b", "test", "y", 0.2, 0.4),
            row("b", "test", "z", 0.1, 0.3),
            row("gone", "test", "q"),
        ]
    )
    pair = overlap(manifest).between("test", "train")
    assert (pair.first, pair.second) == ("train", "test")
    assert (pair.speakers, pair.sessions, pair.prompts) == (("anna",), ("anna/1",), ("p1",))
    assert (pair.texts, pair.text_rows, pair.rows) == (("tea",), 1, 4)
    assert pair.audio == ("copytestNone", "btest0.1")
    assert str(overlap(manifest)) == (
        "train and test share 1 speaker, 1 session, 1 prompt, 2 recordings, 1 sentence (1 of 4 rows of test)"
    )


def test_what_nobody_knows_of_speakers_is_said() -> None:
    def rows(*speakers: str) -> Manifest:
        splits = ("train", "train", "test")
        return Manifest(one(i, speaker=who, split=splits[i]) for i, who in enumerate(speakers))

    (pair,) = overlap(rows("ann", "", "ben"), audio=False).pairs
    assert (pair.nameless, str(pair)) == (
        (1, 0),
        "train and test share nothing (no speaker is named in 1 row of train)",
    )
    (pair,) = overlap(rows("ann", "cem", "Ann "), audio=False).pairs
    assert "train and test may share speaker 'Ann ', written another way" in leakage_lines([pair.to_dict(named=True)])
    known = overlap(rows("ann", "cem", "ben"), audio=False)
    assert str(known) == "train and test share nothing"
    assert shared_parts(str(known), known.to_dict(), 3) == []


def test_only_parts_that_share_something_are_named() -> None:
    rows = [
        one(1, "tea", split="train", speaker="a"),
        one(2, "tea", split="test", speaker="b"),
        one(3, "water", split="dev"),
    ]
    assert str(overlap(Manifest(rows))) == (
        "train and test share 1 sentence (1 of 1 rows of test) (no speaker is named in 1 row of dev)"
    )


def test_overlap_of_nothing() -> None:
    two = Manifest([one(1, speaker="a", split="train"), one(2, speaker="b", split="test")])
    assert str(overlap(two)) == "train and test share nothing"
    assert str(overlap(Manifest([one(1)]))) == "only one split, so nothing to share"
    more = Manifest([*two, one(3, speaker="c", split="dev")])
    assert str(overlap(more)) == "train, dev and test share nothing"
    with pytest.raises(KeyError):
        overlap(Manifest([one(1)])).between("train", "test")


@pytest.mark.parametrize(
    ("asked", "splits", "meant"),
    [
        ("eval", ("train", "dev", "eval"), "test"),
        ("eval", ("train", "dev", "test"), "test"),  # as prepared of the former
        ("eval", ("train", "eval", "test"), "dev"),
        ("eval", ("train", "dev"), "dev"),  # as prepared of train and eval
        ("Validation", ("Train", "valid"), "dev"),
        ("loud", ("train", "loud"), "loud"),
        ("other", ("train", "dev"), "other"),
    ],
)
def test_a_split_is_found_by_any_of_its_names(asked: str, splits: tuple[str, ...], meant: str) -> None:
    assert meant_split(asked, splits) == meant
