"""Whisper as ONNX graphs in the layout of Hugging Face's Optimum, and greedy decoding with them in onnxruntime.

`encoder_model.onnx`: log-mel frames to states, at any even number of frames up to 3000: a context policy can be kept.
`decoder_model.onnx`: the prompt and the states to logits, and the keys and values of both attentions.
`decoder_with_past_model.onnx`: one token and those to the next logits, and the longer keys and values of its own past.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from speechft.errors import SpeechftError, missing_extra
from speechft.whisper import Whisper, core, encode

ENCODER, PROMPT, STEP = "encoder_model.onnx", "decoder_model.onnx", "decoder_with_past_model.onnx"
OWN, CROSS = ("decoder.key", "decoder.value"), ("encoder.key", "encoder.value")  # Optimum's names of a layer's cache


def write_onnx(whisper: Whisper, out: Path, precision: str = "float32") -> Path:
    """Write the three graphs.

    Args:
        whisper: a model without an adapter on it, in fp32 on the CPU.
        out: a folder.
        precision: `float32`, or `int8`: matrices in 8 bits, activations rounded as they come.

    Raises:
        SpeechftError: onnx or onnxscript is missing, or another precision.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime.quantization  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise missing_extra(error.name or "onnx", "export") from None
    if precision not in ("float32", "int8"):
        raise SpeechftError(f"there is no ONNX export in {precision}", fix="Use float32 or int8.")
    model, config = core(whisper.model), whisper.config
    model.set_attn_implementation("sdpa")
    layers, heads = config.decoder_layers, config.decoder_attention_heads
    clips, tokens, positions, past = 2, 3, 100, 5  # of the example; all of them may be others
    batch, length = torch.export.Dim("batch"), torch.export.Dim("tokens")
    seen, before = torch.export.Dim("positions"), torch.export.Dim("past")
    states = torch.zeros(clips, positions, config.d_model)
    cache = [
        torch.zeros(clips, heads, n, config.d_model // heads)
        for _ in range(layers)
        for n in (past, past, positions, positions)
    ]
    half = torch.export.Dim("half_frames", max=config.max_source_positions)
    own_names, cross_names = _names("present", OWN, layers), _names("present", CROSS, layers)
    out.mkdir(parents=True, exist_ok=True)
    _export(
        _Encoder(model), (torch.zeros(clips, config.num_mel_bins, 2 * positions),), out / ENCODER,
        ["input_features"], ["last_hidden_state"], ({0: batch, 2: 2 * half},),
    )  # fmt: skip
    _export(
        _Prompt(model), (torch.zeros(clips, tokens, dtype=torch.long), states), out / PROMPT,
        ["input_ids", "encoder_hidden_states"], ["logits", *own_names, *cross_names],
        ({0: batch, 1: length}, {0: batch, 1: seen}),
    )  # fmt: skip
    _export(
        _Step(model), (torch.zeros(clips, 1, dtype=torch.long), cache), out / STEP,
        ["input_ids", *_names("past_key_values", OWN + CROSS, layers)], ["logits", *own_names],
        ({0: batch}, [{0: batch, 2: before}, {0: batch, 2: before}, {0: batch, 2: seen}, {0: batch, 2: seen}] * layers),
    )  # fmt: skip
    if precision == "int8":
        for name in (ENCODER, PROMPT, STEP):
            in_eight_bits(out / name)
    return out


def in_eight_bits(graph: Path) -> None:
    """Quantise a graph in place; its whole weights go, also those that lie in a file beside it."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    whole = graph.rename(graph.with_name(f"whole-{graph.name}"))
    with _silence():
        quantize_dynamic(whole, graph, weight_type=QuantType.QInt8, op_types_to_quantize=["MatMul", "Gemm"])
    whole.unlink()
    graph.with_name(f"{graph.name}.data").unlink(missing_ok=True)


def _names(prefix: str, kinds: Sequence[str], layers: int) -> list[str]:
    return [f"{prefix}.{layer}.{kind}" for layer in range(layers) for kind in kinds]


def _export(module: nn.Module, args: tuple, path: Path, inputs: list[str], outputs: list[str], shapes: tuple) -> None:
    with _silence():
        torch.onnx.export(
            module.eval(), args, path, input_names=inputs, output_names=outputs, dynamic_shapes=shapes, dynamo=True,
            external_data=False, verbose=False,
        )  # fmt: skip


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Without the exporter's notes to its own developers, such as that torchvision is not there."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


class _Encoder(nn.Module):
    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_features: Tensor) -> Tensor:
        return encode(self.model, input_features)


class _Decoder(nn.Module):
    """The layers' arithmetic without anything that changes in place; `decoder.DecoderCache` is the same for our own."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.decoder, self.projection = model.model.decoder, model.proj_out

    def heads(self, x: Tensor) -> Tensor:
        """(clips, n, d_model) to (clips, heads, n, head size)."""
        return x.unflatten(2, (self.decoder.layers[0].self_attn.num_heads, -1)).transpose(1, 2)

    def attended(self, attention: Any, x: Tensor, key: Tensor, value: Tensor, causal: bool) -> Tensor:
        query = self.heads(attention.q_proj(x) * attention.scaling)
        found = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=causal, scale=1.0)
        return attention.out_proj(found.transpose(1, 2).flatten(2))

    def run(self, x: Tensor, caches: Sequence[tuple[Tensor, ...]], causal: bool) -> tuple[Tensor, list[Tensor]]:
        """Through all layers; a layer's cache is the past of its own attention, if any, and the other's keys and
        values."""
        present = []
        for layer, (*past, cross_key, cross_value) in zip(self.decoder.layers, caches, strict=True):
            attention = layer.self_attn
            y = layer.self_attn_layer_norm(x)
            key, value = self.heads(attention.k_proj(y)), self.heads(attention.v_proj(y))
            if past:
                key, value = torch.cat([past[0], key], dim=2), torch.cat([past[1], value], dim=2)
            present += [key, value]
            x = x + self.attended(attention, y, key, value, causal)
            y = layer.encoder_attn_layer_norm(x)
            x = x + self.attended(layer.encoder_attn, y, cross_key, cross_value, False)
            y = layer.final_layer_norm(x)
            x = x + layer.fc2(layer.activation_fn(layer.fc1(y)))
        return self.projection(self.decoder.layer_norm(x)), present


