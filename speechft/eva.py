"""EVA: LoRA started at the main directions of what its layers are fed (Paischer et al., 2024, arXiv 2410.07170).

The directions are those of all rows of a few batches together, found once. peft's own search goes over the batches
again until its running estimate stands still, which took minutes on a laptop where this takes seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from speechft.distributed import from_first

if TYPE_CHECKING:
    from speechft.batching import Batch

BATCHES = 4
MOST_BYTES = 1e9  # of sums at a time: a model with wider or more layers is passed through more than once


class InputMoments:
    """Sums over the rows a layer was fed, from which their covariance follows."""

    def __init__(self) -> None:
        self.rows, self.total, self.products = 0, torch.zeros(()), torch.zeros(())

    def add(self, module: Any, inputs: tuple[Tensor, ...], output: Any) -> None:
        """A forward hook."""
        rows = inputs[0].reshape(-1, inputs[0].shape[-1]).double()
        self.rows += len(rows)
        self.total = self.total.to(rows) + rows.sum(0)
        self.products = self.products.to(rows) + rows.T @ rows

    def directions(self, count: int) -> Tensor:
        """(count, width): orthonormal, the direction of the largest variance first."""
        mean = self.total / self.rows
        _, vectors = torch.linalg.eigh((self.products / self.rows - mean.outer(mean)).cpu())
        found = vectors.T.flip(0)[:count]
        largest = found.gather(1, found.abs().argmax(1, keepdim=True))
        return found * largest.sign()  # an eigenvector has no sign of its own: this one is the same on every machine


def initialise_from_data(model: nn.Module, batches: Iterable[Batch], forward: Callable[[Batch], object]) -> None:
    """Start the A's of LoRA at the main directions of their inputs.

    Does nothing to an adapter that was not attached with `init="eva"`. Of several processes all start where the first
    one does, by its batches.

    Args:
        model: from `adapters.attach`.
        batches: some, the first `BATCHES` are used.
        forward: runs the model on one.
    """
    from peft import initialize_lora_eva_weights
    from peft.tuners.lora import LoraLayer

    config: Any = getattr(model, "peft_config", {}).get("default")
    if getattr(config, "init_lora_weights", None) != "eva":
        return
    layers: dict[str, Any] = {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}
    was_training, pattern = model.training, config.target_modules
    model.eval()

    def look() -> dict[str, Tensor]:
        looked_at = list(islice(batches, BATCHES))
        found: dict[str, Tensor] = {}
        for names in _groups(layers):
            moments = {name: InputMoments() for name in names}
            hooks = [layers[name].register_forward_hook(moments[name].add) for name in names]
            with torch.no_grad():
                for batch in looked_at:
                    forward(batch)
            for hook in hooks:
                hook.remove()
            found |= {name: fed.directions(config.r) for name, fed in moments.items() if fed.rows}
        return found

    found = from_first(look)
    initialize_lora_eva_weights(model, eva_state_dict=found)
    config.target_modules = pattern  # peft spells out every layer; they are the same
    model.train(was_training)


def _groups(layers: dict[str, Any]) -> Iterator[list[str]]:
    """Names of layers whose sums fit into memory together."""
    names: list[str] = []
    size = 0.0
    for name, layer in layers.items():
        needed = 8 * layer.in_features**2
        if names and size + needed > MOST_BYTES:
            yield names
            names, size = [], 0.0
        names.append(name)
        size += needed
    yield names
