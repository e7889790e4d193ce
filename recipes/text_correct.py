"""Correct a recogniser of one voice, or of many, by a language model, and say whether it helped.

    python recipes/text_correct.py me/manifest.jsonl runs/correct [task=preference]

Trains a speech adapter, and one for each fold, so that the corrector learns from errors on clips that were not trained
on; trains the corrector on those; and chooses on dev how sure a word must be to stay. "Never correct" is a choice.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from speechft import load
from speechft.check import usable
from speechft.config import SpeechRecipe
from speechft.files import write_text
from speechft.split import auto_split
from speechft.text import correct
from speechft.text.config import PreferenceRecipe, SftRecipe, TextRecipe
from speechft.text.model import load_text_model
from speechft.text.pipeline import train as train_text
from speechft.train import fit


def main(manifest_path: str, out: Path, task: str = "sft") -> None:
    manifest, _ = usable(manifest_path)
    manifest = auto_split(manifest)
    parts = {name: manifest.split(name) for name in manifest.splits}
    speech = SpeechRecipe(manifest=Path(manifest_path), output_dir=out / "speech")
    whole = fit(speech, parts["train"], parts["dev"])

    heard = {"train": correct.cross_validated(speech, parts["train"], parts["dev"], out / "folds")}
    recogniser = load(speech.model, whole.adapter)
    for name in parts.keys() & {"dev", "test"}:
        heard[name] = correct.listen(recogniser, parts[name])

    rows = correct.preference_rows if task == "preference" else correct.answer_rows
    lines = [row for name in ("train", "dev") for row in rows(heard[name], name)]
    data = write_text(out / "rows.jsonl", (json.dumps(row, ensure_ascii=False) + "\n" for row in lines))
    kind: type[TextRecipe] = PreferenceRecipe if task == "preference" else SftRecipe
    recipe = kind(data=str(data), output_dir=out / "corrector", max_length=384, test=False, dev_examples=40)
    adapter = train_text(recipe)["adapter"]

    text = load_text_model(recipe.model, adapter=out / "corrector" / adapter if adapter else None)
    level, rates = correct.best_level(heard["dev"], correct.propose(text, heard["dev"]))
    print("dev:", {at: f"{rate:.1%}" for at, rate in rates.items()}, "-> level", level)
    final = heard.get("test", heard["dev"])
    result = correct.report(final, correct.propose(text, final), level)
    write_text(out / "result.json", json.dumps({"dev": rates, **result}, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *(argument.removeprefix("task=") for argument in sys.argv[3:]))
