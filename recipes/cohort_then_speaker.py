"""Many speakers first, then one: is a personal adapter better when it starts from a cohort's?

    python recipes/cohort_then_speaker.py corpus/manifest.jsonl runs/cohort --speakers 8

For speakers that the cohort does not hold, each with a few sentences to train on and others to test on, it compares
    base      the model as it is
    direct    a personal adapter on the base model
    cohort    one adapter trained on the other speakers, none of this one's clips
    then      a personal adapter on the cohort's model
    average   the mean of the cohort's and the direct adapter
and writes one table, each arm paired with `direct`, over speakers.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from speechft import adapters, exits
from speechft.adapter_arithmetic import average
from speechft.config import SpeechRecipe
from speechft.errors import SpeechftError
from speechft.fleet import folder_of
from speechft.manifest import Manifest
from speechft.overlap import overlap
from speechft.own_results import refuse_foreign_results
from speechft.recipes import load_recipe
from speechft.recogniser import load
from speechft.scoring import Scores
from speechft.sources import resolve
from speechft.split import split_by_prompt
from speechft.study import Arm, all_left_out, base_arm, cautions, parts_apart, study_data, trained_arm, write_study

SHARES = {"dev": 0.2, "test": 0.4}  # of a speaker's sentences


def main(
    manifest_path: Path, out: Path, n_speakers: int, personal_steps: int, settings: list[str], given: Path | None = None
) -> dict:
    refuse_foreign_results(out)
    recipe = load_recipe(None, [*settings, f"manifest={manifest_path}", f"output_dir={out / 'cohort'}"])
    manifest, left_out = study_data(recipe)
    train, choose, targets, too_few = cohort_and_targets(manifest, n_speakers)
    for who, reason in too_few.items():
        print(f"left out {who}: {reason}", flush=True)
    left_out |= too_few
    # What is trained on in either stage against what is tested; that the speakers are shared is the point.
    shared = overlap(Manifest([*train, *(u for speaker in targets for u in speaker)], manifest.path))
    everyone = Manifest([u for speaker in targets for u in tested(speaker)], manifest.path)
    print(*cautions(everyone, manifest, shared), sep="\n", flush=True)

    # 1. The cohort: one adapter for everybody but the targets; merged, it is the base of the second stage.
    if given:
        cohort = Arm(given, load(recipe.model, given).evaluate(everyone, recipe.normalizer))
    else:
        cohort = trained_arm(recipe, train, choose, everyone, base_arm(recipe, train, everyone))
    left_out = all_left_out(left_out, {"cohort": cohort})
    cohort_model = merged(recipe, cohort.adapter, out / "cohort_model") if cohort.adapter else None
    print(f"cohort of {len(train.speakers)}: {cohort.evaluation.scores.wer:.1%} on the others", flush=True)

    # 2. One speaker at a time.
    rows: dict[str, list] = {}
    for speaker in targets:
        arms = personal_arms(recipe, speaker, out, personal_steps, cohort, cohort_model)
        left_out = all_left_out(left_out, {f"{speaker[0].speaker}, {name}": arm for name, arm in arms.items()})
        for name, arm in arms.items():
            rows.setdefault(name, []).extend(arm.evaluation.scores.rows)
        shown = ", ".join(f"{name} {arm.evaluation.scores.wer:.1%}" for name, arm in arms.items())
        print(f"{speaker[0].speaker}: {shown}", flush=True)
    normalizer = cohort.evaluation.scores.normalizer
    scores = {name: Scores(tuple(r), normalizer) for name, r in rows.items()}
    return write_study(out, "Cohort, then speaker", recipe, scores, "direct", everyone, manifest, shared, left_out)


def cohort_and_targets(
    manifest: Manifest, n_speakers: int
) -> tuple[Manifest, Manifest, list[Manifest], dict[str, str]]:
    """Who the cohort is trained on, whose clips choose its best state, each target speaker split by sentence, and the
    speakers with too few sentences for that, with the reason.

    Targets are speakers of test, else of half of dev; none of them is in the cohort, nor chooses its state.
    """
    train, dev, test = parts_apart(manifest).values()
    names = [name for name in test.speakers if name not in train.speakers]
    if not names:
        raise SpeechftError("no speaker of test is absent from train", where=manifest.path, fix="Split by speaker.")
    targets: dict[str, Manifest] = {}
    left_out: dict[str, str] = {}
    for name in names:
        if len(targets) == n_speakers:
            break
        own = Manifest([u for u in manifest if u.speaker == name], manifest.path)
        try:
            targets[name] = split_by_prompt(own, dev=SHARES["dev"], test=SHARES["test"])
        except SpeechftError as error:
            left_out[f"speaker {name}"] = error.what
    if not targets:
        what, why = "no speaker of test has enough sentences", "; ".join(f"{k}: {v}" for k, v in left_out.items())
        raise SpeechftError(what, where=manifest.path, fix=f"{why}.")
    dev = dev.filter(lambda u: u.speaker not in targets)
    if not len(dev):
        fix = "Take fewer --speakers, or give dev speakers of its own."
        raise SpeechftError("every speaker of dev is one to be adapted to", where=manifest.path, fix=fix)
    return train, dev, list(targets.values()), left_out


def tested(speaker: Manifest) -> Manifest:
    return speaker.split("test")


def merged(recipe: SpeechRecipe, adapter: Path, out: Path) -> Path:
    """The cohort's adapter folded into the model: a whole folder that training can start from."""
    recogniser = load(recipe.model, adapter, language=recipe.language)
    card = {key: value for key, value in adapters.read_card(adapter).items() if key in ("context", "language", "seen")}
    return adapters.save(adapters.merge(recogniser.whisper.model), out, card, recipe.model, resolve(recipe.model))


