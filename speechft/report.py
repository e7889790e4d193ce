"""What a run leaves for people and machines: result.json, report.md, and report.html, one page without a network."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from speechft.files import write_text
from speechft.markdown import escaped, markdown_table
from speechft.normalize import unit
from speechft.numbers_as_text import NOTHING, interval, p_value, percent
from speechft.paired import compare
from speechft.report_answer import answer
from speechft.report_comparison import best_system, comparison, every_speaker, explained, pairs
from speechft.report_data import Clip, Systems, addresses, for_display, to_repeat
from speechft.report_evidence import (
    calibrated,
    calibration_said,
    dose_table,
    forgetting_table,
    forgotten,
    shared_table,
    typical,
)
from speechft.report_limits import CLOSER_TEXT, limits
from speechft.report_page import page
from speechft.report_tables import UNNAMED
from speechft.scored import Scored
from speechft.scoring import Scores, worst_clips
from speechft.scoring_notes import nameless, speaking, voices
from speechft.significance import ENOUGH_SPEAKERS
from speechft.trained_on import read_first

WORST_SHOWN = 20  # sentences in report.md
P_VALUES = ("p_speakers", "p_mapsswe")


def write_report(
    out: Path,
    result: dict[str, Any],
    base: Scores | None,
    adapted: Scores | None,
    *,
    audio: Mapping[str, Clip] | None = None,
    metrics: Sequence[Mapping[str, Any]] | None = None,
    title: str = "",
    notes: Sequence[str] = (),
    caveats: Sequence[str] = (),
    embed_audio_mb: float = 0.0,
) -> Path:
    """Write result.json, report.md and report.html, each whole or not at all.

    Args:
        out: folder; made if need be.
        result: all that is needed to repeat it; numbers JSON has no word for become null.
        base, adapted: scores on the same utterances; one may be None, and both may be the same object where the base
            model was kept.
        audio: recordings by utterance id, or (recording, start, end) in seconds; linked relative to `out`.
        metrics: lines of metrics.jsonl: `step` with `loss`, or with `wer` and `cer`.
        title: of the page.
        notes: what must be read before any number, such as that the voice is simulated.
        caveats: what must be read besides, below the result in a sentence; without those that are `notes`.
        embed_audio_mb: put recordings into the page itself, most errors first, until they add up to this.

    Returns:
        the path of report.html.

    Raises:
        SpeechftError: the scores are of different utterances.
    """
    systems = _systems(base, adapted)
    difference = compare(systems[0][1], systems[1][1]) if len(systems) == 2 else None
    title = title or "Speech recognition result"
    if difference and (best := best_system(result)):
        difference |= {key: best.difference[key] for key in ("p_speakers_holm", "p_mapsswe_holm")}
    caveats = [caveat for caveat in caveats if caveat not in notes]
    said = answer([for_display(scores) for _, scores in systems], difference, result)
    sure = remarks(systems, difference)
    rows = summary_rows(*(scores for _, scores in systems)) if systems else []
    clips = _worst_first(systems, audio or {}) if embed_audio_mb else audio or {}
    write_text(
        out / "result.json",
        json.dumps(plain(result), ensure_ascii=False, indent=2, allow_nan=False) + "\n",
        errors="replace",
    )
    write_text(out / "report.md", _markdown(title, notes, said, caveats, systems, rows, sure, result), errors="replace")
    html = page(
        title=title,
        notes=notes,
        answer=said,
        caveats=caveats,
        systems=systems,
        rows=rows,
        remarks=sure,
        metrics=metrics or [],
        result=plain(result),
        audio=addresses(clips, out, int(embed_audio_mb * 1e6)),
    )
    return write_text(out / "report.html", html, errors="replace")


def remarks(systems: Systems, difference: Mapping[str, Any] | None) -> list[str]:
    """How sure the numbers are, and of what."""
    if not systems:
        return []
    speakers = speaking(systems[-1][1].per_speaker)
    enough = speakers >= ENOUGH_SPEAKERS
    unit = "speakers" if enough else "sentences"
    found = limits(systems[-1][1].to_dict(), difference)
    if speakers:
        found.append(
            f"Intervals come from resampling {unit} (bootstrap); their ends are estimates, more so with few {unit}."
        )
    if difference:
        named = speakers and not nameless(systems[-1][1].per_speaker)
        few = f"for these {speakers} people" if speakers > 1 else "for this voice"
        many = "for other people too" if enough else few if named else "for recordings like these"
        over_speakers, over_segments = (p_value(difference.get(f"{k}_holm", difference[k]), "p") for k in P_VALUES)
        found.append(
            f"Does it hold {many}? If before and after were swapped at random, {unit[:-1]} by {unit[:-1]}, a "
            f"difference as large would appear with {over_speakers}. Does it hold for these recordings? "
            f"Matched-pair test on {difference['segments']} segments (MAPSSWE, {difference['p_mapsswe_by']}): "
            f"{over_segments}{_as_published(difference)}."
        )
        if "p_speakers_holm" in difference:
            found.append("It is the best of several on these recordings: both p are corrected for their number (Holm).")
    return found


def _as_published(difference: Mapping[str, Any]) -> str:
    """What MAPSSWE has by the normal distribution, where another one was gone by; it is corrected for nothing."""
    if difference["p_mapsswe_by"] == "normal" or difference["z_mapsswe"] is None or "p_mapsswe_holm" in difference:
        return ""
    p = p_value(difference["p_mapsswe_normal"], "p")
    return f" (as published, for many segments: z = {difference['z_mapsswe']:.2f}, {p})"


def summary_rows(*systems: Scores) -> list[tuple[str, ...]]:
    """Every measure as a label and one cell a system, for a table on a terminal or a page."""
    data = [for_display(scores) for scores in systems]

    def row(label: str, key: str, shown: Any = percent) -> tuple[str, ...]:
        return (label, *(shown(entry[key]) if entry.get(key) is not None else "–" for entry in data))

    def worst(entry: Mapping[str, Any]) -> str:
        name = entry["worst_speaker"]
        return "–" if name is None else f"{percent(entry['per_speaker'][name]['wer'])} ({name or UNNAMED})"

    words = unit(systems[0].normalizer).capitalize()
    by_digits = any(scores.wer_digits not in (None, scores.wer) for scores in systems)
    worst_left_out = worst_clips(data[0]["n_utterances"])
    without = "clip" if worst_left_out == 1 else f"{worst_left_out} clips"
    rows = [
        row(f"{words} wrong (WER)", "wer"),
        row("95% interval", "wer_ci95", interval),
        row("Characters wrong (CER)", "cer"),
        row("Match error rate (MER)", "mer"),
        row("Word information lost (WIL)", "wil"),
        row(f"{words} misheard", "substitutions", str),
        row(f"{words} missed", "deletions", str),
        row(f"{words} invented", "insertions", str),
        row("Sentences entirely right", "all_right"),
        row("WER, mean of speakers", "wer_speaker_mean"),
        ("WER of the worst speaker", *map(worst, data)),
        row(f"WER without the worst {without}", "wer_without_worst"),
        row("WER, each clip at most 100%", "wer_clipped"),
        *([row("WER, numbers digit by digit", "wer_digits")] if by_digits else []),
        row("WER as written, not normalised", "wer_raw"),
        *(row(label, key) for label, key in CLOSER_TEXT.items()),
        row("Verbatim text was the closer one", "closer_text", lambda of: f"{of['verbatim']} of {sum(of.values())}"),
        row("Commands carried out", "command_success", lambda found: percent(found["exact"])),
        row("Commands by the nearest known one", "command_success", lambda found: percent(found["nearest"])),
        row("Names and numbers missed", "entity_errors", lambda found: percent(found["rate"])),
        row("Clips with more errors than words", "clips_above_one", str),
        row("Clips that repeat themselves", "loops", str),
        row("Clips without any words", "empty_references", str),
    ]
    if speaking(data[0]["per_speaker"]) < 2:
        rows = [entry for entry in rows if "speaker" not in entry[0]]
    return [entry for entry in rows if any(text != "–" for text in entry[1:])]


def plain(value: Any) -> Any:
    """The same with everything JSON has no word for replaced: paths by text, inf and nan by None."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | bool | int):
        return value
    return str(value)


