"""How many minutes of recordings are worth it: word errors against minutes of training speech, with intervals.

    python recipes/dose_curve.py me/manifest.jsonl runs/dose --minutes 1 2 5 10 20
    python recipes/dose_curve.py me/manifest.jsonl runs/dose --minutes 2 8 --set max_steps=100 model=bundled:base

Every dose is trained on `--repeats` different choices of clips; larger doses hold the smaller ones. Writes result.json
and a report with the curve, and a table of the doses, each in its first choice; a study that was cut off goes on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from speechft import exits
from speechft.overlap import overlap
from speechft.own_results import refuse_foreign_results
from speechft.paired import compare
from speechft.recipes import load_recipe
from speechft.scoring import finite, total
from speechft.significance import bootstrap_ci
from speechft.study import (
    Arm,
    all_left_out,
    base_arm,
    cautions,
    minutes_of,
    parts_apart,
    study_data,
    trained_arm,
    write_study,
)

NONE = "no training"


def main(manifest_path: Path, out: Path, minutes: list[float], repeats: int, settings: list[str]) -> dict:
    refuse_foreign_results(out)
    base_recipe = load_recipe(None, [*settings, f"manifest={manifest_path}", f"output_dir={out}"])
    manifest, left_out = study_data(base_recipe)
    train, dev, test = parts_apart(manifest).values()
    shared = overlap(manifest)
    print(*cautions(test, manifest, shared), sep="\n", flush=True)
    base = base_arm(base_recipe, train, test)
    points, firsts = [point(0.0, [base], base)], {NONE: base.evaluation.scores}
    trained = {NONE: base}
    everything = round(train.seconds / 60, 2)
    for dose in [*(m for m in sorted(minutes) if m < everything), everything]:
        arms = []
        for repeat in range(repeats if dose < everything else 1):
            clips = minutes_of(train, dose, seed=repeat)
            recipe = base_recipe.model_copy(update={"output_dir": out / f"{dose:g}min-{repeat}", "seed": repeat})
            arms.append(trained_arm(recipe, clips, dev, test, base))
            trained[f"{dose:g} min, choice {repeat}"] = arms[-1]
            wer = arms[-1].evaluation.scores.wer
            print(f"{dose:6.2f} min, choice {repeat}: {len(clips):4} clips, {wer:.1%} of the words wrong", flush=True)
        points.append(point(dose, arms, base))
        firsts[f"{dose:g} min"] = arms[0].evaluation.scores
    name, left_out = "Minutes of recordings", all_left_out(left_out, trained)
    return write_study(out, name, base_recipe, firsts, NONE, test, manifest, shared, left_out, dose_curve=points)


def point(minutes: float, arms: list[Arm], base: Arm) -> dict:
    """One dose: the rate over all its choices of clips, its interval over speakers, and the difference to the base.

    A sentence heard by the models of several choices is drawn as one, since it is no new sentence.
    """
    scores = [arm.evaluation.scores for arm in arms]
    of_clips = [total(row.words for row in rows) for rows in zip(*(one.rows for one in scores), strict=True)]
    low, high = bootstrap_ci(of_clips, scores[0].speakers)
    difference = compare(base.evaluation.scores, scores[0])
    return {
        "minutes": minutes,
        "wer": finite(total(of_clips).rate),
        "wer_ci95": [finite(low), finite(high)],
        "wers": [one.wer for one in scores],
        "adapters": sum(arm.adapter is not None for arm in arms),
        "difference_of_first": {key: difference[key] for key in ("wer", "wer_ci95", "p_speakers", "p_mapsswe")},
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, nargs="+", default=[1, 2, 5, 10, 20, 40])
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="KEY=VALUE", help="of the recipe, as in `speechft train`"
    )
    given = parser.parse_args()
    exits.run(lambda: main(given.manifest, given.out, given.minutes, given.repeats, given.set))
