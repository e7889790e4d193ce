"""Names that are not UTF-8, as old archives have them: read where they can be, else named with what to do."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from speechft.audio import load_audio, write_audio
from speechft.check import check
from speechft.errors import SpeechftError, readable
from speechft.exits import file_fault
from speechft.manifest import Manifest
from speechft.recipes import load_recipe

ODD = os.fsdecode(b"d\xe9")


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    folder = tmp_path / ODD
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("the file system takes no such names")
    return folder


def test_recordings_are_read(odd: Path) -> None:
    write_audio(odd / "a.wav", np.random.default_rng(0).uniform(-0.1, 0.1, 16_000))
    (odd / "a.wav").rename(odd / os.fsdecode(b"caf\xe9.wav"))
    assert load_audio(odd / os.fsdecode(b"caf\xe9.wav")).size == 16_000


def test_a_manifest_is_read_wherever_it_lies(odd: Path) -> None:
    write_audio(odd / "a.wav", np.random.default_rng(0).uniform(-0.1, 0.1, 16_000))
    (odd / "m.jsonl").write_text('{"audio": "a.wav", "text": "hello there"}\n')
    assert check(odd / "m.jsonl") == []
    assert Manifest.load(odd / "m.jsonl").seconds == pytest.approx(1)


def test_weights_there_are_not_called_damaged(odd: Path) -> None:
    save_file({"a": torch.zeros(1)}, odd.parent / "model.safetensors")
    (odd.parent / "model.safetensors").rename(odd / "model.safetensors")
    with (
        pytest.raises(SpeechftError, match=r"has a name that is not UTF-8.*Rename it"),
        readable(odd, "It is damaged."),
        safe_open(odd / "model.safetensors", "pt"),
    ):
        pass


def test_a_recipe_is_told_before_it_trains(odd: Path) -> None:
    (odd / "recipe.yaml").write_text("manifest: m.jsonl\noutput_dir: out\n")
    for path, overrides in ((None, [f"manifest={odd}/m.jsonl", "output_dir=out"]), (odd / "recipe.yaml", [])):
        with pytest.raises(SpeechftError, match=r"has a name that is not UTF-8.*Rename it"):
            load_recipe(path, overrides)


def test_whatever_else_cannot_be_written_is_a_sentence() -> None:
    with pytest.raises(UnicodeEncodeError) as error:
        f"see {ODD}/m.jsonl".encode()
    assert (
        file_fault(error.value) == "A file or folder has a name that is not UTF-8 ('see d\ufffd/m.jsonl'). Rename it."
    )
