"""Hugging Face datasets from folders become manifests; without the network the error says what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import soundfile

from speechft.audio import SAMPLE_RATE
from speechft.corpora.hub import _stored, prepare_hub
from speechft.errors import SpeechftError
from speechft.manifest import Manifest
from speechft.problems import BadRow


@pytest.fixture(autouse=True)
def no_progress_bars_nor_shared_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    datasets.disable_progress_bars()


def dataset(folder: Path) -> datasets.Dataset:
    """Four rows: bytes, the last without text."""
    folder.mkdir()
    sounds = []
    for i, ending in enumerate(["wav", "flac", "ogg", "wav"]):
        path = folder / f"clip {i}.{ending}"
        soundfile.write(path, 0.1 * np.random.default_rng(i).standard_normal(4000), 8000)
        sounds.append({"bytes": path.read_bytes(), "path": path.name})
    rows = datasets.Dataset.from_dict(
        {
            "audio": sounds,
            "sentence": ["one", "two", "three", ""],
            "speaker_id": [1, 1, 2, 2],
            "severity": [0, 1, 1, 0],
            "scores": [[0.5]] * 4,
            "entities": [["one"], [], None, ["x"]],
        }
    )
    return rows.cast_column("audio", datasets.Audio(decode=False)).cast_column(
        "severity", datasets.ClassLabel(names=["mild", "severe"])
    )


def test_saved_dataset(tmp_path: Path) -> None:
    dataset(tmp_path / "raw").save_to_disk(tmp_path / "saved")
    prepared = prepare_hub(tmp_path / "saved", tmp_path / "out")
    assert [(u.text, u.speaker, u.severity, u.split) for u in prepared.manifest] == [
        ("one", "1", "mild", None),
        ("two", "1", "severe", None),
        ("three", "2", "severe", None),
    ]
    assert [u.extra for u in prepared.manifest] == [{"entities": ["one"]}, {}, {}]
    assert prepared.left_out == (("train:4", "there is no text"),)
    assert [u.audio.name for u in prepared.manifest] == [
        "000001-clip_0.wav",
        "000002-clip_1.flac",
        "000003-clip_2.ogg",
    ]
    assert prepared.manifest[0].audio.read_bytes() == (tmp_path / "raw/clip 0.wav").read_bytes()
    assert len(list((tmp_path / "out/audio/train").iterdir())) == 3
    assert Manifest.load(tmp_path / "out") == prepared.manifest


def test_splits_keep_their_names(tmp_path: Path) -> None:
    rows = dataset(tmp_path / "raw")
    both = datasets.DatasetDict({"train": rows, "validation": rows})
    both.save_to_disk(tmp_path / "saved")
    assert prepare_hub(tmp_path / "saved", tmp_path / "o1").manifest.splits == ("train", "dev")
    one = prepare_hub(tmp_path / "saved", tmp_path / "o2", split="validation")
    assert one.manifest.splits == ("dev",)
    with pytest.raises(SpeechftError, match="cannot be loaded"):
        prepare_hub(tmp_path / "saved", tmp_path / "o3", split="nope")


def test_a_splits_name_leads_nowhere_else(tmp_path: Path) -> None:
    dataset(tmp_path / "raw").save_to_disk(tmp_path / "evil")
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved" / "dataset_dict.json").write_text('{"splits": ["../evil", "../saved/../evil"]}')
    prepared = prepare_hub(tmp_path / "saved", tmp_path / "a" / "b" / "out")
    assert len(prepared.manifest) == 6
    folders = {u.audio.parent for u in prepared.manifest}
    assert len(folders) == 2
    assert {folder.parent for folder in folders} == {tmp_path / "a/b/out/audio"}


def test_times_of_the_recording_that_a_clip_was_cut_from_are_no_times_in_the_clip(tmp_path: Path) -> None:
    """As Multilingual LibriSpeech has them; each clip lasts half a second."""
    rows = dataset(tmp_path / "raw").select(range(3))
    rows = rows.add_column("begin_time", [401.76, 0.0, 0.25]).add_column("end_time", [402.26, 0.5, 0.5])
    rows.save_to_disk(tmp_path / "saved")
    first, whole, part = prepare_hub(tmp_path / "saved", tmp_path / "out").manifest
    assert (first.start_s, first.end_s, first.seconds) == (None, None, 0.5)
    assert first.extra["original_start_s"] == 401.76
    assert (whole.start_s, whole.end_s) == (0.0, 0.5)
    assert (part.start_s, part.end_s, part.seconds) == (0.25, 0.5, 0.25)


def test_ends_alone_of_the_recording_that_a_clip_was_cut_from(tmp_path: Path) -> None:
    rows = dataset(tmp_path / "raw").select(range(2)).add_column("end_time", [402.26, 0.25])
    rows.save_to_disk(tmp_path / "saved")
    cut, part = prepare_hub(tmp_path / "saved", tmp_path / "out").manifest
    assert (cut.end_s, cut.extra["original_end_s"], part.end_s) == (None, 402.26, 0.25)


def test_ids_that_repeat_are_those_of_sentences(tmp_path: Path) -> None:
    """As FLEURS has them: several people read one sentence, and its number is called id."""
    rows = dataset(tmp_path / "raw").select(range(3)).remove_columns("sentence")
    read = rows.add_column("id", [7, 7, 8]).add_column("sentence", ["one", "one", "two"])
    datasets.DatasetDict({"train": read, "test": read}).save_to_disk(tmp_path / "saved")
    manifest = prepare_hub(tmp_path / "saved", tmp_path / "out").manifest
    assert [u.prompt_id for u in manifest] == ["7", "7", "8"] * 2
    assert len({u.id for u in manifest}) == 6
    told = rows.add_column("id", [7, 7, 8]).add_column("sentence", ["one", "three", "two"])
    told.save_to_disk(tmp_path / "told")
    manifest = prepare_hub(tmp_path / "told", tmp_path / "out2").manifest
    assert [(u.prompt_id, u.extra["dataset_id"]) for u in manifest] == [(None, 7), (None, 7), (None, 8)]


def test_the_datasets_own_split_counts_before_a_column(tmp_path: Path) -> None:
    rows = dataset(tmp_path / "raw").select(range(2)).add_column("subset", ["clean", "test"])
    datasets.DatasetDict({"train": rows, "testing": rows}).save_to_disk(tmp_path / "saved")
    manifest = prepare_hub(tmp_path / "saved", tmp_path / "out").manifest
    assert [(u.split, u.extra["subset"]) for u in manifest] == [
        *(("train", "clean"), ("train", "test")),
        *(("test", "clean"), ("test", "test")),
    ]


def test_parquet_folder_and_part_of_a_split(tmp_path: Path) -> None:
    (tmp_path / "saved/data").mkdir(parents=True)
    dataset(tmp_path / "raw").to_parquet(tmp_path / "saved/data/train-00000.parquet")
    manifest = prepare_hub(tmp_path / "saved", tmp_path / "out", split="train[:2]").manifest
    assert [(u.text, u.split) for u in manifest] == [("one", "train"), ("two", "train")]


def test_samples_and_paths(tmp_path: Path) -> None:
    tone = [0.1 * np.sin(2 * np.pi * 100 * np.arange(rate // 2) / rate) for rate in (8000, SAMPLE_RATE)]
    samples = [{"array": tone[0].tolist(), "sampling_rate": 8000}]
    datasets.Dataset.from_dict({"sound": samples, "text": ["x"]}).save_to_disk(tmp_path / "arrays")
    (u,) = prepare_hub(tmp_path / "arrays", tmp_path / "o1").manifest
    assert u.load()[:7900] == pytest.approx(tone[1][:7900], abs=0.03)
    raw = dataset(tmp_path / "raw")
    paths = [str(tmp_path / "raw/clip 0.wav"), str(tmp_path / "gone.wav")]
    datasets.Dataset.from_dict({"path": paths, "text": ["x", "y"]}).save_to_disk(tmp_path / "paths")
    with pytest.raises(SpeechftError, match="outside the dataset"):
        prepare_hub(tmp_path / "paths", tmp_path / "o2")
    prepared = prepare_hub(tmp_path / "paths", tmp_path / "o2", allow_outside=True)
    assert (len(raw), len(prepared.manifest)) == (4, 1)
    assert "gone.wav" in prepared.left_out[0][1]


@pytest.mark.parametrize(
    "sound",
    [
        {"array": [0.1] * 400, "sampling_rate": 0},
        {"array": [0.1] * 400, "sampling_rate": 10**12},
        {"array": [[[0.1]]], "sampling_rate": 8000},
        {"array": [[0.1] * 9] * 9, "sampling_rate": 8000},
        {"array": [[0.1], [0.1, 0.2]], "sampling_rate": 8000},
        {"array": ["a"], "sampling_rate": 8000},
        {"array": [0.1], "sampling_rate": None},
    ],
)
def test_samples_that_are_no_sound_are_left_out(sound: dict[str, Any]) -> None:
    with pytest.raises(BadRow, match="no sound"):
        _stored(sound, 1, None)


def test_columns(tmp_path: Path) -> None:
    rows = dataset(tmp_path / "raw").rename_columns({"sentence": "said", "audio": "heard"})
    rows.save_to_disk(tmp_path / "saved")
    with pytest.raises(SpeechftError, match=r"no column holds the text.*said"):
        prepare_hub(tmp_path / "saved", tmp_path / "out")
    prepared = prepare_hub(tmp_path / "saved", tmp_path / "out", text_column="said", audio_column="heard")
    assert len(prepared.manifest) == 3


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionError("Couldn't reach 'a/b' on the Hub"), "save_to_disk"),
        (ValueError("Config name is missing.\nPlease pick one"), "configuration"),
    ],
)
def test_dataset_that_cannot_be_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, words: str
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(SpeechftError, match=words) as caught:
        prepare_hub("a/b", tmp_path / "out")
    assert str(error).partition("\n")[0] in str(caught.value)


def test_folder_that_is_no_dataset(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SpeechftError, match="prepare_folder"):
        prepare_hub(tmp_path / "empty", tmp_path / "out")