def _systems(base: Scores | None, adapted: Scores | None) -> list[tuple[str, Scores]]:
    if base is not None and adapted is not None and base is not adapted:
        return [("Before", base), ("After", adapted)]
    scores = adapted if adapted is not None else base
    return [] if scores is None else [("Heard", scores)]


def _errors(rows: Sequence[Scored]) -> int:
    return rows[-1].words.errors


def _paired(systems: Systems) -> list[tuple[Scored, ...]]:
    """Each utterance as every system heard it, most errors of the last system first."""
    return sorted(zip(*(scores.rows for _, scores in systems), strict=True), key=_errors, reverse=True)


def _worst_first(systems: Systems, audio: Mapping[str, Clip]) -> dict[str, Clip]:
    order = [rows[0].id for rows in _paired(systems)]
    return {name: audio[name] for name in order if name in audio}


def _markdown(
    title: str,
    notes: Sequence[str],
    said: str,
    caveats: Sequence[str],
    systems: Systems,
    rows: Sequence[tuple[str, ...]],
    sure: Sequence[str],
    result: Mapping[str, Any],
) -> str:
    """The report to paste into a paper's repository: fewer sentences, every number."""
    names = [name for name, _ in systems]
    counted = unit(systems[-1][1].normalizer if systems else "").capitalize()
    parts = [f"# {escaped(title)}\n", *_boxes(notes), f"{escaped(said)}\n", *_boxes(caveats)]
    if compared := comparison(result):
        parts += ["## All compared\n", markdown_table(compared[0], compared[1:])]
        if every_two := pairs(result):
            parts.append(markdown_table(every_two[0], every_two[1:]))
        if each := every_speaker(result):
            parts.append(markdown_table(each[0], each[1:]))
        parts.append(f"{explained(result)}\n")
    if systems:
        parts += ["## Measures\n", markdown_table(["", *names], rows), *(f"{escaped(text)}\n" for text in sure)]
        parts += _markdown_breakdowns(systems)
        if found := calibrated(systems, result):
            bins = [
                [
                    f"{line['low']:.0%} to {line['high']:.0%}",
                    *map(percent, (line["confidence"], line["right"])),
                    line["words"],
                ]
                for line in found[-1][1]["table"]
            ]
            head = ["Confidence", "Mean confidence", "Right", counted]
            parts += ["## Confidence\n", markdown_table(head, bins), f"{escaped(calibration_said(found))}\n"]
        worst = [
            [r[0].id, r[0].normalized[0], *(x.normalized[1] for x in r), _errors(r)]
            for r in _paired(systems)[:WORST_SHOWN]
        ]
        parts += [f"## The {len(worst)} sentences with the most errors\n"]
        parts += [markdown_table(["Id", "Said", *names, f"{counted} wrong"], worst)]
    if kept := result.get("forgetting"):
        titles, *rates = forgetting_table(kept)
        boxes = _boxes(read_first(kept))
        where = f"On {typical(kept)}. {forgotten(kept)}\n"
        parts += ["## What it forgot\n", *boxes, markdown_table(titles, rates), where]
    if result.get("dose_curve"):
        titles, *doses = dose_table(result["dose_curve"])
        parts += ["## How much recording it takes\n", markdown_table(titles, doses)]
    if result.get("leakage"):
        head, *shared = shared_table(result["leakage"])
        parts += ["## What training and test share\n", markdown_table(head, shared)]
    settings = [
        (key if heading == "result" else f"{heading}.{key}", text)
        for heading, found in to_repeat(systems, plain(result))
        for key, text in found
    ]
    if settings:
        parts += ["## Settings\n", markdown_table(["", "Value"], settings), "Everything is in result.json.\n"]
    return "\n".join(parts)


