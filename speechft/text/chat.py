"""Conversations to token ids, with the places that the loss is on: what the assistant says, and its end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from speechft.errors import SpeechftError
from speechft.text.examples import Message

IGNORED = -100


def rendered(tokenizer: Any, messages: Sequence[Message], opened: bool = False) -> str:
    """A conversation through the chat template, with the head of the assistant's next turn where it is `opened`.

    Raises:
        SpeechftError: the template refuses it; some know no system role, or want turns to alternate.
    """
    from jinja2 import TemplateError

    try:
        return tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=opened)
    except TemplateError as error:
        roles = ", ".join(message["role"] for message in messages)
        raise SpeechftError(
            f"the model's chat template refuses a conversation of {roles} ({error})",
            fix="Leave such rows out, or change their roles.",
        ) from None


def tokenize_chat(
    tokenizer: Any,
    messages: Sequence[Message],
    max_length: int | None = None,
    last_only: bool = False,
    unlearnt: Sequence[int] = (),
) -> dict[str, list[int]]:
    """Token ids of a conversation, and labels that are `IGNORED` but on the assistant's turns.

    The conversation is rendered and tokenised as a whole, as it will be at inference; which characters are the
    assistant's is found by rendering up to each of its turns. Its end token is among them, so it learns to stop. A turn
    of the assistant that opens a conversation answers nobody and is not learnt.

    Args:
        tokenizer: a fast one, with a chat template.
        messages: as `role` and `content`.
        max_length: tokens; the rest is cut.
        last_only: of the assistant's turns the last message alone, before which a template may rewrite the others.
        unlearnt: places of assistant's turns that get no labels.

    Returns:
        `input_ids` and `labels`, of equal length.

    Raises:
        SpeechftError: a template that renders earlier turns differently once later ones are there, or refuses them.
    """
    whole = rendered(tokenizer, messages)
    last = len(messages) - 1
    spans = [
        turn_span(tokenizer, messages, index, whole)
        for index, message in enumerate(messages)
        if index and message["role"] == "assistant" and (index == last or not last_only) and index not in unlearnt
    ]
    encoded = tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True)
    ids = encoded["input_ids"]
    labels = [
        token if any(start < last and first < end for start, end in spans) else IGNORED
        for token, (first, last) in zip(ids, encoded["offset_mapping"], strict=True)
    ]
    return {"input_ids": ids[:max_length], "labels": labels[:max_length]}


def turn_span(tokenizer: Any, messages: Sequence[Message], index: int, whole: str) -> tuple[int, int]:
    """Where the assistant's turn at an index begins and ends in the rendered conversation, in characters.

    Raises:
        SpeechftError: the template renders what is before it differently without it, or refuses it.
    """
    before = rendered(tokenizer, messages[:index], opened=True)
    after = whole if index == len(messages) - 1 else rendered(tokenizer, messages[: index + 1])
    if not (after.startswith(before) and whole.startswith(after)):
        raise SpeechftError(
            "the chat template rewrites earlier turns, so the assistant's tokens cannot be located",
            fix="Give conversations of one turn, or a model with another template.",
        )
    return len(before), len(after.rstrip())  # a line break after the end token is nobody's


def refuse_unlocated(tokenizer: Any, messages: Sequence[Message]) -> None:
    """Raises SpeechftError where the last turn of a conversation cannot be told from what is before it."""
    turn_span(tokenizer, messages, len(messages) - 1, rendered(tokenizer, messages))


def tokenize_document(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a document and the end token, which keeps documents apart when they are packed.

    A start token comes first where the tokenizer puts one: models that were trained with it are lost without it.
    """
    ids = tokenizer(text)["input_ids"]
    return ids if ids[-1:] == [tokenizer.eos_token_id] else [*ids, tokenizer.eos_token_id]
