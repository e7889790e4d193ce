"""Each corpus's layout carries what is to be learnt: on easy rows in it the tiny model gets better at unseen ones.

What the recipes do is run as it stands; only sizes and the model are changed. MS MARCO's is in test_ranking.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from speechft import correction
from speechft.correction import NBest
from speechft.recipes import load_recipe
from speechft.text.config import SftRecipe, TextAdapterSettings
from speechft.text.model import load_text_model
from speechft.text.pipeline import train

RECIPES = Path(__file__).parents[2] / "recipes"
COLOURS = ["red", "green", "blue", "yes"]
ANIMALS = ["cat", "dog", "bird", "fish"]
NUMBERS = ["one", "two", "three", "four", "five", "six", "seven"]
EASY = [
    "adapter.method=full", "learning_rate=3e-3", "batch_size=8", "accumulate=1", "max_steps=120", "max_length=192",
    "evaluations=2", "dev_examples=28", "test_examples=28",
]  # fmt: skip
ROWS = [(c, a, n) for n in NUMBERS for c in COLOURS for a in ANIMALS]  # 112, a number in one split only


def splits(train_name: str, held_out: str) -> dict[str, list[tuple[str, str, str]]]:
    return {train_name: ROWS[:84], held_out: ROWS[84:]}


def ag_news(folder: Path) -> Path:
    """The topic is that of the colour."""
    for split, rows in splits("train", "test").items():
        lines = [f'"{COLOURS.index(c) + 1}","{c} {a}","{n} {a}"\n' for c, a, n in rows]
        (folder / f"{split}.csv").write_text("".join(lines))
    return folder


def squad(folder: Path) -> Path:
    """What is asked for is in the text, or it is not."""
    for split, rows in splits("train", "dev").items():
        articles = []
        for number, (c, a, n) in enumerate(rows):
            question: dict[str, Any] = {
                "id": f"{number}",
                "question": "colour",
                "answers": [{"text": c, "answer_start": 0}],
            }
            if number % 4 == 3:
                question |= {"question": "number", "answers": [], "is_impossible": True}
            articles.append(
                {"title": f"{split} {number} {n}", "paragraphs": [{"context": f"{c} {a}", "qas": [question]}]}
            )
        (folder / f"{split}-v2.0.json").write_text(json.dumps({"version": "v2.0", "data": articles}))
    return folder


def samsum(folder: Path) -> Path:
    """A summary is the animal that both name."""
    for split, rows in splits("train", "test").items():
        chats = [
            {"id": f"{i}", "summary": f"story of a {a}", "dialogue": f"{c}: {a} {n}\r\n{n}: {a}"}
            for i, (c, a, n) in enumerate(rows)
        ]
        (folder / f"{split}.json").write_text(json.dumps(chats))
    return folder


def clinical(folder: Path) -> Path:
    """Notes of one form."""
    head = '"ROW_ID","SUBJECT_ID","CATEGORY","ISERROR","TEXT"\n'
    notes = [f'{i},{i},"Nursing",,"the {a} of number {n} is {c}\nwater and fire"\n' for i, (c, a, n) in enumerate(ROWS)]
    (folder / "NOTEEVENTS.csv").write_text(head + "".join(notes))
    return folder / "NOTEEVENTS.csv"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "write", "score", "least"),
    [
        ("ag_news", ag_news, "exact_match", 0.8),
        ("squad", squad, "f1", 0.5),
        ("samsum", samsum, "rougeL", 0.8),
        ("clinical", clinical, None, None),
    ],
)
def test_a_corpus_teaches(
    tiny_llama: Path, tmp_path: Path, name: str, write: Any, score: str | None, least: float
) -> None:
    (tmp_path / "data").mkdir()
    recipe = load_recipe(
        RECIPES / f"text_{name}.yaml",
        [f"model={tiny_llama}", f"data={write(tmp_path / 'data')}", f"output_dir={tmp_path / 'out'}", *EASY]
        + ["max_steps=30"] * (score is None),  # packed, a step sees many times as many tokens
    )
    result = train(recipe)
    assert result["kept"] == "model"
    assert result["left_out"] == []
    assert result["difference"]["perplexity"]["ci95"][1] < 0.5
    if score:
        assert result["base"][score]["value"] < least / 2 < least < result["adapted"][score]["value"]


@pytest.mark.slow
def test_a_corrector_learns_what_a_recogniser_gets_wrong(tiny_llama: Path, tmp_path: Path) -> None:
    """It hears "cat" where "dog" was said, and knows that it is unsure; what it is sure of stays as it is."""

    def heard(rows: list[tuple[str, str, str]]) -> list[NBest]:
        wrong = {"dog": "cat"}
        return [
            NBest(n, c, (c, wrong.get(a, a)), (0.95, 0.3), (f"{c} {wrong.get(a, a)}",), f"{c} {a}")
            for c, a, n in rows
            if a != "cat"
        ]

    parts = {name: heard(rows) for name, rows in splits("train", "dev").items()}
    lines = [row for name, lists in parts.items() for row in correction.answer_rows(lists, name)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    recipe = SftRecipe(
        model=str(tiny_llama), data=str(tmp_path / "rows.jsonl"), output_dir=tmp_path / "out", batch_size=8,
        max_steps=150, learning_rate=3e-3, max_length=256, adapter=TextAdapterSettings(method="full"), test=False,
        evaluations=2, max_new_tokens=8,
    )  # fmt: skip
    assert train(recipe)["kept"] == "model"
    proposals = correction.propose(load_text_model(tmp_path / "out" / "model"), parts["dev"], "basic")
    level, rates = correction.best_level(parts["dev"], proposals)
    assert 0 < level <= 0.9
    assert rates[level] < rates[0.0] / 2
    found = correction.report(parts["dev"], proposals, level)
    assert found["better"] > 0 == found["worse"]
    assert found["difference"]["ci95"][1] < 0
