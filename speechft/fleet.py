"""One adapter a speaker, many at a time: a Ray task each, on this machine or a cluster.

What Ray does: where and when a task runs, and that one whose worker dies is run again. What a run does anyway: it goes
on from its last checkpoint. What is left is here: who is done already, and one table of all.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from speechft import exits
from speechft.checkpoint import append_metrics
from speechft.cluster import cluster, reason
from speechft.config import SpeechRecipe
from speechft.errors import SpeechftError
from speechft.events import Event, OnEvent
from speechft.files import read_text, write_json, write_text
from speechft.locks import locked
from speechft.markdown import markdown_table
from speechft.marks import FILE, marked, with_absolute_paths
from speechft.normalize import unit
from speechft.numbers_as_text import percent
from speechft.own_results import refuse_foreign_file, refuse_foreign_results
from speechft.pipeline import known_speakers, prepared, train
from speechft.report_data import for_display
from speechft.result import shared_parts
from speechft.result_schema import TrainingResult
from speechft.split import usual_splits
from speechft.split_files import usable_rows

OWN = ("fleet.json", "fleet.md")
OF_A_FLEET = ('"without_adapter":', "| adapted WER |")  # what each of the two is known by
OF_SCORES = ("wer", "cer", "n_utterances", "n_words", "normalizer")
# what a result does not depend on, or only by the rows' hash
IRRELEVANT = marked(SpeechRecipe, FILE) | {"allow_outside", "tracking", "search"}


def fleet(
    recipe: SpeechRecipe,
    *,
    speakers: Sequence[str] | None = None,
    address: str | None = None,
    cpus: float = 1,
    gpus: float = 0,
    retries: int = 3,
    on_event: OnEvent = lambda event: None,
) -> dict[str, Any]:
    """Train an adapter for each speaker of a manifest.

    A speaker whose result.json is of the same recipe and recordings is done. All machines of a cluster must see the
    manifest, the recordings and the output folder under the same paths.

    Args:
        recipe: of every speaker; its `output_dir` gets fleet.json, fleet.md, and a folder a speaker.
        speakers: of the manifest; unless given, everybody who is not in dev or test alone.
        address: of a running Ray cluster, such as `auto` or `ray://host:10001`; a cluster on this machine, gone at
            the end, unless given.
        cpus, gpus: that a speaker's run takes up; their shares of the machines decide how many run at a time.
        retries: of a run whose worker died.
        on_event: called with `{"event": "speaker", ...}` at the end of each.

    Returns:
        what fleet.json holds: `speakers`, each with its scores or its `error` (and `crashed`, where that is not one of
        its data), and `pooled` over all of them.

    Raises:
        SpeechftError: the manifest, the recipe or a speaker's name is wrong, the cluster is out of reach, or a file
            would be replaced that is not of a fleet.
    """
    if recipe.task != "speech":
        raise SpeechftError("a fleet trains speech recipes only", fix="Train text recipes with 'speechft train'.")
    manifest, _ = usable_rows(recipe.manifest, recipe.split_file, recipe.allow_outside)
    manifest = usual_splits(manifest)
    with_training_rows = manifest.filter(lambda u: u.split in (None, "train")).speakers
    chosen = list(speakers or recipe.speakers or with_training_rows)
    known_speakers(recipe, manifest, chosen)
    if not chosen:
        raise SpeechftError("no training row names a speaker", where=recipe.manifest, fix="Add a 'speaker' field.")
    out = Path(recipe.output_dir).resolve()
    refuse_foreign_fleet(out)
    refuse_foreign_results(out, recipe.adapter.saved_as)  # the lock that is left here says that they are ours
    with locked(out):
        rows: dict[str, Event] = {}
        waiting = []
        for speaker in dict.fromkeys(chosen):
            own = recipe_of(recipe, speaker, out)
            try:
                done = finished(own)
            except SpeechftError:  # its worker says it again, as a line of the table
                done = None
            if done is not None:
                rows[speaker] = done
                on_event({"event": "speaker", "speaker": speaker, "of": len(chosen), "kept": True, **done})
            else:
                waiting.append(own)
        for speaker, row in _on_ray(waiting, address, cpus, gpus, retries):
            rows[speaker] = row
            on_event({"event": "speaker", "speaker": speaker, "of": len(chosen), "kept": False, **row})
        result = _report(recipe, [rows[speaker] | {"speaker": speaker} for speaker in dict.fromkeys(chosen)])
        write_json(out / "fleet.json", result)
        write_text(out / "fleet.md", _markdown(result))
    return result


def refuse_foreign_fleet(out: Path) -> None:
    """Raises SpeechftError, before any work, where a fleet would replace a file that is not of one."""
    for name, mark in zip(OWN, OF_A_FLEET, strict=True):
        refuse_foreign_file(out / name, mark)


def recipe_of(recipe: SpeechRecipe, speaker: str, out: Path) -> SpeechRecipe:
    """The recipe of one speaker's run."""
    own = {"speakers": [speaker], "output_dir": out / folder_of(speaker)}
    return with_absolute_paths(recipe.model_copy(update=own))


