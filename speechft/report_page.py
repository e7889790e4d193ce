"""The report as one HTML page: sections from scores, filled into `report_page.html`.

Everything that came from outside (names, transcripts, settings) passes `esc` or the embedded JSON on its way in.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from typing import Any

from speechft.report_charts import Mark, curve, scale_end, track, track_axis
from speechft.report_data import Systems, confusions, embedded, flat, sentences
from speechft.significance import ENOUGH_SPEAKERS

SPEAKERS_OPEN = 40  # more rows than this are folded away
CONFUSIONS = 20


def page(
    *,
    title: str,
    notes: Sequence[str],
    answer: str,
    systems: Systems,
    rows: Sequence[tuple[str, ...]],
    remarks: Sequence[str],
    metrics: Sequence[Mapping[str, Any]],
    result: Mapping[str, Any],
    audio: Mapping[str, str],
) -> str:
    """The whole page.

    Args:
        title, notes, answer: what it says first.
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
        _section("Before and after" if len(systems) == 2 else "Measures", _overall(systems, rows), *map(_p, remarks)),
        _speakers(systems),
        _groups(systems),
        _section("By length of the sentence", _broken_down(systems, "by_length", "Words in the sentence")),
        _confusions(systems),
        _training(metrics),
        _dose(result.get("dose_curve") or []),
    ]
    values = {
        "title": esc(title),
        "notices": "".join(f'<p class="notice" role="note">{esc(note)}</p>' for note in notes),
        "answer": esc(answer),
        "sections": "\n".join(sections),
        "appendix": _appendix(result),
        "footer": f"Made by speechft. {esc(systems[-1][1].normalizer) if systems else ''}",
        "data": embedded(sentences(systems, audio)),
        "script_hash": _script_hash(template),
    }
    # One pass, so that braces inside a transcript are never taken for a place to fill.
    return re.sub(r"\{\{(\w+)\}\}", lambda place: values[place[1]], template)


def esc(value: object) -> str:
    return escape(str(value), quote=True)


def _script_hash(template: str) -> str:
    """What the page's content policy allows to run: the template's own script, byte for byte."""
    script = template.rpartition("<script>")[2].partition("</script>")[0]
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


def _section(heading: str, *parts: str) -> str:
    body = "\n".join(part for part in parts if part)
    return f"<section>\n<h2>{esc(heading)}</h2>\n{body}\n</section>" if body else ""


def _p(text: str) -> str:
    return f'<p class="quiet">{esc(text)}</p>'


class Number(str):
    """A cell of a table that is aligned as a number."""

    style = "n"


class Spare(Number):
    """One that a narrow screen leaves out."""

    style = "n spare"


class Axis(str):
    """The heading of a column of charts."""

    style = "plot"


def table(caption: str, headings: Sequence[str], rows: Sequence[Sequence[str]], kind: str = "") -> str:
    """A table of cells that are HTML already."""

    def cell(text: str, tag: str, scope: str = "") -> str:
        style = f' class="{text.style}"' if isinstance(text, Number | Axis) else ""
        return f"<{tag}{scope}{style}>{text}</{tag}>"

    head = "".join(cell(heading, "th", ' scope="col"') for heading in headings)

    def line(row: Sequence[str]) -> str:
        return cell(row[0], "th", ' scope="row"') + "".join(cell(text, "td") for text in row[1:])

    body = "".join(f"<tr>{line(row)}</tr>" for row in rows)
    style = f' class="{kind}"' if kind else ""
    thead = f"<thead><tr>{head}</tr></thead>" if headings else ""
    return f'<div class="wide"><table{style}><caption>{caption}</caption>{thead}<tbody>{body}</tbody></table></div>'


def percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _figures(systems: Systems) -> str:
    """The numbers most people came for, in large type."""
    if not systems:
        return ""
    parts = []
    for label, key in (("Words wrong", "wer"), ("Characters wrong", "cer"), ("Sentences wholly right", "all_right")):
        shown = [percent(scores.to_dict().get(key)) for _, scores in systems]
        was = f"<small>before: {shown[0]}</small>" if len(shown) == 2 else ""
        parts.append(f"<div><dt>{label}</dt><dd>{shown[-1]}{was}</dd></div>")
    if len(systems) == 2:
        pairs = zip(systems[0][1].rows, systems[1][1].rows, strict=True)
        changes = Counter((b.words.errors > a.words.errors) - (b.words.errors < a.words.errors) for a, b in pairs)
        small = f"<small>worse: {changes[1]}, the same: {changes[0]}</small>"
        parts.append(f"<div><dt>Sentences better</dt><dd>{changes[-1]}{small}</dd></div>")
    return f'<dl class="figures">{"".join(parts)}</dl>'


