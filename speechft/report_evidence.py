"""Sections of the report behind its main tables: leaks, confusions, invented words, confidence, training and so on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from speechft.normalize import unit
from speechft.numbers_as_text import interval, percent, points, points_interval
from speechft.report_charts import Mark, curve, track, track_axis
from speechft.report_data import Systems, confusions
from speechft.report_tables import Axis, Number, Spare, columns, esc, keys, notices, quiet, section, table
from speechft.sounds import confused_sounds
from speechft.trained_on import read_first

CONFUSIONS = 20
NOTHING_INVENTED = (  # which is said only where no clip is without speech, for these have rows of their own
    "No loops, and no clip with more errors than words. No clip without speech was tested, so nothing is known of "
    "silence."
)
COUNTED_APART = (
    "Words are counted here as they were written, not as joined numbers, and digits that are only written apart are "
    "not invented; but clips with more errors than words go by the words of the error rate."
)


def evidence(systems: Systems, result: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]]) -> list[str]:
    """The sections in their order; those that were not measured are empty."""
    return [
        _shared(result.get("leakage") or []),
        _confusions(systems),
        _invented(systems),
        _confidence(systems, result),
        _meaning(result.get("semantic") or {}),
        _forgotten(result.get("forgetting")),
        _training(metrics),
        _dose(result.get("dose_curve") or []),
    ]


def _shared(pairs: Sequence[Mapping[str, Any]]) -> str:
    """What the parts of the corpus have in common, which is how a number comes to flatter."""
    if not pairs:
        return ""
    head, *rows = shared_table(pairs)
    cells = [[esc(name), *map(Number, counts)] for name, *counts in rows]
    note = (
        "Sentences without case and punctuation; recordings by their bytes ('speechft check' also compares how they "
        "sound)."
    )
    heads = [head[0], *(Number(esc(parts)) for parts in head[1:])]
    return section("What training and test share", table("How many are in two parts", heads, cells), quiet(note))


def shared_table(pairs: Sequence[Mapping[str, Any]]) -> list[list[str]]:
    """Headings, then a row of text for each kind of thing; see `speechft.overlap.Overlap.to_dict`."""
    rows = [["In both", *(f"{pair['first']} and {pair['second']}" for pair in pairs)]]
    for kind in ("speakers", "sessions", "prompts", "texts", "audio"):
        counts = [pair[kind] if isinstance(pair[kind], int) else len(pair[kind]) for pair in pairs]
        rows.append([{"texts": "Sentences", "audio": "Recordings"}.get(kind, kind.capitalize()), *map(str, counts)])
    clips = (f"{pair['text_rows']} of {pair['rows']}" for pair in pairs)
    return [*rows, ["Clips of the second whose sentence is in the first", *clips]]


def speed(result: Mapping[str, Any]) -> str:
    """How long transcribing took, a sentence; nothing where it was not measured."""
    before, after = (found.get("real_time_factor") for found in (result.get("base") or {}, _in_detail(result)))
    if after is None:
        return ""
    was = f"; before: {before:.2f} s" if before is not None else ""
    return f"Transcribing took {after:.2f} s for each second of sound (real-time factor{was})."


def _in_detail(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """The scores of what the page is about: of several adapters the one that is shown, else what was evaluated."""
    return (result.get("adapters") or {}).get(result.get("adapter")) or result.get("adapted") or result


def _confusions(systems: Systems) -> str:
    if not systems:
        return ""
    counts = [confusions(scores) for _, scores in systems]
    names, words = columns(systems, "Times"), unit(systems[-1][1].normalizer)
    apart, parts = _digit_by_digit(systems), []
    for caption, headings, wanted in (
        (f"{words.capitalize()} heard as other {words}{apart}", ["Said", "Heard"], lambda said, heard: said and heard),
        (f"{words.capitalize()} missed{apart}", ["Said"], lambda said, heard: not heard),
        (f"{words.capitalize()} invented{apart}", ["Heard"], lambda said, heard: not said),
    ):
        chosen = [pair for pair in _most_first(counts) if wanted(*pair)]
        rows = [
            [*(esc(word) for word in pair if word), *(Number(count[pair]) for count in counts)]
            for pair in chosen[:CONFUSIONS]
        ]
        if rows:
            parts.append(table(f"{caption}, {_ranked(systems, len(chosen))}", [*headings, *names], rows))
    parts += _sounds(systems)
    folded = "".join(
        f"<details{' open' if i == 0 else ''}>{_summarised(part)}</details>" for i, part in enumerate(parts)
    )
    return section("Confusions", folded)


def _digit_by_digit(systems: Systems) -> str:
    """What a caption adds where its counts are not those of the error rate; see `Scored.heard_words`."""
    apart = any(row.heard_words is not row.words for _, scores in systems for row in scores.rows)
    return " (numbers digit by digit)" if apart else ""


def _most_first(counts: Sequence[Counter[tuple[str, str]]]) -> list[tuple[str, str]]:
    """Confusions by how often the last system makes them, then by how often the one before it does."""
    found = {pair for count in counts for pair in count}
    return sorted(found, key=lambda pair: (*(-count[pair] for count in reversed(counts)), pair))


def _ranked(systems: Systems, number: int) -> str:
    """How a table of confusions is ordered, and how many of them it shows."""
    order = f"ordered by {systems[-1][0]}" if len(systems) > 1 else "most frequent first"
    return f"{order}: {f'{CONFUSIONS} of {number}' if number > CONFUSIONS else f'all {number}'}"


def _sounds(systems: Systems) -> list[str]:
    """What was heard for which sound inside misheard words, and its share of all such sounds by the last system."""
    found = [confused_sounds(scores) for _, scores in systems]
    counts, said, name = [one.pairs for one in found], found[-1].said, found[-1].unit
    chosen = _most_first(counts)
    rows = [
        [
            esc(one) or "–",
            esc(two) or "–",
            *(Number(count[one, two]) for count in counts),
            Number(percent(counts[-1][one, two] / said[one]) if said[one] else ""),
        ]
        for one, two in chosen[:CONFUSIONS]
    ]
    if not rows:
        return []
    share = f"{systems[-1][0]}, of" if len(systems) > 1 else "Of"
    caption = (
        f"{name.capitalize()} confused inside misheard words{_digit_by_digit(systems)}, {_ranked(systems, len(chosen))}"
    )
    heads = ["Said", "Heard", *columns(systems, "Times"), Number(f"{share} this {name[:-1]}")]
    return [table(caption, heads, rows)]


def _invented(systems: Systems) -> str:
    """Words that nobody said, where they can be nothing else."""
    if not systems:
        return ""
    found = [scores.hallucination for _, scores in systems]
    wanted = (
        ("Clips without speech", "silence", "clips", str),
        ("of them given words", "silence", "with_words", str),
        ("words a minute of silence", "silence", "words_per_minute", lambda value: f"{value:.1f}"),
        ("Clips under 1.5 s", "short", "clips", str),
        ("words invented in them, by words said", "short", "rate", percent),
        ("Clips that repeat themselves", "loops", "clips", str),
        ("words invented in them", "loops", "inserted", str),
        ("Clips with more errors than words", "above_one", "clips", str),
        ("Clips with more words than can be said in their time", "too_fast", "clips", str),
    )
    rows = []
    for label, kind, key, shown in wanted:
        values = [entry[kind][key] for entry in found]
        if any(values):
            rows.append([label, *(Number("–" if value is None else shown(value)) for value in values)])
    if not rows:
        return section("Invented words", quiet(NOTHING_INVENTED))
    heads = ["Measure", *columns(systems, "Value")]
    joined = any(row.apart != row.normalized for _, scores in systems for row in scores.rows)
    note = quiet(COUNTED_APART) if joined else ""
    return section("Invented words", table("Where they can be told from mishearings", heads, rows), note)


def _confidence(systems: Systems, result: Mapping[str, Any]) -> str:
    """Whether the confidence of words means what it says; drawn of the last system."""
    found = calibrated(systems, result)
    if not found:
        return ""
    name, entry = found[-1]
    rows = [
        [
            f"{line['low']:.0%} to {line['high']:.0%}",
            track([Mark("sure", line["confidence"]), Mark("share", line["right"])], 1.0),
            Number(percent(line["right"])),
            Spare(line["words"]),
        ]
        for line in entry["table"]
    ]
    words = unit(systems[-1][1].normalizer)
    whose = f"{name}: {words}" if len(systems) > 1 else words.capitalize()
    heads = ["Confidence", Axis(track_axis(1.0)), Number("Right"), Spare(words.capitalize())]
    drawn = table(f"{whose} by their confidence, and the share of them that is right", heads, rows)
    marks = keys([("sure", "mean confidence"), ("share", "share that is right")])
    return section("Can its confidence be believed?", marks, drawn, quiet(calibration_said(found)))


def calibrated(systems: Systems, result: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """The systems whose confidence was measured, with `Scores.calibration` of each."""
    if not systems:
        return []
    entries = [result.get("base"), _in_detail(result)][-len(systems) :]
    named = zip((name for name, _ in systems), entries, strict=True)
    return [(name, entry["calibration"]) for name, entry in named if entry and entry.get("calibration")]


def calibration_said(found: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """What `calibrated` systems' confidence is worth, in sentences."""
    said = "; ".join(f"{'' if name == 'Heard' else name.lower() + ': '}{_sure(entry)}" for name, entry in found)
    return (
        "The mean gap between the two (expected calibration error), and how well a low confidence finds a wrong word "
        f"(area under the curve; 0.5 is a coin, 1 is always): {said}. Missed words have no confidence."
    )


