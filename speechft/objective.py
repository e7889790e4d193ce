"""What training changes, in which precision, and the loss it follows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from speechft.batching import IGNORED
from speechft.whisper import core, decoder_states, encode, encode_upper, padding_mask

LOGIT_ROWS = 256  # target tokens whose logits over the vocabulary exist at once
ROW_STEP = 64  # their number is padded to multiples of this: a CPU compiles the product anew for each number of rows


class TokenLoss(nn.Module):
    """Whisper as a function from a batch to the summed cross-entropy of its target tokens.

    The sum, not the mean: divided by the target tokens of *all* batches of an optimiser step it gives the same
    gradient however the step is cut into batches, which a mean of means does not.

    Args:
        model: a Whisper model, adapted or not.
        layers: encoder layers that batches of states have behind them (`cache.py`).
    """

    def __init__(self, model: Any, layers: int = 0) -> None:
        super().__init__()
        self.model = model
        self.layers = layers

    def forward(self, x: Tensor, inputs: Tensor, targets: Tensor, positions: Tensor | None = None) -> Tensor:
        """
        Args:
            x: log-mel frames, shape (clips, n_mels, frames); with `positions`, encoder activations, shape (clips,
                positions, d_model).
            inputs, targets: shape (clips, tokens), as in `batching.Batch`.
            positions: of each clip that are its own; the rest is padding.
        """
        if positions is None:
            states, mask = encode(self.model, x), None
        else:
            mask = padding_mask(positions, x.shape[1])
            x = x.to(core(self.model).model.encoder.layer_norm.weight.dtype)
            states = encode_upper(self.model, x, self.layers, mask)
            if not states.requires_grad and torch.is_autocast_enabled(x.device.type):
                states = states.to(torch.get_autocast_dtype(x.device.type))  # once, not for every key and value
        hidden = decoder_states(self.model, inputs, states, mask)
        wanted = targets != IGNORED
        hidden, answers = hidden[wanted], targets[wanted]  # logits only where there is something to predict
        filler = -len(answers) % ROW_STEP
        hidden = nn.functional.pad(hidden, (0, 0, 0, filler))
        answers = nn.functional.pad(answers, (0, filler), value=IGNORED)
        head = core(self.model).proj_out.weight
        total = torch.zeros((), device=hidden.device)
        for rows, ids in zip(hidden.split(LOGIT_ROWS), answers.split(LOGIT_ROWS), strict=True):
            if head.requires_grad:
                total = total + nn.functional.cross_entropy((rows @ head.t()).float(), ids, reduction="sum")
            else:
                total = total + FrozenHeadLoss.apply(rows, head, ids)
        return total


def recompute_layers(model: nn.Module) -> None:
    """In training, keep only what goes into each layer, and compute the rest again going back."""
    whisper = core(model)
    # its name in later versions of transformers 5, and in earlier ones
    enable = getattr(whisper, "activation_checkpointing_enable", whisper.gradient_checkpointing_enable)
    enable({"use_reentrant": False})


class FrozenHeadLoss(torch.autograd.Function):
    """Summed cross-entropy over a frozen vocabulary matrix.

    The gradient is made on the way forward, so the logits are dropped at once and passed over only twice.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, head: Tensor, ids: Tensor) -> Tensor:
        """
        Args:
            rows: hidden states, shape (tokens, d_model).
            head: shape (vocabulary, d_model).
            ids: the right answers, shape (tokens,); IGNORED where there is none.
        """
        logits = (rows.to(head.dtype) @ head.t()).float()
        found = nn.functional.log_softmax(logits, 1)
        del logits
        missing = ids == IGNORED
        right = ids.masked_fill(missing, 0)[:, None]
        total = -found.gather(1, right).masked_fill(missing[:, None], 0.0).sum()
        slope = found.exp_()  # of the loss by each logit: the probabilities, less one at the right answer
        slope.scatter_add_(1, right, slope.new_full(right.shape, -1.0))
        slope[missing] = 0.0
        ctx.save_for_backward((slope.to(head.dtype) @ head).to(rows.dtype))
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.saved_tensors[0] * grads[0], None, None
