"""A Whisper model as the single file that whisper.cpp runs.

The format is what whisper.cpp's loader reads (`whisper_model_load`, magic 0x67676d6c): eleven numbers, the mel filters,
the tokens as bytes, then every tensor with its name in OpenAI's naming.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from speechft.audio import mel_filters
from speechft.errors import SpeechftError
from speechft.whisper import Whisper, core

MAGIC = 0x67676D6C
WHOLE, HALF, EIGHT_BIT = 0, 1, 8  # the format's numbers for tensors in fp32, fp16 and q8_0
FILE_KINDS = {"float16": 1, "int8": 2007}  # most matrices fp16, or q8_0 by the second version of its quantisation
VOCABULARIES = (51_864, 51_865, 51_866)  # English, multilingual, and that of large-v3
BLOCK = 32  # neighbouring weights that share a scale in q8_0
# transformers' names for parts of a layer, and OpenAI's
PARTS = {
    "self_attn.k_proj": "attn.key", "self_attn.q_proj": "attn.query", "self_attn.v_proj": "attn.value",
    "self_attn.out_proj": "attn.out", "self_attn_layer_norm": "attn_ln", "encoder_attn.k_proj": "cross_attn.key",
    "encoder_attn.q_proj": "cross_attn.query", "encoder_attn.v_proj": "cross_attn.value",
    "encoder_attn.out_proj": "cross_attn.out", "encoder_attn_layer_norm": "cross_attn_ln", "fc1": "mlp.0",
    "fc2": "mlp.2", "final_layer_norm": "mlp_ln",
}  # fmt: skip
OTHERS = {
    "encoder.layer_norm": "encoder.ln_post", "encoder.embed_positions.weight": "encoder.positional_embedding",
    "decoder.layer_norm": "decoder.ln", "decoder.embed_positions.weight": "decoder.positional_embedding",
    "decoder.embed_tokens.weight": "decoder.token_embedding.weight",
}  # fmt: skip
ALWAYS_WHOLE = {
    "encoder.conv1.bias", "encoder.conv2.bias", "encoder.positional_embedding", "decoder.positional_embedding",
}  # fmt: skip


def write_ggml(whisper: Whisper, out: Path, precision: str = "float16") -> Path:
    """Write a model, without an adapter on it.

    Args:
        whisper: the model.
        out: the file.
        precision: `float16`, or `int8`: matrices in 8 bits with a scale for each 32 weights. Convolutions are fp16 in
            both, the only form they run in. Its own tools quantise an fp16 file further.

    Raises:
        SpeechftError: the format has no place for this model.
    """
    config = whisper.config
    _refuse_misfits(whisper)
    numbers = (
        config.vocab_size, config.max_source_positions, config.d_model, config.encoder_attention_heads,
        config.encoder_layers, config.max_target_positions, config.d_model, config.decoder_attention_heads,
        config.decoder_layers, config.num_mel_bins, FILE_KINDS[precision],
    )  # fmt: skip
    with out.open("wb") as file:
        file.write(struct.pack("<12i", MAGIC, *numbers))
        filters = mel_filters(whisper.n_mels).numpy()
        file.write(struct.pack("<2i", *filters.shape) + filters.astype("<f4").tobytes())
        tokens = token_bytes(whisper)
        file.write(struct.pack("<i", len(tokens)))
        for token in tokens:
            file.write(struct.pack("<i", len(token)) + token)
        for name, tensor in core(whisper.model).model.state_dict().items():
            _write_tensor(file, openai_name(name), tensor, precision == "int8")
    return out


def _refuse_misfits(whisper: Whisper) -> None:
    """Raises SpeechftError for a model of which the file would hold a part, or which its reader would misread."""
    otherwise = "Use --to ctranslate2 or onnx."
    if whisper.config.vocab_size not in VOCABULARIES:  # by it whisper.cpp tells where special tokens and timestamps are
        known = ", ".join(map(str, VOCABULARIES))
        what = f"has {whisper.config.vocab_size} tokens, and whisper.cpp knows models of {known}"
        raise SpeechftError(what, where=whisper.name, fix=otherwise)
    head, words = core(whisper.model).proj_out.weight, core(whisper.model).model.decoder.embed_tokens.weight
    if head is not words and not torch.equal(head, words):
        what = "has an output layer of its own; whisper.cpp takes the embeddings of the tokens for it"
        raise SpeechftError(what, where=whisper.name, fix=otherwise)


def openai_name(name: str) -> str:
    """OpenAI's name of a tensor that transformers calls `name`."""
    side, _, rest = name.partition(".layers.")
    if rest:
        number, _, part = rest.partition(".")
        part, _, kind = part.rpartition(".")
        return f"{side}.blocks.{number}.{PARTS[part]}.{kind}"
    for theirs, ours in OTHERS.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name


def token_bytes(whisper: Whisper) -> list[bytes]:
    """The bytes of every ordinary token, by id; whisper.cpp names the special ones after them itself."""
    tokenizer: Any = whisper.tokenizer
    pieces = tokenizer.convert_ids_to_tokens(list(range(whisper.generation.eos_token_id)))
    to_byte = {character: byte for byte, character in _characters().items()}
    return [bytes(to_byte[character] for character in piece) for piece in pieces]


def _characters() -> dict[int, str]:
    """The printable character that GPT-2's tokenizer writes for each byte (Radford et al., 2019)."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in plain]
    return {**{byte: chr(byte) for byte in plain}, **{byte: chr(256 + n) for n, byte in enumerate(others)}}


def _write_tensor(file: BinaryIO, name: str, tensor: torch.Tensor, eight_bit: bool) -> None:
    data: np.ndarray = tensor.detach().float().cpu().numpy()
    if name in ("encoder.conv1.bias", "encoder.conv2.bias"):
        data = data[:, None]  # added to every position
    kind = HALF if data.ndim > 1 and name not in ALWAYS_WHOLE else WHOLE
    if eight_bit and kind == HALF and data.ndim == 2 and data.shape[1] % BLOCK == 0:
        kind = EIGHT_BIT
    encoded = name.encode()
    file.write(struct.pack("<3i", data.ndim, len(encoded), kind))
    file.write(struct.pack(f"<{data.ndim}i", *reversed(data.shape)))
    file.write(encoded)
    if kind == EIGHT_BIT:
        file.write(in_eight_bits(data))
    else:
        file.write(data.astype("<f2" if kind == HALF else "<f4").tobytes())


def in_eight_bits(data: np.ndarray) -> bytes:
    """A matrix as q8_0: for each 32 weights of a row an fp16 scale, the largest magnitude / 127, and 32 bytes."""
    blocks = data.reshape(-1, BLOCK)
    scales = np.abs(blocks).max(1, keepdims=True) / 127
    rounded = np.round(blocks / np.where(scales > 0, scales, 1)).astype("i1")
    out: np.ndarray = np.empty(len(blocks), dtype=[("scale", "<f2"), ("weights", "i1", BLOCK)])
    out["scale"], out["weights"] = scales[:, 0], rounded
    return out.tobytes()
