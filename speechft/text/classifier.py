"""Public reward models and classifiers: models for sequence classification by others, used as they are.

Such a model has a tokenizer of its own, and perhaps a chat template: texts are made into its tokens as its makers do.
Their heads come with them; one that would have to be made up is refused, and so is code that comes with a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from speechft.errors import SpeechftError, readable
from speechft.precision import default_device, refuse_non_finite
from speechft.sources import resolve
from speechft.text.chat import rendered
from speechft.text.examples import Message
from speechft.text.model import AGAIN, TextModel, readable_tokens, stored_for_inference

HEADLESS = "Give a reward model or a classifier, or train a reward model of it first with a recipe of task: reward."


@dataclass(frozen=True)
class Classifier(TextModel):
    """A model for sequence classification, and what of its output is the reward.

    Attributes:
        label: the place of the label whose log-odds are the reward.
        sign: -1 where what is less likely to have the label gets more.
    """

    label: int = 0
    sign: int = 1


def load_classifier(name: str | Path, label: str | None = None, device: str | torch.device | None = None) -> Classifier:
    """Load a model for sequence classification with its head.

    Args:
        name: a folder or a hub id, see `speechft.sources.resolve`.
        label: the name of the label whose log-odds are the reward, with a minus before it for the opposite; needed
            where the model has several.
        device: `cpu`, `cuda` or `mps`; the best there is unless given.

    Raises:
        SpeechftError: no such model or label, none with a head of its own, or one that needs code that comes with it.
    """
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    folder = resolve(name)
    with readable(name, AGAIN):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    _refuse_headless(config, name)
    place, sign = _named(config, label, name)
    with readable(name, AGAIN):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        model, loading = AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False, output_loading_info=True,
            ignore_mismatched_sizes=True,
        )  # fmt: skip
    if lacking := sorted({*loading["missing_keys"], *(key for key, *_ in loading["mismatched_keys"])}):
        raise SpeechftError(
            f"lacks weights, which would be random ({', '.join(lacking[:3])}{', ...' if lacking[3:] else ''})",
            where=name, fix=HEADLESS,
        )  # fmt: skip
    refuse_non_finite(model.parameters(), name, "Copy it again: its files are damaged.")
    # Models that read from left to right look for the last token that is not their padding: with another padding than
    # their own, or with one where they have none, some would answer for another token.
    pad = config.get_text_config().pad_token_id
    known = pad is not None and 0 <= pad < len(tokenizer)
    tokenizer.pad_token = tokenizer.convert_ids_to_tokens(pad) if known else None
    device = torch.device(device) if device else default_device()
    stored_for_inference(model.requires_grad_(False).eval(), device)
    model.to(device)
    return Classifier(str(name), folder, model, tokenizer, place, sign)


def _refuse_headless(config: Any, name: str | Path) -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES as KINDS

    kinds = config.architectures or ["base"]
    if not set(kinds) & set(KINDS.values()):
        if "auto_map" in config.to_dict():
            raise SpeechftError(
                "needs code that comes with it, which is not run", where=name,
                fix="Use a model that transformers knows.",
            )  # fmt: skip
        raise SpeechftError(
            f"is a {kinds[0]} model without a head that rates texts: a new one would rate at random", where=name,
            fix=HEADLESS,
        )  # fmt: skip


def _named(config: Any, label: str | None, name: str | Path) -> tuple[int, int]:
    """The place of a label, and 1, or -1 where its opposite is meant."""
    labels = [str(config.id2label.get(place, place)) for place in range(config.num_labels)]
    fix = (
        f"Give reward_label (--label of speechft judge), one of: {', '.join(labels)}; with a minus before it "
        f"('-{labels[0]}') for its opposite."
    )
    if label is None:
        if len(labels) > 1:
            raise SpeechftError(f"is a classifier with {len(labels)} labels", where=name, fix=fix)
        return 0, 1
    if label in labels:
        return labels.index(label), 1
    if label.startswith("-") and label[1:] in labels:
        return labels.index(label[1:]), -1
    raise SpeechftError(f"has no label '{label}'", where=name, fix=fix)


def encoded(text: Classifier, messages: Sequence[Message], max_length: int | None = None) -> dict[str, list[int]]:
    """What the model reads of a conversation: `input_ids`, and `token_type_ids` where it has them.

    Through its own chat template where it has one. Else a model with one number reads prompt and answer, as a pair of
    texts, and one with labels the answer alone.

    Args:
        messages: the last is what is rated.
        max_length: tokens, where the model can read more; the start of a conversation is cut, else the end of a text.

    Raises:
        SpeechftError: its template refuses the conversation.
    """
    most = readable_tokens(text.model, text.tokenizer)
    most = most if max_length is None else min(max_length, most)
    if text.tokenizer.chat_template is not None:
        whole = rendered(text.tokenizer, messages)
        return {"input_ids": text.tokenizer(whole, add_special_tokens=False)["input_ids"][-most:]}
    before = "\n\n".join(message["content"] for message in messages[:-1])
    parts = [before] if before and text.model.config.num_labels == 1 else []
    found = text.tokenizer(*parts, messages[-1]["content"], truncation=True, max_length=most)
    return {key: list(found[key]) for key in ("input_ids", "token_type_ids") if key in found}


def log_odds(text: Classifier, logits: Tensor) -> Tensor:
    """The reward of each text.

    Of one label, of labels that do not exclude each other and of ratings that is the model's own output; of labels of
    which one is right it is log(p / (1 - p)), which has no ends where all answers would be worth the same.

    Args:
        logits: shape (texts, labels).

    Returns:
        shape (texts,).
    """
    own = logits[:, text.label]
    exclusive = text.model.config.problem_type in (None, "single_label_classification")
    if exclusive and logits.shape[1] > 1:
        others = [place for place in range(logits.shape[1]) if place != text.label]
        own = own - logits[:, others].logsumexp(1)
    return text.sign * own
