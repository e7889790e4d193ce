"""Whisper whose encoder runs on as many frames as the clips need, not on 30 seconds of mostly silence.

Whisper was trained on 30 s windows. Its encoder is a stack of convolutions and self-attention over positions, so it
runs at any length below that; what it was *trained* at decides what it does well: see `speechft.context`.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from speechft.attention import use_short_attention
from speechft.context import UNTRAINED, Context
from speechft.ctranslate2_weights import MULTILINGUAL_VOCABULARY
from speechft.errors import SpeechftError, readable
from speechft.normalize import language_code
from speechft.precision import default_device, refuse_non_finite
from speechft.quantization import keep_differentiable, quantization
from speechft.sources import resolve

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from speechft.bank import AdapterBank


_LOADING = threading.Lock()  # transformers imports and patches while it loads: two threads at once spoil each other's


def encode(model: nn.Module, frames: Tensor) -> Tensor:
    """Encoder states at the length of the input; equal to transformers' own at 3000 frames.

    Args:
        model: a `WhisperForConditionalGeneration`, with or without a PEFT adapter.
        frames: log-mel, shape (batch, n_mels, frames), an even number of at most 3000 frames.

    Returns:
        shape (batch, frames / 2, d_model).
    """
    return encode_upper(model, encode_lower(model, frames, 0), 0)


def encode_lower(model: nn.Module, frames: Tensor, layers: int) -> Tensor:
    """The encoder's convolutions, positions and first `layers` layers; arguments and shape as in `encode`."""
    encoder = core(model).model.encoder
    x = nn.functional.gelu(encoder.conv1(frames.to(encoder.conv1.weight.dtype)))
    x = nn.functional.gelu(encoder.conv2(x)).transpose(1, 2)
    x = x + encoder.embed_positions.weight[: x.shape[1]]
    for layer in encoder.layers[:layers]:
        x = layer(x, None)
    return x


def encode_upper(model: nn.Module, x: Tensor, layers: int, mask: Tensor | None = None) -> Tensor:
    """What `encode_lower` left: the layers from number `layers` on, and the last norm.

    Args:
        x: shape (batch, positions, d_model).
        mask: from `padding_mask`, where clips of several lengths share the batch.
    """
    encoder = core(model).model.encoder
    for layer in encoder.layers[layers:]:
        x = layer(x, mask)
    return encoder.layer_norm(x)


def decoder_states(model: nn.Module, inputs: Tensor, states: Tensor, mask: Tensor | None = None) -> Tensor:
    """The decoder's last hidden states for whole texts, as in training.

    Args:
        inputs: token ids, shape (batch, tokens).
        states: of the encoder, shape (batch, positions, d_model).
        mask: from `padding_mask`: which of the positions it may see.

    Returns:
        shape (batch, tokens, d_model).
    """
    decoder = core(model).model.decoder
    x = decoder.embed_tokens(inputs) + decoder.embed_positions.weight[: inputs.shape[1]]
    for layer in decoder.layers:
        x = layer(x, None, states, mask, use_cache=False)
    return decoder.layer_norm(x)


def padding_mask(lengths: Tensor | None, positions: int) -> Tensor | None:
    """Which encoder positions attention may see, shape (clips, 1, 1, positions); None where that is all of them."""
    if lengths is None or bool((lengths == positions).all()):
        return None
    return (torch.arange(positions, device=lengths.device) < lengths[:, None])[:, None, None]


def core(model: nn.Module) -> Any:
    """The transformers model inside a PEFT or accelerate wrapper."""
    while hasattr(model, "module"):
        model = model.module  # type: ignore[assignment]
    return model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]


