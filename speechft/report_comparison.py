"""Several systems on the same recordings, each against one, and every two: the cells of their tables.

A comparison of adapters holds `base` and `adapters`; a study holds `arms` and the name of its `reference`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from speechft.normalize import unit
from speechft.numbers_as_text import interval, p_value, percent, points, points_interval
from speechft.report_data import for_display
from speechft.report_tables import UNNAMED
from speechft.scoring_notes import speaking, voices
from speechft.significance import ENOUGH_SPEAKERS
from speechft.sources import common_name

PAIRS_OPEN = 10  # more pairs than this are folded away


class BestSystem(NamedTuple):
    """The one of several systems that a report shows in detail.

    Attributes:
        name, kind, of: what it is called, and of how many of what.
        p: over speakers, that it does not differ from the reference, corrected for their number (Holm).
        difference: to the reference.
    """

    name: str
    kind: str
    of: int
    p: float
    difference: Mapping[str, Any]


def best_system(result: Mapping[str, Any]) -> BestSystem | None:
    """The best of several that were compared; None where there was nothing to choose."""
    kind, entries = "adapters", result.get("adapters") or {}
    if not entries:
        kind, entries = "conditions", result.get("arms") or {}
    others = {name: entry for name, entry in entries.items() if name != reference(result)}
    if len(others) < 2:
        return None
    name = str(result.get("adapter"))
    if name not in others:
        name = min(others, key=lambda one: others[one]["wer"])
    difference = others[name]["difference"]
    return BestSystem(name, kind, len(others), difference["p_speakers_holm"], difference)


def explained(result: Mapping[str, Any]) -> str:
    """What the columns of the tables mean; of whom they speak depends on how many speakers there are."""
    speakers = _speakers(result)
    asked = "'speakers' asks whether it holds for other people"
    if speakers < ENOUGH_SPEAKERS:
        asked = "'recordings' asks whether it holds for other recordings like these"
    return (
        "Differences are in points of WER, on the same recordings. p values are corrected for the number of rows that "
        f"have one (Holm); {asked}, 'segments' (MAPSSWE) for these recordings."
    )


def reference(result: Mapping[str, Any]) -> str:
    """The name of what the others are compared with."""
    return str(result.get("reference", "base"))


def comparison(result: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Headings, then a row each; p values are Holm-corrected for their number. Empty where nothing was compared."""
    if not (entries := _entries(result)):
        return []
    typical = next((e["forgetting"]["base"] for e in entries.values() if e.get("forgetting")), None)
    closer = any(entry.get("wer_closer_text") is not None for entry in entries.values())
    against = f"Points against {reference(result)}"
    headings = (
        "Model",
        "WER",
        "95% interval",
        "CER",
        *(("Closer text",) if closer else ()),
        against,
        *_headings(result),
        *(("Typical speech",) if typical else ()),
    )
    rows: list[tuple[str, ...]] = []
    for name, entry in entries.items():
        shown = for_display(entry)
        rates = [percent(shown["wer"]), interval(entry["wer_ci95"]), percent(shown["cer"])]
        rates += [percent(shown.get("wer_closer_text"))] if closer else []
        kept = ((entry.get("forgetting") or {}).get("adapted", typical),) if typical else ()
        rows.append((name, *rates, *_difference(entry.get("difference")), *(percent(found["wer"]) for found in kept)))
    return _with_models([headings, *rows], [str(entry.get("model", "–")) for entry in entries.values()])


def pairs(result: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Headings, then the second against the first of every two; p values are corrected for their number."""
    found = [
        (f"{pair['second']} against {pair['first']}", *_difference(pair), f"{pair['better']}, {pair['worse']}")
        for pair in result.get("pairs") or []
    ]
    return [("Pair", "Points", *_headings(result), "Sentences better, worse"), *found] if found else []


def speaker_rates(systems: Mapping[str, Mapping[str, Any]], by: str) -> list[tuple[str, ...]]:
    """Headings, then words wrong of a speaker by every system a row, most first by one of them."""
    parts = {name: scores["per_speaker"] for name, scores in systems.items()}
    order = sorted(voices(parts[by]), key=lambda speaker: -(parts[by][speaker]["wer"] or 0))
    rows = [
        (
            speaker or UNNAMED,
            *(percent(part[speaker]["wer"]) for part in parts.values()),
            f"{parts[by][speaker]['n_words']}",
        )
        for speaker in order
    ]
    return [("Speaker", *parts, unit(systems[by].get("normalizer", "")).capitalize()), *rows]


def every_speaker(result: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The same of all that were compared, by the best of them; empty where a report shows all in detail anyway."""
    best, entries = best_system(result), _entries(result)
    if not best or speaking(entries[best.name]["per_speaker"]) < 2:
        return []
    return speaker_rates(entries, best.name)


def _entries(result: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """The scores of all that were compared, by name."""
    return {"base": result["base"], **result["adapters"]} if result.get("adapters") else result.get("arms") or {}


def _with_models(table: list[tuple[str, ...]], models: list[str]) -> list[tuple[str, ...]]:
    """The base model of each row beside its name, where they are not all one."""
    if len(set(map(common_name, models))) == 1:
        return table
    return [(row[0], model, *row[1:]) for row, model in zip(table, ["Base model", *models], strict=True)]


def _difference(found: Mapping[str, Any] | None) -> tuple[str, str, str, str]:
    if not found:
        return ("–",) * 4
    speakers, segments = (p_value(found[key]) for key in ("p_speakers_holm", "p_mapsswe_holm"))
    return points(found["wer"]), points_interval(found["wer_ci95"]), speakers, segments


def _headings(result: Mapping[str, Any]) -> tuple[str, str, str]:
    """Of a difference's interval and p values; of one voice it is recordings that were drawn and flipped."""
    return "its interval", f"p, {'speakers' if _speakers(result) >= ENOUGH_SPEAKERS else 'recordings'}", "p, segments"


def _speakers(result: Mapping[str, Any]) -> int:
    """How many have a word in the texts that all were compared on."""
    return next((speaking(entry.get("per_speaker", {})) for entry in _entries(result).values()), 0)
