"""Methods other than LoRA through a whole text run: TRL's trainer, checkpoints, evaluation, loading."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from text.conftest import cut_off, ignore

from speechft.errors import SpeechftError
from speechft.text.config import FeedbackRecipe, PolicyRecipe, PreferenceRecipe, SftRecipe
from speechft.text.pipeline import evaluate, train

RATES = {"prompt": 0.2, "prefix": 0.1}
METHODS = [
    {"method": "prompt"},
    pytest.param({"method": "adalora", "rank": 4}, marks=pytest.mark.slow),
    pytest.param({"method": "prefix"}, marks=pytest.mark.slow),
    pytest.param({"method": "houlsby"}, marks=pytest.mark.slow),
    pytest.param({"method": "vera"}, marks=pytest.mark.slow),
    pytest.param({"init": "pissa", "rank": 4}, marks=pytest.mark.slow),
]


@pytest.mark.parametrize("adapter", METHODS, ids=lambda a: a.get("method", a.get("init")))
def test_a_text_run_learns_resumes_and_loads(
    adapter: dict[str, Any], tiny_llama: Path, rows: Path, tmp_path: Path
) -> None:
    def run(out: Path, stop: bool = False) -> dict[str, Any]:
        recipe = SftRecipe(
            model=str(tiny_llama), data=str(rows), output_dir=out, epochs=3, max_length=64,
            learning_rate=RATES.get(adapter.get("method"), 2e-2),
            max_new_tokens=4, evaluations=2, checkpoint_every=5, adapter=adapter, metrics=[],
        )  # fmt: skip

        return train(recipe, on_event=cut_off if stop else ignore)

    whole = run(tmp_path / "whole")
    assert whole["kept"] == "adapter"
    assert whole["adapted"]["perplexity"]["value"] < 0.8 * whole["base"]["perplexity"]["value"]
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", stop=True)
    resumed = run(tmp_path / "cut")
    assert resumed["adapted"]["perplexity"]["value"] == pytest.approx(whole["adapted"]["perplexity"]["value"], rel=0.02)
    again = evaluate(str(rows), adapter=tmp_path / "whole" / "adapter")
    assert again["perplexity"]["value"] == pytest.approx(whole["adapted"]["perplexity"]["value"], rel=0.02)
    assert again["base"]["perplexity"]["value"] == pytest.approx(whole["base"]["perplexity"]["value"], rel=0.02)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    row = {"prompt": "say cat", "chosen": "cat", "rejected": "dog"}
    path.write_text("".join(json.dumps(row | {"split": split}) + "\n" for split in ("train", "dev") for _ in range(4)))
    return path


@pytest.mark.parametrize("adapter", [{"method": "prompt"}, {"init": "pissa"}])
def test_losses_with_a_reference_refuse_what_has_none(
    adapter: dict[str, Any], tiny_llama: Path, pairs: Path, tmp_path: Path
) -> None:
    common: dict[str, Any] = {"model": str(tiny_llama), "data": str(pairs), "adapter": adapter}
    with pytest.raises(SpeechftError, match="before training"):
        train(PreferenceRecipe(**common, output_dir=tmp_path / "dpo"))
    if "method" in adapter:
        with pytest.raises(SpeechftError, match="orpo does not train"):
            train(PreferenceRecipe(**common, loss="orpo", output_dir=tmp_path / "orpo"))
    answered = tmp_path / "answered.jsonl"
    row = {"prompt": "say cat", "completion": "cat"}
    answered.write_text("".join(json.dumps(row | {"split": s}) + "\n" for s in ("train", "dev") for _ in range(4)))
    common["data"] = str(answered)
    with pytest.raises(SpeechftError, match="adapter off"):
        train(PolicyRecipe(**common, reward="f1", output_dir=tmp_path / "ppo"))


def test_after_full_fine_tuning_nothing_is_said_of_a_reference(tiny_llama: Path, pairs: Path, tmp_path: Path) -> None:
    recipe = PreferenceRecipe(
        model=str(tiny_llama), data=str(pairs), output_dir=tmp_path / "out", loss="orpo", adapter={"method": "full"},
        evaluations=1, max_length=64, learning_rate=1e-2,
    )  # fmt: skip
    result = train(recipe)
    assert result["kept"] == "model"
    for name in ("base", "adapted", "difference"):
        assert set(result[name]) == {"preference_accuracy", "perplexity"}


@pytest.mark.parametrize("settings", [
    {"adapter": {"method": "full"}}, {"adapter": {"method": "full"}, "loss": "orpo"}, {"adapter": {"method": "prompt"}},
    {"adapter": {"init": "pissa"}}, {"adapter": {"method": "prefix"}, "loss": "orpo"},
])  # fmt: skip
def test_feedback_refuses_a_method_before_the_judge_is_asked(
    settings: dict[str, Any], tiny_llama: Path, pairs: Path, tmp_path: Path
) -> None:
    recipe = FeedbackRecipe(
        model=str(tiny_llama), data=str(pairs), output_dir=tmp_path / "out", judge="url:http://127.0.0.1:9/v1 m",
        **settings,
    )  # fmt: skip
    with pytest.raises(SpeechftError, match=r"before training|orpo"):
        train(recipe)