def _boxes(texts: Sequence[str]) -> list[str]:
    """What nobody may overlook."""
    return [f"> **{escaped(text)}**\n" for text in texts]


def _markdown_breakdowns(systems: Systems) -> list[str]:
    parts = []
    counted = unit(systems[-1][1].normalizer).capitalize()
    people = voices(systems[-1][1].per_speaker)
    by_speaker = [{name: scores.per_speaker[name] for name in people} for _, scores in systems]
    tables = {"Speakers": by_speaker} if people else {}
    tables |= {name: [scores.per_group[name] for _, scores in systems] for name in systems[-1][1].per_group}
    by_length = [scores.to_dict()["by_length"] for _, scores in systems]
    tables |= {f"{counted} in the sentence": by_length} if by_length[-1] else {}
    for name, entries in tables.items():
        rows = [
            [key or UNNAMED, *(_with_bounds(e.get(key, {})) for e in entries), entries[-1][key]["n_words"]]
            for key in entries[-1]
        ]
        heads = ["", *(n for n, _ in systems), counted]
        if any("n_speakers" in entry for entry in entries[-1].values()):
            heads.append("Speakers")
            rows = [[*row, entry["n_speakers"]] for row, entry in zip(rows, entries[-1].values(), strict=True)]
        parts += [f"## {escaped(name)}\n", markdown_table(heads, rows)]
    return parts


def _with_bounds(entry: Mapping[str, Any]) -> str:
    """A rate, and its 95% interval where it has one."""
    bounds = interval(entry.get("wer_ci95"))
    return percent(entry.get("wer")) + ("" if bounds == NOTHING else f" ({bounds})")