def folder_of(speaker: str) -> str:
    """A speaker's folder below that of the results; a name that makes no safe one, or is ours, gets one by its hash."""
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", speaker) and speaker.casefold() not in OWN:
        return speaker
    return "speaker-" + hashlib.sha256(speaker.encode()).hexdigest()[:12]


def finished(recipe: SpeechRecipe) -> Event | None:
    """The row of a run that came to its end with this recipe and these recordings; None if there is none."""
    result = _ended(recipe)
    if result is None or result["data"].get("manifest_sha256") != prepared(recipe)[0].sha256:
        return None
    return _row(result, Path(recipe.output_dir))


def _ended(recipe: SpeechRecipe) -> Event | None:
    """The result of a run with this recipe, on whatever recordings."""
    try:
        result: Event = json.loads(read_text(Path(recipe.output_dir) / "result.json"))
        TrainingResult.model_validate(result)
    except (OSError, ValueError, RecursionError):  # nobody's, or no result: the run says which, and makes its own
        return None
    then = {key: value for key, value in result["recipe"].items() if key not in IRRELEVANT}
    return result if then == recipe.model_dump(mode="json", exclude=IRRELEVANT) else None


def train_speaker(settings: Event) -> tuple[str, Event]:
    """One speaker's run, in a worker of Ray: (speaker, row of the table).

    A mistake in the speaker's data, a full disk or too little memory is a row with `error`, so that the others go on;
    nothing is retried for it.
    """
    recipe = SpeechRecipe.model_validate(settings)
    (speaker,) = recipe.speakers or [""]
    try:
        return speaker, _trained(recipe, speaker)
    except SpeechftError as error:
        said = str(error)
    except Exception as error:
        if not (said := exits.file_fault(error) or exits.memory_fault(error) or ""):
            raise
    return speaker, {"folder": Path(recipe.output_dir).name, "error": said}


def _trained(recipe: SpeechRecipe, speaker: str) -> Event:
    """The row of a speaker's run, whose starts and end are written to fleet.jsonl in its folder."""
    out = Path(recipe.output_dir)
    out.mkdir(parents=True, exist_ok=True)
    log = out / "fleet.jsonl"
    append_metrics(log, {"event": "started", "pid": os.getpid()})
    try:
        if (done := finished(recipe)) is not None:  # its worker died after the result was written
            return done
        if _ended(recipe):  # on other recordings: from the start
            shutil.rmtree(out / "checkpoints", ignore_errors=True)
            (out / "result.json").unlink()
        result = train(recipe, title=f"{speaker}, {recipe.model} adapted")
    except SpeechftError as error:
        append_metrics(log, {"event": "failed", "error": str(error)})
        raise
    append_metrics(log, {"event": "finished"})
    return _row(result, out)


def _on_ray(recipes: list[SpeechRecipe], address: str | None, cpus: float, gpus: float, retries: int) -> Any:
    """(speaker, row) of each recipe, in the order they end."""
    if not recipes:
        return
    with cluster(address) as ray:
        there = ray.cluster_resources()
        for name, wanted in (("CPU", cpus), ("GPU", gpus)):
            if not address and wanted > there.get(name, 0):  # Ray would wait for such a machine
                raise SpeechftError(
                    f"a speaker's run asks for {wanted:g} {name}s, but this machine has {there.get(name, 0):g}",
                    fix=f"Give a lower --{name.lower()}s.",
                )
        # Ray gives a worker as many threads as the cores it asked for
        task = ray.remote(train_speaker).options(
            num_cpus=cpus, num_gpus=gpus, max_retries=retries, retry_exceptions=False
        )
        tasks = {task.remote(recipe.model_dump(mode="json")): recipe for recipe in recipes}
        while tasks:
            (ready,), _ = ray.wait(list(tasks), num_returns=1)
            recipe = tasks.pop(ready)
            try:
                yield ray.get(ready)
            except ray.exceptions.RayError as error:
                row = {"folder": Path(recipe.output_dir).name, "error": reason(error), "crashed": True}
                yield recipe.speakers[0], row  # type: ignore[index]


