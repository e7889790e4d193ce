"""Recordings written beside a manifest replace what that manifest wrote, and nothing else."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest
from test_folder import clip

from speechft.corpora import prepare
from speechft.corpora.copies import Copies
from speechft.errors import SpeechftError
from speechft.manifest import Manifest


def heard(manifest: Path) -> dict[str, int]:
    """The samples of every row, by text."""
    return {u.text: len(u.load()) for u in Manifest.load(manifest)}


def test_two_manifests_in_one_folder_keep_their_recordings(tmp_path: Path) -> None:
    clip(tmp_path / "anna/0.wav", "by Anna", seconds=0.5)
    clip(tmp_path / "ben/0.wav", "by Ben", seconds=1.0)
    corpus = tmp_path / "corpus"
    for _ in range(2):  # as often as wanted
        for name, text, samples in (("anna", "by Anna", 8000), ("ben", "by Ben", 16_000)):
            made = prepare("folder", tmp_path / name, corpus / f"{name}.jsonl").manifest
            assert [u.id for u in made] == ["0"]
            assert heard(corpus / f"{name}.jsonl") == {text: samples}
    assert heard(corpus / "anna.jsonl") == {"by Anna": 8000}
    assert sorted(path.relative_to(corpus).as_posix() for path in corpus.rglob("*.wav")) == [
        "audio/0.wav", "audio/ben/0.wav",
    ]  # fmt: skip


def test_a_recording_of_the_user_s_stays(tmp_path: Path) -> None:
    clip(tmp_path / "source/0.wav", "mine", seconds=0.5)
    (tmp_path / "source/t.csv").write_text("audio,text\n0.wav,mine\n")
    theirs = clip(tmp_path / "corpus/audio/0.wav", seconds=1.0)
    (tmp_path / "corpus/audio/manifest").mkdir()
    (tmp_path / "corpus/audio/manifest/0.wav").symlink_to(tmp_path / "not/there/yet.wav")
    before = theirs.read_bytes()
    for kind, source in (("folder", tmp_path / "source"), ("csv", tmp_path / "source/t.csv")):
        found = prepare(kind, source, tmp_path / "corpus").manifest
        assert [u.audio.relative_to(tmp_path / "corpus/audio").as_posix() for u in found] == ["manifest-2/0.wav"]
        assert heard(tmp_path / "corpus/manifest.jsonl") == {"mine": 8000}
    assert theirs.read_bytes() == before


def test_a_copy_follows_its_source_and_is_left_to_whoever_changed_it(tmp_path: Path) -> None:
    for seconds in (0.5, 1.0, 1.5):
        clip(tmp_path / "s/a.wav", "one", seconds=seconds)
        (copied,) = prepare("folder", tmp_path / "s", tmp_path / "out").manifest
        assert copied.audio == tmp_path / "out/audio/a.wav"
        assert heard(tmp_path / "out/manifest.jsonl") == {"one": 16_000 * seconds}
    clip(copied.audio, seconds=3.0)  # say, without its noise
    (again,) = prepare("folder", tmp_path / "s", tmp_path / "out").manifest
    assert again.audio == tmp_path / "out/audio/manifest/a.wav"
    assert heard(tmp_path / "out/manifest.jsonl") == {"one": 24_000}


def test_recordings_that_a_manifest_only_names_are_not_its_own(tmp_path: Path) -> None:
    mine = clip(tmp_path / "corpus/audio/a.wav", "recorded here")
    prepare("folder", tmp_path / "corpus", tmp_path / "corpus")
    clip(tmp_path / "s/a.wav", "recorded elsewhere", seconds=1.0)
    before = mine.read_bytes()
    prepare("folder", tmp_path / "s", tmp_path / "corpus")
    assert mine.read_bytes() == before
    assert heard(tmp_path / "corpus/manifest.jsonl") == {"recorded elsewhere": 16_000}


def test_a_copy_that_another_manifest_names_too_stays(tmp_path: Path) -> None:
    clip(tmp_path / "s/a.wav", "one")
    for name in ("first", "second"):
        (u,) = prepare("folder", tmp_path / "s", tmp_path / f"out/{name}.jsonl").manifest
        assert u.audio == tmp_path / "out/audio/a.wav"  # the same sound takes no room twice
    clip(tmp_path / "s/a.wav", "two", seconds=1.0)
    for _ in range(2):
        prepare("folder", tmp_path / "s", tmp_path / "out/first.jsonl")
        assert heard(tmp_path / "out/first.jsonl") == {"two": 16_000}
        assert heard(tmp_path / "out/second.jsonl") == {"one": 8000}


def test_a_list_of_what_was_left_out_replaces_only_its_like(tmp_path: Path) -> None:
    clip(tmp_path / "s/a.wav", "one")
    mine = tmp_path / "out/left_out.csv"
    mine.parent.mkdir()
    mine.write_text("id,where,reason\n1,home,ill\n")
    with pytest.raises(SpeechftError, match=r"left_out.csv: was not made by this command"):
        prepare("folder", tmp_path / "s", tmp_path / "out")
    assert mine.read_text() == "id,where,reason\n1,home,ill\n"
    assert [path.name for path in mine.parent.iterdir()] == ["left_out.csv"]
    mine.unlink()
    for _ in range(2):
        prepare("folder", tmp_path / "s", tmp_path / "out")


def test_files_cut_off_and_records_that_are_none(tmp_path: Path) -> None:
    record = tmp_path / ".m.jsonl.copies"
    record.write_text('["a.wav", 1]\nnone\n["half')
    copies = Copies(tmp_path / "m.jsonl", "audio")
    first = copies.put(Path("a.wav"), b"one")
    again = Copies(tmp_path / "m.jsonl", "audio")
    assert again.put(Path("a.wav"), b"two") == first  # known although nothing was saved
    again.save()
    assert first.read_bytes() == b"two"
    assert record.read_text().count("\n") == 1
    assert [path.name for path in first.parent.iterdir()] == ["a.wav"]
    again.drop(first)
    assert not first.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="shutil copies otherwise there")
def test_a_full_disk_leaves_nothing_out_but_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip(tmp_path / "mine" / "a.wav")
    (tmp_path / "mine" / "a.txt").write_text("one")

    def refuse(*arguments: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "sendfile", refuse)  # by which shutil copies, and names the source
    with pytest.raises(OSError, match="No space") as stop:
        prepare("folder", tmp_path / "mine", tmp_path / "out")
    assert Path(stop.value.filename) == tmp_path / "out"


def test_nothing_of_others_is_dropped(tmp_path: Path) -> None:
    mine = tmp_path / "audio/a.wav"
    mine.parent.mkdir()
    mine.write_bytes(b"one")
    copies = Copies(tmp_path / "m.jsonl", "audio")
    assert copies.put(Path("a.wav"), b"one") == mine
    copies.drop(mine)
    assert mine.read_bytes() == b"one"
