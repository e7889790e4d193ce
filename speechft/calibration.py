"""Whether a confidence means what it says: of words given 80%, are eight in ten right?

A word's confidence is the geometric mean of its tokens' probabilities. Only words that were written have one: what was
missed (a deletion) shows in no confidence, so a calibrated model can still drop half of the words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from speechft.error_rate import align
from speechft.normalize import by_digits, pieces
from speechft.normalize import normalizer as named_normalizer

if TYPE_CHECKING:
    from speechft.scored import Scored

BINS = 10


@dataclass(frozen=True, slots=True)
class Judged:
    """A written word: how sure the model was, and whether it is in the text at its place."""

    confidence: float
    right: bool


def calibration(judged: Sequence[Judged], bins: int = BINS) -> dict[str, Any] | None:
    """How far confidences can be believed; None without a word.

    Args:
        judged: every written word.
        bins: of equal width over 0 to 1.

    Returns:
        `table`: for each bin with words its `low` and `high` end, `words`, mean `confidence` and share `right`;
        `ece`: the expected calibration error, the mean gap between the two weighted by words (Naeini et al., 2015);
        `auroc`: the chance that a wrong word has a lower confidence than a right one (0.5 is a coin), None where all
        are right or all wrong; `words`; `mean_confidence`; `right`.
    """
    if not judged:
        return None
    confidence = np.array([word.confidence for word in judged])
    right = np.array([word.right for word in judged], float)
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    table, gap = [], 0.0
    for number in range(bins):
        inside = place == number
        if not inside.any():
            continue
        mean, share = float(confidence[inside].mean()), float(right[inside].mean())
        gap += abs(mean - share) * int(inside.sum()) / len(judged)
        ends = {"low": number / bins, "high": (number + 1) / bins}
        table.append({**ends, "words": int(inside.sum()), "confidence": mean, "right": share})
    return {
        "words": len(judged),
        "mean_confidence": float(confidence.mean()),
        "right": float(right.mean()),
        "ece": gap,
        "auroc": auroc(-confidence, 1 - right),
        "table": table,
    }


def auroc(scores: np.ndarray, positive: np.ndarray) -> float | None:
    """The chance that a positive has a higher score than a negative, ties by half (Mann-Whitney).

    >>> auroc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1]))
    0.75
    """
    from scipy.stats import rankdata

    wanted = int(positive.sum())
    others = len(positive) - wanted
    if not wanted or not others:
        return None
    ranks = rankdata(scores)
    return float((ranks[positive > 0].sum() - wanted * (wanted + 1) / 2) / (wanted * others))


def judge_words(row: Scored, written: Sequence[tuple[str, float]], normalizer: str) -> list[Judged]:
    """Which written words of an utterance are right.

    Words that are normalised together, such as "twenty one", are right where what they become is. What is only how
    numbers are written is not wrong, see `Scored.heard_words`.

    Args:
        row: the utterance.
        written: words as written, with their confidences.
        normalizer: as it was scored with.
    """
    normalize, errors, (said, heard) = named_normalizer(normalizer), row.heard_words, row.compared
    words = [word for word, _ in written]
    found = pieces(words, normalize)
    if found is None or [token for _, made in found for token in made] != row.normalized[1].split():
        found = [([word], normalize(word).split()) for word in words]  # each alone, as well as can be
    split = by_digits if heard != row.normalized[1] else str
    parts = [[split(token).split() for token in made] for _, made in found]
    aligned = align(said.split(), [part for made in parts for token in made for part in token])
    kinds = iter([kind == "equal" or not errors.errors for kind, _, part in aligned if part])
    sure = iter([confidence for _, confidence in written])
    judged = []
    for (together, _), made in zip(found, parts, strict=True):
        right = [all([*islice(kinds, len(token))]) for token in made]
        confidences = [next(sure) for _ in together]
        if len(together) == 1:
            judged += [Judged(confidences[0], each) for each in right]
        elif made:
            judged += [Judged(each, all(right)) for each in confidences]
    return judged