@dataclass(frozen=True)
class Whisper:
    """A model ready to train or decode: weights, tokenizer, and how it wants to be used.

    Attributes:
        name: as the user gave it, such as `bundled:tiny.en`.
        model: `WhisperForConditionalGeneration`, or that inside a `PeftModel`.
        tokenizer: its WhisperTokenizer.
        context: the policy decoding uses.
        language: a code such as `en`, or None to detect it per recording (multilingual models only).
        bank: of adapters, where each clip may be another voice.
        adapter: folder of the one that the model has, where that is on disk.
    """

    name: str
    model: Any
    tokenizer: PreTrainedTokenizerBase
    context: Context = UNTRAINED
    language: str | None = None
    bank: AdapterBank | None = None
    adapter: Path | None = None

    @property
    def called(self) -> object:
        """What errors name: the adapter, for the model beneath it is in order; else the model."""
        return self.adapter or self.name

    @cached_property
    def config(self) -> Any:
        return core(self.model).config

    @cached_property
    def generation(self) -> Any:
        return core(self.model).generation_config

    @property
    def n_mels(self) -> int:
        return self.config.num_mel_bins

    @property
    def device(self) -> torch.device:
        return core(self.model).model.encoder.conv1.weight.device

    @property
    def is_multilingual(self) -> bool:
        return bool(getattr(self.generation, "is_multilingual", False))

    @property
    def max_tokens(self) -> int:
        """Positions of the decoder, prompt and end of text included: 448."""
        return self.config.max_target_positions

    def with_(self, **changes: Any) -> Whisper:
        """A copy with some attributes replaced; the weights are shared."""
        return replace(self, **changes)

    def prompt(self, language: str | None = None) -> list[int]:
        """Token ids every transcript starts with: start, language and task where the model has them.

        `.en` models refuse language and task tokens; multilingual ones need them.
        """
        ids = [self.generation.decoder_start_token_id]
        if self.is_multilingual:
            ids.append(self.language_id(language or self.language or "en"))
            ids.append(self.generation.task_to_id["transcribe"])
        return [*ids, self.generation.no_timestamps_token_id]

    def language_id(self, language: str) -> int:
        """Token id of a language given as a code (`de`, `de-CH`) or an English name (`german`)."""
        code = language_code(language)
        ids = self.generation.lang_to_id
        if f"<|{code}|>" not in ids:
            codes = ", ".join(key.strip("<|>") for key in list(ids)[:12])
            raise SpeechftError(
                f"does not know the language '{language}'", where=self.name, fix=f"It knows {codes}, ..."
            )
        return ids[f"<|{code}|>"]

    def language_of(self, named: str | None) -> str | None:
        """The code of the language that a row names; None if the model is set to one, or knows only English.

        Raises:
            SpeechftError: it does not know that language.
        """
        if not named or self.language or not self.is_multilingual:
            return None
        self.language_id(named)
        return language_code(named)

    def text(self, ids: Sequence[int]) -> str:
        """The text of token ids, special ones left out, spaces at the ends kept."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def label_ids(self, text: str, language: str | None = None) -> list[int]:
        """Prompt, text and end of text: what the decoder reads (all but the last) and predicts (all but the first).

        The start token stands once; Hugging Face's recipe trains with it twice.
        """
        # Whisper's own transcripts begin with a space: " we call it" is the form its tokens were trained in
        text_ids = self.tokenizer.encode(" " + text.strip(), add_special_tokens=False)
        if text_ids[:1] == self.tokenizer.encode(" ", add_special_tokens=False):
            del text_ids[0]  # scripts without such forms: decoding may not begin with a lone space, so nor do labels
        return [*self.prompt(language), *text_ids, self.generation.eos_token_id]


def load_whisper(
    name: str | Path,
    *,
    language: str | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype = torch.float32,
    quantize: str | None = None,
) -> Whisper:
    """Load a Whisper-style model with nothing adapted yet.

    Args:
        name: see `speechft.sources.resolve`.
        language: language of the speech for multilingual models; None means detect when decoding (for training see
            `speechft.language`).
        device: `cpu`, `cuda` or `mps`; the best there is unless given.
        dtype: of the weights.
        quantize: None, or `nf4`, `nf4-single`, `fp4` or `int8` for the frozen weights (see `quantization`).

    Raises:
        SpeechftError: no such model, not a Whisper model, or a language the model does not have.
    """
    with _LOADING:
        from transformers import AutoConfig, WhisperForConditionalGeneration, WhisperTokenizer
        from transformers.utils import logging

    folder = resolve(name)
    again = "Copy it again: its files are damaged, or its config.json is another model's."
    with readable(name, again):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    if config.model_type != "whisper":
        raise SpeechftError(
            f"is a {config.model_type} model", where=name, fix="Speech recipes need a Whisper-style model."
        )
    device = torch.device(device) if device else default_device()
    logging.disable_progress_bar()  # a bar for loading 167 arrays in 10 ms helps nobody
    stored = quantization(quantize, device, dtype)
    with _LOADING, readable(name, again):
        both: Any = WhisperForConditionalGeneration.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, output_loading_info=True, trust_remote_code=False, **stored
        )
        model, loaded = both
        tokenizer = WhisperTokenizer.from_pretrained(folder, trust_remote_code=False)
    if missing := sorted(loaded["missing_keys"]):  # transformers would make up random ones
        raise SpeechftError(
            f"lacks {len(missing)} of its weights, such as '{missing[0]}'", where=name, fix=again,
        )  # fmt: skip
    refuse_non_finite(model.parameters(), name, again)
    _complete(model.generation_config, tokenizer, config.vocab_size)
    keep_differentiable(model)
    if quantize is None:
        model.to(device)
    if device.type == "cpu":
        use_short_attention(model)
    model.requires_grad_(False).eval()
    whisper = Whisper(str(name), model, tokenizer, language=language)
    if language and whisper.is_multilingual:
        whisper.language_id(language)
    elif language and language_code(language) != "en":
        raise SpeechftError(
            f"knows only English, not '{language}'", where=name, fix="Use a multilingual model, such as base."
        )
    return whisper


def _complete(generation: Any, tokenizer: PreTrainedTokenizerBase, vocabulary: int) -> None:
    """What generation_config.json of models fine-tuned in 2022 and 2023 does not say; the tokenizer knows it."""
    from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

    ids = tokenizer.get_added_vocab()
    if getattr(generation, "no_timestamps_token_id", None) is None:
        generation.no_timestamps_token_id = ids["<|notimestamps|>"]
    if getattr(generation, "is_multilingual", None) is None:
        generation.is_multilingual = vocabulary >= MULTILINGUAL_VOCABULARY
    if generation.is_multilingual and not getattr(generation, "lang_to_id", None):
        codes = set(TO_LANGUAGE_CODE.values())
        generation.lang_to_id = {token: i for token, i in ids.items() if token.strip("<|>") in codes}
    if generation.is_multilingual and not getattr(generation, "task_to_id", None):
        generation.task_to_id = {task: ids[f"<|{task}|>"] for task in ("transcribe", "translate")}
