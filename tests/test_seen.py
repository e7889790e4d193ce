"""An adapter says what it has seen, and an evaluation takes it at its word."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from speechft import adapters
from speechft.config import SpeechRecipe
from speechft.errors import SpeechftError
from speechft.evaluated_rows import rows_to_evaluate
from speechft.manifest import Manifest
from speechft.overlap import SharedBetween
from speechft.pipeline import evaluate, prepared
from speechft.recogniser import cards_of
from speechft.seen import Seen, caveats_of, hashes, learnt_from, unseen
from speechft.sources import resolve
from speechft.train import Run, fit
from speechft.whisper import Whisper


def silent(event: dict) -> None:
    pass


def test_what_was_seen_is_left_out_of_a_manifest_without_splits(voice: Manifest, tmp_path: Path) -> None:
    bare = Manifest((replace(u, split=None) for u in voice), voice.path)
    cards = {"a": {"seen": {"train": hashes(bare[:3]), "dev": hashes(bare[3:4])}}, "b": {}}
    found = rows_to_evaluate(bare, None, False, silent, seen={name: Seen.by([card]) for name, card in cards.items()})
    assert [u.id for u in found.chosen] == [u.id for u in bare[4:]]
    assert "4 recordings" in found.caveats[-1]
    whole = Seen.by([{"seen": {"train": hashes(bare), "dev": []}}])
    with pytest.raises(SpeechftError, match="all of these"):
        rows_to_evaluate(bare, None, False, silent, seen={"it": whole})


def test_two_people_who_read_one_list_are_two(voice: Manifest) -> None:
    ann = [replace(u, speaker="ann", duration_s=2.0) for u in voice[:2]]
    seen = Seen(frozenset(hashes(ann) or ()), frozenset())
    ben = Manifest(replace(u, speaker="ben") for u in ann)
    slower = Manifest(replace(u, duration_s=2.5) for u in ann)
    again = Manifest(replace(u, duration_s=2.06) for u in ann)  # as another manifest states it
    assert (len(unseen(ben, [seen])), len(unseen(slower, [seen])), len(seen.ids("train", again))) == (2, 2, 2)


def test_cards_of_earlier_versions_are_read(voice: Manifest) -> None:
    """They have hashes of id and text."""
    old = hashlib.sha256(f"{voice[0].id}\0{voice[0].text}".encode()).hexdigest()[:12]
    seen = Seen.by([{"seen": {"train": [old], "dev": []}}])
    assert [u.id for u in unseen(voice, [seen])] == [u.id for u in voice[1:]]


def test_rows_marked_unused_are_set_aside(voice: Manifest) -> None:
    rows = Manifest((replace(u, split="Unused" if i < 4 else None) for i, u in enumerate(voice)), voice.path)
    found = rows_to_evaluate(rows, None, False, silent)
    assert [u.id for u in found.chosen] == [u.id for u in voice[4:]]
    assert found.caveats == ["4 recordings are marked 'unused' and were set aside."]
    with pytest.raises(SpeechftError, match="every row is marked 'unused'"):
        rows_to_evaluate(Manifest(rows[:4]), None, False, silent)


def test_what_chose_an_adapter_is_found_again(voice: Manifest) -> None:
    seen = Seen(frozenset(), frozenset(hashes(voice[3:5]) or ()))
    assert [u.id for u in seen.chose(voice)] == [u.id for u in voice[3:5]]


def test_scores_on_what_was_trained_on_say_so(voice: Manifest) -> None:
    split = Manifest((replace(u, split="test" if i < 4 else "train") for i, u in enumerate(voice)), voice.path)
    seen = Seen.by([{"seen": {"train": hashes(split[:1]), "dev": hashes(split[1:3])}}])
    found = rows_to_evaluate(split, None, False, silent, seen={"the adapter": seen})
    assert len(found.chosen) == 4
    assert [caveat[:2] for caveat in found.caveats] == ["1 ", "2 ", "Th"]
    assert "is not known" in found.caveats[-1], "a card of an earlier version"
    assert rows_to_evaluate(split, None, False, silent).caveats == []


@pytest.mark.parametrize("name", ["Test", "TEST", "validation", "Dev"])
def test_splits_by_other_names_are_found(voice: Manifest, name: str) -> None:
    split = Manifest((replace(u, split=name if i < 4 else "Train") for i, u in enumerate(voice)), voice.path)
    found = rows_to_evaluate(split, None, False, silent)
    assert (len(found.chosen), found.split) == (4, "test" if name.lower() == "test" else "dev")
    assert len(rows_to_evaluate(split, name, False, silent).chosen) == 4  # asked for by its own name too


def test_long_recordings_are_named(voice: Manifest) -> None:
    long = Manifest([replace(voice[0], duration_s=50.0), *voice[1:]], voice.path)
    assert "1 recordings last over 30 s" in rows_to_evaluate(long, None, False, silent).caveats[0]


def test_an_adapter_is_not_evaluated_on_what_it_learnt(voice: Manifest, tmp_path: Path) -> None:
    """The manifest has no splits: the run makes its own, and the evaluation finds the same test clips again."""
    bare = Manifest((replace(u, split=None) for u in voice[:18]), voice.path)
    path = bare.save(voice.path.parent / "bare.jsonl").path
    recipe = SpeechRecipe(
        manifest=path, output_dir=tmp_path, max_steps=2, min_steps=0, batch_size=4, adapter={"rank": 4}, evaluations=1
    )
    split, _ = prepared(recipe)
    trained = fit(recipe, split.split("train"), split.split("dev"), base=(9.0, 9.0))
    assert trained.adapter
    seen = {name: Seen.by([card]) for name, card in cards_of(adapter=trained.adapter).items()}
    rows = rows_to_evaluate(path, None, False, silent, seen=seen)
    assert [u.id for u in rows.chosen] == [u.id for u in split.split("test")]
    found = evaluate(path, adapter=trained.adapter, against_base=False)
    assert found["n_utterances"] == len(rows.chosen)
    assert found["caveats"][: len(rows.caveats)] == rows.caveats
    assert found["leakage"][0]["first"] == "training of the adapter"
    renamed = rows_to_evaluate(again(split.split("train")), None, False, silent, seen=seen)
    assert renamed.caveats[0].startswith(
        f"{len(renamed.chosen)} of these {len(renamed.chosen)} recordings were trained"
    )


def test_a_second_stage_has_seen_what_its_base_had(tiny: Whisper, voice: Manifest, tmp_path: Path) -> None:
    before = {"seen": {"train": hashes(voice[2:3]), "dev": hashes(voice[3:4])}}
    base = adapters.save(tiny.model, tmp_path / "base", before, tiny.name, resolve(tiny.name))
    recipe = SpeechRecipe(model=str(base), manifest=voice.path, output_dir=tmp_path / "run", max_steps=1)
    run = Run(recipe, voice[:1], voice[1:2], silent)
    run.progress.base = run.progress.best = (0.5, 0.5)
    seen = Seen.by([run._card()])
    assert seen.train == {*hashes(voice[:1]), *hashes(voice[2:3])}
    assert seen.dev == {*hashes(voice[1:2]), *hashes(voice[3:4])}


def test_splits_of_ones_own_keep_their_names(voice: Manifest) -> None:
    split = Manifest((replace(u, split="Phone" if i < 4 else "train") for i, u in enumerate(voice)), voice.path)
    assert len(rows_to_evaluate(split, "Phone", False, silent).chosen) == 4


@pytest.mark.parametrize("split", ["", ', "split": "dev"', ', "split": "TEST"'])
def test_long_recordings_in_a_file_are_heard(split: str, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(31 * 16_000, np.float32), 16_000)
    (tmp_path / "m.jsonl").write_text(f'{{"audio": "a.wav", "text": "a long story"{split}}}\n')
    found = rows_to_evaluate(tmp_path / "m.jsonl", None, False, silent)
    assert (len(found.chosen), found.left_out) == (1, {})
    assert "over 30 s" in found.caveats[0]


def again(rows: Manifest, **changed: Any) -> Manifest:
    """The same recordings in another manifest: other ids, and all of them test."""
    return Manifest((replace(u, id=f"again-{u.id}", split="test", **changed) for u in rows), rows.path)


def test_what_was_trained_on_is_found_under_other_ids(voice: Manifest) -> None:
    seen = {"the adapter": Seen.of(voice[:3], voice[3:5])}
    found = rows_to_evaluate(again(voice[:8]), None, False, silent, seen=seen)
    assert found.caveats == [
        "3 of these 8 recordings were trained on: the numbers say little about new ones.",
        "2 of these 8 recordings also chose the adapter's best state, which flatters the numbers a little.",
    ]
    trained, chose = found.learnt.pairs
    assert (trained.first, trained.second, trained.rows) == ("training of the adapter", "test", 8)
    assert trained.audio == tuple(f"again-{u.id}" for u in voice[:3])
    assert (trained.text_rows, trained.speakers) == (3, voice.speakers)
    assert chose.first == "dev of the adapter"
    bare = Manifest(replace(u, split=None) for u in again(voice[:8]))
    assert len(rows_to_evaluate(bare, None, False, silent, seen=seen).chosen) == 3


def test_each_kind_of_thing_is_found_by_itself(voice: Manifest, tmp_path: Path) -> None:
    (learnt,) = [replace(u, speaker="Ann", session="1", prompt_id="p1", text="Tea at ten!") for u in voice[:1]]
    seen = Seen.of(Manifest([learnt]), voice[:0])
    assert Seen.by([json.loads(json.dumps({"seen": seen.to_dict()}))]) == seen, "as a card holds it"
    other = replace(voice[5], id="x", split="test", speaker="", session=None, prompt_id=None, text="quite another")

    def pair(**changed: Any) -> SharedBetween:
        return learnt_from({"it": seen}, Manifest([replace(other, **changed)]), "test").pairs[0]

    assert str(pair()) == "training of it and test share nothing (no speaker is named in 1 row of test)"
    assert pair(speaker="Ann").speakers == ("Ann",)
    assert pair(speaker="Ann", session="1").sessions == ("Ann/1",)
    assert pair(speaker="Ben", session="1").sessions == ()
    assert pair(prompt_id="p1").prompts == ("p1",)
    assert pair(text="tea at 10").text_rows == 1
    assert pair(text="tea at eleven").text_rows == 0
    assert pair(speaker="ann ", prompt_id="P1").alike == ("speaker 'ann '", "prompt 'P1'")
    copied = tmp_path / "copy.wav"
    copied.write_bytes(learnt.audio.read_bytes())
    assert pair(audio=copied).audio == ("x",)


def test_stretches_of_a_recording_are_compared_by_their_times(voice: Manifest) -> None:
    part = [replace(voice[0], id=f"p{i}", start_s=i, end_s=i + 0.5) for i in (0.0, 1.25)]
    seen = Seen.of(Manifest(part), voice[:0])
    for start, end, shared in ((0.5, 1.25, 0), (0.4, 0.6, 1), (1.5, None, 1), (1.75, None, 0), (None, None, 1)):
        row = replace(voice[0], id="x", text="y", start_s=start, end_s=end)
        (pair, _) = learnt_from({"it": seen}, Manifest([row]), "test").pairs
        assert len(pair.audio) == shared, (start, end)


def test_cards_hold_no_name_and_no_two_the_same_hash(voice: Manifest) -> None:
    one, two = (Seen.of(part, voice[:0]).to_dict()["parts"][0] for part in (voice[:3], voice[:4]))
    said = json.dumps(one)
    assert not any(name in said for u in voice[:3] for name in (u.speaker, u.text, u.id, u.audio.name))
    for kind in ("speakers", "texts", "audio"):
        assert set(one["train"][kind].split()).isdisjoint(two["train"][kind].split())


def test_what_a_card_does_not_say_is_not_known(voice: Manifest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("speechft.seen.MOST", 2)
    cards = [{}, {"seen": {"train": hashes(voice[:1]), "dev": []}}, {"seen": Seen.of(voice[:3], voice[:0]).to_dict()}]
    for card in cards:
        found = rows_to_evaluate(again(voice[5:8]), None, False, silent, seen={"the adapter": Seen.by([card])})
        assert "is not known" in found.caveats[-1]
        assert str(found.shared) == "only one split; what the adapter learnt from is not known"
    known = {"the adapter": Seen.by([cards[1]])}
    assert rows_to_evaluate(voice, voice[0].split, False, silent, seen=known).caveats[0].startswith("1 of these")


def test_adapters_that_learnt_alike_are_told_together(voice: Manifest) -> None:
    a, b = Seen.of(voice[:3], voice[3:4]), Seen.of(voice[4:6], voice[3:4])
    rows = again(voice[:3])
    first = learnt_from({"a": a, "b": a}, rows, "test")
    assert [pair.first for pair in first.pairs] == ["training of the adapters", "dev of the adapters"]
    each = learnt_from({"a": a, "b": b, "c": a}, rows, "test")
    assert [pair.first for pair in each.pairs][:2] == ["training of a, c", "training of b"]
    (said,) = caveats_of(each)
    assert said == "a, c: 3 of these 3 recordings were trained on: the numbers say little about new ones."


def test_the_speaker_of_a_personal_voice_is_no_warning(voice: Manifest) -> None:
    seen = {"the adapter": Seen.of(voice[:10], voice[10:12])}
    rows = rows_to_evaluate(again(voice[20:]), None, False, silent, seen=seen)
    assert rows.learnt.pairs[0].speakers == voice.speakers
    assert rows.in_common(rows.shared) == []
    two = Manifest([*again(voice[20:]), replace(voice[13], speaker="another", split="test", text="yet another")])
    rows = rows_to_evaluate(two, None, False, silent, seen=seen)
    (said,) = rows.in_common(rows.shared)
    assert said.startswith("Overlap between splits: training of the adapter and test share 1 speaker")


def test_of_several_adapters_each_is_told_of_itself(voice: Manifest) -> None:
    seen = {"a": Seen.of(voice[:3], voice[3:4]), "b": Seen.by([{}])}
    rows = rows_to_evaluate(again(voice[:3]), None, False, silent, seen=seen)
    assert [caveat[:3] for caveat in rows.caveats] == ["a: ", "The"]
    (trained_on,) = rows.heard_by("a").caveats
    assert trained_on.startswith("3 of these 3 recordings were trained on")
    (unknown,) = rows.heard_by("b").caveats
    assert "card of the adapter does not say" in unknown
