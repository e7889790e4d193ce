"""Rows survive a round trip; every bad row is named; nothing outside the folder is reachable."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from speechft.errors import SpeechftError
from speechft.manifest import Manifest, Utterance, probe_duration


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), "utf-8")
    return path


def test_reads_known_fields_and_keeps_the_others_as_groups(tmp_path: Path) -> None:
    row = {"audio": "a/b.wav", "text": "tea", "speaker": 3, "age": 61, "split": "train", "mood": "calm"}
    manifest = Manifest.load(write(tmp_path / "m.jsonl", [row, {**row, "start_s": 1, "end_s": 2.5}]))
    first, second = manifest
    assert first.audio == (tmp_path / "a/b.wav").resolve()
    assert (first.speaker, first.age, first.extra) == ("3", 61, {"mood": "calm"})
    assert (first.id, second.id) == ("b", "b-0001000ms")
    assert first.where == "m.jsonl:1"
    assert second.seconds == 1.5
    assert first.group("mood") == "calm"
    assert manifest.speakers == ("3",)
    assert manifest.splits == ("train",)


def test_made_ids_are_unique_and_avoid_given_ones(tmp_path: Path) -> None:
    names = ["x/a.wav", "y/a.wav", "y/a.wav", "z/a.wav"]
    rows: list[dict[str, str]] = [{"audio": name, "text": "t"} for name in names]
    rows.append({"audio": "w.wav", "text": "t", "id": "z-a"})
    ids = [u.id for u in Manifest.load(write(tmp_path / "m.jsonl", rows))]
    assert ids == ["a", "y-a", "y-a-2", "z-a-2", "z-a"]


def test_tolerates_what_windows_and_hands_leave_behind(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    line = json.dumps({"audio": "a.wav", "text": "eins\u2028zwei"}, ensure_ascii=False)
    path.write_bytes(b"\xef\xbb\xbf" + line.encode() + b"\r\n\r\n  \n" + b'{"audio": "b.wav", "text": ""}\r\n')
    manifest = Manifest.load(path)
    assert [u.row for u in manifest] == [1, 4]
    assert manifest[0].text == "eins\u2028zwei"


BAD = [
    ("{not json", "json", "not JSON"),
    ("[1, 2]", "json", "a list, not a JSON object"),
    ('"word"', "json", "text, not a JSON object"),
    ({"text": "x"}, "missing-field", "no 'audio'"),
    ({"audio": "a.wav"}, "missing-field", "no 'text'"),
    ({"audio": " ", "text": "x"}, "missing-field", "'audio' is empty"),
    ({"audio": "a.wav", "text": 5}, "type", r"'text' is a number \(5\), not text"),
    ({"audio": "a.wav", "text": None}, "type", "'text' is null, not text"),
    ({"audio": "a.wav", "text": ["x"]}, "type", "'text' is a list, not text"),
    ({"audio": 7, "text": "x"}, "type", "'audio' is a number"),
    ({"audio": "a.wav", "text": "x", "speaker": True}, "type", "'speaker' is true, not text"),
    ({"audio": "a.wav", "text": "x", "split": 1.5}, "type", "'split' is a number"),
    ({"audio": "a.wav", "text": "x", "age": True}, "type", "'age' is true"),
    ({"audio": "a.wav", "text": "x", "start_s": "1"}, "type", "'start_s' is text, not a number"),
    ({"audio": "a.wav", "text": "x", "start_s": -1}, "times", "'start_s' is -1"),
    ('{"audio": "a.wav", "text": "x", "end_s": NaN}', "times", "'end_s' is nan"),
    ({"audio": "a.wav", "text": "x", "duration_s": 10**400}, "times", "'duration_s' is 1000"),
    ({"audio": "a.wav", "text": "x", "start_s": 2, "end_s": 2}, "times", "not after start_s"),
    ({"audio": "../a.wav", "text": "x"}, "outside", "'../a.wav' lies outside"),
    ({"audio": "/etc/hostname", "text": "x"}, "outside", "lies outside"),
    ({"audio": "a/../../a.wav", "text": "x"}, "outside", "lies outside"),
    ({"audio": "a\0.wav", "text": "x"}, "type", "zero byte"),
    ({"audio": "a.wav", "text": "\ud800"}, "type", "half a character"),
    ({"audio": "a.wav", "text": "x", "note": ["a", {"b": "\ud800"}]}, "type", "half a character"),
    ({"audio": "a.wav", "text": "x", "\ud800": 1}, "type", "half a character"),
    ({"audio": "n" * 300, "text": "x"}, "missing", "longer than a file name"),
    ({"audio": "d/" * 3000 + "a.wav", "text": "x"}, "missing", "longer than a file name"),
    ('{"audio": "a.wav", "text": "x", "age": ' + "9" * 5000 + "}", "json", "not JSON"),
    ({"audio": "b.wav", "text": "x", "id": "good"}, "duplicate-id", "the id 'good'"),
]


@pytest.mark.parametrize(("bad", "kind", "words"), BAD)
def test_bad_row_is_named_and_hides_no_other(tmp_path: Path, bad: Any, kind: str, words: str) -> None:
    good = {"audio": "a.wav", "text": "x", "id": "good"}
    path = write(tmp_path / "m.jsonl", [good, bad, {**good, "id": "last"}])
    manifest, problems = Manifest.read(path)
    assert [u.id for u in manifest] == ["good", "last"]
    assert [(p.kind, p.where, p.severity) for p in problems] == [(kind, "m.jsonl:2", "error")]
    with pytest.raises(SpeechftError, match=words) as caught:
        Manifest.load(path)
    assert caught.value.where == "m.jsonl:2"
    assert caught.value.fix


def test_names_as_pandas_writes_them_in_a_column_with_empty_cells(tmp_path: Path) -> None:
    """Whole numbers as 1.0, and nothing as NaN or null."""
    rows = [
        {"audio": "a.wav", "text": "x", "id": 7.0, "speaker": 3.0, "severity": float("nan"), "age": float("nan")},
        {"audio": "a.wav", "text": "x", "id": 8, "speaker": 3, "severity": 2.0, "age": 61.0, "split": None},
    ]
    one, two = Manifest.load(write(tmp_path / "m.jsonl", rows))
    assert (one.id, one.speaker, one.severity, one.age) == ("7", "3", None, None)
    assert (two.id, two.speaker, two.severity, two.age) == ("8", "3", "2", 61.0)


def test_load_counts_the_other_bad_rows(tmp_path: Path) -> None:
    with pytest.raises(SpeechftError, match="2 more rows are wrong"):
        Manifest.load(write(tmp_path / "m.jsonl", ["{", "{", "{"]))


def test_not_utf8_row_and_deep_row(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'{"audio": "a.wav", "text": "caf\xe9"}\n' + b'{"a":' * 100_000 + b"\n")
    _, problems = Manifest.read(path)
    assert [p.kind for p in problems] == ["json", "json"]
    assert "not UTF-8" in problems[0].what


def test_loops_of_links(tmp_path: Path) -> None:
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    path = write(tmp_path / "m.jsonl", [{"audio": "loop.wav", "text": "x"}, {"audio": "loop.wav/a.wav", "text": "x"}])
    for utterance in Manifest.load(path):
        with pytest.raises(SpeechftError, match="does not exist"):
            probe_duration(utterance)
    (tmp_path / "loop.jsonl").symlink_to("loop.jsonl")
    with pytest.raises(SpeechftError, match="the manifest"):
        Manifest.load(tmp_path / "loop.jsonl")


def test_whatever_is_read_of_nested_rows_can_be_written_again(tmp_path: Path) -> None:
    for depth in range(800, 1000, 3):
        row = f'{{"audio": "a.wav", "text": "x", "note": {"[" * depth}{"]" * depth}}}'
        manifest, problems = Manifest.read(write(tmp_path / "m.jsonl", [row]))
        manifest.save(tmp_path / "again.jsonl")
        assert len(manifest) + len(problems) == 1


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"", "no utterances"), (b"\xff\xfe{\0", "UTF-16"), (b' [{"audio": "a"}]', "one JSON array")],
)
def test_whole_file_wrong(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "m.jsonl").write_bytes(data)
    with pytest.raises(SpeechftError, match=words):
        Manifest.load(tmp_path / "m.jsonl")


def test_missing_manifest(tmp_path: Path) -> None:
    with pytest.raises(SpeechftError, match="does not exist"):
        Manifest.load(tmp_path / "none.jsonl")
    with pytest.raises(SpeechftError, match=r"is a folder without a manifest\.jsonl"):
        Manifest.load(tmp_path)


def test_links_do_not_lead_out_unless_allowed(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.wav").write_bytes(b"x")
    (tmp_path / "in/link.wav").symlink_to(tmp_path / "secret.wav")
    (tmp_path / "in/folder").symlink_to(tmp_path)
    (tmp_path / "in/inner.wav").symlink_to(tmp_path / "in/real.wav")
    rows = [{"audio": name, "text": "x"} for name in ("link.wav", "folder/secret.wav", "inner.wav")]
    path = write(tmp_path / "in/m.jsonl", rows)
    manifest, problems = Manifest.read(path)
    assert [p.where for p in problems] == ["m.jsonl:1", "m.jsonl:2"]
    assert manifest[0].audio.name == "real.wav"
    assert len(Manifest.load(path, allow_outside=True)) == 3


def test_absolute_path_inside_is_fine(tmp_path: Path) -> None:
    path = write(tmp_path / "m.jsonl", [{"audio": str(tmp_path / "a.wav"), "text": "x"}])
    assert Manifest.load(path)[0].audio == (tmp_path / "a.wav").resolve()


def test_a_neighbour_whose_name_begins_the_same_is_outside(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path = write(tmp_path / "in/m.jsonl", [{"audio": "../in2/a.wav", "text": "x"}])
    assert Manifest.read(path)[1][0].kind == "outside"


words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
times = st.none() | st.floats(0, 1000)
extras = st.dictionaries(st.sampled_from(["mood", "device", "x y"]), words | st.integers() | st.booleans())


@st.composite
def utterances(draw: st.DrawFn) -> Utterance:
    start = draw(times)
    end = draw(st.none() | st.floats((start or 0) + 0.01, 2000))
    optional = {name: draw(st.none() | words.filter(bool)) for name in ("split", "severity", "language")}
    return Utterance(
        Path("/anywhere") / draw(st.sampled_from(["a.wav", "ü/b.wav", "c d.flac"])),
        draw(words),
        "",
        draw(words),
        start_s=start,
        end_s=end,
        age=draw(st.none() | st.integers(0, 99)),
        extra=draw(extras),
        **optional,
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(utterances(), min_size=1, max_size=5))
def test_save_and_load_give_the_same(tmp_path_factory: pytest.TempPathFactory, rows: list[Utterance]) -> None:
    folder = tmp_path_factory.mktemp("m").resolve()
    there = (replace(u, id=f"r{i}", audio=folder / u.audio.relative_to("/anywhere")) for i, u in enumerate(rows))
    manifest = Manifest(there, folder / "m.jsonl")
    saved = manifest.save(folder / "m.jsonl")
    loaded = Manifest.load(folder / "m.jsonl")
    assert loaded == manifest == saved
    assert loaded.sha256 == manifest.sha256
    assert [u.where for u in loaded] == [u.where for u in saved]
    assert os.listdir(folder) == ["m.jsonl"]


def test_saved_paths_are_relative_inside_and_absolute_outside(tmp_path: Path) -> None:
    inside, outside = tmp_path / "d/a.wav", tmp_path / "b.wav"
    manifest = Manifest([Utterance(inside, "x", "1"), Utterance(outside, "y", "2")])
    manifest.save(tmp_path / "d/m.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "d/m.jsonl").read_text().splitlines()]
    assert [row["audio"] for row in rows] == ["a.wav", outside.as_posix()]


def test_a_save_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = write(tmp_path / "m.jsonl", [{"audio": "a.wav", "text": "x"}])
    before = path.read_bytes()
    with pytest.raises(TypeError):
        Manifest([Utterance(tmp_path / "a.wav", "x", "1", extra={"bad": object()})]).save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["m.jsonl"]


def test_a_moved_folder_has_the_same_hash(tmp_path: Path) -> None:
    hashes = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        hashes.add(Manifest.load(write(tmp_path / name / "m.jsonl", [{"audio": "a.wav", "text": "x"}])).sha256)
    assert len(hashes) == 1


def test_selections(tmp_path: Path) -> None:
    rows = [{"audio": f"{i}.wav", "text": str(i), "split": "train" if i < 4 else "test"} for i in range(6)]
    manifest = Manifest.load(write(tmp_path / "m.jsonl", rows))
    assert len(manifest.split("train")) == 4
    assert [u.id for u in manifest[1:3]] == ["1", "2"]
    assert manifest.filter(lambda u: u.text == "5")[0].id == "5"
    assert not manifest.split("dev")
    assert pickle.loads(pickle.dumps(manifest)) == manifest
    with pytest.raises(SpeechftError, match="the id '1'"):
        Manifest([*manifest, manifest[1]])


def test_groups_are_fields_of_few_values() -> None:
    def one(i: int) -> Utterance:
        extra = {"mood": "ab"[i % 2], "clip": f"c{i}", "vector": [1], "level": i % 3}
        extra |= {"command": i % 2 == 0, "no_speech": False, "synthetic_from": "ab"[i % 2]}
        return Utterance(Path(f"/{i}.wav"), "x", str(i), severity="mild", extra=extra)

    assert Manifest(map(one, range(12))).groups == ("severity", "mood", "level")


def test_whole_numbers_of_a_table_with_empty_cells_are_groups() -> None:
    """pandas writes 1, 2 and nothing as 1.0, 2.0 and NaN or null."""
    found = [1.0, 2.0, float("nan"), 2, None, 1.5]
    rows = Manifest(Utterance(Path("/a"), "x", str(i), extra={"rating": r}) for i, r in enumerate(found * 2))
    assert rows.groups == ("rating",)
    assert [u.group("rating") for u in rows[:6]] == ["1", "2", "", "2", "", "1.5"]


@pytest.mark.parametrize("name", ["source", "row", "seconds", "where", "missing"])
def test_a_field_with_a_name_of_ours_is_empty_where_a_row_has_none(tmp_path: Path, name: str) -> None:
    """Two corpora in one manifest, of which one has it."""
    rows = [{"audio": f"{i}.wav", "text": "x", **({name: "torgo"} if i < 2 else {})} for i in range(4)]
    found = Manifest.load(write(tmp_path / "m.jsonl", rows))
    assert [u.group(name) for u in found] == ["torgo", "torgo", "", ""]


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.ogg"])
def test_probe_reads_headers(tmp_path: Path, name: str) -> None:
    soundfile.write(tmp_path / name, np.zeros(24_000), 16_000)
    whole = Utterance(tmp_path / name, "x", "1")
    assert probe_duration(whole) == pytest.approx(1.5, abs=0.01)
    assert probe_duration(replace(whole, start_s=1.0)) == pytest.approx(0.5, abs=0.01)
    assert probe_duration(replace(whole, start_s=0.5, end_s=1.0)) == pytest.approx(0.5)
    assert probe_duration(replace(whole, end_s=9.0)) == pytest.approx(1.5, abs=0.01)
    filled = Manifest([whole]).with_durations()
    assert filled[0].duration_s == pytest.approx(1.5, abs=0.01)
    assert filled.seconds == Manifest([whole]).seconds
    assert whole.load().size == 24_000


def test_probe_counts_packets_and_names_what_is_not_sound(tmp_path: Path) -> None:
    import av

    with av.open(str(tmp_path / "a.webm"), "w", options={"live": "1"}) as container:  # no length in its header
        stream = container.add_stream("libopus", rate=48_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 960), np.int16), format="s16", layout="mono")
        frame.sample_rate = 48_000
        for i in range(50):
            frame.pts = 960 * i
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert probe_duration(Utterance(tmp_path / "a.webm", "x", "1")) == pytest.approx(1.0, abs=0.05)
    (tmp_path / "b.wav").write_text("no")
    with pytest.raises(SpeechftError, match="cannot be read as sound"):
        probe_duration(Utterance(tmp_path / "b.wav", "x", "1"))


def test_ten_thousand_rows_load_without_a_look_at_the_audio(tmp_path: Path) -> None:
    rows = [{"audio": f"audio/s{i % 50}/{i}.wav", "text": "some words", "duration_s": 2.0} for i in range(10_000)]
    path = write(tmp_path / "m.jsonl", rows)
    assert Manifest.load(path).seconds == 20_000  # none of these files exists


def test_import_brings_no_torch() -> None:
    code = "import sys, speechft.manifest, speechft.split, speechft.check; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("given", "read"),
    [(True, True), ("True", True), (1, True), (" yes", True), ("False", False), ("0", False), ("", False)],
)
def test_true_and_false_as_tables_write_them(tmp_path: Path, given: object, read: bool) -> None:
    rows = [
        {"audio": "a.wav", "text": "x", "synthetic": given},
        {"audio": "b.wav", "text": "x", "simulated": "perhaps"},
    ]
    manifest, (problem,) = Manifest.read(write(tmp_path / "m.jsonl", rows))
    assert manifest[0].extra == {"synthetic": read}
    assert str(problem) == (
        "m.jsonl:2: 'simulated' is 'perhaps', neither true nor false. Write \"simulated\": true, or false."
    )


def test_a_part_is_taken_from_all_speakers(tmp_path: Path) -> None:
    rows = Manifest(Utterance(tmp_path / "a.wav", "a", str(i), speaker=f"s{i // 10}") for i in range(100))
    assert len(rows.spread(20)) == 20
    assert rows.spread(20).speakers == rows.speakers
    assert rows.spread(200) is rows
