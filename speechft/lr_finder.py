"""A learning rate to start from: the loss on training batches while the rate grows (Smith, 2015, arXiv 1506.01186)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from speechft import adapters
from speechft.batching import Batch
from speechft.config import SpeechRecipe
from speechft.errors import SpeechftError
from speechft.events import OnEvent
from speechft.manifest import Manifest
from speechft.prefetch import prefetch
from speechft.train import Run

SMOOTHING = 0.9  # of the running mean of the loss
WORSE = 1.3  # times the lowest smoothed loss: the rate is too high then
SETTLING = 5  # first steps, whose mean is of too few batches to be the lowest
CURVE = "<!-- smoothed loss -->"  # in a picture of it: the name of its axis, which Matplotlib draws as shapes
BELOW_LOWEST = 3  # the suggestion lies so many times below the rate of the lowest loss


@dataclass(frozen=True)
class RangeTest:
    """What came of it.

    Attributes:
        rates, losses: of each step; losses as smoothed over the steps so far.
        suggestion: a highest rate for a schedule, a third of the rate at the lowest smoothed loss.
        stopped: whether the loss grew before the highest rate was reached; otherwise the range was too low to tell.
    """

    rates: tuple[float, ...]
    losses: tuple[float, ...]
    suggestion: float
    stopped: bool


def find_learning_rate(
    recipe: SpeechRecipe,
    train: Manifest,
    *,
    lowest: float = 1e-5,
    highest: float = 0.3,
    steps: int = 80,
    on_event: OnEvent = lambda event: None,
) -> RangeTest:
    """Run the range test on a model of its own; nothing is saved.

    Args:
        recipe: its schedule and learning rate play no part.
        train: utterances to train on.
        lowest, highest, steps: the rate grows by the same factor each step.
        on_event: called with `step`, `steps`, `loss` and `learning_rate`.
    """
    untracked = recipe.model_copy(update={"tracking": None})
    return range_test(Run(untracked, train, train, on_event), lowest, highest, steps)


def range_test(run: Run, lowest: float, highest: float, steps: int) -> RangeTest:
    """The range test on a run that has not begun; its weights and optimiser are as before afterwards.

    Raises:
        SpeechftError: the range is empty, or no clip can be read.
    """
    if not 0 < lowest < highest or steps < 2 * SETTLING:
        raise SpeechftError(
            "the range of the learning rates is empty", fix=f"lowest < highest, and {2 * SETTLING} steps or more."
        )
    model = run.whisper.model
    before, training = adapters.trainable_state(model), model.training
    rates, losses, mean, best = [], [], 0.0, math.inf
    model.train()
    try:
        for step, batches in zip(range(steps), prefetch(_batches(run), run.base.device), strict=False):
            rate = lowest * (highest / lowest) ** (step / (steps - 1))
            descent = run.descend(step, batches, rate)
            if not descent.finite:
                break
            mean = SMOOTHING * mean + (1 - SMOOTHING) * descent.loss
            rates.append(rate)
            losses.append(mean / (1 - SMOOTHING ** (step + 1)))  # a mean of few has no past to lean on (Adam's)
            run.on_event({"step": step + 1, "steps": steps, "loss": descent.loss, "learning_rate": rate})
            if step >= SETTLING:
                best = min(best, losses[-1])
            if losses[-1] > WORSE * best:
                break
    finally:
        adapters.load_trainable_state(model, before)
        run.optimizer.state.clear()
        model.train(training)
    if len(losses) <= SETTLING:
        raise SpeechftError("the loss is not finite from the start", where="range test", fix="Give a lower 'lowest'.")
    at = min(range(SETTLING, len(losses)), key=losses.__getitem__)
    return RangeTest(tuple(rates), tuple(losses), rates[at] / BELOW_LOWEST, len(losses) < steps)


def _batches(run: Run) -> Iterator[list[Batch]]:
    """The batches of each step, epoch after epoch, without steps whose clips cannot be read."""
    found = True
    for first in itertools.count(step=run.per_epoch):
        if not found:
            raise SpeechftError("none of the clips can be read", where=run.train.path, fix="'speechft check' says why.")
        found = False
        for _, batches in run.feed.steps(first, first + run.per_epoch):
            if batches:
                found = True
                yield batches


def plot(found: RangeTest, path: Path) -> None:
    """Loss over learning rate as an SVG file, the suggestion marked; needs the extra `tune`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.add_subplot(xlabel="learning rate", ylabel="smoothed loss", xscale="log")
    axes.plot(found.rates, found.losses)
    axes.axvline(found.suggestion, linestyle="--", color="tab:orange", label=f"suggestion {found.suggestion:.1e}")
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="svg")
