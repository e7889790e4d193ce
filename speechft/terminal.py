"""The tables at the end of a run, on stdout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from speechft.normalize import unit
from speechft.numbers_as_text import NOTHING, interval, percent, points, points_interval
from speechft.plain_text import Terminal, escape
from speechft.problems import Problem
from speechft.report_answer import answer
from speechft.report_comparison import best_system, comparison, pairs, speaker_rates
from speechft.report_data import for_display
from speechft.report_limits import CLOSER_TEXT, limits
from speechft.report_tables import UNNAMED
from speechft.result import training_caveats
from speechft.scoring_notes import speakers_said, speaking
from speechft.trained_on import read_besides, read_first

SHORT_NAME = 8  # columns that a name in a table has at least
SPEAKERS_SHOWN = 20  # of more, the worst
WORST_SPEAKERS = 10
HUNDREDTHS = 2  # digits of a point: an export changes little
COLOURS = {"error": "red", "warning": "yellow", "note": "cyan"}


def before_after(result: dict[str, Any], out: Path | None) -> None:
    """The table a run ends with: base and adapted, with intervals, and where the report is."""
    console = Terminal()
    base, adapted = for_display(result["base"]), for_display(result["adapted"])
    kept = result["adapter"] is None
    _print_first(console, result, [adapted] if kept else [base, adapted], None if kept else result["difference"])
    words = unit(base["normalizer"])
    size = f"{base['n_utterances']} clips, {base['n_words']} {words}"
    table = Table(title=f"{size}, {speakers_said(base['per_speaker'])}")
    for column in ("", "before", "after"):
        table.add_column(column, justify="left" if not column else "right")
    table.add_row(f"{words} wrong (WER)", percent(base["wer"]), f"[bold]{percent(adapted['wer'])}[/]")
    table.add_row("95% interval", interval(base["wer_ci95"]), interval(adapted["wer_ci95"]))
    table.add_row("characters wrong (CER)", percent(base["cer"]), percent(adapted["cer"]))
    for label, key in CLOSER_TEXT.items():
        if base.get(key) is not None:
            table.add_row(label, *(percent(one[key]) for one in (base, adapted)))
    if speaking(base["per_speaker"]) > 1:
        table.add_row("WER, mean of speakers", *(percent(one["wer_speaker_mean"]) for one in (base, adapted)))
        table.add_row("WER, worst speaker", *map(_worst_speaker, (base, adapted)))
    console.print(table)
    _print_speakers(console, {"before": base, "after": adapted})
    _print_limits(console, result, adapted, None if kept else result["difference"])
    forgotten = result.get("forgetting")
    if forgotten:
        console.marked(
            f"Typical speech, {forgotten['clips']} clips: WER {percent(forgotten['base']['wer'])} before, "
            f"{percent(forgotten['adapted']['wer'])} after"
            + "".join(f" [yellow]({escape(said)})[/]" for said in read_first(forgotten))
        )
        for caveat in forgotten["caveats"]:
            console.marked(f"[yellow]{escape(caveat)}[/]")
    training = result.get("training")
    if training:
        console.print(
            f"{training['steps']} steps in {training['seconds']:.0f} s; "
            f"{training['peak_memory_mb'] / 1000:.1f} GB of memory at most; "
            f"{training['trainable'] / training['parameters']:.1%} of the weights trained"
        )
        if training.get("stopped"):
            console.print(f"Stopped before step {training['steps_planned']}: {training['stopped']}.")
        if out and not kept:
            console.print(f"Transcribe with it:  speechft transcribe new.wav --adapter {out / result['adapter']}")
    if out:
        console.print(f"Report:  {out / 'report.html'}")


def scores_table(result: dict[str, Any], out: Path | None) -> None:
    """One model's error rates."""
    console = Terminal()
    result = for_display(result)
    _print_first(console, result, [result], None)
    size = f"{result['n_utterances']} clips, {result['n_words']} {unit(result['normalizer'])}"
    table = Table(title=f"{escape(result['model'])}: {size}")
    titles = zip(("closer text", "clipped"), CLOSER_TEXT.values(), strict=True)  # the whole labels are too wide
    closer = {title: result[key] for title, key in titles if result.get(key) is not None}
    for column in ("WER", "95% interval", "CER", "MER", "WIL", *closer, "x real time"):
        table.add_column(column, justify="right")
    table.add_row(
        f"[bold]{percent(result['wer'])}[/]",
        interval(result["wer_ci95"]),
        *(percent(result[key]) for key in ("cer", "mer", "wil")),
        *map(percent, closer.values()),
        f"{1 / result['real_time_factor']:.0f}" if result["real_time_factor"] else "",
    )
    console.print(table)
    if (speakers := speaking(result["per_speaker"])) > 1:
        mean, worst = percent(result["wer_speaker_mean"]), _worst_speaker(result)
        console.marked(f"{speakers} speakers: mean WER {mean}, worst {worst}")
    _print_speakers(console, {"WER": result})
    _print_limits(console, result, result, None)
    if out:
        console.print(f"Report:  {out / 'report.html'}")


