"""Which variation of recordings helps: one training a kind, paired against training without, on real test clips.

    python recipes/augmentation_ablation.py me/manifest.jsonl runs/ablation --kinds tempo noise impairment
    python recipes/augmentation_ablation.py me/manifest.jsonl runs/ablation --set max_steps=100

`none` is trained on the recordings alone, for as many steps as the others; `frames` is the variation of log-mel frames
that `speechft train` uses by itself. Test clips are never varied. p values are corrected for the number of kinds
(Holm).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from speechft import exits
from speechft.augment_audio import EFFECTS
from speechft.augmented import augment_manifest, check_kinds
from speechft.config import AugmentSettings
from speechft.overlap import overlap
from speechft.own_results import refuse_foreign_results
from speechft.recipes import load_recipe
from speechft.study import all_left_out, base_arm, cautions, parts_apart, study_data, trained_arm, write_study


def main(manifest_path: Path, out: Path, kinds: list[str], settings: list[str]) -> dict:
    check_kinds(kinds)
    refuse_foreign_results(out)
    recipe = load_recipe(None, [*settings, f"manifest={manifest_path}", f"output_dir={out}"])
    manifest, left_out = study_data(recipe)
    train, dev, test = parts_apart(manifest).values()
    recipe = recipe.model_copy(update={"augment": None})
    # As many steps for everybody: a copy of each clip doubles an epoch, and more steps alone could be what helps.
    steps = recipe.max_steps or max(recipe.min_steps, 2 * recipe.epochs * len(train) // recipe.batch_size)
    fair = {"max_steps": steps, "min_steps": steps}
    shared = overlap(manifest)
    print(*cautions(test, manifest, shared), sep="\n", flush=True)
    base = base_arm(recipe, train, test)
    arms = {}
    for name in ("none", "frames", *kinds):
        clips = train
        if name in EFFECTS:
            more = augment_manifest(train, out / "sound" / name / "manifest.jsonl", [name], seed=recipe.seed)
            clips = more.split("train")
        varied = AugmentSettings() if name == "frames" else None
        arm_recipe = recipe.model_copy(update={**fair, "output_dir": out / name, "augment": varied})
        arms[name] = trained_arm(arm_recipe, clips, dev, test, base)
        print(f"{name:14} {len(clips):5} clips, {arms[name].evaluation.scores.wer:.1%} of the words wrong", flush=True)
    arms = {"base": base, **arms}
    scores = {name: arm.evaluation.scores for name, arm in arms.items()}
    left_out = all_left_out(left_out, arms)
    return write_study(out, "Augmentation", recipe, scores, "none", test, manifest, shared, left_out, steps=steps)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--kinds", nargs="+", default=list(EFFECTS))
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="KEY=VALUE", help="of the recipe, as in `speechft train`"
    )
    given = parser.parse_args()
    exits.run(lambda: main(given.manifest, given.out, given.kinds, given.set))
