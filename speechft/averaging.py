"""Means of weights, which often beat the last ones: over the second half of a run, and with the base model."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from speechft import adapters, distributed


class RunningMean:
    """Of what is trained (Izmailov et al., 2018, arXiv 1803.05407).

    Attributes:
        values: the mean of each parameter, by name.
        count: states it is a mean of.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        self.parameters = parameters
        self.values: dict[str, Tensor] = {}
        self.count = 0

    def add(self) -> None:
        """Take the weights as they are into the mean."""
        self.count += 1
        for name, parameter in self.parameters.items():
            value = parameter.detach()
            if name in self.values:
                self.values[name].lerp_(value, 1 / self.count)
            else:
                self.values[name] = value.clone()

    def restore(self, values: Mapping[str, Tensor], count: int) -> None:
        """Go on from a checkpoint's mean."""
        placed = {name: value.to(self.parameters[name].device) for name, value in values.items()}
        self.values = {name: distributed.placed_like(value, self.parameters[name]) for name, value in placed.items()}
        self.count = count


@contextlib.contextmanager
def in_place(model: nn.Module, values: Mapping[str, Tensor]) -> Iterator[None]:
    """Give the model these values of what is trained for a while."""
    last = adapters.trainable_state(model)
    try:
        adapters.load_trainable_state(model, dict(values))
        yield
    finally:
        adapters.load_trainable_state(model, last)


def mean_with_base(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Half-way back to the base model (Wortsman et al., 2021, arXiv 2109.01903): of a LoRA that began at zero.

    Args:
        state: of `adapters.trainable_state`. The product of A and B is what is added, so that half of B is half of it.
    """
    return {name: value / 2 if "lora_B" in name else value for name, value in state.items()}
