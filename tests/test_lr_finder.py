"""The range test: it finds where training breaks, and leaves no trace."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from speechft import adapters
from speechft.config import SpeechRecipe
from speechft.errors import SpeechftError
from speechft.lr_finder import find_learning_rate, plot, range_test
from speechft.manifest import Manifest
from speechft.train import Run


def recipe_for(voice: Manifest, out: Path) -> SpeechRecipe:
    return SpeechRecipe(
        manifest=voice.path, output_dir=out, batch_size=2, adapter={"rank": 4, "placement": "decoder"}, cache="off"
    )


def test_it_ends_where_the_loss_grows_and_restores_everything(voice: Manifest, tmp_path: Path) -> None:
    told: list[dict] = []
    run = Run(recipe_for(voice, tmp_path), voice[:6], voice[:6], told.append)
    before = {name: tensor.clone() for name, tensor in adapters.trainable_state(run.whisper.model).items()}
    found = range_test(run, 1e-4, 30.0, 24)
    assert found.stopped  # a rate of 30 trains nothing
    assert 1e-4 < found.suggestion < 1.0
    assert len(found.rates) == len(found.losses) == len(told) < 24
    assert found.rates == tuple(sorted(found.rates))
    after = adapters.trainable_state(run.whisper.model)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not run.optimizer.state
    assert not list(tmp_path.iterdir())
    plot(found, tmp_path / "plots" / "rate.svg")
    assert ElementTree.parse(tmp_path / "plots" / "rate.svg").getroot().tag.endswith("svg")


def test_a_range_too_low_says_so_and_nothing_is_saved(voice: Manifest, tmp_path: Path) -> None:
    tracked = recipe_for(voice, tmp_path).model_copy(update={"tracking": "tensorboard"})
    found = find_learning_rate(tracked, voice[:4], lowest=1e-9, highest=1e-8, steps=12)
    assert not found.stopped
    assert not list(tmp_path.iterdir())


def test_mistakes_are_sentences(voice: Manifest, tmp_path: Path) -> None:
    recipe = recipe_for(voice, tmp_path)
    with pytest.raises(SpeechftError, match="range"):
        find_learning_rate(recipe, voice[:2], lowest=1.0, highest=0.1)
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF nothing")
    with pytest.raises(SpeechftError, match="none of the clips can be read"):
        find_learning_rate(recipe, Manifest([replace(voice[0], audio=broken)]))