def personal_arms(
    recipe: SpeechRecipe, speaker: Manifest, out: Path, steps: int, cohort: Arm, cohort_model: Path | None
) -> dict[str, Arm]:
    """Every condition for one speaker, on that speaker's test sentences."""
    train, dev, test = (speaker.split(name) for name in ("train", "dev", "test"))
    folder = folder_of(speaker[0].speaker)
    update = {"max_steps": steps, "min_steps": steps, "epochs": 1}
    direct_recipe = recipe.model_copy(update={**update, "output_dir": out / "direct" / folder})
    base = base_arm(direct_recipe, train, test)
    arms = {"base": base, "direct": trained_arm(direct_recipe, train, dev, test, base)}
    arms["cohort"] = base
    if cohort.adapter and cohort_model:
        arms["cohort"] = Arm(cohort.adapter, load(recipe.model, cohort.adapter).evaluate(test, recipe.normalizer))
        then = recipe.model_copy(update={**update, "model": str(cohort_model), "output_dir": out / "then" / folder})
        arms["then"] = trained_arm(then, train, dev, test, arms["cohort"])
    if cohort.adapter:
        arms["average"] = averaged(recipe, arms, out / "average" / folder, test)
    return arms


def averaged(recipe: SpeechRecipe, arms: Mapping[str, Arm], out: Path, test: Manifest) -> Arm:
    """The mean of the cohort's and the direct adapter; the cohort's alone where there is no direct one."""
    both = [arms[name].adapter for name in ("cohort", "direct") if arms[name].adapter]
    if len(both) < 2:
        return arms["cohort"]
    average(both, [0.5, 0.5], out)
    return Arm(out, load(recipe.model, out).evaluate(test, recipe.normalizer))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--speakers", type=int, default=8, help="targets at most")
    parser.add_argument("--personal-steps", type=int, default=40)
    parser.add_argument("--cohort", type=Path, help="an adapter of a cohort, instead of training one")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="KEY=VALUE", help="of the recipe, as in `speechft train`"
    )
    given = parser.parse_args()
    exits.run(lambda: main(given.manifest, given.out, given.speakers, given.personal_steps, given.set, given.cohort))
