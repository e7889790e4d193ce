"""The report as one HTML page: sections from scores, filled into `report_page.html`.

Everything that came from outside (names, transcripts, settings) passes `esc` or the embedded JSON on its way in.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from speechft.normalize import unit
from speechft.numbers_as_text import NOTHING, how_often, interval, percent
from speechft.report_charts import OFF, Mark, scale_end, track, track_axis
from speechft.report_comparison import PAIRS_OPEN, comparison, every_speaker, explained, pairs, reference
from speechft.report_data import Systems, embedded, for_display, sentences, to_repeat
from speechft.report_evidence import evidence, speed
from speechft.report_tables import (
    STACKED,
    UNNAMED,
    Axis,
    First,
    Long,
    Number,
    Spare,
    columns,
    esc,
    kinds,
    legend,
    notices,
    quiet,
    section,
    table,
)
from speechft.scoring_notes import speaking, voices
from speechft.significance import ENOUGH_SPEAKERS

NO_INTERVAL = "It has no interval, because the best and worst groups were picked from the same numbers."
BY_CHANCE = "If {} are shuffled among the groups, a gap as wide appears {} of the time."
LONG_WORD = 12  # characters; names of adapters have no spaces
PHONE_WIDTH = 40  # characters of headings that are side by side on a phone
ROWS_OPEN = 40  # of more the table scrolls in a box of its own


def page(
    *,
    title: str,
    notes: Sequence[str],
    answer: str,
    caveats: Sequence[str],
    systems: Systems,
    rows: Sequence[tuple[str, ...]],
    remarks: Sequence[str],
    metrics: Sequence[Mapping[str, Any]],
    result: Mapping[str, Any],
    audio: Mapping[str, str],
) -> str:
    """The whole page.

    Args:
        title, notes, answer, caveats: what it says first, in this order.
        systems: named scores, `before` first.
        rows: of the table of all measures: label, then one cell a system.
        remarks: how sure the numbers are, sentences.
        metrics: lines of metrics.jsonl.
        result: for its settings; scores in it are left out.
        audio: of an utterance's id, the address of its recording.
    """
    template = resources.files("speechft").joinpath("report_page.html").read_text("utf-8")
    sections = [
        _figures(systems),
        _comparison(result),
        section(
            "Before and after" if len(systems) == 2 else "Measures",
            _overall(systems, rows),
            *(quiet(text) for text in (*remarks, speed(result)) if text),
        ),
        _speakers(systems, result),
        _groups(systems),
        section("By length of the sentence", _broken_down(systems, "by_length", f"{_words(systems)} in the sentence")),
        *evidence(systems, result, metrics),
    ]
    values = {
        "title": esc(title),
        "notices": notices(notes),
        "answer": esc(answer),
        "caveats": notices(caveats),
        "sections": "\n".join(sections),
        "appendix": _appendix(systems, result),
        "footer": f"Made by speechft. {esc(systems[-1][1].normalizer) if systems else ''}",
        "data": embedded(sentences(systems, audio)),
        "script_hash": _script_hash(template),
    }
    # One pass, so that braces inside a transcript are never taken for a place to fill.
    return re.sub(r"\{\{(\w+)\}\}", lambda place: values[place[1]], template)


def _words(systems: Systems) -> str:
    """What the rates count, as a heading: "Words", or "Characters" of languages written without spaces."""
    return unit(systems[-1][1].normalizer if systems else "").capitalize()


def _script_hash(template: str) -> str:
    """What the page's content policy allows to run: the template's own script, byte for byte."""
    script = template.rpartition("<script>")[2].partition("</script>")[0]
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


def _figures(systems: Systems) -> str:
    """The numbers most people came for, in large type."""
    if not systems:
        return ""
    parts = []
    figures = {f"{_words(systems)} wrong": "wer"}
    figures.setdefault("Characters wrong", "cer")  # which the rate above is where each counts as a word
    figures["Sentences entirely right"] = "all_right"
    for label, key in figures.items():
        shown = [percent(for_display(scores)[key]) for _, scores in systems]
        was = f"<small>before: {shown[0]}</small>" if len(shown) == 2 else ""
        parts.append(f"<div><dt>{label}</dt><dd>{shown[-1]}{was}</dd></div>")
    if len(systems) == 2:
        pairs = zip(systems[0][1].rows, systems[1][1].rows, strict=True)
        changes = Counter((b.words.errors > a.words.errors) - (b.words.errors < a.words.errors) for a, b in pairs)
        small = f"<small>worse: {changes[1]}, the same: {changes[0]}</small>"
        parts.append(f"<div><dt>Sentences better</dt><dd>{changes[-1]}{small}</dd></div>")
    return f'<dl class="figures">{"".join(parts)}</dl>'


def _comparison(result: Mapping[str, Any]) -> str:
    """All that were compared in one table, and every two; the rest of the page is about the best of them."""

    if not (each := comparison(result)):
        return ""
    every_two = pairs(result)
    second = _stacked("Every two", every_two) if every_two else ""
    if (number := len(every_two) - 1) > PAIRS_OPEN:
        second = f"<details><summary>Every two of them, {number} pairs</summary>{second}</details>"
    note = explained(result)
    if result.get("adapter"):
        note += f" Below, '{result['adapter']}' is shown in detail."
    return section("All compared", _stacked(f"Each against {reference(result)}", each), second, quiet(note))


def _stacked(caption: str, found: Sequence[Sequence[str]], tall: bool = False) -> str:
    """A table of many columns of numbers, headings first, which a phone shows row by row."""

    def style(heading: str) -> type[Number]:
        if max(map(len, heading.split()), default=0) > LONG_WORD:
            return Long
        return First if heading.startswith("Points") else Number

    styles = [style(heading) for heading in found[0]]

    def cells(row: Sequence[str]) -> list[str]:
        numbers = zip(row[1:], styles[1:], strict=True)
        return [esc(row[0]), *(Spare(text) if text == NOTHING else kind(esc(text)) for text, kind in numbers)]

    head, *rows = map(cells, found)
    return table(caption, head, rows, STACKED if sum(map(len, head)) > PHONE_WIDTH else "", tall=tall)


def _overall(systems: Systems, rows: Sequence[tuple[str, ...]]) -> str:
    """The word error rates with their intervals drawn, and every measure in numbers."""
    if not systems:
        return ""
    data = [for_display(scores) for _, scores in systems]
    marks = [Mark(kind, one["wer"], one["wer_ci95"]) for kind, one in zip(kinds(systems), data, strict=True)]
    end = scale_end([bound for mark in marks for bound in (mark.value, *(mark.interval or ()))])
    drawn = [
        [esc(name) if len(systems) > 1 else "This model", track([mark], end), Number(percent(mark.value))]
        for (name, _), mark in zip(systems, marks, strict=True)
    ]
    chart = table(
        f"{_words(systems)} wrong, with 95% intervals", ["Model", Axis(track_axis(end)), Number("WER")], drawn
    )
    cells = [[esc(row[0]), *(Number(esc(text)) for text in row[1:])] for row in rows]
    return chart + table("Every measure", ["Measure", *columns(systems, "Value")], cells, "measures")


def _compared(
    systems: Systems, parts: Sequence[Mapping[str, Any]], heading: str, caption: str, speakers: bool = False
) -> str:
    """A table of rates by some key, one chart row each; `parts` are a system's entries by key.

    Args:
        speakers: of groups, which have a number of speakers, and intervals.
    """
    everything = [entry for part in parts for entry in part.values()]
    rates = [entry["wer"] for entry in everything]
    end = scale_end(rates + [bound for entry in everything for bound in entry.get("wer_ci95", ())])
    if speakers:
        caption += ", with 95% intervals"
    if any(rate is not None and rate > end for rate in rates):
        caption += f"; {OFF} is more than the scale shows"
    rows = []
    for key in parts[-1]:
        entries = [part.get(key, {}) for part in parts]
        marks = [
            Mark(kind, entry.get("wer"), entry.get("wer_ci95"))
            for kind, entry in zip(kinds(systems), entries, strict=True)
        ]
        numbers = [Number(percent(entry.get("wer")) + _bounds(entry)) for entry in entries]
        counts: list[Number] = [Spare(entries[-1].get("n_words", 0))]
        if speakers:
            counts.append(Number(entries[-1].get("n_speakers", "")))
        rows.append([esc(key or UNNAMED), track(marks, end), *numbers, *counts])
    headings = [esc(heading), Axis(track_axis(end)), *columns(systems, "WER"), Spare(_words(systems))]
    headings += [Number("Speakers")] if speakers else []
    return table(caption, headings, rows, tall=len(rows) > ROWS_OPEN)


def _bounds(entry: Mapping[str, Any]) -> str:
    """The 95% interval below a rate, where there is one."""
    shown = interval(entry.get("wer_ci95"))
    return "" if shown == NOTHING else f" <small>{shown.replace(' to ', '&nbsp;to ')}</small>"  # two lines on a phone


def _broken_down(systems: Systems, name: str, heading: str) -> str:
    parts = [scores.to_dict().get(name) or {} for _, scores in systems]
    return (
        legend(systems) + _compared(systems, parts, heading, f"{_words(systems)} wrong") if parts and parts[-1] else ""
    )


def _speakers(systems: Systems, result: Mapping[str, Any]) -> str:
    parts = [scores.per_speaker for _, scores in systems]
    if not parts or not voices(parts[-1]):
        return ""
    order = sorted(voices(parts[-1]), key=lambda name: -(parts[-1][name]["wer"] or 0))
    parts = [{name: part[name] for name in order} for part in parts]
    every = "every speaker" if len(order) <= ROWS_OPEN else f"all {len(order)} speakers"
    caption = f"{_words(systems)} wrong of {every}, most first"
    other = ""
    if each := every_speaker(result):
        by_all = f"{_words(systems)} wrong of {every} by all compared, in the same order"
        other = _stacked(by_all, each, len(order) > ROWS_OPEN)
    return section("Speakers", legend(systems), _compared(systems, parts, "Speaker", caption), other)


def _groups(systems: Systems) -> str:
    """One table a field. A group of few speakers says little about others like them, and the page says so."""
    if not systems:
        return ""
    tables = []
    for field, values in systems[-1][1].per_group.items():
        if len(values) < 2:
            continue
        parts = [scores.per_group[field] for _, scores in systems]
        tables.append(f"<h3>{esc(field)}</h3>")
        tables.append(_compared(systems, parts, field, f"{_words(systems)} wrong", speakers=True))
        gap = [s.gaps.get(field) for _, s in systems]
        if gap[-1] is not None:
            shown = " → ".join("–" if value is None else f"{value * 100:.1f}" for value in gap)
            p = systems[-1][1].gaps_p.get(field)
            said_by = {row.speaker for row in systems[-1][1].known(field) if row.words.length}
            shuffled = "speakers" if len(said_by) > 1 else "recordings"
            chance = "" if p is None else " " + BY_CHANCE.format(shuffled, how_often(p))
            tables.append(quiet(f"Gap between best and worst: {shown} points. {NO_INTERVAL}{chance}"))
        if any(entry["n_speakers"] < ENOUGH_SPEAKERS for entry in values.values()):
            over = speaking(systems[-1][1].per_speaker) >= ENOUGH_SPEAKERS
            none = ", and have no interval: it would be over recordings, not people" if over else ""
            few = f"Groups of fewer than {ENOUGH_SPEAKERS} speakers say little about other people"
            tables.append(quiet(f"{few}{none}."))
    return section("Groups", legend(systems), *tables) if tables else ""


def _appendix(systems: Systems, result: Mapping[str, Any]) -> str:
    """Settings and hashes to repeat it, and what was left out."""
    parts = []
    left_out = result.get("left_out") or []
    if left_out:
        rows = [[esc(item["where"]), esc(item["reason"])] for item in left_out]
        left = table("Recordings that were left out", ["Where", "Why"], rows)
        how_many = f"{len(left_out)} recording{'s' if len(left_out) > 1 else ''}"
        parts.append(f"<details><summary>Left out: {how_many}</summary>{left}</details>")
    for name, found in to_repeat(systems, result):
        rows = [[f"<code>{esc(key)}</code>", esc(text)] for key, text in found]
        facts = table(f"{esc(name)}", [], rows, "facts")
        parts.append(f"<details><summary>{esc(name)}</summary>{facts}</details>")
    return section("To repeat it", quiet("result.json beside this page holds all of this and every score."), *parts)
