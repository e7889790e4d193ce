"""Attention for short clips in bf16 on a CPU: two batched products and a softmax.

PyTorch's flash kernel splits the work for long sequences. At the few hundred positions of a short clip, whole score
matrices fit the cache and plain products in bf16 are up to three times as fast, backward included. In fp32 they are
not, and PyTorch's kernel is taken (docs/performance.md; `benchmarks/attention.py` measures both).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

NAME = "speechft"
MOST_POSITIONS = 640  # about 13 s; above it the score matrices cost more than they save


def use_short_attention(model: Any) -> None:
    """Let a transformers model on a CPU attend this way; longer inputs and fp32 still take PyTorch's own kernel."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attend)
    model.set_attn_implementation(NAME)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """What transformers asks of an attention function.

    Args:
        query: shape (batch, heads, queries, head size); key and value alike with their own positions.
        attention_mask: bool, shape broadcastable to (batch, heads, queries, positions); True may be seen.

    Returns:
        shape (batch, queries, heads, head size), and no weights.
    """
    batch, heads, queries, size = query.shape
    positions = key.shape[2]
    causal = attention_mask is None and queries > 1 and getattr(module, "is_causal", False)
    plain = attention_mask is None or attention_mask.dtype == torch.bool
    short = query.dtype == torch.bfloat16 and positions <= MOST_POSITIONS
    if not short or dropout or not plain or key.shape[1] != heads:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(module, query, key, value, attention_mask, dropout, scaling, **others)
    if scaling != 1.0:
        query = query * (size**-0.5 if scaling is None else scaling)
    scores = torch.bmm(
        query.reshape(batch * heads, queries, size), key.reshape(batch * heads, positions, size).transpose(1, 2)
    )
    if causal:
        seen = torch.ones(queries, positions, dtype=torch.bool, device=scores.device).tril()
        scores = scores.masked_fill(~seen, -torch.inf)
    elif attention_mask is not None:
        scores = scores.view(batch, heads, queries, positions).masked_fill(~attention_mask, -torch.inf)
        scores = scores.view(batch * heads, queries, positions)
    found = torch.bmm(scores.softmax(-1), value.reshape(batch * heads, positions, size))
    return found.view(batch, heads, queries, size).transpose(1, 2), None
