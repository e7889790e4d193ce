"""Whisper's decoder one token at a time: a preallocated cache of keys and values, and nothing else per step.

transformers' `generate()` spends most of its time around the model on short clips. This module calls the same layers
directly. Beams of one clip are query positions of its cross-attention, so encoder states are never copied per beam.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from speechft.adapters import merge, mergeable
from speechft.precision import inference_dtype
from speechft.whisper import Whisper, core, padding_mask

if TYPE_CHECKING:
    from speechft.bank import AdapterBank


def is_quantized(model: Any) -> bool:
    return getattr(core(model), "is_quantized", False)


def inference_copy(whisper: Whisper, dtype: torch.dtype | None = None) -> Whisper:
    """A merged copy for decoding, in bf16 where that is fast; the original is left as it is.

    Quantised weights are not copied but used in place, adapter unmerged: merging would quantise the adapter too.
    """
    if whisper.bank:
        return whisper  # it is one
    if is_quantized(whisper.model):
        return whisper.with_(model=whisper.model.eval())
    dtype = dtype or inference_dtype(whisper.device)
    # what no adapter is merged into is rounded on the way, or shared where it has that dtype: never twice in memory
    adapted = {id(p) for m in whisper.model.modules() if hasattr(m, "get_base_layer") for p in m.parameters()}
    rounded = {
        id(p): nn.Parameter(p.detach().to(dtype), requires_grad=False)
        for p in whisper.model.parameters()
        if id(p) not in adapted and not p.requires_grad
    }
    model = copy.deepcopy(whisper.model, rounded)
    model = merge(model, whisper.called) if mergeable(model) else model
    return whisper.with_(model=model.to(dtype).requires_grad_(False).eval())


class DecoderCache:
    """Keys and values of a batch of clips, each with `beams` hypotheses.

    Attributes:
        clips: clips still in the batch.
        length: tokens consumed so far, the same for all.
    """

    def __init__(
        self,
        model: nn.Module,
        states: Tensor,
        max_length: int,
        beams: int = 1,
        lengths: Tensor | None = None,
        bank: AdapterBank | None = None,
    ) -> None:
        """
        Args:
            model: a Whisper model, adapted or not.
            states: encoder output, shape (clips, positions, d_model).
            max_length: tokens to make room for.
            beams: hypotheses a clip.
            lengths: positions of each clip that are its own, the rest being padding; None means all of them.
            bank: that has the clips' adapters and must know which clips are left.
        """
        self.bank = bank
        self.decoder = core(model).model.decoder
        self.projection = core(model).proj_out
        self.clips, self.beams, self.length = states.shape[0], beams, 0
        self.attended: dict[int, Tensor] | None = None  # set to {} to collect cross-attention weights by layer
        self.heads = self.decoder.layers[0].self_attn.num_heads
        self.mask = padding_mask(lengths, states.shape[1])
        rows = self.clips * beams
        self.cross: list[tuple[Tensor, Tensor]] = []
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        for layer in self.decoder.layers:
            attention = layer.encoder_attn
            key, value = self._heads(attention.k_proj(states)), self._heads(attention.v_proj(states))
            self.cross.append((key, value))
            shape = (rows, self.heads, max_length, key.shape[-1])
            self.keys.append(key.new_empty(shape))
            self.values.append(value.new_empty(shape))

    def _heads(self, x: Tensor) -> Tensor:
        """(n, positions, d_model) to (n, heads, positions, head size)."""
        return x.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2).contiguous()

    def step(self, tokens: Tensor) -> Tensor:
        """Consume tokens and return the logits after the last.

        Args:
            tokens: shape (clips * beams, n); n is 1 but for the prompt.

        Returns:
            float32, shape (clips * beams, vocabulary).
        """
        x = self.states(tokens)[:, -1]
        if type(self.projection) is nn.Linear and x.dtype == torch.float32 and x.device.type == "cpu":
            # a few rows against a tall matrix: with the matrix first, the product takes half the time
            return (self.projection.weight @ x.t()).t().contiguous()
        return self.projection(x).float()

    def states(self, tokens: Tensor) -> Tensor:
        """The decoder's last hidden states for the tokens, shape (clips * beams, n, d_model)."""
        rows, n = tokens.shape
        start, stop = self.length, self.length + n
        positions = self.decoder.embed_positions.weight[start:stop]
        x = self.decoder.embed_tokens(tokens) + positions
        for index, layer in enumerate(self.decoder.layers):
            attention = layer.self_attn
            y = layer.self_attn_layer_norm(x)
            query = self._heads(attention.q_proj(y) * attention.scaling)
            self.keys[index][:, :, start:stop] = self._heads(attention.k_proj(y))
            self.values[index][:, :, start:stop] = self._heads(attention.v_proj(y))
            y = nn.functional.scaled_dot_product_attention(
                query,
                self.keys[index][:, :, :stop],
                self.values[index][:, :, :stop],
                is_causal=n > 1,  # only ever for the prompt, which starts at 0
                scale=1.0,
            )
            x = x + attention.out_proj(y.transpose(1, 2).reshape(rows, n, -1))

            attention = layer.encoder_attn
            y = layer.encoder_attn_layer_norm(x)
            # beams as query positions: (clips, heads, beams * n, head size) against one copy of the states
            query = self._heads((attention.q_proj(y) * attention.scaling).view(self.clips, self.beams * n, -1))
            if self.attended is not None:
                scores = query.float() @ self.cross[index][0].float().transpose(-1, -2)
                if self.mask is not None:
                    scores = scores.masked_fill(~self.mask, -torch.inf)
                self.attended[index] = scores.softmax(-1)
            y = nn.functional.scaled_dot_product_attention(query, *self.cross[index], attn_mask=self.mask, scale=1.0)
            x = x + attention.out_proj(y.transpose(1, 2).reshape(rows, n, -1))

            y = layer.final_layer_norm(x)
            x = x + layer.fc2(layer.activation_fn(layer.fc1(y)))
        self.length = stop
        return self.decoder.layer_norm(x)

    def reorder(self, rows: Tensor) -> None:
        """Continue each hypothesis from the given one (beam search); rows of a clip stay within the clip."""
        for store in (self.keys, self.values):
            for tensor in store:
                tensor[:, :, : self.length] = tensor[rows, :, : self.length]

    def keep(self, clips: Tensor) -> None:
        """Drop all clips but these: finished ones cost nothing.

        Args:
            clips: each where it is, or further down than where it goes; so they are moved in place, and a batch that
                shrinks by one clip copies one.
        """
        moves = [(to, clip) for to, clip in enumerate(clips.tolist()) if to != clip]
        if self.mask is not None:
            self.mask = self.mask[clips]
        self.keys = [_packed(tensor, moves, len(clips), self.beams) for tensor in self.keys]
        self.values = [_packed(tensor, moves, len(clips), self.beams) for tensor in self.values]
        self.cross = [(_packed(k, moves, len(clips)), _packed(v, moves, len(clips))) for k, v in self.cross]
        if self.bank:
            self.bank.keep(clips)
        self.clips = len(clips)


def _packed(tensor: Tensor, moves: list[tuple[int, int]], clips: int, rows: int = 1) -> Tensor:
    """The first `clips` of a tensor after its moves, with so many rows a clip."""
    for to, clip in moves:
        tensor[to * rows : (to + 1) * rows] = tensor[clip * rows : (clip + 1) * rows]
    return tensor[: clips * rows]