def _row(result: Event, out: Path) -> Event:
    """A line of the table."""
    log = out / "fleet.jsonl"
    starts = log.read_text(encoding="utf-8").count('"started"') if log.is_file() else 0
    return {
        "folder": out.name,
        "adapter": result["adapter"],
        **{system: {key: result[system][key] for key in OF_SCORES} for system in ("base", "adapted")},
        "evaluated_on": result["evaluated_on"]["split"],
        "train_minutes": result["data"].get("train_minutes"),
        "seconds": result["training"]["seconds"],
        "starts": starts,
        "notice": result["notice"],
        "overlap": result["overlap"],
        "leakage": result["leakage"],
    }


def _report(recipe: SpeechRecipe, rows: list[Event]) -> Event:
    """All rows, and the rates over all words of those scored on the same split."""
    scored = [row for row in rows if "error" not in row]
    splits = sorted({row["evaluated_on"] for row in scored}, reverse=True)  # test before dev
    return {
        "format": 1,
        "notice": next((row["notice"] for row in scored if row["notice"]), None),
        "caveats": _caveats(scored),
        "recipe": recipe.model_dump(mode="json"),
        "pooled": {
            "speakers": len(scored),
            "on": {split: _pooled([row for row in scored if row["evaluated_on"] == split]) for split in splits},
            "without_adapter": sum(row["adapter"] is None for row in scored),
            "failed": len(rows) - len(scored),
        },
        "speakers": rows,
    }


def _pooled(scored: list[Event]) -> Event:
    """The rates over all words of speakers, and of how many the adapted one is lower."""

    def rate(system: str) -> float | None:
        words = sum(row[system]["n_words"] for row in scored)
        errors = sum(row[system]["wer"] * row[system]["n_words"] for row in scored if row[system]["n_words"])
        return errors / words if words else None

    return {
        "speakers": len(scored),
        "words": sum(row["base"]["n_words"] for row in scored),
        "base_wer": rate("base"),
        "adapted_wer": rate("adapted"),
        "better": sum(row["adapted"]["wer"] < row["base"]["wer"] for row in scored if row["base"]["n_words"]),
    }


def _caveats(scored: list[Event]) -> list[str]:
    """What a reader must know of the speakers together."""
    chosen = sum(row["evaluated_on"] == "dev" for row in scored)
    if not chosen:
        return []
    return [
        f"{chosen} of {len(scored)} speakers have no test split: the dev clips that they were scored on also chose "
        "the best state, which makes their results look better than they are. Keep some recordings aside as test."
    ]


def _counted(number: int, rows: list[Event]) -> str:
    """How many words, or what else is counted of some of these speakers."""
    units = sorted({unit(row["base"].get("normalizer", "")) for row in rows}, reverse=True)  # rows of before have none
    return f"{number}" if units == ["words"] else f"{number} {' and '.join(units)}"


def _markdown(result: Event) -> str:
    rows: list[list[Any]] = []
    for row in result["speakers"]:
        if "error" in row:
            rows.append([row["speaker"], *["–"] * 6, row["error"]])
            continue
        kept = "adapter" if row["adapter"] else "base model kept"
        rates = [percent(for_display(row[system])["wer"]) for system in ("base", "adapted")]
        about = [_counted(row["base"]["n_words"], [row]), row["train_minutes"], row["starts"], kept]
        rows.append([row["speaker"], row["evaluated_on"], *rates, *about])
    for split, pooled in result["pooled"]["on"].items():
        rates = [percent(pooled["base_wer"]), percent(pooled["adapted_wer"])]
        pool = [row for row in result["speakers"] if row.get("evaluated_on") == split]
        rows.append([f"all {pooled['speakers']}", split, *rates, _counted(pooled["words"], pool), "", "", ""])
    headings = ["speaker", "on", "base WER", "adapted WER", "words", "minutes trained on", "starts", "kept"]
    notes = "".join(f"**{note}**\n\n" for note in (result["notice"], *result["caveats"]) if note)
    scored = [row for row in result["speakers"] if "error" not in row]
    found = {row["speaker"]: shared_parts(row["overlap"], row["leakage"], 1) for row in scored}
    shared = "".join(f"\n{speaker}: {note}\n" for speaker, notes in found.items() for note in notes)
    return f"# Fleet\n\n{notes}{markdown_table(headings, rows)}{shared}"
