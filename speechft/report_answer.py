"""The result in one sentence, the same on the page, in Markdown and on the terminal: no more than the clips can carry.

A bootstrap over two to four speakers is far too narrow (`benchmarks/coverage.py`), and the best of several systems
looks better than it is, so neither may say that words wrong fell because an interval leaves out 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from speechft.report_comparison import Chosen, chosen
from speechft.report_tables import percent, points
from speechft.significance import ENOUGH_SPEAKERS

SURE = 0.05  # a corrected p value has to be below it


def answer(
    systems: Sequence[Mapping[str, Any]], difference: Mapping[str, Any] | None, result: Mapping[str, Any]
) -> str:
    """The result in a sentence.

    Args:
        systems: `Scores.to_dict` of one, or of before and after.
        difference: `paired.compare` of the two.
        result: for what was compared, and what training had of the recordings.
    """
    if not systems:
        return "Nothing was scored."
    scores = systems[-1]
    if not scores["n_utterances"]:
        return "Nothing was scored: 0 recordings."
    where = _where(scores, result)
    if not scores["n_words"]:
        invented = [str(one["insertions"]) for one in systems]
        nothing = "written where there was none to write"
        if difference is None:
            return f"{invented[0]} words were {nothing}, {where}."
        return f"Words {nothing} went from {' to '.join(invented)}, {where}."
    few = 1 < scores["n_speakers"] < ENOUGH_SPEAKERS
    if difference is None:
        text = f"{percent(scores['wer'])} of the words are wrong"
        if few:
            return f"{text}, {where}; too few speakers to say how it is for others."
        return f"{text}{_interval(scores['wer_ci95'])}, {where}{_unnamed(scores)}."
    best = chosen(result)
    who = f"The best of {best.of} {best.kind} on these same recordings, '{best.name}': words" if best else "Words"
    before, after = (percent(one["wer"]) for one in systems)
    went = f"{who} wrong went from {before} to {after}"
    if few:
        return f"{went}, {where}; too few speakers to say whether it holds for others."
    low, high = difference["wer_ci95"]
    if difference["wer"] is None or low is None or high is None:
        return f"{went}, {where}."
    end = f"{where}{_unnamed(scores)}."
    uncorrected = "uncorrected " if best else ""
    if low <= 0 <= high:
        sure = f"({uncorrected}95% interval {points(low)} to {points(high)} points)"
        return f"{went}, too small a difference to tell from chance {sure}, {end}"
    if best and best.p >= SURE:
        return f"{went}, which the best of {best.of} could reach by chance ({_corrected(best)}), {end}"
    fell = difference["wer"] < 0
    least, most = sorted((abs(low), abs(high)))
    size = f"{abs(difference['wer']) * 100:.1f} points {'fewer' if fell else 'more'}"
    sure = f"{uncorrected}95% interval {least * 100:.1f} to {most * 100:.1f}"
    sure += f"; {_corrected(best)}" if best else ""
    return f"{who} wrong {'fell' if fell else 'rose'} from {before} to {after}: {size} ({sure}), {end}"


def p_text(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def _corrected(best: Chosen) -> str:
    return f"{p_text(best.p)}, corrected for {best.of}"


def _where(scores: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    """On what: how many recordings by how many speakers, and whether training had any of them."""
    clips, speakers = scores["n_utterances"], scores["n_speakers"]
    by = f"by {speakers} speaker{'s' if speakers != 1 else ''}"
    if _nameless(scores):
        by = "whose speakers are not named"
    text = f"on {clips} recording{'s' if clips != 1 else ''} {by}"
    split = (result.get("evaluated_on") or {}).get("split")
    pairs = [p for p in result.get("leakage") or [] if {p["first"], p["second"]} == {"train", split}]
    if not pairs:
        return text
    pair = pairs[0]
    if pair["text_rows"] and pair["second"] == split:
        return f"{text}, {pair['text_rows']} of them of sentences that were trained on"
    if any(pair[kind] for kind in ("texts", "prompts", "audio", "alike")):
        return text
    if pair["speakers"]:
        return f"{text}, in sentences never trained on"
    unknown = pair["sessions"] or any(pair["nameless"])  # a row without a speaker may be of any
    return f"{text}, none of the recordings trained on" if unknown else f"{text} never trained on"


def _nameless(scores: Mapping[str, Any]) -> bool:
    return list(scores["per_speaker"]) == [""]


def _unnamed(scores: Mapping[str, Any]) -> str:
    return "; if they are several people, the interval is too narrow" if _nameless(scores) else ""


def _interval(ends: Sequence[float | None]) -> str:
    return "" if None in ends else f" (95% interval {percent(ends[0])} to {percent(ends[1])})"
