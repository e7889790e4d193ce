"""What becomes of a step whose loss or gradient is not finite: one policy for all that trains here."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from speechft.errors import SpeechftError
from speechft.events import OnEvent

NAMED = 8  # rows in an error's place; the event has all of them


class Tally(Protocol):
    """Steps that were skipped so far, and without another one between them."""

    skipped: int
    skipped_in_a_row: int


class Policy(Protocol):
    """As much of a recipe as says how many are tolerated."""

    @property
    def non_finite(self) -> str: ...
    @property
    def most_skipped(self) -> int: ...


def count_skip(
    step: int, loss_is_finite: bool, rows: Sequence[str], tally: Tally, policy: Policy, on_event: OnEvent
) -> None:
    """Count a step that was skipped and name its rows, and end the run where the recipe says so.

    Args:
        step: its number, from 1.
        loss_is_finite: where it is, the gradient is not.
        rows: that are to blame, or all of the step.

    Raises:
        SpeechftError: its `non_finite` is `stop`, or more steps in a row than `most_skipped` were skipped.
    """
    tally.skipped += 1
    tally.skipped_in_a_row += 1
    reason = f"the {'gradient' if loss_is_finite else 'loss'} is not finite"
    on_event({"event": "skipped step", "step": step, "reason": reason, "rows": list(rows)})
    if policy.non_finite == "stop" or tally.skipped_in_a_row > policy.most_skipped:
        raise SpeechftError(
            f"{reason} in step {step}: {tally.skipped_in_a_row} skipped in a row",
            where=", ".join(rows[:NAMED]) + (", ..." if len(rows) > NAMED else ""),
            fix="Look at these rows, lower learning_rate, or set precision=fp32; the recipe's non_finite and "
            "most_skipped say how much is tolerated.",
        )


def broken_weights(step: int, rate: float, out: object) -> SpeechftError:
    """A finite gradient at too high a rate can make weights that are not finite, and no later step mends them."""
    return SpeechftError(
        f"step {step} made weights that are not finite from a finite loss and gradient",
        where=out,
        fix=f"Most likely its learning rate, {rate:g}, is too high: lower learning_rate, and choose another "
        "output_dir or delete the checkpoints there.",
    )


@dataclass
class Skips:
    """A tally of its own, where no other progress is counted."""

    skipped: int = 0
    skipped_in_a_row: int = 0

    def judge(
        self, step: int, loss: float, norm: float, rows: Sequence[str], policy: Policy, on_event: OnEvent
    ) -> bool:
        """Whether a step may change the weights; where not, it is counted as by `count_skip`.

        Args:
            norm: of the gradient.
        """
        if math.isfinite(loss) and math.isfinite(norm):
            self.skipped_in_a_row = 0
            return True
        count_skip(step, math.isfinite(loss), rows, self, policy, on_event)
        return False


@contextmanager
def drawing() -> Iterator[None]:
    """Turns what torch raises, asked to draw from probabilities that are not numbers, into a sentence."""
    try:
        yield
    except RuntimeError as error:
        if "probability tensor contains" not in str(error):
            raise
        raise SpeechftError(
            "the model's probabilities are not numbers, so no answer can be drawn from them",
            fix="Most likely training took too large steps: lower learning_rate, and choose another output_dir or "
            "delete the checkpoints there.",
        ) from None
