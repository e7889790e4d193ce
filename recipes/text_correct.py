"""Correct a recogniser of one voice, or of many, by a language model, and say whether it helped.

    python recipes/text_correct.py me/manifest.jsonl runs/correct [--task preference] [--clips 200 --held-out 50]

Trains a speech adapter, and one for each fold, so that the corrector learns from errors on clips that were not trained
on; trains the corrector on those; and chooses on dev how sure a word must be to stay. "Never correct" is a choice.
Without a test split half of the dev speakers choose, and the result is of the other half. The same command goes on
after an interruption. `speechft transcribe --corrector OUT/corrector-sft` applies what was chosen to new recordings.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from speechft import correction, exits, load
from speechft.check import usable
from speechft.config import SpeechRecipe
from speechft.corrector import Card, save_card
from speechft.files import write_text
from speechft.manifest import languages
from speechft.normalize import resolve_normalizer
from speechft.split import auto_split
from speechft.study import parts_apart
from speechft.text.config import PreferenceRecipe, SftRecipe, TextRecipe
from speechft.text.model import load_text_model
from speechft.text.pipeline import train as train_text
from speechft.train import fit
from speechft.validation import validated


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest")
    parser.add_argument("out", type=Path)
    parser.add_argument("--task", choices=["sft", "preference"], default="sft")
    parser.add_argument("--clips", type=int, help="training clips at most")
    parser.add_argument("--held-out", type=int, help="dev clips, and test clips, at most")
    parser.add_argument("--folds", type=int, default=4)
    parser.add_argument("--min-steps", type=int, default=150, help="of each speech adapter")
    parser.add_argument("--steps", type=int, help="of the corrector; all of an epoch unless told")
    a = parser.parse_args()

    manifest = auto_split(usable(a.manifest)[0])
    parts = parts_apart(manifest, a.clips, a.held_out)
    normaliser = resolve_normalizer("auto", languages(manifest))  # of all that is compared
    speech = SpeechRecipe(
        manifest=Path(a.manifest), output_dir=a.out / "speech", min_steps=a.min_steps, normalizer=normaliser
    )
    whole = fit(speech, parts["train"], parts["dev"])
    heard = {"train": correction.cross_validated(speech, parts["train"], parts["dev"], a.out / "folds", a.folds)}
    recogniser = load(speech.model, whole.adapter)
    for name in ("dev", "test"):
        heard[name] = correction.n_best_lists(recogniser, parts[name], normalise=normaliser)

    adapter, model = corrector(heard, a.out, a.task, a.steps)
    text = load_text_model(model, adapter=adapter)
    proposed = {name: correction.propose(text, heard[name], normaliser) for name in ("dev", "test")}
    level, rates = correction.best_level(heard["dev"], proposed["dev"])
    card = Card(
        model=model, adapter=adapter and adapter.name, level=level, normalizer=normaliser, beams=correction.BEAMS,
        recogniser=speech.model, recogniser_adapted=whole.adapter is not None,
        dev={str(at): rate for at, rate in rates.items()},
    )  # fmt: skip
    save_card(a.out / f"corrector-{a.task}", card)
    print("dev:", {at: f"{rate:.1%}" for at, rate in rates.items()}, "-> level", level)
    result = correction.report(heard["test"], proposed["test"], level)
    write_text(a.out / f"result-{a.task}.json", json.dumps({"dev": rates, **result}, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def corrector(heard: dict[str, Any], out: Path, task: str, steps: int | None) -> tuple[Path | None, str]:
    """The folder of the trained adapter, None where it was no better on dev, and its base model."""
    rows = correction.preference_rows if task == "preference" else correction.answer_rows
    lines = [row for name in ("train", "dev") for row in rows(heard[name], name)]
    data = write_text(out / f"rows-{task}.jsonl", (json.dumps(row, ensure_ascii=False) + "\n" for row in lines))
    kind: type[TextRecipe] = PreferenceRecipe if task == "preference" else SftRecipe
    settings = {
        "data": str(data), "output_dir": out / f"corrector-{task}", "max_length": 384, "test": False,
        "dev_examples": 40, "max_steps": steps, "evaluations": 2,
    }  # fmt: skip
    recipe = validated(kind, settings)
    adapter = train_text(recipe)["adapter"]
    return (out / f"corrector-{task}" / adapter if adapter else None), recipe.model


if __name__ == "__main__":
    exits.run(main)
