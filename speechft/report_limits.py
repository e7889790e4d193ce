"""How far the numbers of a result reach, in sentences: the same in the report and on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from speechft.normalize import unit
from speechft.numbers_as_text import percent, points
from speechft.scoring_notes import speaking

NOTABLE = 0.005  # of a difference, more than the digits that are words beside others make of it
CLOSER_TEXT = {  # rates against the closer of two texts, as every table names them
    "WER, closer of text and verbatim text": "wer_closer_text",
    "the same, each clip at most 100%": "wer_closer_text_clipped",
}


def limits(scores: Mapping[str, Any], difference: Mapping[str, Any] | None) -> list[str]:
    """What must be known to quote the numbers, such as that the speakers are too few to speak of others.

    Args:
        scores: `Scores.to_dict` of the system that the result is about.
        difference: `paired.compare` of the system before it and this one.
    """
    notes = list(scores["notes"])
    if scores.get("wer_closer_text") is not None:
        notes.append(_two_texts(scores, several=difference is not None))
    change, by_digits = ((difference or {}).get(key) for key in ("wer", "wer_digits"))  # None where nobody speaks
    if change is not None and by_digits is not None and abs(by_digits - change) >= NOTABLE:
        notes.append(f"with numbers compared digit by digit, the difference is {points(by_digits)} points of WER")
    if difference and speaking(scores["per_speaker"]) > 1:  # of one voice the scores' own notes say it already
        notes += difference["notes"]
    return [f"{note[:1].upper()}{note[1:]}." for note in notes]


def _two_texts(scores: Mapping[str, Any], several: bool) -> str:
    """Which of two texts the rates are against; of several systems the tables have both rates."""
    which = "rates are against the text, unless they say otherwise"
    if several:
        return which
    closer, clipped = (percent(scores[key]) for key in ("wer_closer_text", "wer_closer_text_clipped"))
    return (
        f"{which}; against the closer of text and verbatim text (mean of both where equal) {closer} of "
        f"{unit(scores['normalizer'])} are wrong, {clipped} with each clip at most 100%"
    )
