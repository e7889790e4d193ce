"""The tiny Llama, made once a session, and what is made of it."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from tiny_llama import make_tiny_llama

from speechft.interruption import Interrupted


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_llama(tmp_path_factory.mktemp("tiny-llama"))


NOUNS = ["cat", "dog", "bird", "fish", "story", "tree", "house", "water", "fire"]


@pytest.fixture(scope="session")
def talker(tiny_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model after full fine-tuning: it answers with one to four words at random."""
    from speechft.text.config import SftRecipe, TextAdapterSettings
    from speechft.text.pipeline import train

    out = tmp_path_factory.mktemp("talker")
    rows = [
        {"prompt": f"say {a} {b}", "completion": " ".join([a, b, a, b][: 1 + (3 * i + j) % 4]), "split": split}
        for i, a in enumerate(NOUNS)
        for j, b in enumerate(NOUNS)
        for split in ("train", "dev")
    ]
    (out / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = SftRecipe(
        model=str(tiny_llama), data=str(out / "rows.jsonl"), output_dir=out, epochs=6,
        adapter=TextAdapterSettings(method="full"), batch_size=9, learning_rate=3e-3, max_length=64, max_new_tokens=8,
        test=False, dev_examples=9,
    )  # fmt: skip
    assert train(recipe)["kept"] == "model"
    return out / "model"


def ignore(event: dict) -> None:
    """What a run says when nobody listens."""


def cut_off(event: dict) -> None:
    """Ends a run in its eleventh step, as ctrl-C would."""
    if event.get("step") == 11 and "loss" in event:
        raise KeyboardInterrupt


def stop_at_the_end(event: dict) -> None:
    """Ends a run while what it made is measured, as a scheduler's SIGTERM would."""
    if event.get("event") == "final evaluation":
        raise Interrupted(signal.SIGTERM)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two words each, to be said the other way round."""
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    words = ["red", "green", "blue", "cat", "dog", "fish"]
    made = [
        {"prompt": f"say {a} {b}", "completion": f"{b} {a}", "split": split}
        for a in words
        for b in words[:4]
        for split in ("train", "dev")
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    return path