def comparison_table(result: dict[str, Any], out: Path | None) -> None:
    """Base and adapters, a row each, with the difference to the base and its corrected p values; then every two."""
    console = Terminal()
    best = best_system(result)
    shown = [result["base"], result["adapters"][best.name]] if best else [result["base"]]
    _print_first(console, result, shown, best.difference if best else None)
    titles = (f"{result['clips']} clips, {speakers_said(result['base']['per_speaker'])}", "Every pair")
    tables = zip(titles, (comparison(result), pairs(result)), strict=True)
    for title, (headings, *rows) in ((title, cells) for title, cells in tables if cells):  # of one adapter no pairs
        table = _with_whole_words(title, headings, rows, console.width)
        for row in rows:
            table.add_row(*map(escape, row), style="bold" if row[0] == result["best"] else None)
        console.print(table)
    _print_speakers(console, {"base": result["base"], **result["adapters"]})
    _print_limits(console, result, shown[-1], best.difference if best else None)
    if out:
        console.print(f"Report:  {out / 'report.html'}")


def _with_whole_words(title: str, headings: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Table:
    """An empty table of many columns, the first of names, in which no word is broken but of names, if it can be."""
    columns = zip(headings, *rows, strict=True)
    least = [max(len(word) for cell in column for word in cell.split()) for column in columns]
    roomy = sum(least) + 2 * len(least) + 2 <= width
    whole = sum(least[1:]) + len(least) + SHORT_NAME <= width
    table = Table(title=title, box=SIMPLE_HEAD, padding=(0, int(roomy), 0, 0))
    table.add_column(headings[0], overflow="fold")
    for heading, widest in zip(headings[1:], least[1:], strict=True):
        table.add_column(heading, justify="right", overflow="fold", min_width=widest if whole else None)
    return table


def export_table(result: dict[str, Any], out: Path) -> None:
    """An export in its own software beside ours."""
    console = Terminal()
    for said in read_first(result):
        console.marked(f"[bold yellow]{escape(said)}[/]")
    own, context = result["ours_at_its_context"], result["context"]
    table = Table(
        title=f"{own['n_utterances']} clips, {own['n_words']} {unit(own['normalizer'])}, greedy, without retries"
    )
    for column in ("", "WER", "95% interval", "CER"):
        table.add_column(column, justify="right" if column else "left")
    rows = {f"{result['software']}, {context}": result["theirs"], f"speechft, {context}": result["ours"]}
    after = result.get("theirs_after_silence")
    if after:
        rows[f"{result['software']}, silence after each clip"] = after
    for name, scores in (rows | {f"speechft, {own['context']}": own}).items():
        scores = for_display(scores)
        table.add_row(name, percent(scores["wer"]), interval(scores["wer_ci95"]), percent(scores["cer"]))
    console.print(table)
    difference = result["difference"]
    bounds = points_interval(difference["wer_ci95"], HUNDREDTHS)
    sure = "" if bounds == NOTHING else f" (95% interval {bounds})"
    console.print(
        f"Theirs minus ours: {points(difference['wer'], HUNDREDTHS)} points of WER{sure}; "
        f"{percent(result['words_that_differ'])} of the words differ."
    )
    if after:
        told = points(after["difference"]["wer"], HUNDREDTHS)
        console.print(f"With silence after each clip up to 30 s, theirs minus ours: {told} points.")
    for caveat in read_besides(result):
        console.marked(f"[yellow]{escape(caveat)}[/]")
    console.print(f"Splits: {result['overlap']}.")
    console.print(f"Model:  {out}")


def _print_first(
    console: Terminal,
    result: Mapping[str, Any],
    systems: Sequence[Mapping[str, Any]],
    difference: Mapping[str, Any] | None,
) -> None:
    """What must be read before any number, then the result in a sentence, as in the report."""
    for said in read_first(result):
        console.marked(f"[bold yellow]{escape(said)}[/]")
    console.marked(f"[bold]{escape(answer(systems, difference, result))}[/]")


def _worst_speaker(scores: Mapping[str, Any]) -> str:
    name = scores["worst_speaker"]
    return "–" if name is None else f"{percent(scores['per_speaker'][name]['wer'])} ({escape(name or UNNAMED)})"


def _print_speakers(console: Terminal, systems: Mapping[str, Mapping[str, Any]]) -> None:
    """Words wrong of every speaker, most first; of many the worst."""
    *_, last = systems
    (*_, counted), *rows = speaker_rates(systems, last)
    if len(rows) < 2:
        return
    shown, title = rows, "WER of every speaker"
    if len(rows) > SPEAKERS_SHOWN:
        shown, title = rows[:WORST_SPEAKERS], f"The worst {WORST_SPEAKERS} of {len(rows)} speakers"
    table = Table(title=title, box=SIMPLE_HEAD)
    for column in ("speaker", *systems, counted.lower()):
        table.add_column(escape(column), justify="left" if column == "speaker" else "right", overflow="fold")
    for row in shown:
        table.add_row(*map(escape, row))
    console.print(table)
    if len(rows) > len(shown):
        console.print(f"{len(rows) - len(shown)} more speakers are in the report (--out).")


def _print_limits(
    console: Terminal,
    result: Mapping[str, Any],
    scores: Mapping[str, Any],
    difference: Mapping[str, Any] | None,
) -> None:
    """What to know before quoting the numbers, as in the report."""
    for sentence in [*training_caveats(result), *read_besides(result), *limits(scores, difference)]:
        console.marked(f"[yellow]{escape(sentence)}[/]")


def problem_lines(problems: Sequence[Problem]) -> list[str]:
    """A coloured line a problem."""
    return [f"[{COLOURS[p.severity]}]{p.severity}[/] {escape(str(p))}" for p in problems]


def leakage_lines(pairs: Sequence[Mapping[str, Any]]) -> list[str]:
    """What each pair of splits shares, a line for each kind; see `speechft.overlap.Overlap.to_dict`."""
    lines = []
    for pair in pairs:
        between = f"{pair['first']} and {pair['second']} share"
        shared = [_count(pair["prompts"], "prompt")] if pair["prompts"] else []
        if pair["texts"]:
            rows = f"{pair['text_rows']} of {pair['rows']} rows of {pair['second']}"
            shared.append(f"{_count(pair['texts'], 'sentence')} ({rows})")
        named = {"speaker": pair["speakers"], "session": pair["sessions"], "recording": pair["audio"]}
        shared = [f"{_count(len(names), kind)}: {_first(names)}" for kind, names in named.items() if names] + shared
        lines += [f"{between} {what}" for what in shared or ["nothing"]]
        lines += [
            f"{pair['first']} and {pair['second']} may share {name}, written another way" for name in pair["alike"]
        ]
        counts = zip(pair["nameless"], (pair["first"], pair["second"]), strict=True)
        lines += [
            f"{_count(count, 'row')} of {part} may be anybody's: no speaker is named" for count, part in counts if count
        ]
    return lines


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _first(names: Sequence[str]) -> str:
    return f"{', '.join(names[:5])}{', ...' if len(names) > 5 else ''}"
