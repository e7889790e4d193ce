"""An adapter with which nothing finite can be computed is refused by name, and only it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from speechft import adapters
from speechft.bank import AdapterBank
from speechft.config import SpeechRecipe
from speechft.decode import decode
from speechft.errors import SpeechftError
from speechft.manifest import Manifest
from speechft.precision import NoNumbers
from speechft.recogniser import load
from speechft.server.engine import Engine
from speechft.server.voices import BadVoice, Voices
from speechft.sources import resolve
from speechft.train import Run
from speechft.whisper import Whisper

BASE = "bundled:tiny.en"
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


def make(tiny: Whisper, out: Path, size: float = 0.01, **settings: Any) -> Path:
    """An adapter all of whose weights are of one size."""
    model = adapters.attach(copy.deepcopy(tiny.model), **({"rank": 2} | settings))
    for _, parameter in adapters.trainable(model):
        parameter.data.fill_(size)
    return adapters.save(model, out, {"model": BASE, "context": "clip"}, BASE, resolve(BASE))


def scaled(folder: Path, alpha: float) -> None:
    path = folder / CONFIG
    path.write_text(json.dumps(json.loads(path.read_text()) | {"lora_alpha": alpha}))


def huge(folder: Path, size: float = 1e38) -> None:
    state = load_file(folder / WEIGHTS)
    save_file({name: torch.full_like(tensor, size) for name, tensor in state.items()}, folder / WEIGHTS)


@pytest.mark.parametrize("spoil", [lambda folder: scaled(folder, 1e308), huge], ids=["alpha", "weights"])
def test_an_update_that_is_not_finite_is_refused_when_it_is_loaded(
    tiny: Whisper, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    folder = make(tiny, tmp_path / "voice", 0.0)  # nothing times a scale that is too large is no number either
    spoil(folder)
    with pytest.raises(SpeechftError, match=r"not finite.* too large") as error:
        load(adapter=folder)
    assert error.value.where == str(folder)
    assert error.value.fix
    bank = AdapterBank(tiny, {"voice": folder})
    with pytest.raises(SpeechftError, match=r"not finite.* too large"), bank.using("voice"):
        pass


def test_another_kind_is_refused_when_it_is_merged(tiny: Whisper, tmp_path: Path) -> None:
    folder = make(tiny, tmp_path / "voice", 1e38, method="ia3")
    with pytest.raises(NoNumbers) as error:
        load(adapter=folder).transcribe(np.ones(16_000, np.float32))
    assert error.value.where == str(folder)


@pytest.mark.parametrize("beams", [1, 3])
def test_logits_that_are_not_finite_end_decoding_at_once(
    tiny: Whisper, voice: Manifest, tmp_path: Path, beams: int
) -> None:
    from speechft.transcript import DecodeOptions

    folder = make(tiny, tmp_path / "voice", 1e15)  # finite itself, but not what it makes of a layer's input
    recogniser = load(adapter=folder)
    with pytest.raises(NoNumbers) as error:
        recogniser.transcribe(voice[0].audio, options=DecodeOptions(beams=beams))
    assert error.value.where == str(folder)


def test_only_the_voice_is_refused_in_a_batch_of_several(tiny: Whisper, voice: Manifest, tmp_path: Path) -> None:
    places = {"good": make(tiny, tmp_path / "good", 1e-4), "bad": make(tiny, tmp_path / "bad", 1e15)}
    clips = [utterance.load() for utterance in voice[:2]]
    bank = AdapterBank(tiny, dict(places))
    with bank.using(["good", "bad"]), pytest.raises(NoNumbers) as error:
        decode(bank.whisper, clips, ready=True)
    assert error.value.where == str(places["bad"])
    engine = Engine(Voices(BASE, lambda: places))
    try:
        good, bad = (engine.submit(name, clip) for name, clip in zip(places, clips, strict=True))
        assert good.result(60).text
        with pytest.raises(BadVoice) as told:
            bad.result(60)
        assert str(tmp_path) not in str(told.value)
    finally:
        engine.close()


def test_a_state_that_computes_no_numbers_loses_no_earlier_one(voice: Manifest, tmp_path: Path) -> None:
    recipe = SpeechRecipe(manifest=voice.path, output_dir=tmp_path, max_steps=1, adapter={"rank": 2})
    run = Run(recipe, voice[:4], voice[4:5], on_event=lambda event: None)
    for _, parameter in adapters.trainable(run.whisper.model):
        parameter.data.fill_(1e15)
    run.progress.base, run.progress.best = (0.5, 0.5), (0.4, 0.4)
    run.selection.consider("state")
    assert (run.progress.best, run.progress.stale) == ((0.4, 0.4), 1)
    (line,) = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    assert (line["wer"], line["best"]) == (None, False)
