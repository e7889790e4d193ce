"""Several adapters on the same recordings: each against the base and every two, p values corrected for their number."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from speechft import memory
from speechft.conditions import Conditions
from speechft.errors import SpeechftError
from speechft.evaluate import Evaluation, told
from speechft.events import OnEvent
from speechft.manifest import Manifest
from speechft.own_results import writes_results
from speechft.paired import compare_all, compare_pairs
from speechft.recogniser import card_of, load
from speechft.report import write_report
from speechft.report_data import recordings
from speechft.result import environment, forgetting, notice, summary
from speechft.result_schema import FORMAT
from speechft.scoring_notes import speaking
from speechft.sources import common_name
from speechft.trained_on import read_first


@writes_results
def evaluate_adapters(
    manifest: str | Path | Manifest,
    adapters: Sequence[str | Path],
    *,
    model: str | None = None,
    out: str | Path | None = None,
    embed_audio_mb: float = 0.0,
    on_event: OnEvent = lambda event: None,
    **conditions: Any,
) -> dict[str, Any]:
    """Evaluate several adapters and their base on the same utterances.

    Args:
        adapters: folders, two or more.
        manifest, out, embed_audio_mb, on_event, conditions: see `speechft.pipeline.evaluate`.
        model: the base; the one that the first adapter was trained on unless given.

    Returns:
        `base`: its scores and settings (`Conditions.settings_of`); `adapters`: by name, each with the same, `adapter`,
        `difference` (paired, with `p_speakers_holm` and `p_mapsswe_holm` for the number of adapters), `forgetting`;
        `pairs`: every two of them (`paired.compare_pairs`); `best`: the name with the lowest WER, or `base`; `split`,
        `notice`, `manifest_sha256`, `overlap`, `leakage`, `left_out`, `caveats`, `environment`.

    Raises:
        SpeechftError: a folder is no adapter, or is given twice, or the rows cannot be scored by one normaliser.
    """
    under = Conditions(**conditions)
    names = adapter_names([Path(folder) for folder in adapters])
    rows, typical = under.rows(manifest, {name: card_of(adapter=folder) for name, folder in names.items()}, on_event)

    first = load(model, adapters[0], language=under.language)  # also says at once where the first is no adapter
    base_name = first.whisper.name
    plain = load(base_name, language=first.whisper.language)
    spoken = [told(one.whisper) for one in (first, plain)]
    del first
    for folder in list(names.values())[1:]:  # what does not fit is refused before anything is heard
        spoken.append(told(load(model, folder, language=under.language).whisper))
        _let_go()
    on_rows, on_typical = (under.settled(part.chosen, spoken) if part else under for part in (rows, typical))
    base = replace(on_rows, context=None).hear(plain, rows.chosen, on_event)
    base_typical = replace(on_typical, context=None).hear(plain, typical.chosen, on_event) if typical else None
    of_base = replace(under, context=None).settings_of(plain)
    del plain
    found: dict[str, Evaluation] = {}
    entries: dict[str, dict[str, Any]] = {}
    notes: list[str] = []
    for name, folder in names.items():
        on_event({"event": "evaluating", "adapter": name})
        recogniser = load(model, folder, language=under.language)
        found[name] = on_rows.after(base).hear(recogniser, base.heard, on_event)
        kept = None
        if base_typical:
            kept = on_typical.after(base_typical).hear(recogniser, base_typical.heard, on_event)
        entries[name] = {
            **summary(found[name]),
            "adapter": str(folder),
            **under.settings_of(recogniser),
            "forgetting": forgetting(base_typical, kept, typical.heard_by(name))
            if base_typical and kept and typical
            else None,
        }
        notes += [f"{name}: {note}" for note in recogniser.notes]
        del recogniser
        _let_go()
    differences = compare_all(base.scores, {name: evaluation.scores for name, evaluation in found.items()})
    for name, difference in differences.items():
        entries[name]["difference"] = difference
    best = min(["base", *found], key=lambda name: (base if name == "base" else found[name]).scores.wer)
    bases = different_bases([base_name, *(entry["model"] for entry in entries.values())])
    result = {
        "notice": notice(base.heard),
        "format": FORMAT,
        "split": rows.split,
        "clips": len(base.heard),
        "speakers": speaking(base.scores.per_speaker),
        **rows.facts(base, [*bases, *notes]),
        "base": {**summary(base), **of_base, "forgetting": None},
        "adapters": entries,
        "pairs": compare_pairs({name: evaluation.scores for name, evaluation in found.items()}),
        "best": best,
        "environment": environment(),
    }
    if out:
        report(Path(out), result, base, found, rows.chosen, embed_audio_mb)
    return result


def _let_go() -> None:
    """Give back the memory of a model that nobody holds any more."""
    gc.collect()
    memory.release()


def different_bases(models: Sequence[str]) -> list[str]:
    """What must be known where adapters do not all stand on the first model; empty where they do.

    Args:
        models: names, each adapter's and first that of what they are compared with.
    """
    others = {name: None for name in models if common_name(name) != common_name(models[0])}
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
    rows: Manifest,
    embed_audio_mb: float,
) -> None:
    """The report of the best adapter against the base, with the table of all on top."""
    shown = min(found, key=lambda name: found[name].scores.wer)
    write_report(
        out,
        {**result, "adapter": shown},
        base.scores,
        found[shown].scores,
        audio=recordings(rows),
        title=f"{len(found)} adapters; in detail: {shown}",
        notes=read_first(result),
        caveats=result["caveats"],
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
