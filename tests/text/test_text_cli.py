"""Text through the same verbs as speech."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from speechft.cli import app
from speechft.config import load_recipe
from speechft.errors import SpeechftError
from speechft.text.config import TEXT_RECIPES

SPLITS = ["train", "dev", "test"]
RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("text_*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_valid_and_says_how_it_is_launched(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.task in TEXT_RECIPES
    assert "speechft train recipes/" in path.read_text().splitlines()[0]


def test_paths_are_relative_to_the_recipe_and_names_are_not(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    values = {"task": "policy", "data": "hub:name", "output_dir": "out", "reward": "models/reward"}
    path.write_text(yaml.safe_dump(values))
    recipe = load_recipe(path)
    assert (recipe.data, recipe.output_dir, recipe.reward) == (
        "hub:name", tmp_path / "out", str(tmp_path / "models/reward")
    )  # fmt: skip
    assert load_recipe(path, ["reward=chrf"]).reward == "chrf"
    with pytest.raises(SpeechftError, match="did you mean 'learning_rate'"):
        load_recipe(path, ["learning_rat=1"])
    with pytest.raises(SpeechftError, match="multiple of samples"):
        load_recipe(path, ["algorithm=grpo", "batch_size=3"])
    with pytest.raises(SpeechftError, match="after every batch"):
        load_recipe(path, ["accumulate=2"])


def test_train_then_evaluate_by_the_adapters_task(tiny_llama: Path, tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    rows = [
        {"prompt": f"say {i}", "completion": "yes yes", "split": ["train", "dev", "test"][i % 3]} for i in range(24)
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = CliRunner()
    settings = {
        "task": "sft", "model": tiny_llama, "data": data, "output_dir": tmp_path / "out", "max_length": 64,
        "learning_rate": 0.01, "max_steps": 12, "max_new_tokens": 4, "evaluations": 1,
    }  # fmt: skip
    trained = run.invoke(app, ["train", *(f"{k}={v}" for k, v in settings.items()), "--json"])
    assert trained.exit_code == 0, trained.output
    result = json.loads(trained.stdout)
    assert result["adapter"] == "adapter"
    arguments = ["evaluate", "--manifest", str(data), "--adapter", str(tmp_path / "out" / "adapter")]
    found = json.loads(run.invoke(app, [*arguments, "--json"]).stdout)
    assert found["task"] == "sft"
    assert found["perplexity"]["value"] < found["base"]["perplexity"]["value"]
    table = run.invoke(app, arguments)
    assert "perplexity" in table.stdout
    merged = tmp_path / "merged"
    done = run.invoke(app, ["export", str(tmp_path / "out" / "adapter"), str(merged)])
    assert done.exit_code == 0, done.output
    assert json.loads((merged / "tokenizer_config.json").read_text())["model_max_length"] == 512
    again = run.invoke(app, ["evaluate", "--manifest", str(data), "--model", str(merged), "--task", "sft", "--json"])
    assert json.loads(again.stdout)["perplexity"]["value"] == pytest.approx(found["perplexity"]["value"], rel=0.01)
    refused = run.invoke(app, ["export", str(tmp_path / "out" / "adapter"), str(tmp_path / "x"), "--to", "ggml"])
    assert refused.exit_code != 0
    alone = run.invoke(app, ["evaluate", "--manifest", str(data), "--model", str(tiny_llama), "--task", "sft"])
    assert alone.exit_code == 0, alone.output


def test_files_for_a_service(tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps({"prompt": f"q {i}", "completion": "a"}) + "\n" for i in range(60)))
    done = CliRunner().invoke(app, ["hosted", str(data), str(tmp_path / "out"), "--price", "3"])
    assert done.exit_code == 0, done.output
    assert "consent" in done.stderr
    assert (tmp_path / "out" / "train.jsonl").is_file()
