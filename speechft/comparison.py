"""Several adapters on the same recordings: each against the base and every two, p values corrected for their number."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from speechft import memory
from speechft.context import Context
from speechft.errors import SpeechftError
from speechft.evaluate import Evaluation
from speechft.evaluated_rows import rows_to_evaluate
from speechft.events import OnEvent
from speechft.left_out import listed
from speechft.manifest import Manifest
from speechft.overlap import overlap
from speechft.own_results import refuse_foreign_results
from speechft.paired import compare_all, compare_pairs
from speechft.pipeline import evaluated, forgetting
from speechft.recogniser import card_of, load
from speechft.report import write_report
from speechft.report_data import recordings
from speechft.result import environment, notice, shared_parts, summary
from speechft.result_schema import FORMAT
from speechft.seen import Seen
from speechft.sources import hub_id
from speechft.split_files import about_split
from speechft.transcript import DecodeOptions


def evaluate_adapters(
    manifest: str | Path | Manifest,
    adapters: Sequence[str | Path],
    *,
    split: str | None = None,
    split_file: str | Path | None = None,
    model: str | None = None,
    out: str | Path | None = None,
    normalizer: str = "auto",
    context: str | None = None,
    language: str | None = None,
    beams: int = 1,
    typical: str | Path | Manifest | None = None,
    embed_audio_mb: float = 0.0,
    allow_outside: bool = False,
    on_event: OnEvent = lambda event: None,
) -> dict[str, Any]:
    """Evaluate several adapters and their base on the same utterances.

    Args:
        adapters: folders, two or more.
        typical: speech the base was good at; what each adapter costs there is `forgetting`.
        manifest, split, split_file, model, out, normalizer, context, language, beams, embed_audio_mb: see
            `speechft.pipeline.evaluate`. The base is `model`, else the one that the first adapter was trained on.

    Returns:
        `base`: its scores; `adapters`: by name, each with its scores, `adapter`, `model`, `difference` (paired, with
        `p_speakers_holm` and `p_mapsswe_holm` for the number of adapters), `forgetting`; `pairs`: every two of them
        (`paired.compare_pairs`); `best`: the name with the lowest WER, or `base`; `split`, `notice`,
        `manifest_sha256`, `overlap`, `leakage`, `left_out`, `caveats`, `environment`.

    Raises:
        SpeechftError: a folder is no adapter, or is given twice.
    """
    if out:
        refuse_foreign_results(out)
    names = adapter_names([Path(folder) for folder in adapters])
    seen = Seen.by(card_of(adapter=folder) for folder in adapters)
    given = rows_to_evaluate(manifest, split, allow_outside, on_event, split_file, seen)
    rows, split, shared = given.chosen, given.split, overlap(given.whole)
    other = rows_to_evaluate(typical, None, allow_outside, on_event, seen=seen) if typical else None
    settings: dict[str, Any] = {"options": DecodeOptions(beams=beams)}
    forced: dict[str, Any] = {"context": Context(context)} if context else {}

    def both(recogniser: Any, **more: Any) -> tuple[Evaluation, Evaluation | None]:
        found = evaluated(recogniser, rows, normalizer, on_event, **settings, **more)
        return found, evaluated(recogniser, other.chosen, normalizer, on_event, **settings, **more) if other else None

    first = load(model, adapters[0], language=language)  # also says at once where the first is no adapter
    base_name = first.whisper.name
    base, base_typical = both(load(base_name, language=first.whisper.language))
    del first
    found: dict[str, Evaluation] = {}
    entries: dict[str, dict[str, Any]] = {}
    for name, folder in names.items():
        on_event({"event": "evaluating", "adapter": name})
        recogniser = load(model, folder, language=language)
        found[name], kept = both(recogniser, **forced)
        entries[name] = {
            **summary(found[name]),
            "adapter": str(folder),
            "model": recogniser.whisper.name,
            "context": (forced.get("context") or recogniser.whisper.context).policy,
            "notes": recogniser.notes,
            "forgetting": forgetting(base_typical, kept, other) if base_typical and kept and other else None,
        }
        del recogniser
        gc.collect()
        memory.release()
    differences = compare_all(base.scores, {name: evaluation.scores for name, evaluation in found.items()})
    for name, difference in differences.items():
        entries[name]["difference"] = difference
    best = min(["base", *found], key=lambda name: (base if name == "base" else found[name]).scores.wer)
    bases = different_bases([base_name, *(entry["model"] for entry in entries.values())])
    result = {
        "notice": notice(rows),
        "format": FORMAT,
        "split": split,
        "clips": len(rows),
        "speakers": len(rows.speakers),
        "manifest_sha256": rows.sha256,
        "split_file": about_split(split_file) if split_file else None,
        "overlap": str(shared),
        "leakage": shared.to_dict(),
        "left_out": listed((given.left_out | base.unreadable).items()),
        "caveats": [
            *bases,
            *(f"{name}: {note}" for name, entry in entries.items() for note in entry.pop("notes")),
            *given.caveats,
            *base.caveats,
            *shared_parts(str(shared), shared.to_dict(), len(given.whole.speakers)),
        ],
        "base": {**summary(base), "model": base_name, "forgetting": None},
        "adapters": entries,
        "pairs": compare_pairs({name: evaluation.scores for name, evaluation in found.items()}),
        "best": best,
        "environment": environment(),
    }
    if out:
        report(Path(out), result, base, found, best, rows, embed_audio_mb)
    return result


def different_bases(models: Sequence[str]) -> list[str]:
    """What must be known where adapters do not all stand on the first model; empty where they do.

    Args:
        models: names, each adapter's and first that of what they are compared with.
    """
    others = {name: None for name in models if (hub_id(name) or name) != (hub_id(models[0]) or models[0])}
    if not others:
        return []
    return [
        f"The adapters have different base models: 'base' is {models[0]}, and the differences of those on "
        f"{', '.join(others)} are of models and adapters together."
    ]


def report(
    out: Path,
    result: dict[str, Any],
    base: Evaluation,
    found: dict[str, Evaluation],
    best: str,
    rows: Manifest,
    embed_audio_mb: float,
) -> None:
    """The report of the best adapter against the base, with the table of all on top."""
    shown = best if best != "base" else min(found, key=lambda name: found[name].scores.wer)
    notes = [note for note in (result["notice"], *result["caveats"]) if note]
    write_report(
        out,
        {**result, "adapter": shown},
        base.scores,
        found[shown].scores,
        audio=recordings(rows),
        title=f"{len(found)} adapters; in detail: {shown}",
        notes=notes,
        embed_audio_mb=embed_audio_mb,
    )


def adapter_names(folders: Sequence[Path]) -> dict[str, Path]:
    """A short name for each folder: its own, or its run's where it is only called `adapter`, and no more of the path
    than tells it from the others.

    Raises:
        SpeechftError: a folder is given twice.
    """
    resolved = [folder.resolve() for folder in folders]
    if len(set(resolved)) < len(resolved):
        raise SpeechftError("an adapter is given twice", fix="Give each folder once.")
    paths = [path.parent.parts if path.name == "adapter" else path.parts for path in resolved]

    def name(path: tuple[str, ...], whole: Path) -> str:
        for length in range(1, len(path)):
            end = path[-length:]
            if end != ("base",) and sum(other[-length:] == end for other in paths) == 1:
                return "/".join(end)
        return str(whole)

    return {name(path, whole): folder for path, whole, folder in zip(paths, resolved, folders, strict=True)}
