"""Which weights training changes: their names, their state, and what is kept of the others."""

from __future__ import annotations

import torch
from torch import nn

from speechft.distributed import placed_like, whole
from speechft.errors import SpeechftError


def trainable(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Names and parameters that training changes."""
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]


def store_frozen(model: nn.Module, dtype: torch.dtype) -> None:
    """Keep the frozen matrices in the dtype autocast multiplies them in: half the memory, the same products.

    Norms, biases and positions stay in fp32; so do quantised weights as they are.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Embedding) and not name.endswith("embed_positions"):
            weight = module.weight
            if not weight.requires_grad and weight.dtype == torch.float32:
                weight.data = weight.data.to(dtype)


def trainable_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of what training changes, on the CPU; where a model is sharded, every process has to ask for it."""
    return {name: whole(p.detach()).to("cpu", copy=True) for name, p in trainable(model)}


def load_trainable_state(model: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Put a state from `trainable_state` back.

    Raises:
        SpeechftError: it belongs to other layers.
    """
    parameters = dict(trainable(model))
    if parameters.keys() != state.keys():
        raise SpeechftError(
            "the saved state belongs to another model or other adapter settings",
            fix="Go on with those, or begin in a new output_dir.",
        )
    with torch.no_grad():
        for name, value in state.items():
            parameters[name].copy_(placed_like(value, parameters[name]))
