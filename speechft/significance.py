"""How sure a number is: intervals by resampling speakers, and a test that fits word errors.

Utterances of one speaker are alike, so it is speakers that are drawn again, not utterances; where there is only one,
the interval speaks about that voice alone (Bisani and Ney, 2004; Liu and Peng, 2020, arXiv 1912.09508).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from speechft.error_rate import ErrorRate

DRAWS = 10_000
DRAWN_AT_ONCE = 2_000_000  # counts of one pass, 16 MB: large corpora stay within memory
ENOUGH_SPEAKERS = 5  # below it an interval over speakers says little about other people


def bootstrap_ci(
    errors: Sequence[ErrorRate],
    blocks: Sequence[str] | None = None,
    *,
    level: float = 0.95,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of the corpus rate.

    Args:
        errors: of each utterance.
        blocks: the speaker of each; with one speaker, or None, utterances are drawn instead.
        level: share of intervals that hold the true rate.

    Returns:
        (low, high), fractions; (nan, nan) without a word.
    """
    if not errors:
        return math.nan, math.nan
    table = _block_sums([(e.errors, e.length) for e in errors], blocks)
    sums = _resampled(table, draws, seed)
    return _percentiles(_rates(sums[:, 0], sums[:, 1]), level)


def paired_bootstrap(
    base: Sequence[ErrorRate],
    other: Sequence[ErrorRate],
    blocks: Sequence[str] | None = None,
    *,
    level: float = 0.95,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[float, tuple[float, float]]:
    """Difference of corpus rates, other - base, on the same utterances, with its interval.

    Returns:
        (difference, (low, high)); negative is an improvement. All nan without a word.
    """
    if not base and not other:
        return math.nan, (math.nan, math.nan)
    table = _block_sums([(b.errors, b.length, o.errors, o.length) for b, o in zip(base, other, strict=True)], blocks)
    sums = _resampled(table, draws, seed)
    differences = _rates(sums[:, 2], sums[:, 3]) - _rates(sums[:, 0], sums[:, 1])
    whole = table.sum(axis=0)
    observed = _rates(whole[2:3], whole[3:4]) - _rates(whole[0:1], whole[1:2])
    return float(observed[0]), _percentiles(differences, level)


def mapsswe(base: Sequence[int], other: Sequence[int]) -> float:
    """Two-sided p of the matched-pair test on segments (MAPSSWE; Gillick and Cox, 1989; Pallett et al., 1990).

    Args:
        base, other: word errors of each segment (here: utterance) by the two systems.

    Returns:
        p under the normal approximation; 1.0 where no segment differs. Where all differ by the same number there is
        no deviation to divide by, and p is that of the sign test, 2 ** (1 - segments). It treats segments as
        independent, so it is a statement about these speakers.

    >>> round(mapsswe([3, 2, 4, 1, 0, 2], [1, 2, 2, 1, 0, 1]), 4)
    0.0379
    """
    differences = np.asarray([one - two for one, two in zip(base, other, strict=True)], float)
    n = len(differences)
    if n < 2 or not differences.any():
        return 1.0
    deviation = differences.std(ddof=1)
    if deviation == 0:
        return 2.0 ** (1 - n)
    w = differences.mean() / (deviation / math.sqrt(n))
    return math.erfc(abs(w) / math.sqrt(2))


def holm(p_values: Sequence[float]) -> list[float]:
    """p values corrected for their number (Holm, 1979).

    >>> holm([0.04, 0.01])
    [0.04, 0.02]
    """
    order = np.argsort(p_values)
    corrected = np.empty(len(p_values))
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected.tolist()


def _block_sums(rows: Sequence[tuple[int, ...]], blocks: Sequence[str] | None) -> np.ndarray:
    table = np.asarray(rows, float)
    if blocks is not None and len(blocks) != len(rows):
        raise ValueError(f"{len(rows)} utterances but {len(blocks)} speakers")
    if blocks is None or len(set(blocks)) < 2:
        return table
    _, index = np.unique(np.asarray(blocks, dtype=object).astype(str), return_inverse=True)
    sums = np.zeros((index.max() + 1, table.shape[1]))
    np.add.at(sums, index, table)
    return sums


def _resampled(table: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Column sums of `draws` samples of the rows, with replacement; shape (draws, columns)."""
    rng = np.random.default_rng(seed)
    n = len(table)
    out = np.empty((draws, table.shape[1]))
    at_once = max(1, DRAWN_AT_ONCE // n)
    for start in range(0, draws, at_once):
        size = min(at_once, draws - start)
        out[start : start + size] = rng.multinomial(n, np.full(n, 1 / n), size=size) @ table
    return out


def _rates(errors: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(lengths > 0, errors / lengths, np.nan)


def _percentiles(values: np.ndarray, level: float) -> tuple[float, float]:
    values = values[np.isfinite(values)]
    if not len(values):
        return math.nan, math.nan
    low, high = np.percentile(values, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)
