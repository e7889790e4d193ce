"""Text through the same verbs as speech."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from speechft.cli import app
from speechft.errors import SpeechftError
from speechft.recipes import load_recipe
from speechft.text.config import TEXT_RECIPES
from speechft.text.pipeline import evaluate

SPLITS = ["train", "dev", "test"]
RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("text_*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_is_valid_and_says_how_it_is_launched(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.task in TEXT_RECIPES
    assert "speechft train recipes/" in path.read_text().splitlines()[0]


def test_paths_are_relative_to_the_recipe_and_names_are_not(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    (tmp_path / "models").mkdir()
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


@pytest.fixture(scope="module")
def trained(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Data of 24 rows in three splits, and an adapter trained on them."""
    folder = tmp_path_factory.mktemp("trained")
    data = folder / "rows.jsonl"
    rows = [{"prompt": f"say {i}", "completion": "yes yes", "split": SPLITS[i % 3]} for i in range(24)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {
        "task": "sft", "model": tiny_llama, "data": data, "output_dir": folder / "out", "max_length": 64,
        "learning_rate": 0.01, "max_steps": 12, "max_new_tokens": 4, "evaluations": 1,
    }  # fmt: skip
    done = CliRunner().invoke(app, ["train", *(f"{k}={v}" for k, v in settings.items()), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["adapter"] == "adapter"
    return data, folder / "out" / "adapter"


def test_train_then_evaluate_by_the_adapters_task(trained: tuple[Path, Path], tiny_llama: Path, tmp_path: Path) -> None:
    data, adapter = trained
    run = CliRunner()
    arguments = ["evaluate", "--manifest", str(data), "--adapter", str(adapter)]
    found = json.loads(run.invoke(app, [*arguments, "--json"]).stdout)
    assert found["task"] == "sft"
    assert found["perplexity"]["value"] < found["base"]["perplexity"]["value"]
    table = run.invoke(app, arguments)
    assert "perplexity" in table.stdout
    merged = tmp_path / "merged"
    done = run.invoke(app, ["export", str(adapter), str(merged)])
    assert done.exit_code == 0, done.output
    assert "30 s" not in done.stdout
    assert json.loads((merged / "tokenizer_config.json").read_text())["model_max_length"] == 512
    again = run.invoke(app, ["evaluate", "--manifest", str(data), "--model", str(merged), "--task", "sft", "--json"])
    assert json.loads(again.stdout)["perplexity"]["value"] == pytest.approx(found["perplexity"]["value"], rel=0.01)
    refused = run.invoke(app, ["export", str(adapter), str(tmp_path / "x"), "--to", "ggml"])
    assert refused.exit_code != 0
    alone = run.invoke(app, ["evaluate", "--manifest", str(data), "--model", str(tiny_llama), "--task", "sft"])
    assert alone.exit_code == 0, alone.output


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--beams", "5"), ("--typical", "x.jsonl"), ("--split-file", "x.json"), ("--normalizer", "klingon"),
        ("--nli", "x"), ("--context", "full"), ("--language", "xx"), ("--alone", None), ("--task", "speech"),
        ("--split", "nosuch"), ("--split", "all"),
    ],
)  # fmt: skip
def test_what_means_nothing_for_text_is_refused(trained: tuple[Path, Path], option: str, value: str | None) -> None:
    data, adapter = trained
    words = ["evaluate", "--manifest", str(data), "--adapter", str(adapter), option, *([value] if value else [])]
    with pytest.raises(SpeechftError, match=f"{option}|no split '{value}'.*train, dev, test"):
        CliRunner().invoke(app, words, catch_exceptions=False)


def test_an_export_of_text_is_not_checked_on_recordings(trained: tuple[Path, Path], tmp_path: Path) -> None:
    words = ["export", str(trained[1]), str(tmp_path / "out"), "--check", "manifest.jsonl"]
    with pytest.raises(SpeechftError, match="--check does not apply"):
        CliRunner().invoke(app, words, catch_exceptions=False)


def test_a_split_that_the_data_has_not_is_named(trained: tuple[Path, Path], tmp_path: Path) -> None:
    data, adapter = trained
    two = tmp_path / "two.jsonl"
    two.write_text("".join(line + "\n" for line in data.read_text().splitlines() if '"test"' not in line))
    words = ["evaluate", "--adapter", str(adapter), "--json", "--manifest"]
    with pytest.raises(SpeechftError, match=r"has no split 'test'.*train, dev"):
        CliRunner().invoke(app, [*words, str(two), "--split", "test"], catch_exceptions=False)
    assert json.loads(CliRunner().invoke(app, [*words, str(two), "--split", "validation"]).stdout)["split"] == "dev"


@pytest.mark.parametrize("name", ["test", "train", "rows"])
def test_a_file_is_evaluated_whatever_its_rows_are_for(trained: tuple[Path, Path], tmp_path: Path, name: str) -> None:
    """Held out as a whole, or too few for a split."""
    data = tmp_path / f"{name}.jsonl"
    data.write_text('{"prompt": "say 1", "completion": "yes yes"}\n')
    words = ["evaluate", "--adapter", str(trained[1]), "--json", "--manifest", str(data)]
    found = json.loads(CliRunner().invoke(app, words, catch_exceptions=False).stdout)
    assert found["examples"] == 1
    assert name not in ("test", "train") or found["split"] == name


def test_settings_of_a_recipe_are_told_to_an_evaluation(tiny_llama: Path, tmp_path: Path) -> None:
    data = tmp_path / "test.json"
    chats = [{"id": str(i), "dialogue": f"A: hi {i}\r\nB: bye", "summary": "Short."} for i in range(3)]
    data.write_text(json.dumps(chats))
    words = ["evaluate", "--manifest", str(data), "--model", str(tiny_llama), "--task", "sft", "--json"]
    told = ["--set", "reader=samsum", "--set", "metrics=[chrf]", "--set", "max_new_tokens=2"]
    found = json.loads(CliRunner().invoke(app, [*words, *told], catch_exceptions=False).stdout)
    assert (found["examples"], found["chrf"]["n"], "rougeL" in found) == (3, 3, False)
    speech = ["evaluate", "--manifest", str(data)]
    for arguments, message in (
        ([*words, "--set", "reader"], "not an override"),
        ([*words, "--set", "readr=samsum"], "did you mean 'reader'"),
        ([*words, "--set", "data=other.json"], "Use --manifest"),
        ([*speech, "--set", "reader=samsum"], "--set does not apply to speech"),
    ):
        with pytest.raises(SpeechftError, match=message):
            CliRunner().invoke(app, arguments, catch_exceptions=False)


def test_own_data_is_read_as_it_is_after_training_on_a_corpus(tiny_llama: Path, tmp_path: Path) -> None:
    """The adapter's card says how its corpus was laid out, which says nothing about other data."""
    for name, size in (("train", 9), ("val", 3), ("test", 3)):
        chats = [{"id": str(i), "dialogue": f"A: hi {i}\r\nB: bye", "summary": "yes yes"} for i in range(size)]
        (tmp_path / f"{name}.json").write_text(json.dumps(chats))
    settings = {
        "task": "sft", "reader": "samsum", "rows": 9, "model": tiny_llama, "data": tmp_path,
        "output_dir": tmp_path / "out",
        "max_length": 96, "learning_rate": 0.01, "max_steps": 8, "max_new_tokens": 2, "evaluations": 1,
    }  # fmt: skip
    done = CliRunner().invoke(app, ["train", *(f"{k}={v}" for k, v in settings.items()), "--json"])
    assert json.loads(done.stdout)["adapter"] == "adapter", done.output
    own = tmp_path / "own.jsonl"
    own.write_text("".join(json.dumps({"prompt": f"say {i}", "completion": "yes"}) + "\n" for i in range(12)))
    words = ["evaluate", "--adapter", str(tmp_path / "out" / "adapter"), "--json", "--manifest"]
    found = json.loads(CliRunner().invoke(app, [*words, str(own), "--split", "train"], catch_exceptions=False).stdout)
    assert found["left_out"] == []
    corpus = str(tmp_path / "test.json")
    with pytest.raises(SpeechftError, match="--set reader=samsum"):
        CliRunner().invoke(app, [*words, corpus], catch_exceptions=False)
    again = CliRunner().invoke(app, [*words, corpus, "--set", "reader=samsum"], catch_exceptions=False)
    assert json.loads(again.stdout)["examples"] == 3


def test_files_for_a_service(tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps({"prompt": f"q {i}", "completion": "a"}) + "\n" for i in range(60)))
    done = CliRunner().invoke(app, ["hosted", str(data), str(tmp_path / "out"), "--price", "3"])
    assert done.exit_code == 0, done.output
    assert "consent" in done.stderr
    assert (tmp_path / "out" / "train.jsonl").is_file()
    with pytest.raises(SpeechftError, match="data use agreement"):
        CliRunner().invoke(
            app, ["hosted", "notes.csv", str(tmp_path / "new"), "--reader", "mimic"], catch_exceptions=False
        )
    (tmp_path / "out" / "train.jsonl").unlink()
    before = (tmp_path / "out" / "validation.jsonl").read_bytes()
    with pytest.raises(SpeechftError, match=r"validation\.jsonl: already exists and would be overwritten"):
        CliRunner().invoke(app, ["hosted", str(data), str(tmp_path / "out")], catch_exceptions=False)
    assert [path.read_bytes() for path in (tmp_path / "out").iterdir()] == [before]


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("feedback", {"judge": "url:http://127.0.0.1:1/v1 spy", "rubric": "It's good?"}),
        ("feedback", {"judge": "reward:/etc"}),
        ("policy", {"reward": "/etc"}),
        ("policy", {"reward": ["chrf"]}),
    ],
)
def test_whom_the_texts_are_shown_to_is_not_the_adapters_to_say(
    trained: tuple[Path, Path], tmp_path: Path, task: str, said: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stranger's card could otherwise name an address that gets the user's texts and the key of OPENAI_API_KEY."""
    asked: list[object] = []
    monkeypatch.setattr("urllib.request.urlopen", lambda *given, **more: asked.append(given))
    data, adapter = trained
    with_recipe(adapter, tmp_path / "adapter", task=task, **said)
    with pytest.raises(SpeechftError, match="is not asked because the adapter says so") as raised:
        evaluate(str(data), adapter=tmp_path / "adapter")
    assert not asked
    words = shlex.split(raised.value.fix.removeprefix("If you trust it, give ").removesuffix("."))
    assert words[1::2] == [f"{key}={value}" for key, value in said.items()]


def test_what_else_is_read_is_not_the_adapters_to_say(trained: tuple[Path, Path], tmp_path: Path) -> None:
    data, adapter = trained
    secret = tmp_path / "secret.txt"
    secret.write_text("a line of a file of the user's\n")
    elsewhere = {"other_domain": str(secret), "data": str(secret), "output_dir": str(tmp_path / "out"), "reader": "x"}
    with_recipe(adapter, tmp_path / "adapter", task="sft", **elsewhere, model="hub:x", tracking="wandb", unknown=1)
    found = evaluate(str(data), adapter=tmp_path / "adapter")
    assert not any("other_domain" in name for name in found["base"])
    assert set(found["base"]) == set(evaluate(str(data), adapter=adapter)["base"])
    assert not (tmp_path / "out").exists()
    with_recipe(adapter, tmp_path / "adapter", task="policy", reward="chrf", max_new_tokens=2)
    (tmp_path / "prompts.jsonl").write_text(json.dumps({"prompt": "say 1", "answer": "yes"}) + "\n")
    assert "reward" in evaluate(str(tmp_path / "prompts.jsonl"), adapter=tmp_path / "adapter")  # a metric is no place


def with_recipe(adapter: Path, out: Path, *, task: str, **said: object) -> None:
    """A copy of an adapter whose card says it was trained by another recipe."""
    shutil.copytree(adapter, out, dirs_exist_ok=True)
    card = json.loads((adapter / "speechft.json").read_text())
    recipe = {**card["recipe"], "task": task, **said}
    if task != "sft":
        del recipe["metrics"]
    (out / "speechft.json").write_text(json.dumps({**card, "task": task, "recipe": recipe}))
