"""A voice that has been recorded little: how much of what training changed should be kept?

    python benchmarks/few_clips.py MANIFEST OUT [--split dev] [--speakers 20] [--steps 60]

For one speaker of the split after another, a personal adapter is trained on two fifths of the sentences, and looked at
with a quarter, half, three quarters and all of its strength after the last step, so that nothing is chosen. The other
sentences are tested on. One table: each strength and the base model against the whole adapter, paired, over speakers.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from hyperparameters import Blind

from speechft import exits
from speechft.adapter_scale import set_scale
from speechft.check import usable
from speechft.config import SpeechRecipe
from speechft.evaluate import evaluate_model
from speechft.files import write_json, write_text
from speechft.manifest import Manifest
from speechft.markdown import markdown_table
from speechft.numbers_as_text import percent
from speechft.recogniser import load
from speechft.report import plain
from speechft.report_comparison import comparison
from speechft.scored import Scored
from speechft.scoring import Scores
from speechft.split import split_by_prompt
from speechft.study import compared

STRENGTHS = (0.25, 0.5, 0.75, 1.0)
TESTED = 0.6  # of a speaker's sentences


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--split", default="dev")
    parser.add_argument("--speakers", type=int, default=20)
    parser.add_argument("--steps", type=int, default=60)
    a = parser.parse_args()
    part = usable(a.manifest)[0].split(a.split)
    base = load()
    rows: dict[str, list[Scored]] = {}
    for name in part.speakers[: a.speakers]:
        own = split_by_prompt(part.filter(lambda u, name=name: u.speaker == name), dev=0.0, test=TESTED)
        recipe = SpeechRecipe(
            manifest=a.manifest, output_dir=a.out / name, min_steps=a.steps, max_steps=a.steps, average=False
        )
        made = trained(recipe, own.split("train"), own.split("test"))
        made["base"] = base.evaluate(own.split("test")).scores
        for arm, scores in made.items():
            rows.setdefault(arm, []).extend(scores.rows)
        print(name, *(f"{arm} {percent(scores.wer)}" for arm, scores in made.items()), sep="  ", flush=True)
    write(a.out, {arm: Scores(tuple(found), scores.normalizer) for arm, found in rows.items()})


def trained(recipe: SpeechRecipe, train: Manifest, test: Manifest) -> dict[str, Scores]:
    """What the adapter makes of the test clips at each strength."""
    recipe.output_dir.mkdir(parents=True, exist_ok=True)
    run = Blind(recipe, train, test[:1], lambda event: None)
    run.go({}, base=(1.0, 1.0))
    run.whisper.model.eval()
    found = {}
    for strength in STRENGTHS:
        set_scale(run.whisper.model, strength)
        found[f"{strength:g}"] = evaluate_model(run.whisper, test).scores
    return found


def write(out: Path, arms: dict[str, Scores]) -> None:
    found = compared(arms, f"{STRENGTHS[-1]:g}")
    head, *rows = comparison(found)
    table = markdown_table(head, rows)
    write_text(out / "strengths.md", table)
    write_json(out / "strengths.json", plain(found))
    print(table)


if __name__ == "__main__":
    exits.run(main)
