"""Weights are known by a hash that sees every tensor, and what the first form of it named is still found."""

from __future__ import annotations

import copy
import shutil
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from speechft import adapters
from speechft.sources import resolve
from speechft.weights_hash import _first_form, base_hash, hashes_of
from speechft.whisper import Whisper


def test_one_changed_norm_makes_other_weights(tmp_path: Path) -> None:
    folder = resolve("bundled:tiny.en")
    path = tmp_path / "model.safetensors"
    shutil.copyfile(folder / path.name, path)
    same = base_hash(tmp_path)
    assert same == base_hash(folder)
    weights = load_file(path)
    for name in ("model.decoder.layers.2.fc1.bias", "model.encoder.layers.1.final_layer_norm.weight"):
        save_file(weights | {name: weights[name] * 1.01}, path)
        assert base_hash(tmp_path) != same


def test_it_takes_milliseconds(tmp_path: Path) -> None:
    tensors = {f"layers.{number}.weight": torch.zeros(100, 100) for number in range(1200)}  # as many as large has
    save_file(tensors, tmp_path / "model.safetensors")
    base_hash(tmp_path)
    started = time.process_time()
    base_hash(tmp_path)
    assert time.process_time() - started < 0.2


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 8, b"\x02" + b"\0" * 7 + b"{}", b"\x04" + b"\0" * 7 + b'{"a"', b"{"]
)
def test_what_is_no_safetensors_has_a_hash_too(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    assert len(base_hash(tmp_path)) == 64


def test_an_adapter_that_names_the_first_form_is_loaded(tiny: Whisper, tmp_path: Path) -> None:
    folder = resolve("bundled:tiny.en")
    assert hashes_of(folder) == {base_hash(folder), _first_form(folder)}
    model = adapters.attach(copy.deepcopy(tiny.model), rank=1)
    old = adapters.save(model, tmp_path / "old", {"base_sha256": _first_form(folder)}, tiny.name, folder)
    adapters.load(copy.deepcopy(tiny.model), old, folder)