def _kinds(systems: Systems) -> list[str]:
    return ["before", "after"] if len(systems) == 2 else ["after"]


def _columns(systems: Systems, alone: str) -> list[Number]:
    """Headings of one column of numbers a system; a single one is headed by what it counts."""
    return [Number(esc(name)) for name, _ in systems] if len(systems) > 1 else [Number(alone)]


def _key(systems: Systems) -> str:
    """What the marks of the charts mean, where there are two kinds."""
    if len(systems) < 2:
        return ""
    shown = []
    for kind, (name, _) in zip(_kinds(systems), systems, strict=True):
        circle = f'<circle class="dot {kind}" cx="50%" cy="8" r="4.5"/>'
        shown.append(f'<span class="key"><svg height="16" aria-hidden="true">{circle}</svg></span>{esc(name)}')
    return f'<p class="quiet">{"&ensp;".join(shown)}</p>'


def _overall(systems: Systems, rows: Sequence[tuple[str, ...]]) -> str:
    """The word error rates with their intervals drawn, and every measure in numbers."""
    if not systems:
        return ""
    marks = [Mark(kind, s.to_dict()["wer"], s.wer_ci95) for kind, (_, s) in zip(_kinds(systems), systems, strict=True)]
    end = scale_end([bound for mark in marks for bound in (mark.value, *(mark.interval or ()))])
    drawn = [
        [esc(name) if len(systems) > 1 else "This model", track([mark], end), Number(percent(mark.value))]
        for (name, _), mark in zip(systems, marks, strict=True)
    ]
    chart = table("Words wrong, with 95% intervals", ["Model", Axis(track_axis(end)), Number("WER")], drawn)
    cells = [[esc(row[0]), *(Number(esc(text)) for text in row[1:])] for row in rows]
    return chart + table("Every measure", ["Measure", *_columns(systems, "Value")], cells, "measures")


def _compared(
    systems: Systems, parts: Sequence[Mapping[str, Any]], heading: str, caption: str, speakers: bool = False
) -> str:
    """A table of rates by some key, one chart row each; `parts` are a system's entries by key."""
    end = scale_end([entry["wer"] for part in parts for entry in part.values()])
    rows = []
    for key in parts[-1]:
        entries = [part.get(key, {}) for part in parts]
        marks = [
            Mark(kind, entry.get("wer"), entry.get("wer_ci95"))
            for kind, entry in zip(_kinds(systems), entries, strict=True)
        ]
        numbers = [Number(percent(entry.get("wer"))) for entry in entries]
        counts: list[Number] = [Spare(entries[-1].get("n_words", 0))]
        if speakers:
            counts.append(Number(entries[-1].get("n_speakers", "")))
        rows.append([esc(key) or "–", track(marks, end), *numbers, *counts])
    headings = [esc(heading), Axis(track_axis(end)), *_columns(systems, "WER"), Spare("Words")]
    return table(caption, [*headings, Number("Speakers")] if speakers else headings, rows)


def _broken_down(systems: Systems, name: str, heading: str) -> str:
    parts = [scores.to_dict().get(name) or {} for _, scores in systems]
    return _key(systems) + _compared(systems, parts, heading, "Words wrong") if parts and parts[-1] else ""


def _speakers(systems: Systems) -> str:
    parts = [scores.per_speaker for _, scores in systems]
    if not parts or len(parts[-1]) < 2:
        return ""
    order = sorted(parts[-1], key=lambda name: -(parts[-1][name]["wer"] or 0))
    parts = [{name: part[name] for name in order} for part in parts]
    body = _compared(systems, parts, "Speaker", "Words wrong of every speaker, most first")
    if len(order) > SPEAKERS_OPEN:
        body = f"<details><summary>All {len(order)} speakers</summary>{body}</details>"
    return _section("Speakers", _key(systems), body)


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
        tables.append(_compared(systems, parts, field, "Words wrong", speakers=True))
        gap = [s.gaps.get(field) for _, s in systems]
        if gap[-1] is not None:
            tables.append(_p(f"Gap between best and worst: {' → '.join(percent(value) for value in gap)}."))
        if any(entry["n_speakers"] < ENOUGH_SPEAKERS for entry in values.values()):
            tables.append(_p(f"Groups of fewer than {ENOUGH_SPEAKERS} speakers say little about other people."))
    return _section("Groups", _key(systems), *tables) if tables else ""


