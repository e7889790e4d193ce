"""How far to trust a judge: its preference for a place and for length, and its agreement with people."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from speechft.files import write_json
from speechft.left_out import listed
from speechft.own_results import writes_results
from speechft.result import environment
from speechft.significance import bootstrap_statistic
from speechft.text.data import drawn, part_of, read
from speechft.text.examples import Example
from speechft.text.judge import RUBRIC, SCORE_RUBRIC, Choice, RewardJudge, Verdict, compare, judge_from, score
from speechft.text.measure import Measure, rounded
from speechft.text.metrics import cohen_kappa


def audit(
    verdicts: Sequence[Verdict],
    lengths: Sequence[tuple[int, int]],
    human: Sequence[int] | None = None,
    blocks: Sequence[str] = (),
) -> dict[str, Any]:
    """What is wrong with a judge, measured on its own verdicts.

    Args:
        verdicts: of pairs.
        lengths: of both answers of each pair, in characters or tokens.
        human: 1, 2 or 0 (tie) by people, for the same pairs.
        blocks: what each pair shares with others, such as its prompt; nothing where all are on their own.

    Returns:
        `ties`: share without a winner, mostly because the orders disagree. `place`: mean favour for what is shown
        first, less one half; 0 is no bias. `longer_wins`: among decided pairs of unequal length, the share that the
        longer answer wins; `people_longer` the same of people. `accuracy` and `kappa` (Cohen, 1960) against people.
        What needs people is there where they are given. Each with an interval, by drawing pairs again.
    """
    place = [(v.first_when_first + 1 - v.first_when_second) / 2 - 0.5 for v in verdicts]
    ours = [v.winner for v in verdicts]
    found: dict[str, Any] = {
        "ties": _summary(Measure.share([winner == 0 for winner in ours]), blocks),
        "place": _summary(Measure.mean(place), blocks),
        "longer_wins": _longer(ours, lengths, blocks),
    }
    if human is not None:
        found["people_longer"] = _longer(human, lengths, blocks)
        found["accuracy"] = _summary(Measure.share([o == h for o, h in zip(ours, human, strict=True)]), blocks)
        found["kappa"] = _kappa(ours, human, blocks)
    return found


def audit_scores(
    scores: Sequence[float], lengths: Sequence[int], rejected: Sequence[tuple[float, int]] = ()
) -> dict[str, Any]:
    """The same for a judge that is shown one answer at a time.

    Args:
        scores, lengths: of answers.
        rejected: score and length of an answer that people like less than the one in the same place.

    Returns:
        `score`: mean. `length`: rank correlation (Spearman, 1904) of score and length over all answers; null where all
        scores are the same. `accuracy`: with `rejected`, how often the better answer has the higher score; equal scores
        count half.
    """
    found = {"score": Measure.mean(scores).summary()}
    all_scores, all_lengths = [*scores, *(s for s, _ in rejected)], [*lengths, *(n for _, n in rejected)]
    blocks = [str(i) for i in (*range(len(scores)), *range(len(rejected)))]
    found["length"] = _rank_correlation(all_scores, all_lengths, blocks)
    if rejected:
        wins = [(one > other) + (one == other) / 2 for one, (other, _) in zip(scores, rejected, strict=True)]
        found["accuracy"] = Measure.mean(wins).summary()
    return found


def judge_pairs(judge: Choice | RewardJudge, examples: Sequence[Example], rubric: str = RUBRIC) -> dict[str, Any]:
    """`audit` on pairs of which people chose one; the chosen comes first in every other pair."""
    verdicts, lengths, human = [], [], []
    for number, example in enumerate(examples):
        pair = (example.answer, example.rejected or "")
        first, second = pair if number % 2 == 0 else pair[::-1]
        verdicts.append(compare(judge, example.prompt, first, second, rubric))
        lengths.append((len(first), len(second)))
        human.append(1 + number % 2)
    return audit(verdicts, lengths, human)


def judge_answers(
    judge: Choice | RewardJudge, examples: Sequence[Example], rubric: str = SCORE_RUBRIC
) -> dict[str, Any]:
    """`audit_scores` of each example's answer, and of its rejected one where all have one."""
    scores = [score(judge, example.prompt, example.answer, rubric) for example in examples]
    lengths = [len(example.answer) for example in examples]
    worse = [example.rejected for example in examples if example.rejected is not None]
    rejected = []
    if len(worse) == len(examples):
        rejected = [(score(judge, e.prompt, said, rubric), len(said)) for e, said in zip(examples, worse, strict=True)]
    return audit_scores(scores, lengths, rejected)


