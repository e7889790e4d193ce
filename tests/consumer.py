"""A user's own program, as a type checker sees it: every public name, and mistakes that the types must show.

Never run; `tests/test_types.py` has mypy check it strictly. Each `type: ignore` stands at a mistake: were a name of the
package untyped for its users, mypy would call the comment unused.
"""

from __future__ import annotations

from pathlib import Path

import speechft


def learn(folder: Path) -> float:
    manifest = speechft.Manifest.load(folder / "manifest.jsonl")
    first: speechft.Utterance = manifest[0]
    recipe = speechft.SpeechRecipe(manifest=folder / "manifest.jsonl", output_dir=folder / "run", max_steps=4)
    result = speechft.train(recipe)
    other = speechft.load_recipe(folder / "recipe.yaml", ["max_steps=4"])
    print(first.text.lower(), other, speechft.__version__.split("."))
    return float(result["adapted"]["wer"])


def hear(folder: Path, recording: Path) -> str:
    try:
        recogniser: speechft.Recogniser = speechft.load(adapter=folder / "run" / "adapter")
    except speechft.SpeechftError as error:
        return error.fix
    heard = recogniser.transcribe(recording, words=True)
    rate = speechft.ErrorRate(substitutions=1, length=4) + speechft.ErrorRate(length=2)
    summary = speechft.evaluate(folder / "manifest.jsonl", adapter=recogniser.adapter)
    return f"{heard.text.upper()} {rate.errors + 1} {summary['wer']}"


def mistaken(folder: Path) -> None:
    speechft.load(adaptor=folder)  # type: ignore[call-arg]
    rows: list[str] = speechft.Manifest.load(folder)  # type: ignore[assignment]
    text: int = speechft.load().transcribe(folder).text  # type: ignore[assignment]
    score: str = speechft.evaluate(folder)  # type: ignore[assignment]
    trained: str = speechft.train(manifest=folder)  # type: ignore[assignment]
    speechft.ErrorRate(substitutions="1")  # type: ignore[arg-type]
    print(rows, text, score, trained, speechft.Utterance(1))  # type: ignore[arg-type, call-arg]
