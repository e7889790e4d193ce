"""From a recipe to a report: the whole way of one training run, and of one evaluation."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from speechft import distributed, memory
from speechft.adapters import base_hash
from speechft.comparison import adapter_names
from speechft.conditions import Conditions
from speechft.config import SpeechRecipe
from speechft.errors import SpeechftError
from speechft.evaluate import told
from speechft.events import OnEvent
from speechft.left_out import listed, tell_errors
from speechft.manifest import Manifest
from speechft.normalize import knows_language, language_code
from speechft.overlap import Overlap, overlap
from speechft.own_results import refuse_foreign_results, results_folder, writes_results
from speechft.paired import compare
from speechft.recogniser import Recogniser, cards_of, load
from speechft.report import write_report
from speechft.report_data import recordings
from speechft.result import (
    environment,
    forgetting,
    notice,
    read_metrics,
    shared_parts,
    simulated,
    summary,
    training_caveats,
    training_summary,
)
from speechft.result_schema import FORMAT
from speechft.row_problems import ANY_LANGUAGE, named_words_problems
from speechft.scoring_notes import speaking
from speechft.seen import Seen, learnt_from
from speechft.semantic import semantic
from speechft.sources import resolve
from speechft.split import auto_split, usual_splits
from speechft.split_files import about_split, usable_rows
from speechft.train import fit
from speechft.trained_on import THE_BASE, read_first


def train(
    recipe: SpeechRecipe,
    *,
    on_event: OnEvent = lambda event: None,
    title: str = "",
    embed_audio_mb: float = 0.0,
) -> dict[str, Any]:
    """Run a speech recipe: split, train, evaluate base and adapter on clips never trained on, and report.

    Args:
        recipe: see `speechft.config.SpeechRecipe`.
        on_event: called as it goes; see `speechft.train.fit`.
        title: of the report.
        embed_audio_mb: recordings that go into the report, at most; the rest is linked.

    Returns:
        what OUT/result.json holds: `base` and `adapted` scores, `difference`, `adapter` (None where no trained state
        beat the base model), `evaluated_on`, `overlap`, `leakage`, `left_out`, `training`, `recipe`, `environment`.
        Of several processes the first returns it, the others nothing.

    Raises:
        SpeechftError: the manifest, the recipe or the model is wrong, or another run is at work in the folder.
    """
    manifest, left_out = prepared(recipe, on_event)
    refuse_foreign_results(recipe.output_dir, recipe.adapter.saved_as)  # in every process, so that all end
    # `fit` has a lock of its own, which ends too early: the adapter has to stay until it is evaluated
    with results_folder(recipe.output_dir if distributed.is_first() else None, recipe.adapter.saved_as):
        return _trained_and_reported(recipe, manifest, left_out, on_event, title, embed_audio_mb)


def _trained_and_reported(
    recipe: SpeechRecipe,
    manifest: Manifest,
    left_out: dict[str, str],
    on_event: OnEvent,
    title: str,
    embed_audio_mb: float,
) -> dict[str, Any]:
    """What `train` does once the data are known; arguments and result as there."""
    out = Path(recipe.output_dir)
    split = "test" if recipe.test and "test" in manifest.splits else "dev"
    base_cards = cards_of(recipe.model).values()  # one, if it is a model of ours
    learnt = learnt_from({THE_BASE: Seen.by(base_cards)} if base_cards else {}, manifest.split(split), split)
    shared = Overlap((*learnt.pairs, *overlap(manifest).pairs), learnt.unknown)
    on_event(
        {
            "event": "splits",
            "overlap": str(shared),
            **{name: len(manifest.split(name)) for name in manifest.splits},
        }
    )
    train_part, dev = manifest.split("train"), manifest.split("dev")
    about_data = {
        "manifest_sha256": manifest.sha256,
        "split_file": about_split(recipe.split_file) if recipe.split_file else None,
        "train_clips": len(train_part),
        "train_minutes": round(train_part.seconds / 60, 1),
        "speakers": len(train_part.speakers),
        "simulated": simulated(manifest),
        "synthetic_train_clips": sum(u.is_synthetic for u in train_part),
    }
    trained = fit(recipe, train_part, dev, on_event=on_event, card={"data": about_data}, scored=manifest.split(split))

    if not distributed.is_first():
        return {}
    gc.collect()  # the training model and its optimiser hold each other
    memory.release()
    on_event({"event": "final evaluation", "split": split})
    held_out, usual = manifest.split(split), Conditions(normalizer=recipe.normalizer)
    base = trained.base if split == "dev" and len(dev) <= recipe.dev_clips and not recipe.adapter.quantize else None
    if base is None:  # not these clips, or not these weights, or decoded before this run was resumed
        base = usual.hear(load(recipe.model, language=trained.language), held_out, on_event)
    adapted = base
    if trained.adapter:
        adapted = usual.hear(load_trained(recipe, trained.adapter), held_out, on_event)
    left_out |= trained.progress.left_out | base.unreadable
    held_out = base.heard
    result = {
        "notice": notice(held_out, manifest),
        "format": FORMAT,
        "task": "speech",
        "model": recipe.model,
        "model_sha256": base_hash(resolve(recipe.model)),
        "adapter": str(trained.adapter.relative_to(out)) if trained.adapter else None,
        "adapter_sha256": base_hash(trained.adapter) if trained.adapter else None,
        "kept": trained.adapter.name if trained.adapter else "base",
        "evaluated_on": {
            "split": split,
            "chosen_on": "dev",
            "clips": len(held_out),
            "speakers": speaking(base.scores.per_speaker),
        },
        "base": summary(base),
        "adapted": summary(adapted),
        "difference": compare(base.scores, adapted.scores),
        "overlap": str(shared),
        "leakage": shared.to_dict(),
        "left_out": listed(left_out.items()),
        "data": about_data,
        "training": training_summary(trained),
        "recipe": recipe.model_dump(mode="json"),
        "environment": environment(),
    }
    in_common = shared_parts(str(shared), shared.to_dict(), len(manifest.voices))
    write_report(
        out,
        result,
        base.scores,
        adapted.scores,
        audio=recordings(held_out),
        metrics=read_metrics(out / "metrics.jsonl"),
        title=title or f"{recipe.model} adapted",
        notes=read_first(result),
        caveats=[*training_caveats(result), *in_common],
        embed_audio_mb=embed_audio_mb,
    )
    return result


def prepared(recipe: SpeechRecipe, on_event: OnEvent = lambda event: None) -> tuple[Manifest, dict[str, str]]:
    """The usable rows of a recipe's manifest and speakers, split; and the rows left out, with the reason.

    Raises:
        SpeechftError: the manifest is wrong, too small to be split, has no utterance of these speakers, or a row that
            will be scored has a `command` or `entities` that are not in its text.
    """
    manifest, problems = usable_rows(recipe.manifest, recipe.split_file, recipe.allow_outside)
    left_out = tell_errors(on_event, problems)
    manifest = usual_splits(manifest)  # before speakers are chosen: a name's meaning depends on the other splits
    if recipe.speakers is not None:
        wanted = known_speakers(recipe, manifest, recipe.speakers)
        manifest = manifest.filter(lambda u: u.speaker in wanted)
    manifest = auto_split(manifest, seed=recipe.seed)
    dev, languages = manifest.split("dev"), list(_languages_told(recipe, manifest))
    for rows in (dev.spread(recipe.dev_clips), dev, manifest.split("test")):  # what is scored: before the work
        for problem in named_words_problems(rows, languages, recipe.normalizer):
            raise SpeechftError(problem.what, where=problem.where, fix=problem.fix)
    return manifest, left_out


def _languages_told(recipe: SpeechRecipe, manifest: Manifest) -> Iterable[str | None]:
    """What the model may be told to hear, before `speechft.language.in_one_language` has said what it is."""
    if recipe.language:
        return [recipe.language]
    named = {language_code(u.language) for u in manifest.split("train") if u.language and knows_language(u.language)}
    return (named if len(named) == 1 else [None]) if named else ANY_LANGUAGE


def known_speakers(recipe: SpeechRecipe, manifest: Manifest, wanted: Iterable[str]) -> set[str]:
    """The speakers asked for.

    Raises:
        SpeechftError: the recipe's manifest has no utterance of one.
    """
    if unknown := set(wanted) - set(manifest.speakers):
        what = f"has no utterance of speaker {', '.join(sorted(unknown))}"
        raise SpeechftError(what, where=recipe.manifest, fix="Write the names as they are in its rows.")
    return set(wanted)


@writes_results
def evaluate(
    manifest: str | Path | Manifest,
    *,
    model: str | None = None,
    adapter: str | Path | None = None,
    against_base: bool = True,
    nli: str | Path | None = None,
    bert: str | Path | None = None,
    out: str | Path | None = None,
    embed_audio_mb: float = 0.0,
    on_event: OnEvent = lambda event: None,
    **conditions: Any,
) -> dict[str, Any]:
    """Error rates of a model or adapter on a manifest, and against its own base.

    Args:
        manifest: a path, or utterances.
        model, adapter: see `speechft.load`.
        against_base: with an adapter, evaluate the base too and give the paired difference.
        nli, bert: folders of SemScore's models; see `speechft.semantic`.
        out: a folder for result.json, report.md and report.html.
        embed_audio_mb: of recordings that the page itself holds, see `speechft.report.write_report`.
        on_event: called as it goes; see `speechft.evaluate.evaluate_model`.
        conditions: `split`, `split_file`, `allow_outside`, `typical`, `language`, `context`, `beams`, `normalizer`; see
            `speechft.conditions.Conditions`.

    Returns:
        the scores (`wer`, ..., `per_speaker`, `per_group`), `model`, `adapter`, `real_time_factor`, `difference`,
        `semantic`, `forgetting`, what the splits of the whole manifest share (`overlap`, `leakage`), rows that could
        not be used (`left_out`) and what a reader must know besides (`caveats`).

    Raises:
        SpeechftError: manifest, model or adapter is wrong, or there is nothing to evaluate on.
    """
    under = Conditions(**conditions)
    if under.typical is not None and not adapter:
        raise SpeechftError("--typical measures what an adapter costs on typical speech", fix="Give --adapter too.")
    rows, typical = under.rows(manifest, cards_of(model, adapter), on_event)
    recogniser = load(model, adapter, language=under.language)
    spoken, compared = told(recogniser.whisper), bool(adapter and (against_base or typical))
    plain = load(recogniser.whisper.name, language=recogniser.whisper.language) if compared else recogniser
    under, on_typical = (
        under.settled(part.chosen, [spoken, told(plain.whisper)]) if part else under for part in (rows, typical)
    )
    found = under.hear(recogniser, rows.chosen, on_event)
    base = kept = None
    if adapter and against_base:
        base = replace(under.after(found), context=None).hear(plain, found.heard, on_event)
    if typical:
        before = replace(on_typical, context=None).hear(plain, typical.chosen, on_event)
        kept = forgetting(before, on_typical.hear(recogniser, typical.chosen, on_event), typical)
    result = {
        "notice": notice(found.heard),
        "format": FORMAT,
        **summary(found),
        "adapter": str(adapter) if adapter else None,
        **under.settings_of(recogniser),
        "split": rows.split,
        **rows.facts(found, recogniser.notes),
        "base": summary(base) if base else None,
        "difference": compare(base.scores, found.scores) if base else None,
        "forgetting": kept,
        "semantic": semantic(found.scores, nli, bert, language=spoken),
        "environment": environment(),
    }
    if out:
        write_report(
            Path(out),
            result,
            base.scores if base else None,
            found.scores,
            audio=recordings(rows.chosen),
            title=f"{_evaluated(result)} on {rows.split or 'all'}",
            notes=read_first(result),
            caveats=result["caveats"],
            embed_audio_mb=embed_audio_mb,
        )
    return result


def _evaluated(result: Mapping[str, Any]) -> str:
    """What was evaluated, for a title: the model, or the adapter and of which model."""
    if not result["adapter"]:
        return str(result["model"])
    (name,) = adapter_names([Path(result["adapter"])])
    return f"{name} (adapter of {result['model']})"


def load_trained(recipe: SpeechRecipe, folder: Path) -> Recogniser:
    """The model a run left in its output folder, an adapter or a whole model."""
    whole = recipe.adapter.method == "full"
    if whole:
        return load(folder, language=recipe.language)
    return load(recipe.model, folder, language=recipe.language, quantize=recipe.adapter.quantize)
