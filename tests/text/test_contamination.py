"""Training text that holds benchmark items: copies are found in whatever words a task puts around them."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import Template

from speechft.text.contamination import Item, contaminated, contamination, training_texts, wordings, words

TEMPLATE = "Question: {{question}}\nAnswer:"


def a_task(template: str, target: Any, choices: Any = None) -> Any:
    """As the harness has it."""
    return SimpleNamespace(
        doc_to_text=lambda doc: Template(template).render(**doc),
        doc_to_target=lambda doc: target(doc),
        doc_to_choice=lambda doc: choices(doc),
        config=SimpleNamespace(doc_to_choice=choices),
    )


QUESTIONS = [{"question": f"What is {i} and {i}?", "answer": str(2 * i)} for i in range(50)]


def test_every_raw_copy_is_found_wherever_it_would_be_split_to(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(
        "".join(json.dumps({"prompt": doc["question"], "completion": doc["answer"]}) + "\n" for doc in QUESTIONS)
    )
    task = a_task(TEMPLATE, lambda doc: doc["answer"])
    items = [Item("sums", i, wordings(task, doc)) for i, doc in enumerate(QUESTIONS)]
    found = contaminated(training_texts(str(tmp_path / "rows.jsonl")), items)
    assert [(hit["task"], hit["item"], hit["share"]) for hit in found] == [("sums", i, 1.0) for i in range(50)]
    assert contaminated(["What is 3 and 3? 7"], items) == []


@pytest.mark.parametrize(
    ("task", "doc"),
    [
        (a_task(TEMPLATE, lambda doc: doc["right"], lambda doc: ["A", "B"]), {"choices": ["red", "blue"], "right": 1}),
        (a_task(TEMPLATE, lambda doc: "B"), {"choices": ["red", "blue"]}),
        (a_task(TEMPLATE, lambda doc: doc["answers"]), {"answers": ["azure", "blue"]}),
        (a_task("{{topic}}. " + TEMPLATE, lambda doc: "blue"), {"topic": "sky"}),
        (a_task("0", lambda doc: "blue", lambda doc: [doc["question"]]), {}),
    ],
    ids=["place", "letter", "several", "topic inside the question", "place of a question"],
)
def test_the_answer_is_the_text_that_a_place_or_letter_stands_for(task: Any, doc: dict) -> None:
    if task.doc_to_text(doc) == "0":
        task.doc_to_text = lambda doc: 0
    item = Item("sky", 0, wordings(task, {"question": "What colour is the sky?", **doc}))
    assert contaminated(["Riddles. What colour is the sky? Blue!"], [item])
    assert not contaminated(["Riddles. What colour is the sky? Red!"], [item])


def test_a_question_of_eight_words_is_a_copy_without_its_answer() -> None:
    task = a_task(TEMPLATE, lambda doc: "Paris")
    for question, hits in (("Which old city is the capital of France?", 1), ("Which city is it?", 0)):
        item = Item("x", 0, wordings(task, {"question": question}))
        assert len(contaminated([f"So: {question} Well."], [item])) == hits


def test_both_answers_of_a_preference_and_every_reference_are_searched(tmp_path: Path) -> None:
    rows: list[dict] = [
        {"prompt": "q", "chosen": "good", "rejected": "bad", "split": "test"},
        {"prompt": "q", "answers": ["one", "two"]},
        {"text": "a document"},
        {"nothing": 1},
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    texts = [" ".join(words(text)) for text in training_texts(str(tmp_path / "rows.jsonl"))]
    assert {"q good", "q bad", "q one", "q two", "a document"} <= set(texts)


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
