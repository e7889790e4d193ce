"""Benchmarks from local task files without a network, and training text that holds benchmark items."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechft.errors import SpeechftError
from speechft.text.benchmarks import contamination, run, task_items, words

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
    hits = contamination(["We know that the number after three is four, and so on."], task_items(["numbers"], tasks))
    assert [hit["item"] for hit in hits] == [i for i, item in enumerate(ITEMS) if i % 6 == 5]


def test_code_is_not_run_unless_allowed(tiny_llama: Path) -> None:
    with pytest.raises(SpeechftError, match="runs code"):
        run(str(tiny_llama), ["humaneval"])


def test_code_of_a_task_is_not_run_unless_allowed(tiny_llama: Path, tmp_path: Path) -> None:
    (tmp_path / "evil.yaml").write_text("task: evil\nprocess_results: !function evil.f\n")
    (tmp_path / "evil.py").write_text("import pathlib\npathlib.Path(__file__).with_name('ran').touch()\n")
    with pytest.raises(SpeechftError, match="names Python code"):
        run(str(tiny_llama), ["evil"], task_folder=tmp_path)
    assert not (tmp_path / "ran").exists()


def test_an_unknown_task_is_named(tiny_llama: Path, tasks: Path) -> None:
    with pytest.raises(SpeechftError, match="letters"):
        run(str(tiny_llama), ["letters"], task_folder=tasks)


@settings(deadline=None)
@given(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=40), st.integers(1, 15), st.data())
def test_what_was_planted_is_found(tokens: list[str], ngram: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, max(0, len(tokens) - ngram)))
    piece = tokens[start : start + ngram]
    hits = contamination([f"before {' '.join(piece)}, after"], [" ".join(tokens)], ngram)
    assert hits
    assert 0 < hits[0]["share"] <= 1
    assert hits[0]["found"] in " ".join(words(" ".join(tokens)))


def test_shorter_overlaps_are_not_hits() -> None:
    item = "a b c d e f g h i j k l m n"
    assert contamination(["a b c d e f g h i j k l x m n"], [item]) == []
    assert contamination(["So: A, b c d e f g h i j k l m!"], [item])[0]["share"] == 0.5
    assert contamination(["", "x"], [""]) == []
