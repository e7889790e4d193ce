"""The course of the learning rate, as a pure function of the step: nothing to save, nothing to restore."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from speechft.config import SpeechRecipe
    from speechft.recipes import Recipe

Schedule = Literal["constant", "linear", "cosine", "cosine-restarts", "inverse-sqrt", "warmup-stable-decay"]
MOST_EVALUATIONS = 10  # of a run: a corpus of 30 clips has epochs too short to evaluate each


def learning_rate_factor(
    step: int, total: int, kind: str = "linear", warmup: float = 0.1, decay: float = 0.2, cycles: int = 3
) -> float:
    """What the highest learning rate is multiplied by at a step.

    It reaches its end at `step == total`, one after the last step, so the last step still teaches something.

    Args:
        step: counted from 0.
        total: steps of the whole run.
        kind: `constant`; `linear` to 0; `cosine` to 0 (Loshchilov and Hutter, 2016, arXiv 1608.03983);
            `cosine-restarts`, the same in `cycles` equal parts; `inverse-sqrt`, with the root of the steps (Vaswani et
            al., 2017, arXiv 1706.03762), which ends above 0; `warmup-stable-decay`, constant and then in a line to 0
            (Hu et al., 2024, arXiv 2404.06395).
        warmup: share of the steps in which it rises in a line from 0.
        decay: share of the steps in which `warmup-stable-decay` falls, taken from its end.
        cycles: of `cosine-restarts`; the first follows the warm-up.

    Returns:
        from 0 to 1.
    """
    rising = min(total, max(1, round(warmup * total))) if warmup else 0
    if step < rising:
        return (step + 1) / rising
    done = min(1.0, (step - rising) / (total - rising)) if total > rising else 1.0
    if kind == "constant":
        return 1.0
    if kind == "linear":
        return 1.0 - done
    if kind == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * done))
    if kind == "cosine-restarts":
        place = done * cycles % 1.0 if done < 1.0 else 1.0
        return 0.5 * (1.0 + math.cos(math.pi * place))
    if kind == "inverse-sqrt":
        return math.sqrt(max(1, rising) / (step + 1))
    if kind == "warmup-stable-decay":
        falling = min(total - rising, max(1, round(decay * total)))
        return max(0.0, min(1.0, (total - step) / max(1, falling)))
    raise ValueError(f"unknown schedule {kind!r}")


def rate_factor(recipe: Recipe, step: int, total: int) -> float:
    """`learning_rate_factor` with the settings of a recipe, speech or text."""
    return learning_rate_factor(step, total, recipe.schedule, recipe.warmup, recipe.decay, recipe.cycles)


def steps_per_epoch(recipe: Recipe, examples: int, seconds: float = 0.0) -> int:
    """Optimiser steps of one pass over so many examples, or over so much speech where a recipe counts by it."""
    if by_time := getattr(recipe, "batch_seconds", None):
        return min(examples, math.ceil(seconds / (by_time * recipe.accumulate)))
    return math.ceil(examples / (recipe.batch_size * recipe.accumulate))


def planned_steps(recipe: Recipe, examples: int, seconds: float = 0.0) -> int:
    """Optimiser steps of a run over so many training examples, speech or text; `seconds` is how long speech is."""
    per_epoch = steps_per_epoch(recipe, examples, seconds)
    least = getattr(recipe, "min_steps", None)
    if least is None:  # of text
        return recipe.max_steps or max(1, per_epoch * recipe.epochs)
    steps = per_epoch * max(recipe.epochs, math.ceil(least / per_epoch))
    return min(steps, recipe.max_steps or steps)


def even_steps(recipe: SpeechRecipe, steps: int, per_epoch: int) -> range:
    """The steps after which a run of so many evaluates: the recipe's number of times, else after each epoch, or of many
    epochs after every few."""
    every = per_epoch * -(-steps // (per_epoch * MOST_EVALUATIONS))
    if recipe.evaluations:
        every = evaluation_interval(recipe.evaluations, steps)
    return range(every, steps + 1, every)


def evaluation_interval(evaluations: int, steps: int) -> int:
    """Optimiser steps from one evaluation on dev to the next."""
    return max(1, math.ceil(steps / evaluations))
