"""Reads a GGUF file (the format of llama.cpp) and writes the Hugging Face folder of the same model.

Training needs whole weights, and a GGUF file mostly holds blocks of 4 to 8 bits with a scale each; they are
multiplied out once, to fp32, so that no value changes. transformers knows the format; what it leaves behind in the
configuration, a mark that the weights are still quantised, is taken off here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from speechft.errors import SpeechftError, missing_extra


def write_hf_folder(file: Path, out: Path) -> None:
    """Convert a causal language model.

    Args:
        file: the GGUF, with its tokenizer inside as llama.cpp writes it.
        out: gets config.json, model.safetensors and the tokenizer's files.

    Raises:
        SpeechftError: an architecture that transformers does not read from GGUF, or a damaged file.
    """
    try:
        import gguf  # noqa: F401 - transformers asks for it
    except ImportError:
        raise missing_extra("gguf", "text") from None
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    try:
        named: dict[str, Any] = {"gguf_file": file.name}
        tokenizer = AutoTokenizer.from_pretrained(str(file.parent), trust_remote_code=False, **named)
        model: Any = AutoModelForCausalLM.from_pretrained(
            str(file.parent), trust_remote_code=False, dtype=torch.float32, **named
        )
    except (ValueError, KeyError, OSError, NotImplementedError) as error:
        raise SpeechftError(
            f"cannot be read as GGUF ({str(error).splitlines()[0][:160]})",
            where=file,
            fix="Llama, Qwen, Mistral, Gemma and similar models work; load others from their Hugging Face folder.",
        ) from None
    model.config.__dict__.pop("quantization_config", None)
    model.config._name_or_path = ""
    for mark in ("hf_quantizer", "quantization_method"):
        if hasattr(model, mark):
            delattr(model, mark)
    model.is_quantized = False
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
