"""Every recipe file runs as its first line says, on a few rows in the layout that its corpus is distributed in."""

from __future__ import annotations

import json
import math
import runpy
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from speechft.cli import app
from speechft.recipes import load_recipe

RECIPES = Path(__file__).parents[2] / "recipes"
SMALL = {
    "max_steps": 2, "max_length": 160, "batch_size": 2, "accumulate": 1, "dev_examples": 4, "test_examples": 4,
    "evaluations": 1, "adapter.rank": 2, "rows": 80,
}  # fmt: skip
ALSO = {
    "sft": {"max_new_tokens": 3},
    "reward": {},
    "policy": {"max_new_tokens": 3, "rollouts": 2},
    "feedback": {"max_new_tokens": 3, "samples": 3},
    "preference": {},
    "pretrain": {},
}
NAMES = [
    "ag_news", "squad", "samsum", "ms_marco", "clinical", "legal", "sft", "sft_qlora", "dpo", "reward", "ppo",
    "feedback", "pretrain",
]  # fmt: skip


def test_the_list_is_whole() -> None:
    assert {f"text_{name}.yaml" for name in NAMES} == {path.name for path in RECIPES.glob("text_*.yaml")}


@pytest.mark.parametrize("name", ["ms_marco", "clinical"])
def test_of_large_corpora_no_more_is_read_than_a_run_needs(name: str) -> None:
    recipe = load_recipe(RECIPES / f"text_{name}.yaml")
    assert recipe.batch_size * recipe.accumulate * recipe.max_steps <= recipe.rows <= 200_000


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `recipes/text_examples.py` writes."""
    out = tmp_path_factory.mktemp("examples")
    runpy.run_path(str(RECIPES / "text_examples.py"))["main"](out)
    return out


def ag_news(folder: Path) -> Path:
    for split, size in (("train", 30), ("test", 6)):
        lines = [f'"{i % 4 + 1}","Title {split} {i}","One\\two {i}"\n' for i in range(size)]
        (folder / f"{split}.csv").write_text("".join(lines))
    return folder


def squad(folder: Path) -> Path:
    for split, size in (("train", 12), ("dev", 4)):
        articles = [
            {
                "title": f"{split} {i}",
                "paragraphs": [
                    {
                        "context": f"Ann {i} sang.",
                        "qas": [
                            {"id": f"{i}", "question": f"Who {i}?", "is_impossible": False,
                             "answers": [{"text": f"Ann {i}", "answer_start": 0}]},
                            {"id": f"n{i}", "question": f"Where {i}?", "is_impossible": True, "answers": []},
                        ],
                    }
                ],
            }
            for i in range(size)
        ]  # fmt: skip
        (folder / f"{split}-v2.0.json").write_text(json.dumps({"version": "v2.0", "data": articles}))
    return folder


def samsum(folder: Path) -> Path:
    for split, size in (("train", 10), ("val", 4), ("test", 4)):
        rows = [
            {"id": f"{i}", "summary": f"Ann {i} greets.", "dialogue": f"Ann: hi {split} {i}\r\nBob: hi"}
            for i in range(size)
        ]
        (folder / f"{split}.json").write_text(json.dumps(rows))
    return folder


def ms_marco(folder: Path) -> Path:
    path = folder / "triples.train.small.tsv"
    path.write_text("".join(f"query {i}\tthe right passage {i}\tanother one\n" for i in range(40)))
    return path


def clinical(folder: Path) -> Path:
    path = folder / "NOTEEVENTS.csv"
    head = '"ROW_ID","SUBJECT_ID","HADM_ID","CHARTDATE","CHARTTIME","STORETIME","CATEGORY","DESCRIPTION",'
    head += '"CGID","ISERROR","TEXT"\n'
    rows = [f'{i},{i},1,2101-01-01,,,"Nursing","Report",,,"Patient {i}\nis well."\n' for i in range(40)]
    path.write_text(head + "".join(rows))
    return path


def legal(folder: Path) -> Path:
    for i in range(30):
        (folder / f"{i}.txt").write_text(f"The lessee {i} shall pay the rent. The lessor shall keep the house.")
    return folder


@pytest.fixture(scope="module")
def run(tiny_llama: Path, examples: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., dict]:
    runs = tmp_path_factory.mktemp("runs")
    own = {"ag_news": ag_news, "squad": squad, "samsum": samsum, "ms_marco": ms_marco, "clinical": clinical,
           "legal": legal}  # fmt: skip
    files = {"sft": "commands", "sft_qlora": "commands", "pretrain": "documents"}

    def run(name: str) -> dict:
        out = runs / name
        if (out / "result.json").is_file():
            return json.loads((out / "result.json").read_text())
        data = examples / f"{files.get(name, 'preferences')}.jsonl"
        if name in own:
            (runs / f"{name}-data").mkdir()
            data = own[name](runs / f"{name}-data")
        recipe = RECIPES / f"text_{name}.yaml"
        task = next(line for line in recipe.read_text().splitlines() if line.startswith("task:")).split(": ")[1]
        settings = {"model": tiny_llama, "data": data, "output_dir": out, **SMALL, **ALSO[task]}
        if name in ("pretrain", "clinical", "legal"):
            settings["other_domain"] = examples / "everyday.jsonl"
        if name in ("ppo", "feedback"):
            assert run("reward")["adapter"], "the others are taught by its adapter"
            settings["reward" if name == "ppo" else "judge"] = ("" if name == "ppo" else "reward:") + str(
                runs / "reward" / "adapter"
            )
        if name == "reward":
            settings |= {"max_steps": 20, "learning_rate": 0.01}
        done = CliRunner().invoke(app, ["train", str(recipe), *(f"{k}={v}" for k, v in settings.items())])
        assert done.exit_code == 0, done.output
        return json.loads((out / "result.json").read_text())

    return run


QUICK = ("sft", "reward", "ppo")


@pytest.mark.parametrize("name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in NAMES])
def test_a_recipe_runs_to_its_measures(run: Callable[..., dict], name: str) -> None:
    result = run(name)
    assert result["evaluated_on"]["examples"] > 0
    assert result["left_out"] == []
    for measures in (result["base"], result["adapted"]):
        assert measures
        assert all(math.isfinite(measure["value"]) for measure in measures.values())
