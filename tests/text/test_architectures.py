"""Causal models that are built otherwise than Llama: random ones, made here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from text.conftest import ignore

from speechft import adapters
from speechft.errors import SpeechftError
from speechft.text import sft
from speechft.text.config import TEXT_RECIPES, SftRecipe, TextAdapterSettings
from speechft.text.examples import Example
from speechft.text.generation import generate
from speechft.text.model import load_text_model, longest, trainable_text_model
from speechft.text.packing import kept_apart
from speechft.text.pipeline import corpus_of, evaluate, train
from speechft.text.training import for_training

Make = Callable[..., Path]
LLAMA = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@pytest.fixture(scope="module")
def made(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Makes a folder of a random model of two layers, with the tiny Llama's tokenizer."""
    import torch
    import transformers

    folders: dict[str, Path] = {}

    def make(kind: str, **settings: Any) -> Path:
        key = json.dumps([kind, settings])
        if key not in folders:
            tokenizer = transformers.AutoTokenizer.from_pretrained(tiny_llama)
            config = getattr(transformers, f"{kind}Config")(
                vocab_size=len(tokenizer), bos_token_id=1, eos_token_id=2, pad_token_id=0, hidden_size=64,
                num_hidden_layers=2, **settings,
            )  # fmt: skip
            torch.manual_seed(0)
            model = transformers.AutoModelForCausalLM.from_config(config)
            for parameter in model.parameters():
                parameter.data += 0.05 * torch.randn_like(parameter)
            folders[key] = tmp_path_factory.mktemp(kind)
            tokenizer.save_pretrained(folders[key])
            model.save_pretrained(folders[key])
        return folders[key]

    return make


