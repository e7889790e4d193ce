"""Benchmarks from local task files without a network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from speechft.adapters import CARD
from speechft.cli import app
from speechft.errors import SpeechftError
from speechft.text import benchmarks
from speechft.text.benchmarks import run

ITEMS = [
    {"question": f"The number after {a} is", "choices": [b, c], "label": i % 2}
    for i, (a, b, c) in enumerate([("one", "two", "six"), ("two", "three", "one"), ("three", "five", "four")] * 4)
]


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in ITEMS))
    (folder / "numbers.yaml").write_text(
        f"""task: numbers
dataset_path: json
dataset_kwargs:
  data_files:
    test: {folder / "items.jsonl"}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_target: label
doc_to_choice: choices
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
metadata:
  version: 1.0
"""
    )
    return folder


def test_a_local_task_is_scored_as_by_hand(
    tiny_llama: Path, tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from speechft.text.likelihood import sequence_logprobs
    from speechft.text.model import load_text_model

    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    result = run(str(tiny_llama), ["numbers"], task_folder=tasks, out=tmp_path / "out")
    text = load_text_model(tiny_llama)
    right = 0
    for item in ITEMS:
        scores = []
        for choice in item["choices"]:
            question = text.tokenizer(item["question"])["input_ids"]
            whole = text.tokenizer(f"{item['question']} {choice}")["input_ids"]
            labels = [-100] * len(question) + whole[len(question) :]
            scores.append(sequence_logprobs(text, [whole], [labels])[0][0])
        right += scores.index(max(scores)) == item["label"]
    assert result["tasks"]["numbers"]["metrics"]["acc"]["value"] == pytest.approx(right / len(ITEMS))
    assert result["tasks"]["numbers"]["items"] == len(ITEMS)
    assert json.loads((tmp_path / "out" / "result.json").read_text()) == result
    assert "contamination" not in result


def test_code_is_not_run_unless_allowed(tiny_llama: Path) -> None:
    with pytest.raises(SpeechftError, match="runs code"):
        run(str(tiny_llama), ["humaneval"])


def test_code_is_not_run_by_tasks_of_any_name(
    tiny_llama: Path, tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    with (tasks / "numbers.yaml").open("a") as file:
        file.write("unsafe_code: true\n")
    with pytest.raises(SpeechftError, match="numbers runs code"):
        run(str(tiny_llama), ["numbers"], task_folder=tasks)
    monkeypatch.setenv("HF_ALLOW_CODE_EVAL", "0")
    assert run(str(tiny_llama), ["numbers"], task_folder=tasks, limit=2, allow_code=True)["tasks"]["numbers"]["items"]


@pytest.mark.parametrize(
    ("error", "fix"),
    [
        (RuntimeError("Dataset scripts are no longer supported, but found numbers.py"), "Give local"),
        (ValueError("Couldn't find cache for numbers\nAvailable: []"), "Connect once"),
        (ConnectionError("Couldn't reach the hub"), "Connect once"),
    ],
)
def test_data_that_cannot_be_had_is_named(
    tiny_llama: Path, tasks: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, fix: str
) -> None:
    def fails(*arguments: object, **settings: object) -> None:
        raise error

    monkeypatch.setattr("datasets.load_dataset", fails)
    with pytest.raises(SpeechftError, match=rf"numbers: the data of a task cannot be fetched.*{fix}.*--task-folder"):
        run(str(tiny_llama), ["numbers"], task_folder=tasks)
    monkeypatch.setattr("lm_eval.simple_evaluate", fails)
    error.args = ("CUDA out of memory",)
    with pytest.raises(SpeechftError if isinstance(error, OSError) else type(error), match="out of memory"):
        run(str(tiny_llama), ["numbers"], task_folder=tasks)


def test_code_of_a_task_is_not_run_unless_allowed(tiny_llama: Path, tmp_path: Path) -> None:
    (tmp_path / "evil.yaml").write_text("task: evil\nprocess_results: !function evil.f\n")
    (tmp_path / "evil.py").write_text("import pathlib\npathlib.Path(__file__).with_name('ran').touch()\n")
    with pytest.raises(SpeechftError, match="names Python code"):
        run(str(tiny_llama), ["evil"], task_folder=tmp_path)
    assert not (tmp_path / "ran").exists()


def test_an_unknown_task_is_named(tiny_llama: Path, tasks: Path) -> None:
    with pytest.raises(SpeechftError, match=r"letters.*--task-folder"):
        run(str(tiny_llama), ["letters"], task_folder=tasks)


def benchmark(*words: object) -> Result:
    return CliRunner().invoke(app, ["benchmark", "numbers", *map(str, words)], catch_exceptions=False)


def test_items_in_the_training_data_are_named_and_saved(
    tiny_llama: Path, tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One document is enough, and what is not searched is known before anything is scored."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "one.jsonl").write_text(json.dumps({"text": "We know that the number after three is four, so on."}))
    asked = ["--model", tiny_llama, "--task-folder", tasks, "--training", tmp_path / "one.jsonl", "--out", tmp_path]
    done = benchmark(*asked)
    assert "the number after three is four" in " ".join(done.stderr.split())
    found = json.loads((tmp_path / "result.json").read_text())["contamination"]
    assert [hit["item"] for hit in found] == [i for i, item in enumerate(ITEMS) if i % 6 == 5]
    assert {(hit["task"], hit["share"]) for hit in found} == {("numbers", 1.0)}
    (tmp_path / "none.jsonl").write_text("{}\n")
    monkeypatch.setattr(benchmarks, "load_text_model", None)
    with pytest.raises(SpeechftError, match="holds no text"):
        run(str(tiny_llama), ["numbers"], task_folder=tasks, training=str(tmp_path / "none.jsonl"))
    with pytest.raises(SpeechftError, match="unknown reader"):
        benchmark(*asked, "--reader", "nosuch")


def test_an_adapter_is_scored_on_the_base_it_was_trained_on(
    tiny_llama: Path, tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its card names the model and how that was quantised; without a card the bundled model is meant."""
    asked: list[dict] = []

    class Asked(Exception):
        pass

    def load(name: str, **settings: object) -> None:
        asked.append({"name": name, **settings})
        raise Asked

    monkeypatch.setattr(benchmarks, "load_text_model", load)
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 2}))
    card = {"task": "sft", "model": str(tiny_llama), "recipe": {"adapter": {"quantize": "nf4"}}}
    (folder / CARD).write_text(json.dumps(card))
    for model, adapter in ((None, folder), ("other", folder), (None, None), ("other", None)):
        with pytest.raises(Asked):
            run(model, ["numbers"], task_folder=tasks, adapter=adapter)
    assert asked == [
        {"name": str(tiny_llama), "adapter": folder, "quantize": "nf4"},
        {"name": "other", "adapter": folder, "quantize": "nf4"},
        {"name": "bundled:smollm2", "adapter": None, "quantize": None},
        {"name": "other", "adapter": None, "quantize": None},
    ]


def test_a_reward_model_is_not_scored(tiny_llama: Path, tasks: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / CARD).write_text(json.dumps({"task": "reward"}))
    with pytest.raises(SpeechftError, match="is a reward model"):
        run(str(tiny_llama), ["numbers"], task_folder=tasks, adapter=tmp_path / "adapter")
