"""How far the numbers of a result reach, in sentences: the same in the report and on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from speechft.numbers_as_text import points
from speechft.scoring import speaking

NOTABLE = 0.005  # of a difference, more than the digits that are words beside others make of it


def limits(scores: Mapping[str, Any], difference: Mapping[str, Any] | None) -> list[str]:
    """What must be known to quote the numbers, such as that the speakers are too few to speak of others.

    Args:
        scores: `Scores.to_dict` of the system that the result is about.
        difference: `paired.compare` of the system before it and this one.
    """
    notes = list(scores["notes"])
    if scores.get("wer_closer_text") is not None:
        notes.append("of two texts of a recording, the lower rate counts (mean of both where equal)")
    by_digits = (difference or {}).get("wer_digits")
    if difference and by_digits is not None and abs(by_digits - difference["wer"]) >= NOTABLE:
        notes.append(f"with numbers compared digit by digit, the difference is {points(by_digits)} points of WER")
    if difference and speaking(scores["per_speaker"]) > 1:  # of one voice the scores' own notes say it already
        notes += difference["notes"]
    return [f"{note[:1].upper()}{note[1:]}." for note in notes]
