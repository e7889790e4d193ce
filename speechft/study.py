"""What studies are made of: one arm of an experiment, training sets of a given length, and the report of all arms."""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from speechft import memory
from speechft.config import SpeechRecipe
from speechft.errors import SpeechftError
from speechft.evaluate import Evaluation, evaluate_model
from speechft.events import OnEvent
from speechft.language import in_one_language
from speechft.left_out import listed
from speechft.manifest import Manifest
from speechft.markdown import markdown_table
from speechft.overlap import Overlap
from speechft.own_results import refuse_foreign_results
from speechft.paired import compare_all, compare_pairs
from speechft.pipeline import load_trained, prepared
from speechft.recogniser import load
from speechft.report import plain, write_report
from speechft.report_comparison import comparison
from speechft.report_data import recordings
from speechft.result import environment, notice, shared_parts
from speechft.scoring import Scores
from speechft.scoring_notes import speaking
from speechft.split import sentence_key
from speechft.split_files import about_split
from speechft.train import fit
from speechft.trained_on import read_first


@dataclass(frozen=True)
class Arm:
    """One trained condition.

    Attributes:
        adapter: its folder; None where no trained state beat the base model.
        evaluation: on the test clips; of the base model where there is no adapter.
        left_out: rows that could not be trained on or heard, such as copies of over 30 s, with the reason.
    """

    adapter: Path | None
    evaluation: Evaluation
    left_out: Mapping[str, str] = field(default_factory=dict)


def study_data(recipe: SpeechRecipe) -> tuple[Manifest, dict[str, str]]:
    """The rows of a recipe as `speechft train` takes them; the ones left out and what is cut off are printed."""
    return prepared(recipe, lambda event: print(f"{event['event']} {event['where']}: {event['reason']}", flush=True))


def base_arm(recipe: SpeechRecipe, train: Manifest, test: Manifest) -> Arm:
    """The untrained model on the test clips, told the language that training on `train` would tell it."""
    whisper = in_one_language(load(recipe.model, language=recipe.language).whisper, train)
    return Arm(None, evaluate_model(whisper, test, recipe.normalizer))


def trained_arm(
    recipe: SpeechRecipe,
    train: Manifest,
    dev: Manifest,
    test: Manifest,
    base: Arm,
    on_event: OnEvent = lambda event: None,
) -> Arm:
    """Train on `train`, choose on `dev`, evaluate on `test`.

    Args:
        recipe: its output_dir is the arm's own; a run that was cut off there goes on.
        base: what counts where nothing trained is better on dev.
    """
    trained = fit(recipe, train, dev, on_event=on_event)
    gc.collect()
    memory.release()
    if trained.adapter is None:
        return replace(base, left_out={**base.left_out, **trained.progress.left_out})
    found = load_trained(recipe, trained.adapter).evaluate(test, recipe.normalizer)
    return Arm(trained.adapter, found, trained.progress.left_out | found.unreadable)


def all_left_out(left_out: Mapping[str, str], arms: Mapping[str, Arm]) -> dict[str, str]:
    """Rows left out of a study: of the manifest, then those of single arms, whose name stands before the row."""
    more = {f"{name}: {where}": why for name, arm in arms.items() for where, why in arm.left_out.items()}
    return {**left_out, **more}


def minutes_of(manifest: Manifest, minutes: float, seed: int = 0) -> Manifest:
    """Clips that add up to about so many minutes; more minutes with the same seed hold the fewer.

    Raises:
        SpeechftError: the manifest is shorter than that.
    """
    manifest = manifest.with_durations()
    if manifest.seconds < 60 * minutes * 0.98:
        what = f"holds {manifest.seconds / 60:.1f} minutes, not {minutes:g}"
        raise SpeechftError(what, where=manifest.path, fix="Ask for fewer minutes.")
    order = sorted(manifest, key=lambda u: hashlib.sha256(f"{seed}\0{u.id}".encode()).digest())
    kept, left = set(), 60 * minutes
    for utterance in order:
        seconds = utterance.seconds or 0.0
        if left <= seconds / 2:
            break
        kept.add(utterance.id)
        left -= seconds
    return manifest.filter(lambda u: u.id in kept)


