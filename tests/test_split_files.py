"""A split file gives the same parts again, says what they share, and refuses any other manifest."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from speechft.check import check
from speechft.cli import app
from speechft.errors import SpeechftError
from speechft.manifest import Manifest, Utterance
from speechft.overlap import overlap
from speechft.protocols import protocol
from speechft.split_files import apply_split, read_split, write_split
from speechft.terminal import leakage_lines


@pytest.fixture
def corpus(tmp_path: Path) -> Manifest:
    """Six speakers, five sentences each, with sound; every speaker's first sentence is the same."""
    folder, rows = tmp_path / "corpus", []
    folder.mkdir()
    for speaker in range(6):
        for i in range(5):
            path = folder / f"s{speaker}-{i}.wav"
            soundfile.write(path, 0.3 * np.sin(np.arange(8000 + 40 * i) * (300 + 50 * speaker) / 1000), 16_000)
            text = "good morning" if i == 0 else f"speaker {speaker} says {i}"
            rows.append(Utterance(path, text, path.stem, f"s{speaker}", session=f"day {i % 2}", severity="mild"))
    return Manifest(rows, folder / "manifest.jsonl").save(folder / "manifest.jsonl")


def parts(manifest: Manifest) -> dict[str, str | None]:
    return {u.id: u.split for u in manifest}


def test_a_file_gives_the_same_parts_again(corpus: Manifest, tmp_path: Path) -> None:
    content = write_split(corpus, tmp_path / "a.json", "leave-one-speaker-out", speaker="s2")
    wanted = protocol(corpus, "leave-one-speaker-out", speaker="s2")
    assert parts(apply_split(corpus, tmp_path / "a.json")) == parts(wanted)
    assert content["options"] == {"speaker": "s2", "unseen_prompts": False, "dev": 0.1, "seed": 0}
    assert content["parts"]["test"]["rows"] == 5
    assert content["overlap"] == str(overlap(wanted))
    assert content["leakage"] == overlap(wanted).to_dict()
    assert content["manifest_sha256"] == corpus.sha256
    assert "good morning" not in (tmp_path / "a.json").read_text()  # to be published: ids, no texts
    again = write_split(corpus, tmp_path / "b.json", "leave-one-speaker-out", speaker="s2")
    assert again["sha256"] == content["sha256"]


def test_order_place_and_other_fields_do_not_matter(corpus: Manifest, tmp_path: Path) -> None:
    write_split(corpus, tmp_path / "a.json", "speaker-disjoint")
    wanted = parts(apply_split(corpus, tmp_path / "a.json"))
    moved = tmp_path / "elsewhere"
    (tmp_path / "corpus").rename(moved)
    here = Manifest.load(moved / "manifest.jsonl")
    changed = (replace(u, severity="severe", duration_s=3.0, split="test") for u in reversed(here))
    assert parts(apply_split(Manifest(changed, here.path), tmp_path / "a.json")) == wanted


def test_a_changed_manifest_is_refused_by_id(corpus: Manifest, tmp_path: Path) -> None:
    write_split(corpus, tmp_path / "a.json", "speaker-disjoint")
    rows = [replace(u, text="good evening") if u.id == "s1-0" else u for u in corpus if u.id != "s3-4"]
    rows.append(replace(rows[0], id="s0-new"))
    with pytest.raises(SpeechftError, match=r"1 missing \(s3-4\); 1 new \(s0-new\); 1 changed \(s1-0\)"):
        apply_split(Manifest(rows, corpus.path), tmp_path / "a.json")


@settings(max_examples=15, deadline=None)
@given(
    field=st.sampled_from(["text", "speaker", "session", "prompt_id", "audio", "start_s", "end_s"]),
    row=st.integers(0, 7),
)
def test_each_field_that_a_split_rests_on_is_watched(
    tmp_path_factory: pytest.TempPathFactory, field: str, row: int
) -> None:
    folder = tmp_path_factory.mktemp("f")
    rows = [Utterance(folder / f"{i}.wav", f"words {i}", f"u{i}", f"s{i}", duration_s=1.0) for i in range(8)]
    write_split(Manifest(rows, folder / "m.jsonl"), folder / "a.json", "speaker-disjoint")
    new: Any = {"audio": folder / "x.wav", "start_s": 0.5, "end_s": 0.5}.get(field, "other")
    rows[row] = replace(rows[row], **{field: new})
    with pytest.raises(SpeechftError, match=rf"1 changed \(u{row}\)"):
        apply_split(Manifest(rows, folder / "m.jsonl"), folder / "a.json")


def test_a_split_on_top_of_another(corpus: Manifest, tmp_path: Path) -> None:
    first = write_split(corpus, tmp_path / "a.json", "speaker-disjoint")
    content = write_split(corpus, tmp_path / "b.json", "low-resource", tmp_path / "a.json", minutes=0.05)
    assert content["base"] == first["sha256"]
    assert content["parts"]["train"]["minutes"] <= 0.05
    assert content["parts"]["unused"]["rows"] > 0
    assert {i for i, p in content["splits"].items() if p == "test"} == {
        i for i, p in first["splits"].items() if p == "test"
    }


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text.replace('"train"', '"test"'), "its own hash"),
        (lambda text: text.replace('"format": 1', '"format": 2'), "format 2"),
        (lambda text: text[:-9], "JSON"),
        (lambda text: "[1]", "not a split file"),
    ],
)
def test_a_damaged_file_is_refused(corpus: Manifest, tmp_path: Path, damage: Any, message: str) -> None:
    write_split(corpus, tmp_path / "a.json", "speaker-disjoint")
    (tmp_path / "a.json").write_text(damage((tmp_path / "a.json").read_text()))
    with pytest.raises(SpeechftError, match=message):
        read_split(tmp_path / "a.json")
    with pytest.raises(SpeechftError, match="does not exist"):
        read_split(tmp_path / "none.json")


