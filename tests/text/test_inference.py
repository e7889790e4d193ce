"""How weights are kept that nobody trains: in bf16 where that is what the device multiplies in, else as they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from speechft.text.config import SftRecipe
from speechft.text.judge import judge_from
from speechft.text.likelihood import document_nll
from speechft.text.model import load_text_model, stored_for_inference
from speechft.text.pipeline import evaluate, train

BF16, FP32 = torch.bfloat16, torch.float32


def formats(model: torch.nn.Module) -> dict[str, set[torch.dtype]]:
    """Of matrices, and of the rest."""
    parameters = list(model.parameters())
    return {
        "matrices": {p.dtype for p in parameters if p.dim() > 1},
        "others": {p.dtype for p in parameters if p.dim() == 1},
    }


@pytest.mark.parametrize("native", [True, False])
def test_matrices_are_kept_in_what_the_device_multiplies_in(
    native: bool, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("speechft.precision.has_native_bf16", lambda: native)
    kept = {"matrices": {BF16 if native else FP32}, "others": {FP32}}
    text = load_text_model(tiny_llama, inference=True)
    assert formats(text.model) == kept
    assert formats(judge_from(f"model:{tiny_llama}").text.model) == kept
    whole = load_text_model(tiny_llama)
    assert formats(whole.model)["matrices"] == {FP32}
    documents = ["say cat dog bird", "what is the colour of a number"]
    ours, theirs = (sum(total for total, _ in document_nll(one, documents)) for one in (text, whole))
    assert ours == pytest.approx(theirs, rel=1e-2)


@pytest.mark.parametrize(
    ("device", "native", "wanted"), [("cuda", True, BF16), ("cuda", False, FP32), ("mps", True, FP32)]
)
def test_a_gpu_without_bf16_gets_float32(
    device: str, native: bool, wanted: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: native)
    model = torch.nn.Sequential(torch.nn.Linear(2, 2)).requires_grad_(False)
    stored_for_inference(model, torch.device(device))
    assert formats(model) == {"matrices": {wanted}, "others": {FP32}}


def test_an_evaluation_repeats_what_training_measured(
    tiny_llama: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("speechft.precision.has_native_bf16", lambda: True)
    recipe = SftRecipe(
        model=str(tiny_llama), data=str(rows), output_dir=tmp_path, max_steps=6, max_length=64, learning_rate=1e-2,
        max_new_tokens=2, evaluations=1, batch_size=8, metrics=[],
    )  # fmt: skip
    result = train(recipe)
    assert result["kept"] == "adapter"
    found = evaluate(str(rows), split="dev", adapter=tmp_path / "adapter")
    assert found["perplexity"]["value"] == pytest.approx(result["adapted"]["perplexity"]["value"], rel=1e-5)
    assert found["base"]["perplexity"]["value"] == pytest.approx(result["base"]["perplexity"]["value"], rel=1e-5)


def test_an_adapter_that_starts_from_the_weights_gets_them_whole(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PiSSA by others: what it leaves of the weights is worked out when it is loaded."""
    from peft import LoraConfig, get_peft_model

    monkeypatch.setattr("speechft.precision.has_native_bf16", lambda: True)
    config = LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights="pissa", task_type="CAUSAL_LM")
    get_peft_model(load_text_model(tiny_llama).model, config).save_pretrained(tmp_path)
    assert "pissa" in json.dumps(json.loads((tmp_path / "adapter_config.json").read_text()))
    found = load_text_model(tiny_llama, adapter=tmp_path, inference=True).model
    exact = load_text_model(tiny_llama, adapter=tmp_path).model
    names = [name for name, p in exact.named_parameters() if "base_layer" in name]
    weights = dict(found.named_parameters())
    for name in names:
        assert torch.equal(weights[name], exact.get_parameter(name).to(BF16))
