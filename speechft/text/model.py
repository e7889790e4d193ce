"""A causal language model with its tokenizer: loading, what of it is trained, and what it can read."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from speechft import adapters
from speechft.config import AdapterSettings
from speechft.errors import SpeechftError, readable
from speechft.events import OnEvent
from speechft.peft_methods import TEXT_ONLY, block_projections
from speechft.precision import default_device, mixed_precision, refuse_non_finite
from speechft.quantization import keep_differentiable, quantization
from speechft.sources import resolve, resolve_adapter
from speechft.text.chat import rendered
from speechft.text.examples import Example, made_of

# For models without a template of their own: roles as words, and the end token after every turn, after the start token
# where the tokenizer puts one. A prompt ends before the space: tokenizers make one token of it and the answer's first
# word.
PLAIN_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + eos_token + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
)
POSITIONS = re.compile(r"(^|\.)(wpe|embed_positions|position_embeddings?)$")  # learnt ones, not rotary
AGAIN = "Copy it again: its files are damaged, or are not of a model that transformers knows."
NO_END = 1 << 31  # tokens; a tokenizer that knows no end says 1e30, which its own truncation does not take
GIVE_REWARD = "Give OUT/adapter of a recipe of task: reward."


@dataclass(frozen=True)
class TextModel:
    """A language model and what belongs to it.

    Attributes:
        name: as it was asked for.
        folder: its Hugging Face files.
        model: transformers, adapted or not.
        tokenizer: pads on the left when it generates; its `pad_token` is always set.
    """

    name: str
    folder: Path
    model: Any
    tokenizer: Any

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def with_(self, model: Any) -> TextModel:
        return replace(self, model=model)


def load_text_model(
    name: str | Path,
    *,
    adapter: str | Path | None = None,
    quantize: str | None = None,
    device: str | torch.device | None = None,
    dtype: torch.dtype = torch.float32,
    scalar: bool = False,
    inference: bool = False,
) -> TextModel:
    """Load a causal language model, with an adapter or without.

    Args:
        name: `bundled:smollm2`, a folder, a GGUF or a hub id; see `speechft.sources.resolve`.
        adapter: a folder from `adapters.save`.
        quantize: `nf4`, `nf4-single`, `fp4` or `int8` for the frozen weights; unless given, those that a LoftQ adapter
            belongs to.
        device: `cpu`, `cuda` or `mps`; the best there is unless given.
        dtype: of the weights.
        scalar: with a head that gives one number for a sequence (a reward model) in place of the vocabulary.
        inference: nothing of it will be trained or saved: see `stored_for_inference`.

    Raises:
        SpeechftError: no such model, one that is no causal language model or has no end token, or a reward model taken
            for one that writes, or the other way round, or for a classifier of several labels.
    """
    from transformers import (
        AutoConfig,
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
        AutoTokenizer,
        GenerationConfig,
    )
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL
    from transformers.utils import logging

    folder = resolve(name)
    with readable(name, AGAIN):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    if config.model_type not in CAUSAL or config.model_type == "whisper":
        raise SpeechftError(
            f"is a {config.model_type} model", where=name, fix="Text recipes need a causal language model."
        )
    adapter = resolve_adapter(adapter) if adapter is not None else None
    headed = any(kind.endswith("ForSequenceClassification") for kind in config.architectures or ())
    card = adapters.own_card(adapter) if adapter else {}
    task, quantize = card.get("task"), quantize or adapters.loftq_kind(card)
    if not scalar and (headed or task == "reward"):
        raise SpeechftError(
            "is a reward model: it scores answers and writes none", where=adapter or name,
            fix="Use it as a reward or a judge, or give a model that writes text.",
        )  # fmt: skip
    if scalar and headed and config.num_labels != 1:
        raise SpeechftError(
            f"is a classifier with {config.num_labels} labels, but a reward model has one", where=name,
            fix="Give a causal language model, or a reward model.",
        )  # fmt: skip
    if scalar and task not in (None, "reward"):
        raise SpeechftError("is not a reward model", where=adapter, fix=GIVE_REWARD)
    device = torch.device(device) if device else default_device()
    logging.disable_progress_bar()
    with readable(name, AGAIN):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    if tokenizer.eos_token is None:
        raise SpeechftError(
            "its tokenizer has no end token, so an answer could not end", where=name,
            fix="Name one as eos_token in its tokenizer_config.json.",
        )  # fmt: skip
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.chat_template is None:
        starts = tokenizer.bos_token is not None and tokenizer("")["input_ids"][:1] == [tokenizer.bos_token_id]
        tokenizer.chat_template = ("{{ bos_token }}" if starts else "") + PLAIN_TEMPLATE
    kind = AutoModelForSequenceClassification if scalar else AutoModelForCausalLM
    settings = {"dtype": dtype, "use_safetensors": True, **quantization(quantize, device, dtype)}
    with _quiet(), readable(name, AGAIN):
        labels = {"num_labels": 1} if scalar else {}
        model: Any = kind.from_pretrained(folder, trust_remote_code=False, **settings, **labels)
    refuse_non_finite(model.parameters(), name, "Copy it again: its files are damaged.")
    keep_differentiable(model)
    model.requires_grad_(False).eval()
    # not where an adapter takes its initial values out of the weights: their rounding would be in what it leaves
    early = inference and not (adapter and adapters.changes_base(adapters.read_config(adapter)))
    if early:
        stored_for_inference(model, device)
    if quantize is None:
        model.to(device)
    model.config.pad_token_id = tokenizer.pad_token_id
    if not scalar:  # penalties and cut tails that a model ships for chatting are no part of its distribution
        shipped = model.generation_config
        model.generation_config = GenerationConfig(
            bos_token_id=shipped.bos_token_id, eos_token_id=shipped.eos_token_id, pad_token_id=tokenizer.pad_token_id
        )
    if scalar and not headed:
        model.score.weight.data.zero_()  # the head is new: it starts at no opinion, whatever the seed
    if adapter is not None:
        model = adapters.load(model, adapter, folder)
    if inference and not early:
        stored_for_inference(model, device)
    return TextModel(str(name), folder, model, tokenizer)


def stored_for_inference(model: Any, device: torch.device) -> None:
    """Keep a model's matrices in bf16 where that is what the device multiplies them in, as training keeps frozen ones.

    Half the memory of float32, and none is cast again at every token. What is computed is the same but for the
    rounding of embeddings; an evaluation then repeats what training measured.
    """
    if mixed_precision("auto", device) == "bf16":
        adapters.store_frozen(model, torch.bfloat16)


def trainable_text_model(
    text: TextModel, settings: AdapterSettings, head: str | None = None, precision: str = "auto"
) -> TextModel:
    """The model with what a recipe trains unfrozen.

    Args:
        settings: its fields go to `adapters.attach`.
        head: last name of a layer that is trained whole and saved with the adapter, `score` of a reward model.
        precision: that the recipe computes in; frozen matrices are kept in bf16 where that is bf16, and inference's
            is too.
    """
    if settings.init == "eva":
        raise SpeechftError(
            "EVA needs recordings to start from", where=text.name, fix="Use adapter.init=pissa or zero."
        )
    chosen = {"projections": settings.projections or block_projections(text.model)}
    model = adapters.attach(text.model, **settings.attach_arguments() | chosen)
    if settings.method == "full":
        return text.with_(model)
    if head and settings.method in TEXT_ONLY:
        raise SpeechftError(
            f"{settings.method} tuning has no place for a new head", where=text.name, fix="Use adapter.method=lora."
        )
    if head:
        from peft.utils.other import set_additional_trainable_modules

        config = model.peft_config["default"]
        config.modules_to_save = [head]
        set_additional_trainable_modules(model.get_base_model(), config, {}, "default")
    if mixed_precision(precision, text.device) == mixed_precision("auto", text.device) == "bf16":
        adapters.store_frozen(model, torch.bfloat16)
    return text.with_(model)


def prompt_tokens(text: TextModel, messages: Sequence[dict[str, str]]) -> list[int]:
    """A conversation through the chat template, up to where the assistant is to speak."""
    return text.tokenizer(rendered(text.tokenizer, messages, opened=True), add_special_tokens=False)["input_ids"]


def longest(model: Any) -> int | None:
    """Tokens that a model can read at most, prompt and answer, where its positions are learnt; else no such end."""
    tables = [
        module.num_embeddings
        - (0 if module.padding_idx is None else module.padding_idx + 1)  # RoBERTa counts from there
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Embedding) and POSITIONS.search(name)
    ]
    most = getattr(model.config, "max_position_embeddings", None)
    return min(*tables, most or tables[0]) if tables else None


def readable_tokens(model: Any, tokenizer: Any) -> int:
    """Tokens that a text is to be cut to: what model and tokenizer can take, as far as they say."""
    return min(longest(model) or NO_END, tokenizer.model_max_length, NO_END)


def refuse_too_long(text: TextModel, tokens: int, fix: str) -> None:
    """Raises SpeechftError where a model has no positions for so many tokens."""
    most = longest(text.model)
    if most is not None and tokens > most:
        raise SpeechftError(f"can read {most} tokens at most, not {tokens}", where=text.name, fix=fix)


def end_tokens(text: TextModel) -> set[int]:
    """Ids that end an answer."""
    named = getattr(text.model.generation_config, "eos_token_id", None)
    ids = [named] if isinstance(named, int) else named or []
    return {*ids, text.tokenizer.eos_token_id}


def autocast(device: torch.device, cache: bool = True, precision: str = "auto") -> torch.autocast:
    """Products in bf16 where the machine has it, or in what a recipe's `precision` says.

    Args:
        cache: cast each weight once; it must not change until the context ends.
    """
    wanted = mixed_precision(precision, device)
    dtype = torch.float16 if wanted == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype, enabled=wanted != "no", cache_enabled=cache)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the report that a reward model's head is new: it is meant to be."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def fitting(
    text: TextModel, examples: Sequence[Example], max_length: int, log: OnEvent = lambda event: None
) -> list[Example]:
    """Those whose prompt the template takes and leaves room for an answer; the others are left out by name.

    Raises:
        SpeechftError: there are examples, and none of them fits.
    """

    def fits(example: Example) -> Example:
        if len(prompt_tokens(text, example.prompt)) >= max_length:
            raise SpeechftError(f"the prompt alone fills max_length={max_length}", fix="Give a larger max_length.")
        return example

    return made_of(examples, fits, log)


def reward_identity(name: str | Path) -> list[str]:
    """Hashes of a reward model's weights: those of a whole model, or of an adapter and the model that it is on."""
    folder = resolve_adapter(name)
    if adapters.is_whole_model(folder):
        return [adapters.base_hash(folder)]
    own = [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("adapter_*"))]
    return [adapters.base_hash(resolve(adapters.base_of(folder))), *own]