def _sure(entry: Mapping[str, Any]) -> str:
    area = "–" if entry["auroc"] is None else f"{entry['auroc']:.2f}"
    return f"{percent(entry['ece'])}, and {area}"


def _meaning(found: Mapping[str, Any]) -> str:
    """SemScore where its models were given, else its phonetic parts and why."""
    names = {
        "semscore": "SemScore",
        "entailment": "Entailment, both ways",
        "bertscore": "BERTScore",
        "phonetic": "Phonetic, first sounds of the sentence",
        "phonetic_by_word": "Phonetic, word by word (not part of SemScore)",
        "sentence_similarity": "Sentence embeddings (not part of SemScore)",
    }
    rows = [[label, Number(percent(found[key]))] for key, label in names.items() if found.get(key) is not None]
    if not rows:
        return ""
    note = f"{found['note'][:1].upper()}{found['note'][1:]}." if found.get("note") else ""
    return section(
        "Meaning and sound", table("0% nothing, 100% the same", ["Measure", Number("Value")], rows), quiet(note)
    )


def _forgotten(found: Mapping[str, Any] | None) -> str:
    """What the adapter costs on typical speech."""
    if not found:
        return ""
    head, *rows = ([name, *map(Number, cells)] for name, *cells in forgetting_table(found))
    caption = f"Words wrong on {typical(found)}"
    return section("What it forgot", notices(read_first(found)), table(caption, head, rows), quiet(forgotten(found)))


