"""A CTranslate2 Whisper `model.bin` in Hugging Face form, value for value.

The file is a list of named arrays (binary version 6, little endian; the layout is that of CTranslate2's own
`ModelSpec` serialisation). CTranslate2 fuses q, k and v into one matrix and gives k a bias of zeros.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from speechft.errors import SpeechftError

MULTILINGUAL_VOCABULARY = 51_865  # tokens; the English models have 51,864

_DTYPES = {
    0: np.float32,
    1: np.int8,
    2: np.int16,
    3: np.int32,
    4: np.float16,
    5: np.uint16,  # the bits of bfloat16
}
_BFLOAT16 = 5
_SPECIAL = {
    "eos": "<|endoftext|>",
    "sot": "<|startoftranscript|>",
    "prev": "<|startofprev|>",
    "notimestamps": "<|notimestamps|>",
}


def read_arrays(parts: list[Path]) -> dict[str, torch.Tensor]:
    """All named arrays of a `model.bin`, given whole or as parts to join; int8 weights are scaled back.

    Raises:
        SpeechftError: it is not a CTranslate2 Whisper model, or it ends too early.
    """
    data = memoryview(b"".join(part.read_bytes() for part in parts))
    offset = 0

    def number(code: str) -> int:
        nonlocal offset
        (value,) = struct.unpack_from("<" + code, data, offset)
        offset += struct.calcsize(code)
        return value

    def name() -> str:
        nonlocal offset
        length = number("H")
        text = bytes(data[offset : offset + length - 1]).decode()
        offset += length
        return text

    where = parts[0]
    try:
        version, spec, _revision = number("I"), name(), number("I")
        if spec != "WhisperSpec":
            raise SpeechftError(f"holds a {spec}, not a Whisper model", where=where, fix="Convert a Whisper model.")
        if version < 4:
            raise SpeechftError(f"has the old format {version}", where=where, fix="Convert the model again.")
        arrays = {}
        for _ in range(number("I")):
            key, rank = name(), number("B")
            shape = [number("I") for _ in range(rank)]
            kind, size = number("B"), number("I")
            values = np.frombuffer(data[offset : offset + size], _DTYPES[kind]).reshape(shape)
            tensor = torch.from_numpy(values.copy())
            arrays[key] = tensor.view(torch.bfloat16) if kind == _BFLOAT16 else tensor
            offset += size
    except (struct.error, UnicodeDecodeError, ValueError, KeyError):
        raise SpeechftError(
            "is not a complete CTranslate2 model", where=where, fix="Download or convert it again."
        ) from None
    for key in [key for key in arrays if key.endswith("_scale")]:
        weight = key.removesuffix("_scale")
        scale, whole = arrays.pop(key).float(), arrays[weight].float()
        arrays[weight] = whole / scale.view(-1, *[1] * (whole.dim() - 1))  # one scale a row
    return arrays


def to_hf(arrays: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The state dict of `WhisperForConditionalGeneration` (the output projection is tied, so not in it)."""
    state: dict[str, torch.Tensor] = {}

    def put(target: str, source: str, rows: slice = slice(None), bias: bool = True) -> None:
        state[f"{target}.weight"] = arrays[f"{source}/weight"][rows].contiguous()
        if bias:
            state[f"{target}.bias"] = arrays[f"{source}/bias"][rows].contiguous()

    def norm(target: str, source: str) -> None:
        state[f"{target}.weight"], state[f"{target}.bias"] = (
            arrays[f"{source}/gamma"],
            arrays[f"{source}/beta"],
        )

    put("model.encoder.conv1", "encoder/conv1")
    put("model.encoder.conv2", "encoder/conv2")
    state["model.decoder.embed_tokens.weight"] = arrays["decoder/embeddings/weight"]
    for side in ("encoder", "decoder"):
        state[f"model.{side}.embed_positions.weight"] = arrays[f"{side}/position_encodings/encodings"]
        norm(f"model.{side}.layer_norm", f"{side}/layer_norm")
        for index in range(_layers(arrays, side)):
            ours, theirs = f"model.{side}.layers.{index}", f"{side}/layer_{index}"
            d = arrays[f"{theirs}/self_attention/linear_1/weight"].shape[0]
            q, k, v = slice(0, d), slice(d, 2 * d), slice(2 * d, 3 * d)
            put(f"{ours}.self_attn.q_proj", f"{theirs}/self_attention/linear_0", q)
            put(f"{ours}.self_attn.k_proj", f"{theirs}/self_attention/linear_0", k, bias=False)
            put(f"{ours}.self_attn.v_proj", f"{theirs}/self_attention/linear_0", v)
            put(f"{ours}.self_attn.out_proj", f"{theirs}/self_attention/linear_1")
            norm(f"{ours}.self_attn_layer_norm", f"{theirs}/self_attention/layer_norm")
            if side == "decoder":
                put(f"{ours}.encoder_attn.q_proj", f"{theirs}/attention/linear_0")
                put(f"{ours}.encoder_attn.k_proj", f"{theirs}/attention/linear_1", q, bias=False)
                put(f"{ours}.encoder_attn.v_proj", f"{theirs}/attention/linear_1", k)
                put(f"{ours}.encoder_attn.out_proj", f"{theirs}/attention/linear_2")
                norm(f"{ours}.encoder_attn_layer_norm", f"{theirs}/attention/layer_norm")
            put(f"{ours}.fc1", f"{theirs}/ffn/linear_0")
            put(f"{ours}.fc2", f"{theirs}/ffn/linear_1")
            norm(f"{ours}.final_layer_norm", f"{theirs}/ffn/layer_norm")
    return state