def parts_apart(manifest: Manifest, clips: int | None = None, held_out: int | None = None) -> dict[str, Manifest]:
    """train, dev and test; without a test split, half of dev is the test, so that no state is chosen on it.

    The halves share no speaker; where dev has one speaker only, no sentence.

    Args:
        clips: of train, at most.
        held_out: of dev and of test each, at most.

    Raises:
        SpeechftError: dev is one speaker's one sentence.
    """
    parts = {name: manifest.split(name) for name in ("train", "dev", "test")}
    if not len(parts["test"]):
        dev = parts["dev"]
        one_voice = len({u.speaker for u in dev}) == 1
        keys = {u.id: sentence_key(u.text) if one_voice else u.speaker or u.id for u in dev}
        units = sorted(set(keys.values()))
        if len(units) < 2:
            raise SpeechftError(
                "has no test split, and its dev split cannot be halved",
                where=manifest.path,
                fix="Add sentences to dev, or a test split.",
            )
        second = set(units[len(units) // 2 :])
        parts["dev"] = dev.filter(lambda u: keys[u.id] not in second)
        parts["test"] = Manifest((replace(u, split="test") for u in dev if keys[u.id] in second), manifest.path)
    return {name: part[: clips if name == "train" else held_out] for name, part in parts.items()}


def compared(arms: Mapping[str, Scores], reference: str) -> dict[str, Any]:
    """Arms of a study for a result, on the same utterances.

    Returns:
        `reference`: its name; `arms`: each one's scores, with the paired `difference` to the reference; `pairs`: every
        two of the others (`paired.compare_pairs`).
    """
    others = {name: scores for name, scores in arms.items() if name != reference}
    entries = {name: scores.to_dict() for name, scores in arms.items()}
    for name, difference in compare_all(arms[reference], others).items():
        entries[name]["difference"] = difference
    return {"reference": reference, "arms": entries, "pairs": compare_pairs(others)}


def cautions(tested: Manifest, manifest: Manifest, shared: Overlap) -> list[str]:
    """What a reader of a study's numbers must know: that nobody said it, and what its parts have in common.

    Args:
        tested, manifest, shared: see `write_study`.
    """
    in_common = shared_parts(str(shared), shared.to_dict(), len(manifest.voices))
    return [*_before_numbers(tested, manifest, shared), *in_common]


def _before_numbers(tested: Manifest, manifest: Manifest, shared: Overlap) -> list[str]:
    """What of it comes first; of a split that was trained on in part, the recordings that are tested count."""
    ids = {u.id for u in tested}
    trained = {name for pair in shared.pairs if pair.first == "train" for name in pair.audio} & ids
    pair = {"first": "train", "second": "test", "rows": len(tested), "audio": trained}
    return read_first({"notice": notice(tested, manifest), "evaluated_on": {"split": "test"}, "leakage": [pair]})


def write_study(
    out: Path,
    task: str,
    recipe: SpeechRecipe,
    arms: Mapping[str, Scores],
    reference: str,
    tested: Manifest,
    manifest: Manifest,
    shared: Overlap,
    left_out: Mapping[str, str],
    **more: Any,
) -> dict[str, Any]:
    """Write a study's result.json and report, all arms in a table and the best one in detail; print the table
    after what must be read first.

    Args:
        task: what the study is called.
        arms: by name; `reference` is the one that the others are compared with, and `before` in the report.
        tested: the clips that all arms were scored on.
        manifest: all that was used.
        shared: what its parts have in common.
        left_out: rows that could not be used, with the reason; see `all_left_out`.
        more: keys for the result.
    """
    refuse_foreign_results(out)
    result = {
        "notice": notice(tested, manifest),
        "task": task,
        "evaluated_on": {"clips": len(tested), "speakers": speaking(arms[reference].per_speaker)},
        **compared(arms, reference),
        **more,
        "overlap": str(shared),
        "leakage": shared.to_dict(),
        "left_out": listed(left_out.items()),
        "split_file": about_split(recipe.split_file) if recipe.split_file else None,
        "manifest_sha256": manifest.sha256,
        "recipe": recipe.model_dump(mode="json"),
        "environment": environment(),
    }
    best = min((name for name in arms if name != reference), key=lambda name: arms[name].wer)
    head, *rows = comparison(result)
    caveats = cautions(tested, manifest, shared)
    print(*caveats, markdown_table(head, rows), sep="\n\n")
    title = f"{task}: {reference} (before) against {best} (after)"
    audio = recordings(tested)
    notes = _before_numbers(tested, manifest, shared)
    write_report(
        out, plain(result), arms[reference], arms[best], audio=audio, title=title, notes=notes, caveats=caveats
    )
    return result
