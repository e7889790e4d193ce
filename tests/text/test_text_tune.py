"""A study of a text recipe: the same search, on the task's own loss."""

from __future__ import annotations

import json
from pathlib import Path

from speechft.config import load_recipe
from speechft.text.config import SftRecipe
from speechft.tune import tune


def test_text_recipes_are_tuned_by_the_same_function(tiny_llama: Path, tmp_path: Path) -> None:
    rows = [
        {"prompt": f"say {w}", "completion": w, "split": s} for s in ("train", "dev", "test") for w in ("red", "blue")
    ]
    data = tmp_path / "d.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = SftRecipe(
        model=str(tiny_llama), data=str(data), output_dir=tmp_path / "out", max_steps=4, batch_size=2, max_length=64,
        metrics=["exact_match"], max_new_tokens=4, search={"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}},
    )  # fmt: skip
    result = tune(recipe, trials=3)
    assert result["metric"] == "dev loss"
    assert len(result["trials"]) == 3
    assert result["best"]["value"] <= result["recipe_itself"]
    assert "exact_match" in result["best_run"]["adapted"]
    assert load_recipe(tmp_path / "out" / "best.yaml").learning_rate == result["best"]["params"]["learning_rate"]