def _layers(arrays: dict[str, torch.Tensor], side: str) -> int:
    return len([key for key in arrays if key.startswith(f"{side}/layer_") and key.endswith("ffn/linear_0/weight")])


def write_hf_folder(parts: list[Path], folder: Path, out: Path) -> None:
    """Write config, weights, tokenizer and feature settings of a CTranslate2 Whisper model to `out`.

    Args:
        parts: `model.bin`, whole or in parts.
        folder: where its config.json and tokenizer.json lie.
        out: an existing empty folder.
    """
    from transformers import GenerationConfig, WhisperConfig, WhisperFeatureExtractor

    arrays = read_arrays(parts)
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    ids = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    theirs = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    vocabulary, width = arrays["decoder/embeddings/weight"].shape
    ffn = arrays["encoder/layer_0/ffn/linear_0/weight"].shape[0]
    heads = int(arrays["encoder/num_heads"])
    multilingual = vocabulary >= MULTILINGUAL_VOCABULARY
    eos, sot = ids[_SPECIAL["eos"]], ids[_SPECIAL["sot"]]
    tokens = {"bos_token_id": eos, "eos_token_id": eos, "pad_token_id": eos, "decoder_start_token_id": sot}
    suppress = {
        "suppress_tokens": theirs["suppress_ids"],
        "begin_suppress_tokens": theirs["suppress_ids_begin"],
    }
    config = WhisperConfig(
        vocab_size=vocabulary,
        num_mel_bins=arrays["encoder/conv1/weight"].shape[1],
        d_model=width,
        encoder_layers=_layers(arrays, "encoder"),
        decoder_layers=_layers(arrays, "decoder"),
        encoder_attention_heads=heads,
        decoder_attention_heads=heads,
        encoder_ffn_dim=ffn,
        decoder_ffn_dim=ffn,
        max_source_positions=arrays["encoder/position_encodings/encodings"].shape[0],
        max_target_positions=arrays["decoder/position_encodings/encodings"].shape[0],
        architectures=["WhisperForConditionalGeneration"],
        dtype="float16",
        **tokens,
    )
    generation: dict[str, Any] = {
        **tokens,
        **suppress,
        "max_length": config.max_target_positions,
        "max_initial_timestamp_index": 50,  # the first timestamp lies in the first second
        "no_timestamps_token_id": ids[_SPECIAL["notimestamps"]],
        "prev_sot_token_id": ids[_SPECIAL["prev"]],
        "return_timestamps": False,
        "is_multilingual": multilingual,
        "alignment_heads": theirs.get("alignment_heads", []),
    }
    if multilingual:
        languages = theirs["lang_ids"]
        generation["lang_to_id"] = {text: number for text, number in ids.items() if number in set(languages)}
        generation["task_to_id"] = {task: ids[f"<|{task}|>"] for task in ("transcribe", "translate")}
    config.save_pretrained(out)
    GenerationConfig(**generation).save_pretrained(out)
    WhisperFeatureExtractor(feature_size=config.num_mel_bins).save_pretrained(out)
    _write_tokenizer(tokenizer, out)
    half = {key: value.to(torch.float16) for key, value in to_hf(arrays).items()}
    save_file(half, out / "model.safetensors", metadata={"format": "pt"})


def _write_tokenizer(tokenizer: dict[str, Any], out: Path) -> None:
    """All the forms in which tools look for a Whisper tokenizer: whole, and as vocabulary, merges and additions."""
    from importlib.resources import files

    merges = tokenizer["model"]["merges"]
    lines = [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]
    spellings = files("whisper_normalizer").joinpath("normalizers", "english.json").read_text("utf-8")
    eos = _SPECIAL["eos"]
    # the end of text is an ordinary entry of vocab.json too, as in the published models
    known = tokenizer["model"]["vocab"]
    added = {token["content"]: token["id"] for token in tokenizer["added_tokens"] if token["content"] not in known}
    written = {
        "tokenizer.json": json.dumps(tokenizer, ensure_ascii=False),
        "vocab.json": json.dumps(known, ensure_ascii=False),
        "merges.txt": "#version: 0.2\n" + "\n".join(lines) + "\n",
        "added_tokens.json": json.dumps(added, ensure_ascii=False),
        "normalizer.json": spellings,
        "tokenizer_config.json": json.dumps(
            {
                "tokenizer_class": "WhisperTokenizer",
                "processor_class": "WhisperProcessor",
                "add_prefix_space": False,
                "bos_token": eos,
                "eos_token": eos,
                "pad_token": eos,
                "unk_token": eos,
                "model_max_length": 1024,
            }
        ),
    }
    for file, text in written.items():
        (out / file).write_text(text, encoding="utf-8")