@writes_results
def run(
    data: str,
    judge: str,
    *,
    rubric: str | None = None,
    label: str | None = None,
    scores: bool = False,
    reader: str | None = None,
    split: str | None = None,
    limit: int = 200,
    seed: int = 0,
    out: str | Path | None = None,
) -> dict[str, Any]:
    """Measure a judge on data whose better answers are known.

    Args:
        data: pairs, see `speechft.text.data.read`; with `scores`, answers or pairs.
        judge, label: see `judge_from`.
        rubric: what the judge is told to look for.
        scores: show it one answer at a time, to be scored from 1 to 10, in place of two.
        reader: the layout of a known corpus.
        split: test where there is one, else dev, else train, unless told.
        limit: examples at most, drawn by the seed.
        out: a folder for result.json.

    Raises:
        SpeechftError: the data or the judge is wrong, or there is no such split.
    """
    corpus = read(data, reader=reader, needs="answer" if scores else "preference", seed=seed, training=False)
    name, part = part_of(corpus, split, data)
    examples = drawn(part, limit, seed)
    measured = judge_answers if scores else judge_pairs
    settings = {"rubric": rubric} if rubric else {}
    result = {
        "judge": judge,
        "data": data,
        "split": name,
        "examples": len(examples),
        "measures": measured(judge_from(judge, label), examples, **settings),
        "left_out": listed(corpus.left_out),
        "environment": environment(),
    }
    if out:
        write_json(Path(out) / "result.json", result)
    return result


def _summary(measure: Measure, blocks: Sequence[str]) -> dict[str, Any]:
    return replace(measure, blocks=tuple(blocks)).summary()


def _longer(winners: Sequence[int], lengths: Sequence[tuple[int, int]], blocks: Sequence[str]) -> dict[str, Any]:
    decided = [i for i, (w, (a, b)) in enumerate(zip(winners, lengths, strict=True)) if w and a != b]
    wins = [(winners[i] == 1) == (lengths[i][0] > lengths[i][1]) for i in decided]
    return _summary(Measure.share(wins), [blocks[i] for i in decided] if blocks else ())


def _kappa(ours: Sequence[int], human: Sequence[int], blocks: Sequence[str]) -> dict[str, Any]:
    cells = [[float(3 * o + h == cell) for cell in range(9)] for o, h in zip(ours, human, strict=True)]

    def of_counts(counts: Any) -> float:
        pairs = [divmod(cell, 3) for cell, count in enumerate(counts) for _ in range(round(count))]
        return cohen_kappa(*zip(*pairs, strict=True))

    return _statistic(cells, of_counts, blocks)


def _rank_correlation(ones: Sequence[float], others: Sequence[float], blocks: Sequence[str]) -> dict[str, Any]:
    from scipy.stats import rankdata

    x, y = rankdata(ones), rankdata(others)

    def of_sums(sums: Any) -> float:
        n, sx, sy, xx, yy, xy = sums
        spread = (n * xx - sx * sx) * (n * yy - sy * sy)
        return float((n * xy - sx * sy) / math.sqrt(spread)) if spread > 1e-6 else math.nan

    return _statistic(np.stack([np.ones(len(x)), x, y, x * x, y * y, x * y], axis=1).tolist(), of_sums, blocks)


def _statistic(
    rows: Sequence[Sequence[float]], statistic: Callable[[Any], float], blocks: Sequence[str]
) -> dict[str, Any]:
    low, high = bootstrap_statistic(rows, statistic, blocks or None)
    value = statistic(np.sum(rows, axis=0)) if rows else math.nan
    return {"value": rounded(value), "ci95": [rounded(low), rounded(high)], "n": len(rows)}
