"""An adapter says what it has seen, and an evaluation takes it at its word."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechft import adapters
from speechft.config import SpeechRecipe
from speechft.errors import SpeechftError
from speechft.evaluated_rows import rows_to_evaluate
from speechft.manifest import Manifest
from speechft.pipeline import evaluate, prepared
from speechft.recogniser import card_of
from speechft.seen import NOTHING, Seen, hashes
from speechft.sources import resolve
from speechft.train import Run, fit
from speechft.whisper import Whisper


def silent(event: dict) -> None:
    pass


def test_what_was_seen_is_left_out_of_a_manifest_without_splits(voice: Manifest, tmp_path: Path) -> None:
    bare = Manifest((replace(u, split=None) for u in voice), voice.path)
    seen = Seen.by([{"seen": {"train": hashes(bare[:3]), "dev": hashes(bare[3:4])}}, {}])
    found = rows_to_evaluate(bare, None, False, silent, seen=seen)
    assert [u.id for u in found.chosen] == [u.id for u in bare[4:]]
    assert "4 recordings" in found.caveats[0]
    whole = Seen.by([{"seen": {"train": hashes(bare), "dev": []}}])
    with pytest.raises(SpeechftError, match="all of these"):
        rows_to_evaluate(bare, None, False, silent, seen=whole)


def test_two_people_who_read_one_list_are_two(voice: Manifest) -> None:
    ann = [replace(u, speaker="ann", duration_s=2.0) for u in voice[:2]]
    seen = Seen(frozenset(hashes(ann) or ()), frozenset())
    ben = Manifest(replace(u, speaker="ben") for u in ann)
    slower = Manifest(replace(u, duration_s=2.5) for u in ann)
    again = Manifest(replace(u, duration_s=2.06) for u in ann)  # as another manifest states it
    assert (len(seen.unseen(ben)), len(seen.unseen(slower)), len(seen.caveats(again))) == (2, 2, 1)


def test_cards_of_earlier_versions_are_read(voice: Manifest) -> None:
    """They have hashes of id and text."""
    old = hashlib.sha256(f"{voice[0].id}\0{voice[0].text}".encode()).hexdigest()[:12]
    seen = Seen.by([{"seen": {"train": [old], "dev": []}}])
    assert [u.id for u in seen.unseen(voice)] == [u.id for u in voice[1:]]


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
    found = rows_to_evaluate(split, None, False, silent, seen=seen)
    assert len(found.chosen) == 4
    assert [caveat[:1] for caveat in found.caveats] == ["1", "2"]
    assert rows_to_evaluate(split, None, False, silent, seen=NOTHING).caveats == []


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
    rows = rows_to_evaluate(path, None, False, silent, seen=Seen.by([card_of(adapter=trained.adapter)]))
    assert [u.id for u in rows.chosen] == [u.id for u in split.split("test")]
    found = evaluate(path, adapter=trained.adapter, against_base=False)
    assert found["n_utterances"] == len(rows.chosen)
    assert found["caveats"][: len(rows.caveats)] == rows.caveats


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