class _Prompt(_Decoder):
    def forward(self, input_ids: Tensor, encoder_hidden_states: Tensor) -> tuple[Tensor, ...]:
        x = self.decoder.embed_tokens(input_ids) + self.decoder.embed_positions.weight[: input_ids.shape[1]]
        cross = [
            (self.heads(a.k_proj(encoder_hidden_states)), self.heads(a.v_proj(encoder_hidden_states)))
            for a in (layer.encoder_attn for layer in self.decoder.layers)
        ]
        logits, own = self.run(x, cross, causal=True)
        return (logits, *own, *(tensor for pair in cross for tensor in pair))


class _Step(_Decoder):
    def forward(self, input_ids: Tensor, past: list[Tensor]) -> tuple[Tensor, ...]:
        position = past[0].shape[2]
        x = self.decoder.embed_tokens(input_ids) + self.decoder.embed_positions.weight[position : position + 1]
        caches = [tuple(past[start : start + 4]) for start in range(0, len(past), 4)]
        logits, own = self.run(x, caches, causal=False)
        return (logits, *own)


class OnnxModel:
    """The three graphs in onnxruntime.

    Args:
        folder: from `write_onnx`.
        threads: of onnxruntime.
    """

    def __init__(self, folder: Path, threads: int | None = None) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise missing_extra("onnxruntime", "export") from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or torch.get_num_threads()
        options.log_severity_level = 3
        self.encoder, self.prompt, self.step = (
            onnxruntime.InferenceSession(str(folder / name), options, providers=["CPUExecutionProvider"])
            for name in (ENCODER, PROMPT, STEP)
        )

    def encode(self, frames: np.ndarray) -> np.ndarray:
        """Log-mel frames of shape (clips, n_mels, frames) to states of shape (clips, frames / 2, d_model)."""
        return self.encoder.run(None, {"input_features": frames})[0]


class OnnxCache:
    """What `search.greedy_search` needs of a `DecoderCache`, with the keys and values that the graphs give back."""

    def __init__(self, model: OnnxModel, states: np.ndarray, prompt: np.ndarray) -> None:
        """
        Args:
            states: from `OnnxModel.encode`.
            prompt: token ids, shape (clips, tokens); `logits` are those after it.
        """
        self.model = model
        found = model.prompt.run(None, {"input_ids": prompt, "encoder_hidden_states": states})
        names = [output.name.replace("present", "past_key_values") for output in model.prompt.get_outputs()]
        self.cache = dict(zip(names[1:], found[1:], strict=True))
        self.logits = torch.from_numpy(found[0][:, -1])

    def step(self, tokens: Tensor) -> Tensor:
        """Logits after one more token of each clip; shapes (clips, 1) and (clips, vocabulary)."""
        found = self.model.step.run(None, {"input_ids": tokens.numpy(), **self.cache})
        names = [output.name.replace("present", "past_key_values") for output in self.model.step.get_outputs()]
        self.cache |= dict(zip(names[1:], found[1:], strict=True))
        return torch.from_numpy(found[0][:, -1])

    def keep(self, clips: Tensor) -> None:
        """Go on with these clips."""
        self.cache = {name: value[clips.numpy()] for name, value in self.cache.items()}
