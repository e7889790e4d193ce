"""How sure a number is: intervals by resampling speakers, and tests that fit word errors.

Utterances of one speaker are alike, so it is speakers that are drawn again, not utterances (Bisani and Ney, 2004; Liu
and Peng, 2020, arXiv 1912.09508). Four speakers or fewer say too little about others for that: an interval over three
holds the truth in 75% of simulations. Then utterances are drawn, and interval and p value are about these people alone.
Who has no word in any text, as the name of a silent room, is no speaker to draw or to swap: what was invented there
counts in the rate, and is the same in every draw.

What is exact: the sign-flip test, where all flips are tried. What is approximate: bootstrap intervals, which with few
speakers hold the truth less often than stated even after the correction here (simulated with very different speakers,
stated 95%: 96% with 40 of them, 92% with 10, 90% with 5).

What does not vary cannot be drawn again: where every speaker has the same rate, an interval of no width would claim
certainty. A rate of 0 or 1 then gets the exact bound of a share (`never`), any other rate and any difference none.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from speechft.error_rate import ErrorRate

DRAWS = 10_000
DRAWN_AT_ONCE = 2_000_000  # counts of one pass, 16 MB: large corpora stay within memory
SHUFFLES = 2_000
ROUNDING = 1e-9  # an interval no wider than this has no width
SURE = 0.05  # a p value, corrected if need be, has to be below it before a change is claimed
ENOUGH_SPEAKERS = 5  # below it nothing is said about other people: utterances are drawn, not speakers
ENOUGH_UTTERANCES = 6  # where they are drawn: below it no sign test is under 5%, and intervals are far too narrow
ALL_FLIPS = 13  # up to so many blocks every one of 2**13 = 8192 sign flips is tried


class Counts(Protocol):
    """Errors and what they are divided by: an `ErrorRate`, or an example's part of another score."""

    @property
    def errors(self) -> float: ...
    @property
    def length(self) -> float: ...


