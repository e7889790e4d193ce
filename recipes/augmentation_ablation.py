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
from speechft.check import usable
from speechft.config import AugmentSettings, load_recipe
from speechft.files import write_text
from speechft.overlap import overlap
from speechft.report import markdown_table, plain, write_report
from speechft.report_tables import percent
from speechft.result import environment, notice
from speechft.scoring import compare_all
from speechft.split import auto_split
from speechft.study import base_arm, paired_cells, parts_apart, trained_arm


def main(manifest_path: Path, out: Path, kinds: list[str], settings: list[str]) -> dict:
    check_kinds(kinds)
    manifest = auto_split(usable(manifest_path)[0])
    train, dev, test = parts_apart(manifest).values()
    recipe = load_recipe(None, [*settings, f"manifest={manifest_path}", f"output_dir={out}"])
    recipe = recipe.model_copy(update={"augment": None})
    # As many steps for everybody: a copy of each clip doubles an epoch, and more steps alone could be what helps.
    steps = recipe.max_steps or max(recipe.min_steps, 2 * recipe.epochs * len(train) // recipe.batch_size)
    fair = {"max_steps": steps, "min_steps": steps}
    shared = overlap(manifest)
    base = base_arm(recipe, test)
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
    scores = {name: arm.evaluation.scores for name, arm in arms.items()}
    differences = compare_all(scores["none"], {name: found for name, found in scores.items() if name != "none"})
    rows = [["base", percent(base.evaluation.scores.wer), "–", "–", "–"], ["none", percent(scores["none"].wer), *"–––"]]
    for name, found in differences.items():
        rows.append([name, percent(scores[name].wer), *paired_cells(found)])
    table = markdown_table(["Trained with", "WER", "Points against none", "its interval", "p, speakers (Holm)"], rows)
    result = {
        "notice": notice(test, manifest),
        "task": "augmentation ablation",
        "arms": {name: found.to_dict() for name, found in scores.items()},
        "against_none": differences,
        "steps": steps,
        "overlap": str(shared),
        "leakage": shared.to_dict(),
        "manifest_sha256": manifest.sha256,
        "recipe": recipe.model_dump(mode="json"),
        "environment": environment(),
    }
    best = min((name for name in scores if name != "none"), key=lambda name: scores[name].wer)
    notes = [result["notice"]] if result["notice"] else []
    title = f"Augmentation: without (before) against {best} (after)"
    write_report(out, plain(result), scores["none"], scores[best], title=title, notes=notes)
    write_text(out / "arms.md", table)
    print(table)
    return result


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