HEADS = {"num_attention_heads": 4}
WIDE = {**HEADS, "intermediate_size": 128}
KINDS: dict[str, tuple[dict[str, Any], set[str]]] = {
    "GPT2": (HEADS, {"c_attn", "c_proj", "c_fc"}),
    "Phi3": (WIDE, {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"}),
    "OPT": (
        {**HEADS, "ffn_dim": 128, "word_embed_proj_dim": 64},
        {"q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"},
    ),
    "GPTNeoX": (WIDE, {"query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"}),
    "Mamba": ({}, {"in_proj", "x_proj", "dt_proj"}),
}  # fmt: skip


def layers_of(model: Any) -> set[str]:
    return {name.split(".lora")[0].rsplit(".", 1)[-1] for name, _ in adapters.trainable(model)}


@pytest.mark.parametrize("kind", KINDS)
def test_every_linear_layer_of_the_blocks_is_adapted_unless_told(kind: str, made: Make) -> None:
    settings, expected = KINDS[kind]
    text = trainable_text_model(load_text_model(made(kind, **settings)), TextAdapterSettings(rank=2))
    assert layers_of(text.model) == expected


def test_of_a_llama_they_are_those_that_were_named(tiny_llama: Path) -> None:
    """In their order, so that adapters say the same of themselves."""
    found = [
        trainable_text_model(load_text_model(tiny_llama), TextAdapterSettings(rank=2, projections=names)).model
        for names in (None, LLAMA)
    ]
    assert found[0].peft_config["default"].target_modules == found[1].peft_config["default"].target_modules
    assert layers_of(found[0]) == set(LLAMA)


def test_gpt2_learns_and_its_adapter_does_the_same(made: Make, rows: Path, tmp_path: Path) -> None:
    recipe = SftRecipe(
        model=str(made("GPT2", **HEADS)), data=str(rows), output_dir=tmp_path / "out", epochs=3, max_length=64,
        learning_rate=1e-2, max_new_tokens=4, evaluations=1, metrics=[],
    )  # fmt: skip
    result = train(recipe)
    assert result["adapted"]["perplexity"]["value"] < 0.8 * result["base"]["perplexity"]["value"]
    again = evaluate(str(rows), adapter=tmp_path / "out" / "adapter")
    assert again["perplexity"]["value"] == pytest.approx(result["adapted"]["perplexity"]["value"], rel=0.02)


@pytest.mark.parametrize("adapter", [{"init": "pissa"}, {"method": "adalora"}, {"method": "vera"}])
def test_other_methods_that_know_the_layers_of_gpt2(adapter: dict[str, Any], made: Make) -> None:
    text = trainable_text_model(load_text_model(made("GPT2", **HEADS)), TextAdapterSettings(rank=2, **adapter))
    assert any("c_attn" in name for name, _ in adapters.trainable(text.model))


def test_what_does_not_go_with_the_layers_of_gpt2_says_so(made: Make) -> None:
    folder = made("GPT2", **HEADS)
    for method in ("oft", "boft", "bitfit"):
        with pytest.raises(SpeechftError, match=f"{method} has no place in layers of the kind Conv1D"):
            trainable_text_model(load_text_model(folder), TextAdapterSettings(method=method))
    with pytest.raises(SpeechftError, match=r"adapter\.rank is 65"):
        trainable_text_model(load_text_model(folder), TextAdapterSettings(rank=65, init="pissa"))


def test_what_is_longer_than_the_table_of_positions_is_refused_in_a_sentence(made: Make, tmp_path: Path) -> None:
    text = load_text_model(made("GPT2", **HEADS, n_positions=64))
    prompt = ({"role": "user", "content": "red " * 70},)
    assert generate(text, [[5] * 60], max_new_tokens=4)
    with pytest.raises(SpeechftError, match="can read 64 tokens at most, not 65"):
        generate(text, [[5] * 61], max_new_tokens=4)
    recipe = SftRecipe(model=text.name, data="d", output_dir=tmp_path)
    with pytest.raises(SpeechftError, match="can read 64 tokens at most, not 512"):
        for_training(recipe)
    examples = [
        Example(prompt=prompt[:1], answer="red"),
        Example(prompt=({"role": "user", "content": "x"},), answer="y"),
    ]
    assert sft.usable(text, examples, recipe.model_copy(update={"max_new_tokens": 8}), ignore) == examples[1:]
    assert longest(load_text_model(made("GPTNeoX", **WIDE)).model) is None


def test_names_of_layers_that_a_model_does_not_have_are_told(made: Make, rows: Path, tmp_path: Path) -> None:
    recipe = SftRecipe(
        model=str(made("Phi3", **WIDE)), data=str(rows), output_dir=tmp_path / "out", max_steps=1, max_length=64,
        max_new_tokens=2, evaluations=1, metrics=[], adapter={"projections": LLAMA},
    )  # fmt: skip
    events: list[dict] = []
    train(recipe, on_event=events.append)
    (told,) = (event for event in events if event.get("event") == "no such layers")
    assert told["names"] == "q_proj, k_proj, v_proj, gate_proj, up_proj"
    assert told["adapted"] == "o_proj, down_proj"


GROUPED = {**WIDE, "num_key_value_heads": 2}
APART = {
    "Llama": (GROUPED, True), "GPT2": (HEADS, True), "GPTNeoX": (WIDE, True), "OPT": (KINDS["OPT"][0], False),
    "Bloom": ({"n_head": 4}, False), "Mamba": ({}, False),
    "Lfm2": ({**GROUPED, "layer_types": ["conv", "full_attention"]}, False),
}  # fmt: skip


@pytest.mark.parametrize("precision", [None, "bf16"])
@pytest.mark.parametrize("kind", APART)
def test_models_that_cannot_keep_packed_texts_apart_are_known(
    kind: str, precision: str | None, made: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("speechft.precision.has_native_bf16", lambda: precision == "bf16")
    settings, apart = APART[kind]
    text = load_text_model(made(kind, **settings))
    assert kept_apart(trainable_text_model(text, TextAdapterSettings(rank=2))) is apart


@pytest.mark.parametrize("task", ["pretrain", "sft"])
def test_they_are_trained_without_packing(
    task: str, made: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from speechft.text import pretrain

    fields = {"text": "red green blue " * 9} if task == "pretrain" else {"prompt": "say red", "completion": "red"}
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(fields | {"split": s}) + "\n" for s in ("train", "dev") for _ in range(3)))
    common = {"data": str(data), "output_dir": tmp_path, "max_length": 16, "packing": True}
    built: list[tuple] = []
    for module in (pretrain, sft):
        monkeypatch.setattr(module, "fit", lambda *arguments: built.append(arguments))
    for kind, settings in (("GPT2", HEADS), ("OPT", KINDS["OPT"][0])):
        recipe = TEXT_RECIPES[task](model=str(made(kind, **settings)), **common)
        events: list[dict] = []
        {"pretrain": pretrain, "sft": sft}[task].train(recipe, corpus_of(recipe), events.append)
        trainer = built[-1][0]
        apart = kind == "GPT2"
        assert trainer.args.packing is apart
        assert [event["event"] for event in events] == ([] if apart else ["no packing"])
        assert max(len(row["input_ids"]) for row in trainer.train_dataset) <= 16
