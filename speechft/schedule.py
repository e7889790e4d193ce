"""The course of the learning rate, as a pure function of the step: nothing to save, nothing to restore."""

from __future__ import annotations

import math


def learning_rate_factor(step: int, total: int, kind: str = "linear", warmup: float = 0.1) -> float:
    """What the highest learning rate is multiplied by at a step.

    Args:
        step: counted from 0.
        total: steps of the whole run.
        kind: `constant`, `linear` (to 0) or `cosine` (to 0, Loshchilov and Hutter, 2016, arXiv 1608.03983).
        warmup: share of the steps in which it rises in a line from 0.
    """
    rising = max(1, round(warmup * total)) if warmup else 0
    if step < rising:
        return (step + 1) / rising
    done = (step - rising) / max(1, total - rising)
    if kind == "constant":
        return 1.0
    if kind == "linear":
        return max(0.0, 1.0 - done)
    if kind == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))
    raise ValueError(f"unknown schedule {kind!r}")