def test_the_verb_writes_it_and_says_what_leaks(corpus: Manifest, tmp_path: Path) -> None:
    words = ["split", str(corpus.path), "leave-one-speaker-out", str(tmp_path / "a.json"), "--speaker", "s2"]
    done = CliRunner().invoke(app, [*words, "--dev", "0"])
    assert done.exit_code == 0, done.output
    assert "train: 25 rows" in done.output
    assert "train and test share 1 sentence (1 of 5 rows of test)" in done.output
    assert "speakers" not in done.output
    done = CliRunner().invoke(app, [*words, "--json"])
    assert json.loads(done.stdout)["protocol"] == "leave-one-speaker-out"
    assert isinstance(CliRunner().invoke(app, [*words, "--minutes", "3"]).exception, SpeechftError)


def test_planted_leaks_of_each_kind_are_all_found(corpus: Manifest, tmp_path: Path) -> None:
    """A speaker, a session, a sentence, a prompt, a copied file, a re-encoded one, and a stretch of the same file."""
    folder = corpus.path.parent  # type: ignore[union-attr]
    u = {row.id: row for row in corpus}
    soundfile.write(folder / "again.flac", soundfile.read(u["s0-1"].audio)[0], 16_000)
    (folder / "copy.wav").write_bytes(u["s1-1"].audio.read_bytes())
    clean = [replace(row, split="train", session=f"{row.speaker}-{row.session}") for row in corpus if row.id < "s3"]
    rows = [
        *clean,
        replace(u["s3-1"], split="train", speaker="s3", end_s=0.3),
        replace(u["s4-1"], split="dev", speaker="dev-voice", session=None),
        replace(u["s3-2"], id="same-speaker", split="test", speaker="s0", session="another"),
        replace(u["s3-3"], id="same-session", split="test", speaker="s1", session="s1-day 0"),
        replace(u["s5-1"], id="same-text", split="test", speaker="t1", text="Good morning!", session=None),
        replace(u["s5-2"], id="same-prompt", split="test", speaker="t1", prompt_id="p7", session=None),
        replace(u["s5-3"], id="copied", split="test", speaker="t1", audio=folder / "copy.wav", session=None),
        replace(u["s5-4"], id="re-encoded", split="test", speaker="t1", audio=folder / "again.flac", session=None),
        replace(u["s3-1"], id="stretch", split="test", speaker="t1", text="later", start_s=0.2, session=None),
    ]
    rows[1] = replace(rows[1], prompt_id="p7")
    manifest = Manifest(rows, folder / "leaky.jsonl").save(folder / "leaky.jsonl")
    pair = overlap(manifest).between("train", "test")
    assert pair.speakers == ("s0", "s1")
    assert pair.sessions == ("s1/s1-day 0",)
    assert pair.texts == ("good morning",)
    assert pair.prompts == ("p7",)
    assert set(pair.audio) == {"copied", "stretch"}
    assert str(overlap(manifest).between("train", "dev")) == "train and dev share nothing"
    problems = {(p.kind, manifest[int(p.where.split(":")[1]) - 1].id) for p in check(manifest.path)}  # type: ignore[arg-type]
    assert {("duplicate-audio", "copied"), ("duplicate-audio", "re-encoded")} <= problems
    assert {("text-leak", "same-text"), ("speaker-leak", "same-speaker")} <= problems
    lines = "\n".join(leakage_lines(overlap(manifest).to_dict()))
    for said in (
        "2 speakers: s0, s1",
        "1 session: s1/s1-day 0",
        "1 prompt",
        "1 sentence (1 of 7 rows",
        "2 recordings",
    ):
        assert f"train and test share {said}" in lines
    done = CliRunner().invoke(app, ["check", str(manifest.path), "--json"])
    by_bytes, heard = overlap(manifest).to_dict(), json.loads(done.stdout)["leakage"]  # check decodes
    assert heard[1]["audio"] == ["copied", "re-encoded", "stretch"]
    assert [{**pair, "audio": 0} for pair in heard] == [{**pair, "audio": 0} for pair in by_bytes]
    assert done.exit_code == 2
    assert "train and dev share nothing" in CliRunner().invoke(app, ["check", str(manifest.path)]).output


def test_results_carry_the_leakage_and_the_split_file(voice: Manifest, tmp_path: Path) -> None:
    from speechft.pipeline import evaluate

    few = Manifest((replace(u, split=None) for u in voice[:8]), voice.path)
    content = write_split(few, tmp_path / "a.json", "prompt-disjoint", test=0.25)
    result = evaluate(few, split_file=tmp_path / "a.json", out=tmp_path / "out")
    written = json.loads((tmp_path / "out" / "result.json").read_text())
    for found in (result, written):
        assert found["leakage"] == content["leakage"]
        assert "speaker" in found["overlap"]
        assert found["split_file"]["sha256"] == content["sha256"]
    assert result["n_utterances"] == content["parts"]["test"]["rows"]
