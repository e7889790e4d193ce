"""Adapters are PEFT's own, find their way home, and refuse what is not theirs."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from speechft import adapters
from speechft.adapter_arithmetic import average
from speechft.adapter_scale import set_scale
from speechft.errors import SpeechftError
from speechft.sources import resolve
from speechft.whisper import Whisper, core, load_whisper


def adapted(**settings) -> Whisper:
    """tiny.en with an adapter whose matrices are not zero."""
    whisper = load_whisper("bundled:tiny.en", device="cpu")
    model = adapters.attach(whisper.model, rank=4, **settings)
    generator = torch.Generator().manual_seed(1)
    for _, parameter in adapters.trainable(model):
        parameter.data.normal_(0, 0.05, generator=generator)
    return whisper.with_(model=model.eval())


def logits(model, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    frames = torch.randn(1, 80, 3000, generator=generator)
    with torch.inference_mode():
        return model(input_features=frames, decoder_input_ids=torch.tensor([[50257, 50362, 356]])).logits


def save(whisper: Whisper, out: Path, **card) -> Path:
    folder = resolve("bundled:tiny.en")
    card = {"model": "bundled:tiny.en", "base_sha256": adapters.base_hash(folder), **card}
    return adapters.save(whisper.model, out, card, str(folder), folder)


def test_plain_transformers_and_peft_load_what_we_save(tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import WhisperForConditionalGeneration

    ours = adapted()
    folder = save(ours, tmp_path / "adapter")
    base = WhisperForConditionalGeneration.from_pretrained(resolve("bundled:tiny.en"), dtype=torch.float32)
    theirs = PeftModel.from_pretrained(base, str(folder)).eval()
    torch.testing.assert_close(logits(theirs), logits(ours.model), atol=1e-4, rtol=1e-4)
    assert not list(folder.glob("*.bin"))


def test_load_and_merge_keep_the_logits_and_unload_takes_them_off(tmp_path: Path, tiny: Whisper) -> None:
    ours = adapted()
    folder = save(ours, tmp_path / "adapter")
    again = adapters.load(load_whisper("bundled:tiny.en", device="cpu").model, folder, resolve("bundled:tiny.en"))
    expected = logits(ours.model)
    torch.testing.assert_close(logits(again), expected, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(logits(tiny.model), expected, atol=1e-2)
    with adapters.disabled(again):
        torch.testing.assert_close(logits(again), logits(tiny.model), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(logits(adapters.unload(again)), logits(tiny.model), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(logits(adapters.merge(ours.model)), expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("placement", ["encoder", "decoder", "both"])
def test_placement_means_what_it_says(placement: str) -> None:
    names = [name for name, _ in adapters.trainable(adapted(placement=placement).model)]
    sides = {"encoder" if ".encoder." in name else "decoder" for name in names}
    assert sides == ({"encoder", "decoder"} if placement == "both" else {placement})


@pytest.mark.parametrize(
    ("settings", "frozen"),
    [
        ({}, ["encoder.embed_positions"]),
        ({"placement": "decoder"}, ["encoder."]),
        ({"placement": "encoder"}, ["encoder.embed_positions", "decoder.", "proj_out"]),
        ({"encoder_from": 1}, ["encoder.embed_positions", "encoder.conv", "encoder.layers.0."]),
    ],
)
def test_full_fine_tuning_is_of_the_placement(settings: dict[str, Any], frozen: list[str], tiny: Whisper) -> None:
    model = adapters.attach(copy.deepcopy(tiny.model), method="full", **settings)
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad != any(part in name for part in frozen), name


def test_a_rank_that_no_layer_has_directions_for_is_refused(tiny: Whisper) -> None:
    with pytest.raises(SpeechftError, match=r"at most 384 directions of .*, and adapter.rank is 385"):
        adapters.attach(copy.deepcopy(tiny.model), rank=385, init="pissa")


def test_positions_stay_whole() -> None:
    model = adapted().model
    adapters.store_frozen(model, torch.bfloat16)
    for side in (core(model).model.encoder, core(model).model.decoder):
        assert side.embed_positions.weight.dtype == torch.float32
        assert side.layers[0].fc1.weight.dtype == torch.bfloat16


def test_unknown_projections_name_the_known_ones() -> None:
    with pytest.raises(SpeechftError, match="q_proj"):
        adapted(projections=["query"])


def test_quantised_training_reaches_the_adapter_only() -> None:
    whisper = load_whisper("bundled:tiny.en", device="cpu", quantize="nf4")
    model = adapters.attach(whisper.model, rank=4)
    from speechft.objective import TokenLoss

    frames, ids = torch.randn(1, 80, 200), torch.tensor([[50257, 50362, 356]])
    # an evaluation before training must not change the layout of the weights
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        TokenLoss(model.eval())(frames, ids, ids)
    model.train()
    with torch.autocast("cpu", torch.bfloat16):
        TokenLoss(model)(frames, ids, ids).backward()
    assert all(p.grad is not None for _, p in adapters.trainable(model))
    assert any("4bit" in type(module).__name__ for module in model.modules())
    whole = load_whisper("bundled:tiny.en", device="cpu").model
    assert core(model).get_memory_footprint() < 0.8 * whole.get_memory_footprint()


def test_the_text_model_goes_through_the_same_door() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, vocab_size=64
    )
    model = adapters.attach(LlamaForCausalLM(config), rank=2, projections=["q_proj", "down_proj"])
    assert {name.split(".lora")[0].rsplit(".", 1)[-1] for name, _ in adapters.trainable(model)} == {
        "q_proj",
        "down_proj",
    }


def test_an_adapter_for_another_base_is_refused(tmp_path: Path) -> None:
    folder = save(adapted(), tmp_path / "adapter", base_sha256="0" * 64, model="openai/whisper-small")
    with pytest.raises(SpeechftError, match="openai/whisper-small"):
        adapters.load(load_whisper("bundled:tiny.en").model, folder, resolve("bundled:tiny.en"))


def test_damaged_adapters_are_named(tmp_path: Path) -> None:
    with pytest.raises(SpeechftError, match="not an adapter"):
        adapters.read_card(tmp_path)
    folder = save(adapted(), tmp_path / "adapter")
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(SpeechftError, match=r"damaged|cannot be loaded"):
        adapters.load(load_whisper("bundled:tiny.en").model, folder)
    weights.rename(folder / "adapter_model.bin")
    with pytest.raises(SpeechftError, match="Pickled"):
        adapters.load(load_whisper("bundled:tiny.en").model, folder)


def test_an_adapter_that_fits_half_is_refused(tmp_path: Path, tiny: Whisper) -> None:
    folder = save(adapted(), tmp_path / "adapter")
    path = folder / "adapter_model.safetensors"
    state = load_file(path)
    name = min(state)
    for changed, said in (
        ({key: value for key, value in state.items() if key != name}, f"does not have 1 tensors, such as '{name}'"),
        (state | {name.replace("layers.0", "layers.7"): state[name].clone()}, "no place for 1 tensors"),
    ):
        save_file(changed, path)
        with pytest.raises(SpeechftError, match=said):
            adapters.load(copy.deepcopy(tiny.model), folder)


@pytest.mark.parametrize("init", ["pissa", "olora"])
def test_what_peft_took_out_of_the_weights_is_no_addition(init: str, tmp_path: Path, tiny: Whisper) -> None:
    model = copy.deepcopy(tiny.model)
    target = "model.decoder.layers.0.self_attn.q_proj"
    made = get_peft_model(model, LoraConfig(r=2, target_modules=[target], init_lora_weights=init))
    made.save_pretrained(tmp_path / "theirs")
    loaded = adapters.load(copy.deepcopy(tiny.model), tmp_path / "theirs")
    torch.testing.assert_close(logits(loaded), logits(tiny.model), atol=1e-3, rtol=1e-3)
    with pytest.raises(SpeechftError, match="cannot be taken off"):
        adapters.unload(loaded)
    with pytest.raises(SpeechftError, match="cannot be taken off"), adapters.disabled(loaded):
        pass
    with pytest.raises(SpeechftError, match="no scale"):
        set_scale(loaded, 0.5)
    with pytest.raises(SpeechftError, match="cannot be summed"):
        average([tmp_path / "theirs"], None, tmp_path / "sum")


def test_a_start_that_came_from_data_is_not_in_the_files(tmp_path: Path, tiny: Whisper) -> None:
    folder = save(adapted(), tmp_path / "adapter")
    config = folder / "adapter_config.json"
    config.write_text(config.read_text().replace('"init_lora_weights": true', '"init_lora_weights": "corda"'))
    with pytest.raises(SpeechftError, match="starts at values"):
        adapters.load(copy.deepcopy(tiny.model), folder)


def test_saving_replaces_whole_folders(tmp_path: Path) -> None:
    whisper = adapted()
    folder = save(whisper, tmp_path / "adapter")
    (folder / "stale").write_text("x")
    save(whisper, tmp_path / "adapter")
    assert not (folder / "stale").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["adapter"]


@pytest.mark.parametrize("method", ["lora", "full"])
def test_an_encoder_layer_that_is_not_there_is_named(method: str) -> None:
    model = load_whisper("bundled:tiny.en", device="cpu").model
    with pytest.raises(SpeechftError, match="encoder_from=99, but the model's encoder has 4 layers"):
        adapters.attach(model, method=method, encoder_from=99)
