"""From an adapter to the files that other software runs: the adapter merged into its base, in their formats.

Other software pads every clip to 30 s, whatever the adapter was trained at; `export_check` measures what it will get.
Only the ONNX graphs take clips of any length.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from speechft import adapters
from speechft.errors import SpeechftError, missing_extra
from speechft.files import replace_folder
from speechft.ggml import write_ggml
from speechft.locks import new_place
from speechft.onnx_export import write_onnx
from speechft.recogniser import load
from speechft.sources import resolve, resolve_adapter
from speechft.whisper import load_whisper

PRECISIONS = {  # by format, the usual one first
    "huggingface": ("float32",),
    "ctranslate2": ("float16", "float32", "bfloat16", "int8", "int8_float16"),
    "ggml": ("float16", "int8"),
    "onnx": ("float32", "int8"),
}


def export(
    adapter: str | Path,
    out: str | Path,
    *,
    to: str = "huggingface",
    model: str | None = None,
    precision: str | None = None,
) -> Path:
    """Merge an adapter into its base and write the whole model.

    Args:
        adapter: folder of a trained adapter, or of a fully fine-tuned model; or a hub's, see `sources.resolve_adapter`.
        out: a new folder.
        to: `huggingface`, a folder for transformers (and for the converters of other projects, which read the same
            files); `ctranslate2`, a folder for faster-whisper; `ggml`, a folder with the file for whisper.cpp; `onnx`,
            see `onnx_export`.
        model: the base, if the adapter does not name one that can be found.
        precision: of the weights, one of `PRECISIONS` for the format.

    Returns:
        the folder.

    Raises:
        SpeechftError: no such adapter or format, the folder exists, or an optional package is missing.
    """
    out = Path(out)
    if to not in PRECISIONS:
        raise SpeechftError(f"unknown format '{to}'", fix=f"Use one of {', '.join(PRECISIONS)}.")
    precision = precision or PRECISIONS[to][0]
    if precision not in PRECISIONS[to]:
        raise SpeechftError(f"{to} does not come in {precision}", fix=f"Use one of {', '.join(PRECISIONS[to])}.")
    with new_place(out):
        _exported(adapter, out, to, model, precision)
    return out


def _exported(adapter: str | Path, out: Path, to: str, model: str | None, precision: str) -> None:
    """What `export` does once nobody else makes the folder; arguments as there."""
    folder = resolve_adapter(adapter)
    adapters.refuse_loftq(adapters.own_card(folder), folder)
    text = adapters.task_of(folder) != "speech"
    if text and to != "huggingface":
        raise SpeechftError(
            f"text models are not exported to {to}", fix="Use --to huggingface; other converters read that."
        )
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as work:
        merged = (_merged_text if text else _merged)(folder, model, Path(work) / "huggingface")
        made = merged
        if to == "ctranslate2":
            made = _ctranslate2(merged, Path(work) / to, precision)
        elif to == "ggml":
            made = _ggml(merged, Path(work) / to, precision)
        elif to == "onnx":
            made = _onnx(merged, Path(work) / to, precision)
        replace_folder(made, out)


def _merged_text(adapter: Path, model: str | None, out: Path) -> Path:
    """A language model with its adapter merged, a reward model with its head, and its tokenizer."""
    from speechft.text.model import load_text_model

    card = adapters.own_card(adapter)
    scalar = card.get("task") == "reward"
    if adapters.is_whole_model(adapter):
        text = load_text_model(adapter, scalar=scalar)
    else:
        text = load_text_model(model or adapters.base_of(adapter), adapter=adapter, scalar=scalar)
    adapters.save(adapters.merge(text.model, adapter), out, card | {"merged": True}, text.name, text.folder)
    longest = getattr(text.model.config, "max_position_embeddings", None)
    text.tokenizer.model_max_length = min(text.tokenizer.model_max_length, longest or text.tokenizer.model_max_length)
    text.tokenizer.save_pretrained(out)  # with its length: HELM takes no model whose tokenizer does not know it
    return out


def _merged(adapter: Path, model: str | None, out: Path) -> Path:
    """The merged model as a Hugging Face folder that is complete for other tools too."""
    from transformers import WhisperFeatureExtractor

    whole = adapters.is_whole_model(adapter) and model is None
    recogniser = load(str(adapter)) if whole else load(model, adapter)
    whisper = recogniser.whisper
    folder = resolve(whisper.name)
    card = adapters.own_card(adapter)
    adapters.save(adapters.merge(whisper.model, whisper.called), out, card | {"merged": True}, whisper.name, folder)
    # What a Hugging Face save leaves out, and faster-whisper (128 mel bins) and whisper.cpp's converter open
    if not (out / "preprocessor_config.json").is_file():
        WhisperFeatureExtractor(whisper.n_mels).save_pretrained(out)
    tokenizer: Any = whisper.tokenizer
    if not (out / "tokenizer.json").is_file():
        tokenizer.save_pretrained(out)
    added = tokenizer.get_added_vocab()
    contents: dict[str, Callable[[], dict[str, int]]] = {
        "vocab.json": lambda: {k: v for k, v in tokenizer.get_vocab().items() if k not in added},
        "added_tokens.json": lambda: added,
    }
    for name, tokens in contents.items():
        if not (out / name).is_file():
            ordered = dict(sorted(tokens().items(), key=lambda item: item[1]))
            (out / name).write_text(json.dumps(ordered, ensure_ascii=False), encoding="utf-8")
    return out


def _ctranslate2(merged: Path, out: Path, precision: str) -> Path:
    """faster-whisper's folder, by CTranslate2's own converter."""
    try:
        from ctranslate2.converters import TransformersConverter
    except ImportError:
        raise missing_extra("ctranslate2", "export") from None
    copied = ["tokenizer.json", "preprocessor_config.json"]
    TransformersConverter(str(merged), copy_files=copied).convert(str(out), quantization=precision)
    shutil.copy(merged / adapters.CARD, out)
    return out


def _ggml(merged: Path, out: Path, precision: str) -> Path:
    """A folder with whisper.cpp's file and our card."""
    out.mkdir()
    write_ggml(load_whisper(merged, device="cpu"), out / "ggml-model.bin", precision)
    shutil.copy(merged / adapters.CARD, out)
    return out


def _onnx(merged: Path, out: Path, precision: str) -> Path:
    """The graphs, and beside them all files of the model but its weights."""
    write_onnx(load_whisper(merged, device="cpu"), out, precision)
    for path in merged.iterdir():
        if path.suffix != ".safetensors":
            shutil.copy(path, out)
    return out