def typical(found: Mapping[str, Any]) -> str:
    """What an adapter was tried on that should have forgotten nothing; one speaker may be several without a name."""
    by = f" by {found['speakers']} speakers" if found["speakers"] > 1 else ""
    return f"{found['clips']} clips of typical speech{by}"


def forgetting_table(found: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Headings, then before and after on typical speech."""
    systems = (("Before", found["base"]), ("After", found["adapted"]))
    rows = [(name, percent(scores["wer"]), interval(scores["wer_ci95"])) for name, scores in systems]
    return [("Model", "WER", "95% interval"), *rows]


def forgotten(found: Mapping[str, Any]) -> str:
    """The difference on typical speech, in a sentence, and what to know about it."""
    change, bounds = found["difference"]["wer"], found["difference"]["wer_ci95"]
    sure = "" if None in bounds else f" (95% interval {points_interval(bounds)})"
    said = [] if change is None else [f"Difference: {points(change)} points{sure}."]
    unheard = len(found["left_out"])
    said += [f"{unheard} rows could not be used."] if unheard else []
    first = read_first(found)
    return " ".join([*said, *(caveat for caveat in found["caveats"] if caveat not in first)])


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
    return section("Training", f'<div class="charts">{"".join(figures)}</div>', folded)


def _dose(points: Sequence[Mapping[str, Any]]) -> str:
    """Minutes of recordings against words wrong, where a recipe measured it."""
    known = _known(points)
    if not known:
        return ""
    band = [(p["minutes"], *p["wer_ci95"]) for p in known if p.get("wer_ci95") and None not in p["wer_ci95"]]
    drawn = curve(
        [(p["minutes"], p["wer"]) for p in known],
        title="Words wrong",
        across="minutes",
        percent=True,
        dots=True,
        band=band,
    )
    head, *rows = ([minutes, *map(Number, cells)] for minutes, *cells in dose_table(points))
    numbers = table("Words wrong by minutes of training recordings", head, rows)
    return section("How much recording it takes", f"<figure>{drawn}</figure>", numbers)


def dose_table(points: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """Headings, then a row a dose, the smallest first."""
    known = _known(points)
    rows = [(f"{p['minutes']:g}", percent(p["wer"]), interval(p.get("wer_ci95"))) for p in known]
    return [("Minutes", "WER", "95% interval"), *rows]


def _known(points: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The doses with a result, the smallest first."""
    known = [p for p in points if p.get("minutes") is not None and p.get("wer") is not None]
    return sorted(known, key=lambda p: p["minutes"])
