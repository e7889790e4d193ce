"""Fewer bits: what is kept in memory, what a merge loses, and optimisers with small moments."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from speechft import adapters, load
from speechft.adapter_arithmetic import average
from speechft.bank import AdapterBank
from speechft.checkpoint import load_checkpoint, save_checkpoint
from speechft.decoder import is_quantized
from speechft.errors import SpeechftError
from speechft.export import export
from speechft.objective import TokenLoss
from speechft.quantization import KINDS, merge_quantized, optimizer, quantization, size, unpacked
from speechft.sources import resolve
from speechft.whisper import Whisper, core, load_whisper

IDS = torch.tensor([[50257, 50362, 356, 1842]])


def adapted(kind: str | None, **settings) -> Whisper:
    torch.manual_seed(0)
    whisper = load_whisper("bundled:tiny.en", device="cpu", quantize=kind)
    return whisper.with_(model=adapters.attach(whisper.model, **({"rank": 8} | settings)))


def loss(model) -> torch.Tensor:
    frames = torch.randn(1, 80, 200, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        return TokenLoss(model)(frames, IDS[:, :-1], IDS[:, 1:])


def weights(model) -> dict[str, torch.Tensor]:
    layers = {n: m for n, m in model.named_modules() if n.endswith("fc1.base_layer")}
    return {n: unpacked(m) if hasattr(m.weight, "quant_state") else m.weight.detach() for n, m in layers.items()}


def test_double_quantisation_saves_what_it_should() -> None:
    single, double = (size(load_whisper("bundled:tiny.en", device="cpu", quantize=k).model) for k in KINDS[1::-1])
    assert single.weights_mb > double.weights_mb
    assert single.parameters == double.parameters


def test_loftq_starts_nearer_to_the_whole_weights() -> None:
    place = {"projections": ["fc1"], "placement": "encoder"}
    whole, plain, loftq = adapted(None, **place), adapted("nf4", **place), adapted("nf4", init="loftq", **place)
    exact = weights(whole.model)

    def error(model) -> float:
        added = {n: m.get_delta_weight("default") for n, m in model.named_modules() if hasattr(m, "lora_A")}
        return sum(
            float((value + added[name.removesuffix(".base_layer")] - exact[name]).square().sum())
            for name, value in weights(model).items()
        )

    assert error(loftq.model) < 0.95 * error(plain.model)


def test_a_loftq_adapter_goes_with_the_bits_it_makes_up_for(tiny: Whisper, tmp_path: Path) -> None:
    whisper, base = adapted("nf4", init="loftq"), resolve("bundled:tiny.en")
    card = {
        "model": "bundled:tiny.en", "base_sha256": adapters.base_hash(base), "context": "clip+10s",
        "recipe": {"adapter": {"method": "lora", "init": "loftq", "quantize": "nf4"}},
    }  # fmt: skip
    folder = adapters.save(whisper.model, tmp_path / "voices" / "ann", card, "bundled:tiny.en", base)
    assert is_quantized(load(adapter=folder, device="cpu").whisper.model)
    with pytest.raises(SpeechftError, match="LoftQ"):
        export(folder, tmp_path / "out")
    with pytest.raises(SpeechftError, match="LoftQ"):
        average([folder, folder], None, tmp_path / "sum")
    with pytest.raises(SpeechftError, match="LoftQ"), AdapterBank(tiny, tmp_path / "voices").using("ann"):
        pass


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_a_merge_into_few_bits_says_what_it_lost(kind: str) -> None:
    whisper = adapted(kind)
    torch.manual_seed(1)
    for name, p in adapters.trainable(whisper.model):
        if "lora_B" in name:
            p.data.normal_(0, 0.05)
    with torch.no_grad():
        before = float(loss(whisper.model.eval()))
        merged, error = merge_quantized(whisper.model)
        after = float(loss(merged.eval()))
    assert core(merged).is_quantized
    assert error.layers == 24
    assert 0 < error.of_weights < (0.12 if kind == "nf4" else 0.02)
    assert error.of_weights < error.of_adapter
    assert after == pytest.approx(before, rel=0.35)


def test_only_lora_on_few_bits_merges_that_way() -> None:
    with pytest.raises(SpeechftError, match=r"adapters\.merge"):
        merge_quantized(adapted(None).model)


def test_moments_of_8_bits_learn_and_resume(tmp_path: Path) -> None:
    whisper = adapted(None, rank=16)
    parameters = dict(adapters.trainable(whisper.model))
    made = optimizer("adamw-8bit", parameters.values(), 1e-3)

    def step(model, by) -> float:
        value = loss(model)
        value.backward()
        by.step()
        by.zero_grad()
        return float(value.detach())

    losses = [step(whisper.model, made) for _ in range(6)]
    assert losses[-1] < losses[0]
    assert any(v.dtype == torch.uint8 for s in made.state.values() for v in s.values() if torch.is_tensor(v))
    save_checkpoint(tmp_path, adapters.trainable_state(whisper.model), made, {})
    expected = [step(whisper.model, made) for _ in range(2)]
    again = adapted(None, rank=16)
    later = optimizer("adamw-8bit", [p for _, p in adapters.trainable(again.model)], 1e-3)
    found = load_checkpoint(tmp_path, later)
    assert found is not None
    adapters.load_trainable_state(again.model, found[0])
    assert [step(again.model, later) for _ in range(2)] == expected


@pytest.mark.parametrize("kind", ["adamw-paged", "adamw-paged-8bit"])
def test_paged_optimisers_need_a_gpu(kind: str) -> None:
    with pytest.raises(SpeechftError, match="no GPU"):
        optimizer(kind, [torch.nn.Parameter(torch.zeros(2))], 1e-3)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(SpeechftError, match="nf4"):
        quantization("int3", torch.device("cpu"), torch.float32)
    with pytest.raises(SpeechftError, match="adamw-8bit"):
        optimizer("sgd", [], 1e-3)
