"""What a training brought, in numbers that a lay person reads."""

from __future__ import annotations

from typing import Any

from speechft.app.store import FREE, Take


def words_for(result: dict[str, Any], takes: list[Take], trained: bool = False) -> dict[str, Any]:
    """A result in numbers a lay person reads: words understood of ten, before and after, and what to do next.

    Args:
        result: of the last run.
        takes: the recordings there are now.
        trained: the voice has an adapter, of this run or an earlier one.

    Returns:
        `before`, `after`: words of ten; `low`, `high`: where `after` might lie with more sentences to test on;
        `sentences`: that were kept aside; `verdict`: `better`, `unsure` or `not yet`; `more`: recordings to add;
        `kept`: this run brought no adapter, and an earlier one is in use.
    """
    before, after = result["base"], result["adapted"]
    low, high = after["wer_ci95"] or (None, None)
    verdict = "better"
    if result["adapter"] is None or after["wer"] >= before["wer"]:
        verdict = "not yet"
    elif not _surely_better(result["difference"]):
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
    """Whether the interval of the difference in error rate leaves zero out."""
    bounds = difference["wer_ci95"]
    return bool(bounds) and None not in bounds and max(bounds) < 0


def _of_ten(wer: float) -> float:
    return round(10 * min(1.0, max(0.0, 1 - wer)), 1)
