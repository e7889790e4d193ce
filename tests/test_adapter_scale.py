"""The dial leads from the base model to the adapter, and what is saved has it built in."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig, get_peft_model

from speechft import adapters
from speechft.adapter_scale import choose_scale, save_at_best_scale, set_scale
from speechft.context import UNTRAINED, Context
from speechft.errors import SpeechftError
from speechft.evaluate import evaluate_model
from speechft.manifest import Manifest
from speechft.sources import resolve
from speechft.transcript import DecodeOptions
from speechft.whisper import Whisper

PLAIN = DecodeOptions(temperatures=())  # without retries, which a spoilt model would need for every clip


def adapted(tiny: Whisper, size: float = 0.05, **settings) -> Whisper:
    torch.manual_seed(3)
    model = adapters.attach(copy.deepcopy(tiny.model), **({"rank": 4} | settings))
    for name, parameter in adapters.trainable(model):
        if "lora_B" in name or "lora_E" in name or "up" in name:
            parameter.data.normal_(0, size)
    return tiny.with_(model=model.eval())


@pytest.mark.parametrize("scale", [float("nan"), float("inf"), -float("inf"), 1e308, -1e308, 101.0])
def test_what_is_no_scale_is_refused_before_anything_is_heard(tmp_path: Path, scale: float) -> None:
    with pytest.raises(SpeechftError, match=r"a scale of .* is no number from -100 to 100"):
        save_at_best_scale(tmp_path / "nothing", Manifest([]), tmp_path / "out", scales=[0.5, scale])
    with pytest.raises(SpeechftError, match="is no number"):
        choose_scale(None, Manifest([]), scales=[scale])  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


@torch.no_grad()
def logits(model) -> torch.Tensor:
    frames = torch.randn(1, 80, 3000, generator=torch.Generator().manual_seed(0))
    return model(input_features=frames, decoder_input_ids=torch.tensor([[50257, 50362, 356]])).logits


@pytest.mark.parametrize(
    "settings",
    [
        {"rslora": True},
        pytest.param({"method": "houlsby"}, marks=pytest.mark.slow),
        pytest.param({"method": "adalora"}, marks=pytest.mark.slow),
    ],
)
def test_from_the_base_to_the_adapter(settings: dict, tiny: Whisper, tmp_path: Path) -> None:
    model = adapted(tiny, **settings).model
    base, whole = logits(tiny.model), logits(model)
    set_scale(model, 0.5)
    half = logits(model)
    folder = resolve("bundled:tiny.en")
    saved = adapters.save(model, tmp_path / "half", {}, "bundled:tiny.en", folder)
    set_scale(model, 0.0)
    torch.testing.assert_close(logits(model), base, atol=1e-4, rtol=1e-4)
    set_scale(model, 1.0)
    torch.testing.assert_close(logits(model), whole, atol=1e-4, rtol=1e-4)
    assert (half - base).norm() < (whole - base).norm()
    again = adapters.load(copy.deepcopy(tiny.model), saved)
    torch.testing.assert_close(logits(again), half, atol=1e-4, rtol=1e-4)


def test_layers_with_an_alpha_of_their_own_are_scaled_too(tiny: Whisper, tmp_path: Path) -> None:
    """As adapters of others may have."""
    config = LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "v_proj"], alpha_pattern={"v_proj": 16})
    model = get_peft_model(copy.deepcopy(tiny.model), config).eval()
    torch.manual_seed(3)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(0, 0.05)
    set_scale(model, 0.5)
    wanted = logits(model)
    saved = adapters.save(model, tmp_path / "saved", {}, "bundled:tiny.en", resolve("bundled:tiny.en"))
    torch.testing.assert_close(logits(adapters.load(copy.deepcopy(tiny.model), saved)), wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("scale", [0.0, -0.5])
def test_adalora_is_saved_at_scales_that_peft_takes_for_none(scale: float, tiny: Whisper, tmp_path: Path) -> None:
    model = adapted(tiny, method="adalora").model
    set_scale(model, scale)
    wanted = logits(model)
    saved = adapters.save(model, tmp_path / "saved", {}, "bundled:tiny.en", resolve("bundled:tiny.en"))
    again = adapters.load(copy.deepcopy(tiny.model), saved)
    torch.testing.assert_close(logits(again), wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("settings", [{"method": "ia3"}, {"dora": True}, {"init": "pissa"}])
def test_methods_without_a_dial_say_so(settings: dict, tiny: Whisper) -> None:
    with pytest.raises(SpeechftError, match="no scale"):
        set_scale(adapted(tiny, **settings).model, 0.5)


def test_dev_chooses(tiny: Whisper, voice: Manifest) -> None:
    spoilt = adapted(tiny, size=0.5)  # an adapter that ruins the model: dev must go back to the base
    best, rates = choose_scale(spoilt, voice[:2], scales=(0.0, 1.0), options=PLAIN)
    assert best == 0.0
    assert rates[0.0] < rates[1.0]
    assert evaluate_model(spoilt, voice[:2], "whisper-english", options=PLAIN).scores.wer == pytest.approx(rates[0.0])


def test_scale_0_is_the_base_model_as_it_is_used(tiny: Whisper, voice: Manifest, tmp_path: Path) -> None:
    heard: list[str] = []

    def decoded(whisper: Whisper, *_, **settings) -> object:
        heard.append((settings.get("context") or whisper.context).policy)
        return SimpleNamespace(scores=SimpleNamespace(wer=float(len(heard)), cer=0.0))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("speechft.adapter_scale.evaluate_model", decoded)
        choose_scale(adapted(tiny).with_(context=Context("clip")), voice[:2], scales=(0.0, 0.5, 1.0))
    assert heard == [UNTRAINED.policy, "clip", "clip"]


def test_where_the_base_model_is_best_nothing_is_written(tiny: Whisper, voice: Manifest, tmp_path: Path) -> None:
    folder = resolve("bundled:tiny.en")
    card = {"model": "bundled:tiny.en", "context": "clip"}
    spoilt = adapters.save(adapted(tiny, 0.5).model, tmp_path / "spoilt", card, "bundled:tiny.en", folder)
    best, rates = save_at_best_scale(spoilt, voice[:2], tmp_path / "out", scales=(0.0, 1.0), options=PLAIN)
    assert best == 0.0
    assert rates[0.0] == pytest.approx(evaluate_model(tiny, voice[:2], options=PLAIN).scores.wer)
    assert not (tmp_path / "out").exists()


def test_the_chosen_scale_is_saved(tiny: Whisper, voice: Manifest, tmp_path: Path) -> None:
    folder = resolve("bundled:tiny.en")
    card = {"model": "bundled:tiny.en", "context": "clip+2s"}
    whole = adapters.save(adapted(tiny, 0.5).model, tmp_path / "whole", card, "bundled:tiny.en", folder)
    best, rates = save_at_best_scale(whole, voice[:2], tmp_path / "out", scales=(0.01, 1.0), options=PLAIN)
    assert best == 0.01
    saved = adapters.read_card(tmp_path / "out")
    assert saved["scale"] == best
    assert saved["scale_wer"]["1.0"] == rates[1.0]
    assert saved["context"] == "clip+2s"
    assert adapters.read_config(tmp_path / "out")["lora_alpha"] == 0.01 * adapters.read_config(whole)["lora_alpha"]
    with pytest.raises(SpeechftError, match="exists already"):
        save_at_best_scale(whole, voice[:2], tmp_path / "out")