def bootstrap_ci(
    errors: Sequence[ErrorRate],
    blocks: Sequence[str] | None = None,
    *,
    level: float = 0.95,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile interval of the corpus rate, widened for the number of blocks (Hesterberg, 2015).

    Args:
        errors: of each utterance.
        blocks: the speaker of each; with fewer than `ENOUGH_SPEAKERS`, or None, utterances are drawn instead.
        level: share of intervals that hold the true rate.

    Returns:
        (low, high), fractions. Where all blocks have the same rate: if it is 0, from 0 to what may `never` have been
        seen in so many blocks; if it is 1, as far down; else no interval. That is (nan, nan), as without a word, or
        with a single utterance, which says nothing about spread.
    """
    rows = [(e.errors, e.length) for e in errors]
    low, high = bootstrap_ratio(rows, blocks, level=level, draws=draws, seed=seed)
    if not high - low <= ROUNDING:
        return low, high
    table, _ = _block_sums(rows, blocks)
    far = never(int(np.sum(table[:, 1] > 0)), level)
    return (0.0, far) if high == 0 else (1 - far, 1.0) if low == 1 else (math.nan, math.nan)


def bootstrap_ratio(
    rows: Sequence[tuple[float, float]],
    blocks: Sequence[str] | None = None,
    *,
    level: float = 0.95,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[float, float]:
    """As `bootstrap_ci`, of any sum divided by another; where nothing varies both ends are the ratio itself.

    Args:
        rows: of each example what is summed, and what the sum is divided by.
    """
    if len(rows) < 2:
        return math.nan, math.nan
    table, silent = _block_sums(rows, blocks)
    sums = _resampled(table, draws, seed)
    same = _rates(silent[0], table[:, 1].sum())
    return _percentiles(_rates(sums[:, 0], sums[:, 1]) + same, _widened(level, len(table)))


def never(n: int, level: float = 0.95) -> float:
    """What is not seen in n examples may still be this share of all (the exact bound of Clopper and Pearson, 1934).

    >>> round(never(60), 3)
    0.06
    """
    return float(1 - ((1 - level) / 2) ** (1 / n))


def paired_bootstrap(
    base: Sequence[Counts],
    other: Sequence[Counts],
    blocks: Sequence[str] | None = None,
    *,
    level: float = 0.95,
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[float, tuple[float, float]]:
    """Difference of corpus rates, other - base, on the same utterances, with its interval.

    Returns:
        (difference, (low, high)); negative is an improvement. All nan without a word; no interval with one utterance,
        or where all blocks differ by the same, which drawing again cannot vary.
    """
    rows = [(b.errors, b.length, o.errors, o.length) for b, o in zip(base, other, strict=True)]
    if not rows:
        return math.nan, (math.nan, math.nan)
    table, silent = _block_sums(rows, blocks)
    sums, whole = _resampled(table, draws, seed), table.sum(axis=0)
    same = _rates(silent[2], whole[3]) - _rates(silent[0], whole[1])
    differences = _rates(sums[:, 2], sums[:, 3]) - _rates(sums[:, 0], sums[:, 1]) + same
    whole += silent
    observed = float(_rates(whole[2], whole[3]) - _rates(whole[0], whole[1]))
    if len(rows) < 2:
        return observed, (math.nan, math.nan)
    low, high = _percentiles(differences, _widened(level, len(table)))
    return observed, (low, high) if high - low > ROUNDING else (math.nan, math.nan)


def bootstrap_statistic(
    rows: Sequence[Sequence[float]],
    statistic: Callable[[np.ndarray], float],
    blocks: Sequence[str] | None = None,
    *,
    level: float = 0.95,
    draws: int = 1_000,
    seed: int = 0,
) -> tuple[float, float]:
    """As `bootstrap_ci`, of any function of the summed counts of examples, such as BLEU.

    Args:
        rows: counts of each example.
        statistic: of their sums over examples, shape (counts,).
        blocks: as in `bootstrap_ci`.
    """
    if len(rows) < 2:
        return math.nan, math.nan
    table, _ = _block_sums(rows, blocks, lengths=False)
    sums = _resampled(table, draws, seed)
    return _percentiles(np.array([statistic(row) for row in sums]), _widened(level, len(table)))


def sign_flip(
    base: Sequence[ErrorRate], other: Sequence[ErrorRate], blocks: Sequence[str] | None = None, *, seed: int = 0
) -> float:
    """Two-sided p that two systems differ for speakers like these, by swapping the systems speaker by speaker.

    Exact for up to `ALL_FLIPS` blocks if the systems are exchangeable within each; else from `DRAWS` random flips.
    With n speakers it is never below 2 ** (1 - n), so four could not show anything at the 5% level.

    Args:
        base, other: errors of each utterance by the two systems.
        blocks: as in `bootstrap_ci`.
    """
    rows = [(b.errors - o.errors, b.length) for b, o in zip(base, other, strict=True)]
    if not rows:
        return 1.0
    differences = _block_sums(rows, blocks)[0][:, 0]
    n = len(differences)
    if n <= ALL_FLIPS:
        return all_flips(differences)
    rng = np.random.default_rng(seed)
    at_once = max(1, DRAWN_AT_ONCE // n)
    as_far = 0
    for start in range(0, DRAWS, at_once):
        signs = rng.integers(0, 2, (min(at_once, DRAWS - start), n), dtype=np.int8) * 2.0 - 1
        as_far += int(np.sum(abs(signs @ differences) >= abs(differences.sum())))
    return (as_far + 1) / (DRAWS + 1)


def shuffled_gap(
    errors: Sequence[ErrorRate], groups: Sequence[str], blocks: Sequence[str] | None = None, *, seed: int = 0
) -> float | None:
    """p of the gap between the worst and the best group: how often it is as wide with speakers shuffled among groups.

    The two are picked by the numbers themselves, so an interval around their gap would leave out 0 of its own accord;
    every draw of `SHUFFLES` picks its own two.

    Args:
        errors, groups: of each utterance.
        blocks: the speaker of each, however few; with one speaker, or None, utterances are shuffled.

    Returns:
        None where it cannot be told: fewer than two groups with words, or a speaker in more than one.
    """
    names = sorted({group for e, group in zip(errors, groups, strict=True) if e.length})
    if len(names) < 2:
        return None
    kept = [i for i, group in enumerate(groups) if group in names]
    # Of each block also what it has wrong in each group: blocks without a word are not shuffled, their errors stay.
    rows = []
    for e, group in ((errors[i], groups[i]) for i in kept):
        here = [group == name for name in names]
        rows.append((e.errors, e.length, *here, *(e.errors * is_in for is_in in here)))
    table, silent = _block_sums(rows, [blocks[i] for i in kept] if blocks is not None else None, enough=2)
    table, silent = table[:, : 2 + len(names)], silent[2 + len(names) :]
    inside = table[:, 2:] > 0
    if (inside.sum(axis=1) > 1).any():
        return None
    group = inside.argmax(axis=1)

    def gaps(order: np.ndarray) -> np.ndarray:
        held = [order == index for index in range(len(names))]
        rates = np.stack(
            [_rates(part @ table[:, 0] + same, part @ table[:, 1]) for part, same in zip(held, silent, strict=True)]
        )
        return rates.max(axis=0) - rates.min(axis=0)

    observed = gaps(group[None])[0]
    if not math.isfinite(observed):
        return None
    rng, as_wide = np.random.default_rng(seed), 0
    at_once = max(1, DRAWN_AT_ONCE // len(group))
    for start in range(0, SHUFFLES, at_once):
        shuffled = rng.permuted(np.tile(group, (min(at_once, SHUFFLES - start), 1)), axis=1)
        # rounding must not part equal gaps; a draw in which a group has no word is nan, and not as wide
        as_wide += int(np.sum(gaps(shuffled) >= observed * (1 - 1e-9)))
    return (as_wide + 1) / (SHUFFLES + 1)


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


def all_flips(differences: np.ndarray) -> float:
    """Share of the flips of all signs whose sum is as far from 0 as the one observed; 1 of none."""
    n = len(differences)
    flips = 1.0 - 2 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)
    return float(np.mean(abs(flips @ differences) >= abs(differences.sum())))


def units(blocks: Sequence[str] | None, n: int) -> int:
    """How many are drawn again: blocks or, where there are too few of these, the n that are in them."""
    different = len(set(blocks or ()))
    return different if different >= ENOUGH_SPEAKERS else n


def _block_sums(
    rows: Sequence[Sequence[float]], blocks: Sequence[str] | None, enough: int = ENOUGH_SPEAKERS, lengths: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """The sums of each block, or the rows themselves where there are not enough blocks; and of the blocks left out.

    Args:
        lengths: the second column is of words: who said none is no speaker to draw, and is left out. Where rows are
            drawn a silent recording is one of them, and nothing is left out.
    """
    table = np.asarray(rows, float)
    if blocks is not None and len(blocks) != len(rows):
        raise ValueError(f"{len(rows)} utterances but {len(blocks)} speakers")
    none = np.zeros(table.shape[1])
    if blocks is None or len(set(blocks)) < enough:
        return table, none
    _, index = np.unique(np.asarray(blocks, dtype=object).astype(str), return_inverse=True)
    sums = np.zeros((index.max() + 1, table.shape[1]))
    np.add.at(sums, index, table)
    if not lengths:
        return sums, none
    spoken = sums[:, 1] > 0
    return (sums[spoken], sums[~spoken].sum(axis=0)) if spoken.sum() >= enough else (table, none)


def _resampled(table: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Column sums of `draws` samples of the rows, with replacement; shape (draws, columns)."""
    rng = np.random.default_rng(seed)
    n = len(table)
    # Equal rows are drawn together, which changes no probability; thousands of utterances have few different counts.
    table, times = np.unique(table, axis=0, return_counts=True)
    out = np.empty((draws, table.shape[1]))
    at_once = max(1, DRAWN_AT_ONCE // len(table))
    for start in range(0, draws, at_once):
        size = min(at_once, draws - start)
        out[start : start + size] = rng.multinomial(n, times / n, size=size) @ table
    return out


def _rates(errors: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(lengths > 0, errors / lengths, np.nan)


def _widened(level: float, n: int) -> float:
    """The level at which percentiles are as wide as a t interval of n blocks; close to `level` for many."""
    from scipy.special import ndtr, stdtrit

    return 1 - 2 * float(ndtr(math.sqrt(n / (n - 1)) * stdtrit(n - 1, (1 - level) / 2)))


def _percentiles(values: np.ndarray, level: float) -> tuple[float, float]:
    values = values[np.isfinite(values)]
    if not len(values):
        return math.nan, math.nan
    low, high = np.percentile(values, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)


def standard_error(rate: float, words: int) -> float:
    """Of a share of words that are wrong, as if each were drawn alone; of no error or all, that of one error less."""
    share = min(max(rate, 1 / words), 1 - 1 / words)
    return math.sqrt(share * (1 - share) / words)
