"""Systems against one another on the same utterances: paired differences, with intervals and corrected p values."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

from speechft.error_rate import align
from speechft.errors import SpeechftError
from speechft.matched_pairs import error_segments, mapsswe
from speechft.scored import Scored
from speechft.scoring import Scores, finite
from speechft.scoring_notes import nameless, speaking, voices
from speechft.significance import ENOUGH_SPEAKERS, holm, paired_bootstrap, sign_flip


def compare(base: Scores, other: Scores) -> dict[str, Any]:
    """The paired difference of two systems on the same utterances.

    Returns:
        `wer` (other - base; negative is better) with `wer_ci95` over speakers; `wer_digits`, the same of
        `Scores.wer_digits`; `relative` to base; `p_speakers` by
        flipping speakers (is it so for other people?) and `p_mapsswe` over `segments` (is it so for these?), from what
        `p_mapsswe_by` says; `z_mapsswe` (above 0 is better) and `p_mapsswe_normal`, of that test as published, None
        where nothing varies; how many utterances and speakers are `better`, `worse`, `same`; `notes`. With few
        speakers, interval and `p_speakers` are over recordings, and about these people.

    Raises:
        SpeechftError: the utterances, their texts or the normaliser differ.
    """
    one, two = ([(r.id, r.normalized[0]) for r in scores.rows] for scores in (base, other))
    if one != two or base.normalizer != other.normalizer:
        what = "two results on different utterances or normalisers cannot be paired"
        raise SpeechftError(what, fix="Evaluate both on the same rows, with the same normaliser.")
    before, after = [r.words for r in base.rows], [r.words for r in other.rows]
    difference, bounds = paired_bootstrap(before, after, base.speakers)
    changes = [a.errors - b.errors for b, a in zip(before, after, strict=True)]
    of_speaker: dict[str, int] = defaultdict(int)
    for speaker, change in zip(base.speakers, changes, strict=True):
        of_speaker[speaker] += change
    people = [of_speaker[speaker] for speaker in voices(base.per_speaker)]
    segments = [pair for b, a in zip(base.rows, other.rows, strict=True) for pair in _segments(b, a)]
    matched = mapsswe([b for b, _ in segments], [a for _, a in segments])
    digits = [scores.wer_digits for scores in (base, other)]
    n = speaking(base.per_speaker)
    one_voice = "one speaker: interval and p value are about this voice only"
    if nameless(base.per_speaker):
        one_voice = "speakers are not named: interval and p value are over recordings only"
    few = f"{n} speakers: interval and p value are over their recordings, not about other people"
    return {
        "wer": finite(difference),
        "wer_ci95": [finite(bound) for bound in bounds],
        "wer_digits": digits[1] - digits[0] if digits[0] is not None and digits[1] is not None else None,
        "relative": finite(difference / base.wer) if base.wer else None,
        "p_speakers": sign_flip(before, after, base.speakers),
        "p_mapsswe": matched.p_small_sample,
        "p_mapsswe_by": matched.by,
        "p_mapsswe_normal": finite(matched.p_normal),
        "z_mapsswe": finite(matched.z),
        "segments": matched.segments,
        "better": sum(c < 0 for c in changes),
        "worse": sum(c > 0 for c in changes),
        "same": sum(c == 0 for c in changes),
        "speakers_better": sum(change < 0 for change in people),
        "speakers_worse": sum(change > 0 for change in people),
        "notes": [one_voice if n == 1 else few] if 0 < n < ENOUGH_SPEAKERS else [],
    }


def compare_all(base: Scores, others: Mapping[str, Scores]) -> dict[str, dict[str, Any]]:
    """Several systems against one, with p values corrected for how many there are (Holm, 1979).

    Returns:
        `compare` of each by name, and `p_speakers_holm`, `p_mapsswe_holm`.
    """
    found = {name: compare(base, scores) for name, scores in others.items()}
    _correct(list(found.values()))
    return found


def compare_pairs(systems: Mapping[str, Scores]) -> list[dict[str, Any]]:
    """Every two of several systems, with p values corrected for the number of pairs (Holm, 1979).

    Returns:
        `compare` of the second with the first, with their names as `first` and `second`, and the corrected p values.
    """
    pairs = list(combinations(systems, 2))
    found = [{"first": one, "second": two, **compare(systems[one], systems[two])} for one, two in pairs]
    _correct(found)
    return found


def _correct(differences: Sequence[dict[str, Any]]) -> None:
    for key in ("p_speakers", "p_mapsswe"):
        for entry, p in zip(differences, holm([entry[key] for entry in differences]), strict=True):
            entry[f"{key}_holm"] = p


def _segments(base: Scored, other: Scored) -> list[tuple[int, int]]:
    if not base.words.errors and not other.words.errors:
        return []
    one, two = (align(*(text.split() for text in row.normalized)) for row in (base, other))
    return error_segments(one, two)
