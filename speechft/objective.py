"""What training changes, in which precision, and the loss it follows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from speechft import adapters
from speechft.batching import IGNORED
from speechft.config import SpeechRecipe
from speechft.decoder import inference_dtype
from speechft.whisper import core, encode

LOGIT_ROWS = 256  # target tokens whose logits over the vocabulary exist at once


class TokenLoss(nn.Module):
    """Whisper as a function from a batch to the summed cross-entropy of its target tokens.

    The sum, not the mean: divided by the target tokens of *all* batches of an optimiser step it gives the same
    gradient however the step is cut into batches, which a mean of means does not.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, frames: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        """
        Args:
            frames: shape (clips, n_mels, frames).
            inputs, targets: shape (clips, tokens), as in `batching.Batch`.
        """
        whisper = core(self.model)
        states = encode(self.model, frames)
        hidden = whisper.model.decoder(input_ids=inputs, encoder_hidden_states=states, use_cache=False)[0]
        wanted = targets != IGNORED
        hidden, answers = hidden[wanted], targets[wanted]  # logits only where there is something to predict
        total = torch.zeros((), device=hidden.device)
        for rows, ids in zip(hidden.split(LOGIT_ROWS), answers.split(LOGIT_ROWS), strict=True):
            total = total + nn.functional.cross_entropy(whisper.proj_out(rows).float(), ids, reduction="sum")
        return total


def trainable_model(model: Any, recipe: SpeechRecipe) -> Any:
    """The model with what the recipe trains unfrozen: LoRA matrices, or all but the fixed positions."""
    settings = recipe.adapter
    if settings.method == "lora":
        return adapters.attach(
            model,
            rank=settings.rank,
            alpha=settings.alpha,
            dropout=settings.dropout,
            placement=settings.placement,
            projections=settings.projections,
            rslora=settings.rslora,
            dora=settings.dora,
        )
    model.requires_grad_(True)
    model.model.encoder.embed_positions.requires_grad_(False)  # sinusoids by definition, not weights
    return model


def mixed_precision(wanted: str, device: torch.device) -> str:
    """The precision accelerate computes in: `no`, `bf16` or `fp16`."""
    if wanted == "auto":
        return {torch.bfloat16: "bf16", torch.float16: "fp16"}.get(inference_dtype(device), "no")
    return "no" if wanted == "fp32" else wanted
