"""What a training brought, in numbers that a lay person reads, and no surer than a few sentences can be.

In simulation (`benchmarks/coverage.py`) a 95% interval over two sentences holds the truth in half of the cases, over
three in three quarters, and from six on in 93 of 100.
"""

from __future__ import annotations

from typing import Any

from speechft.app.store import FREE, Take
from speechft.significance import ENOUGH_UTTERANCES, SURE


def words_for(result: dict[str, Any], takes: list[Take], trained: bool = False) -> dict[str, Any]:
    """A result in numbers a lay person reads: words understood of ten, before and after, and what to do next.

    Args:
        result: of the last run.
        takes: the recordings there are now.
        trained: the voice has an adapter, of this run or an earlier one.

    Returns:
        `before`, `after`: words of ten; `low`, `high`: where `after` might lie with more sentences to test on, None
        where there were too few to say; `sentences`: that were kept aside; `verdict`: `better`, `unsure` or `not yet`,
        never `better` of too few sentences; `more`: recordings to add;
        `kept`: this run brought no adapter, and an earlier one is in use.
    """
    before, after = result["base"], result["adapted"]
    enough = before["n_utterances"] >= ENOUGH_UTTERANCES
    low, high = (after["wer_ci95"] if enough else None) or (None, None)
    verdict = "better"
    if result["adapter"] is None or after["wer"] >= before["wer"]:
        verdict = "not yet"
    elif not (enough and _surely_better(result["difference"])):
        verdict = "unsure"
    recorded = sum(take.prompt != FREE for take in takes) or len(takes)
    return {
        "before": _of_ten(before["wer"]),
        "after": _of_ten(after["wer"]),
        "low": None if high is None else _of_ten(high),
        "high": None if low is None else _of_ten(low),
        "sentences": before["n_utterances"],
        "words": before["n_words"],
        "verdict": verdict,
        "more": 0 if verdict == "better" else max(20, recorded),
        "kept": trained and result["adapter"] is None,
    }


def _surely_better(difference: dict[str, Any]) -> bool:
    """Whether the difference is unlikely to be chance, and its interval, where there is one, leaves zero out."""
    bounds, p = difference["wer_ci95"] or (None, None), difference.get("p_speakers")
    if p is not None and p >= SURE:
        return False
    return p is not None if None in bounds else max(bounds) < 0


def _of_ten(wer: float) -> float:
    return round(10 * min(1.0, max(0.0, 1 - wer)), 1)
