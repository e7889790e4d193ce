"""The result in one sentence, the same on the page, in Markdown and on the terminal: no more than the clips can carry.

Two to four speakers say nothing about others, a bootstrap over few recordings is far too narrow
(`benchmarks/coverage.py`), and the best of several systems looks better than it is: words wrong fell only where the p
value agrees with the interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from speechft.normalize import unit
from speechft.numbers_as_text import interval, p_value, percent, points_interval
from speechft.report_comparison import BestSystem, best_system
from speechft.scoring_notes import nameless, speaking, with_words
from speechft.significance import ENOUGH_SPEAKERS, ENOUGH_UTTERANCES, SURE
from speechft.trained_on import training_pairs


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
    where, words = _where(scores, result), unit(scores["normalizer"])
    if not scores["n_words"]:
        invented = [str(one["insertions"]) for one in systems]
        nothing = "written where there was none to write"
        if difference is None:
            return f"{invented[0]} {words} were {nothing}, {where}."
        return f"{words.capitalize()} {nothing} went from {' to '.join(invented)}, {where}."
    few = _few(scores)
    if difference is None:
        text = f"{percent(scores['wer'])} of the {words} are wrong"
        if few == "speakers":
            return f"{text}, {where}; too few speakers to say how it is for others."
        if few:
            return f"{text}, {where}; too few recordings to say how sure that is."
        shown = _interval(scores["wer_ci95"])
        return f"{text}{shown}, {where}{_unnamed(scores, shown)}."
    best = best_system(result)
    who = f"The best of {best.of} {best.kind} on these same recordings, '{best.name}': {words}" if best else words
    who = f"{who[0].upper()}{who[1:]}"
    before, after = (percent(one["wer"]) for one in systems)
    went = f"{who} wrong went from {before} to {after}"
    if few == "speakers":
        return f"{went}, {where}; too few speakers to say whether it holds for others."
    if few:
        return f"{went}, {where}; too few recordings to tell."
    if difference["wer"] is None:
        return f"{went}, {where}."
    bounds, p = difference["wer_ci95"], best.p if best else difference.get("p_speakers")
    uncorrected = "uncorrected " if best else ""
    shown = "" if None in bounds else f"{uncorrected}95% interval {points_interval(bounds)} points"
    if difference["wer"] == 0 or (shown and min(bounds) <= 0 <= max(bounds)):
        few = f"{went}, too small a difference to tell from chance{_in_brackets(shown)}"
        return f"{few}, {where}{_unnamed(scores, shown)}."
    if best and best.p >= SURE:
        chance = f"{went}, which the best of {best.of} could reach by chance ({_corrected(best)})"
        return f"{chance}, {where}{_unnamed(scores, '', best.p)}."
    end = f"{where}{_unnamed(scores, shown, p)}."
    if p is not None and p >= SURE:
        return f"{went}, which chance could do too{_in_brackets(shown, p_value(p, 'p'))}, {end}"
    fell = difference["wer"] < 0
    size = f"{abs(difference['wer']) * 100:.1f} points {'fewer' if fell else 'more'}"
    if shown:
        least, most = sorted(abs(bound) for bound in bounds)
        shown = f"{uncorrected}95% interval {least * 100:.1f} to {most * 100:.1f}"
    sure = _corrected(best) if best else "" if shown or p is None else p_value(p, "p")
    return (
        f"{who} wrong {'fell' if fell else 'rose'} from {before} to {after}: {size}{_in_brackets(shown, sure)}, {end}"
    )


def _few(scores: Mapping[str, Any]) -> str:
    """What there are too few of to speak of more than these recordings: speakers or, of one voice, recordings."""
    spoke = speaking(scores["per_speaker"])
    if 1 < spoke < ENOUGH_SPEAKERS:
        return "speakers"
    return "recordings" if spoke < 2 and with_words(scores) < ENOUGH_UTTERANCES else ""


def _in_brackets(*parts: str) -> str:
    said = "; ".join(part for part in parts if part)
    return f" ({said})" if said else ""


def _corrected(best: BestSystem) -> str:
    return f"{p_value(best.p, 'p')}, corrected for {best.of}"


def _where(scores: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    """On what: how many recordings by how many speakers, and whether training had any of them."""
    clips, speakers = scores["n_utterances"], speaking(scores["per_speaker"])
    by = f" by {speakers} speaker{'s' if speakers != 1 else ''}" if speakers else ""  # of silence there is none
    if nameless(scores["per_speaker"]):
        by = " whose speakers are not named"
    text = f"on {clips} recording{'s' if clips != 1 else ''}{by}"
    pairs = training_pairs(result)
    if len(pairs) != 1:  # nothing is known, or of several adapters
        return text
    pair = pairs[0]
    if pair["text_rows"]:
        return f"{text}, {pair['text_rows']} of them of sentences that were trained on"
    if any(pair[kind] for kind in ("texts", "prompts", "audio", "alike")):
        return text
    if pair["speakers"]:
        return f"{text}, in sentences never trained on"
    unknown = pair["sessions"] or any(pair["nameless"])  # a row without a speaker may be of any
    return f"{text}, none of the recordings trained on" if unknown else f"{text} never trained on"


def _unnamed(scores: Mapping[str, Any], shown: str, p: float | None = None) -> str:
    """What is wrong with the interval, or else the p value, if nobody is named but several people speak."""
    wrong = "the interval is too narrow" if shown else "" if p is None else "p is too low"
    return f"; if they are several people, {wrong}" if wrong and nameless(scores["per_speaker"]) else ""


def _interval(ends: Sequence[float | None]) -> str:
    return "" if None in ends else f" (95% interval {interval(ends)})"
