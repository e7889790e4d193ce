"""One optimiser step: an exact gradient, in passes that fit into memory, and no update where it is not finite."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from speechft import distributed, memory
from speechft.batching import Batch
from speechft.checkpoint import Progress
from speechft.config import SpeechRecipe
from speechft.errors import SpeechftError
from speechft.events import OnEvent
from speechft.manifest import Manifest
from speechft.non_finite import broken_weights, count_skip
from speechft.precision import all_finite

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class Descent:
    """What came of a step.

    Attributes:
        loss: before it, a mean over target tokens.
        norm: of the gradient, before it was clipped.
        suspects: passes whose own loss is not a number.
        empty: whether it had no targets, because none of its clips could be read: nothing was done.
    """

    loss: float
    norm: float
    suspects: Sequence[Batch] = ()
    empty: bool = False

    @property
    def finite(self) -> bool:
        """Whether the weights were changed."""
        return not self.empty and math.isfinite(self.loss) and math.isfinite(self.norm)


class Descender:
    """Changes weights, one step a call.

    Attributes:
        most_frames: log-mel frames in one pass; less once memory ran out.
    """

    def __init__(
        self,
        recipe: SpeechRecipe,
        train: Manifest,
        accelerator: Accelerator,
        share_of: Callable[[Batch, float], Tensor],
        optimizer: torch.optim.Optimizer,
        parameters: dict[str, nn.Parameter],
        on_event: OnEvent,
        empty_batch: Batch,
    ) -> None:
        """
        Args:
            train: the clips that batches have the numbers of.
            accelerator: of accelerate; `optimizer`, and the model in `share_of`, are prepared by it.
            share_of: a batch's part of the loss of a step that has so many target tokens.
            parameters: that are trained, by name.
            on_event: called with `{"event": "less memory", ...}` when passes become smaller.
            empty_batch: a batch without targets, for processes that have to make as many passes as others.
        """
        self.recipe, self.train, self.accelerator, self.on_event = recipe, train, accelerator, on_event
        self.share_of, self.optimizer, self.parameters = share_of, optimizer, list(parameters.values())
        self.empty_batch = empty_batch
        self.most_frames = math.inf

    def __call__(self, step: int, batches: list[Batch], rate: float) -> Descent:
        """Change the weights once at a learning rate, or not at all where loss or gradient is not finite.

        Raises:
            SpeechftError: not even one clip fits into memory, or the step made a weight that is not finite.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        (n_targets,) = self._summed(sum(batch.n_targets for batch in batches))
        if not n_targets:
            return Descent(0.0, 0.0, empty=True)
        total, suspects = self._gradient(step, batches, n_targets)
        (total,) = self._summed(total)
        distributed.sum_gradients(self.parameters)
        found = self.accelerator.clip_grad_norm_(self.parameters, self.recipe.gradient_clip)
        norm = float(distributed.whole(found))
        descent = Descent(total, norm, suspects)
        if descent.finite or self.accelerator.scaler:  # fp16's scaler skips such a step itself, and learns from it
            self.optimizer.step()
            self._check_weights(step, rate)
        self.optimizer.zero_grad(set_to_none=True)
        return descent

    def _gradient(self, step: int, batches: list[Batch], n_targets: float) -> tuple[float, list[Batch]]:
        """Add up the gradient; a step that memory ran out in begins again with smaller passes: the sum is the same."""
        while True:
            # dropout: a function of the step, another one in each process
            torch.manual_seed(self.recipe.seed * 1_000_003 + step + (distributed.rank() << 40))
            total, suspects = 0.0, []
            parts, share = self._passes([part for batch in batches for part in batch.parts(self.most_frames)])
            try:
                for part in parts:
                    loss = self.share_of(part, n_targets)
                    self.accelerator.backward(loss * share)
                    value = float(loss.detach())
                    total += value
                    if not math.isfinite(value):
                        suspects.append(part)
                return total, suspects
            except (MemoryError, RuntimeError) as error:
                # of sharded processes each waits for the others in every layer: one cannot begin again alone
                if distributed.is_sharded() or not memory.ran_out(error):
                    raise
                failure = error.with_traceback(None)
            self.optimizer.zero_grad(set_to_none=True)
            if not memory.recover(failure):
                self._take_less(step, part)

    def _passes(self, parts: list[Batch]) -> tuple[list[Batch], int]:
        """Passes that all processes make alike where the model is sharded, and what makes their mean gradient a sum."""
        if not distributed.is_sharded():
            return parts, 1
        most = distributed.largest(len(parts), like=self.parameters[0])
        return parts + [self.empty_batch] * (most - len(parts)), distributed.world()

    def _check_weights(self, step: int, rate: float) -> None:
        own = [p.to_local() if hasattr(p, "to_local") else p for p in self.parameters]
        (broken,) = self._summed(not all_finite(own))
        if broken:
            raise broken_weights(step + 1, rate, self.recipe.output_dir)

    def _take_less(self, step: int, part: Batch) -> None:
        clips = len(part.indices)
        if clips == 1:
            raise SpeechftError(
                "there is not enough memory to learn from this clip alone",
                where=self.train[part.indices[0]].where,
                fix="Free some, use a smaller model or adapter.quantize=nf4, or leave the longest clips out; the same "
                "command then resumes from the last checkpoint.",
            )
        self.most_frames = part.frames / 2
        self.on_event({"event": "less memory", "step": step + 1, "clips": -(-clips // 2), "of": clips})

    def _summed(self, number: float) -> list[float]:
        return distributed.summed([number], like=self.parameters[0])


def count_skipped(
    descent: Descent,
    step: int,
    batches: Sequence[Batch],
    train: Manifest,
    progress: Progress,
    recipe: SpeechRecipe,
    on_event: OnEvent,
) -> None:
    """Count a step that was skipped and name its rows, and end the run where the recipe says so; see `count_skip`."""
    if descent.finite:
        progress.skipped_in_a_row = 0
        return
    rows = [train[index].where for batch in descent.suspects or batches for index in batch.indices]
    count_skip(step + 1, math.isfinite(descent.loss), rows, progress, recipe, on_event)
