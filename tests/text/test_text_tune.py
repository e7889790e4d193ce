"""A study of a text recipe: the same search, on the task's own loss."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from speechft.errors import SpeechftError
from speechft.recipes import load_recipe
from speechft.text import feedback
from speechft.text.config import FeedbackRecipe, PolicyRecipe, PreferenceRecipe, SftRecipe
from speechft.tune import tune
from speechft.tune_space import Space


@pytest.fixture(scope="module")
def recipe(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> SftRecipe:
    folder = tmp_path_factory.mktemp("study")
    pairs = [(split, word) for split in ("train", "dev", "test") for word in ("red", "blue")]
    rows = [{"prompt": f"say {word}", "completion": word, "split": split} for split, word in pairs]
    (folder / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return SftRecipe(
        model=str(tiny_llama), data=str(folder / "d.jsonl"), output_dir=folder / "out", max_steps=4, batch_size=2,
        max_length=64, metrics=["exact_match"], max_new_tokens=4,
        search={"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}},
    )  # fmt: skip


def test_text_recipes_are_tuned_by_the_same_function(recipe: SftRecipe, tmp_path: Path) -> None:
    recipe = recipe.model_copy(update={"output_dir": tmp_path})
    result = tune(recipe, trials=3)
    assert result["metric"] == "dev loss"
    assert len(result["trials"]) == 3
    assert result["best"]["value"] <= result["recipe_itself"]
    assert "exact_match" in result["best_run"]["adapted"]
    assert load_recipe(tmp_path / "best.yaml").learning_rate == result["best"]["params"]["learning_rate"]


def test_what_is_worse_than_the_others_is_stopped_early(recipe: SftRecipe, tmp_path: Path) -> None:
    """The recipe's own rate is fine; most rates of the space wreck the model."""
    search = SftRecipe.model_validate(
        recipe.model_dump() | {"search": {"learning_rate": {"low": 2e-4, "high": 50.0, "log": True}}}
    ).search
    settings = {"search": search, "output_dir": tmp_path, "schedule": "constant", "warmup": 0.0}
    result = tune(recipe.model_copy(update=settings), trials=8)
    pruned = [row for row in result["trials"] if row["state"] == "pruned"]
    assert pruned
    assert all(len(row["course"]) < 4 for row in pruned)
    assert result["best"]["value"] <= min(row["value"] for row in pruned)


def test_epochs_that_change_nothing_are_not_searched(recipe: SftRecipe) -> None:
    with pytest.raises(SpeechftError, match=r"epochs changes nothing.*max_steps=null"):
        Space(recipe, {"epochs": [1, 2]})
    assert Space(recipe.model_copy(update={"max_steps": None}), {"epochs": [1, 2]}).choices == {"epochs": [1, 2]}
    assert Space(recipe, {"max_steps": [2, 4]}).own == {"max_steps": 4}


def test_what_changes_the_unit_of_the_objective_is_not_searched() -> None:
    """A DPO loss at one beta says nothing about one at another, nor a reward less its penalty at another weight."""
    pairs = PreferenceRecipe(data="pairs.jsonl", output_dir=Path("out"))
    policy = PolicyRecipe(data="prompts.jsonl", output_dir=Path("out"), reward="chrf")
    judged = FeedbackRecipe(data="prompts.jsonl", output_dir=Path("out"), judge="model:x")
    for recipe, key, values in (
        (pairs, "beta", [0.1, 0.5]), (pairs, "loss", ["dpo", "ipo"]), (policy, "kl", [0.05, 0.1]),
        (policy, "reward", ["chrf", "f1"]), (judged, "judge", ["model:x", "model:y"]), (judged, "rubric", ["a", "b"]),
    ):  # fmt: skip
        with pytest.raises(SpeechftError, match=f"'{key}' changes what is measured"):
            Space(recipe, {key: values})
    assert Space(pairs, {"learning_rate": [1e-5, 5e-5]}).own == {"learning_rate": 5e-5}


def test_a_study_asks_a_judge_once(talker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All trials and the best recipe's run sample the same answers: a judge may cost hours, or money."""
    asked: list[str] = []

    def prefers_longer(messages: list[dict], options: list[str]) -> list[float]:
        asked.append(messages[-1]["content"])
        first, second = asked[-1].split("Answer A: ")[1].split("\n\nReply")[0].split("\n\nAnswer B: ")
        return [0.9, 0.1] if len(first) > len(second) else [0.1, 0.9]

    monkeypatch.setattr(feedback, "judge_from", lambda *named: prefers_longer)
    monkeypatch.setattr(feedback, "identity", lambda *named: [])
    monkeypatch.setattr(feedback, "measure", lambda text, examples, recipe: {})
    rows = [{"prompt": f"say {a} {b}", "split": split} for a, split in (("cat", "train"), ("dog", "dev"))
            for b in ("bird", "fish", "tree")]  # fmt: skip
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = FeedbackRecipe(
        model=str(talker), data=str(tmp_path / "prompts.jsonl"), output_dir=tmp_path / "out", judge="model:x",
        max_steps=1, batch_size=2, max_length=64, max_new_tokens=8, search={"learning_rate": [1e-4, 1e-3]},
    )  # fmt: skip
    result = tune(recipe, trials=3, pruning="none")
    assert len(result["trials"]) == 3
    assert 0 < len(asked) == len(set(asked))