def _confusions(systems: Systems) -> str:
    if not systems:
        return ""
    counts = [confusions(scores) for _, scores in systems]
    everything = sum(counts, Counter[tuple[str, str]]())
    names = _columns(systems, "Times")
    parts = []
    for caption, headings, wanted in (
        ("Words heard as other words", ["Said", "Heard"], lambda said, heard: said and heard),
        ("Words missed", ["Said"], lambda said, heard: not heard),
        ("Words invented", ["Heard"], lambda said, heard: not said),
    ):
        chosen = [pair for pair in everything if wanted(*pair)]
        chosen.sort(key=lambda pair: (-everything[pair], pair))
        rows = [
            [*(esc(word) for word in pair if word), *(Number(count[pair]) for count in counts)]
            for pair in chosen[:CONFUSIONS]
        ]
        if rows:
            parts.append(table(f"{caption}, the {len(rows)} most frequent of {len(chosen)}", [*headings, *names], rows))
    folded = "".join(
        f"<details{' open' if i == 0 else ''}>{_summarised(part)}</details>" for i, part in enumerate(parts)
    )
    return _section("Confusions", folded)


def _summarised(part: str) -> str:
    """A table whose caption is also what opens it."""
    caption = part.partition("<caption>")[2].partition(",")[0]
    return f"<summary>{caption}</summary>{part}"


def _training(metrics: Sequence[Mapping[str, Any]]) -> str:
    losses = [(line["step"], line["loss"]) for line in metrics if line.get("loss") is not None]
    checks = [(line["step"], line["wer"]) for line in metrics if line.get("wer") is not None]
    figures = []
    if losses:
        drawn = curve(losses, title="Training loss", across="step", percent=False, dots=False)
        figures.append(f"<figure><figcaption>Training loss</figcaption>{drawn}</figure>")
    if checks:
        best = min(checks, key=lambda point: point[1])
        drawn = curve(checks, title="Words wrong on dev", across="step", percent=True, dots=True, best=best)
        figures.append(f"<figure><figcaption>Words wrong on dev, the best circled</figcaption>{drawn}</figure>")
    if not figures:
        return ""
    rows = [
        [str(line["step"]), esc(line.get("model", "")), *(Number(percent(line.get(key))) for key in ("wer", "cer"))]
        for line in metrics
        if line.get("wer") is not None
    ]
    numbers = table("Evaluations during training", ["Step", "Model", Number("WER"), Number("CER")], rows)
    folded = f"<details><summary>In numbers</summary>{numbers}</details>" if rows else ""
    return _section("Training", f'<div class="charts">{"".join(figures)}</div>', folded)


def _dose(points: Sequence[Mapping[str, Any]]) -> str:
    """Minutes of recordings against words wrong, where a recipe measured it."""
    known = [p for p in points if p.get("minutes") is not None and p.get("wer") is not None]
    if not known:
        return ""
    known.sort(key=lambda p: p["minutes"])
    band = [(p["minutes"], *p["wer_ci95"]) for p in known if p.get("wer_ci95") and None not in p["wer_ci95"]]
    drawn = curve(
        [(p["minutes"], p["wer"]) for p in known],
        title="Words wrong",
        across="minutes",
        percent=True,
        dots=True,
        band=band,
    )
    rows = [
        [f"{p['minutes']:g}", Number(percent(p["wer"])), Number(" to ".join(map(percent, p.get("wer_ci95") or [])))]
        for p in known
    ]
    headings = ["Minutes", Number("WER"), Number("95% interval")]
    numbers = table("Words wrong by minutes of training recordings", headings, rows)
    return _section("How much recording it takes", f"<figure>{drawn}</figure>", numbers)


SCORES = {"base", "adapted", "difference", "per_speaker", "per_group", "by_length", "dose_curve", "left_out"}


def _appendix(result: Mapping[str, Any]) -> str:
    """Settings and hashes to repeat it, and what was left out."""
    parts = []
    left_out = result.get("left_out") or []
    if left_out:
        rows = [[esc(item["where"]), esc(item["reason"])] for item in left_out]
        left = table("Recordings that were left out", ["Where", "Why"], rows)
        parts.append(f"<details><summary>Left out: {len(left_out)} recordings</summary>{left}</details>")
    single = {key: value for key, value in result.items() if key not in SCORES and not isinstance(value, Mapping)}
    nested = {key: value for key, value in result.items() if key not in SCORES and isinstance(value, Mapping)}
    for name, value in [("result", single), *nested.items()]:
        rows = [[f"<code>{esc(key)}</code>", esc(text)] for key, text in flat(value)]
        if rows:
            facts = table(f"{esc(name)}", [], rows, "facts")
            parts.append(f"<details><summary>{esc(name)}</summary>{facts}</details>")
    return _section("To repeat it", _p("result.json beside this page holds all of this and every score."), *parts)
