"""Answers from a causal language model: tokens after prompts, and what they say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from speechft.non_finite import drawing
from speechft.text.batches import by_length, padded
from speechft.text.model import TextModel, autocast, end_tokens, prompt_tokens, refuse_too_long


@torch.inference_mode()
def generate(
    text: TextModel,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int = 64,
    temperature: float = 0.0,
    batch_size: int = 16,
    seed: int = 0,
) -> list[list[int]]:
    """Continue token sequences.

    Args:
        prompts: token ids, each without padding.
        temperature: 0 is greedy; else sampling over the whole vocabulary.
        batch_size: sequences at once; they are ordered by length, so that little is padded.

    Returns:
        the new tokens of each, in the given order; the end token is kept where it was reached.

    Raises:
        SpeechftError: the model has no positions for so many tokens, or gives no probabilities to draw from.
    """
    if not prompts:
        return []
    refuse_too_long(text, max(map(len, prompts)) + max_new_tokens, "Give shorter prompts, or ask for fewer new tokens.")
    ends = end_tokens(text)
    sampling: dict[str, Any] = {"do_sample": False}
    if temperature > 0:
        sampling = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
        torch.manual_seed(seed)
    was_training = text.model.training
    text.model.eval()
    found: dict[int, list[int]] = {}
    for places in by_length(prompts, batch_size):
        ids, mask = padded([prompts[i] for i in places], text.tokenizer.pad_token_id, left=True)
        with autocast(text.device), drawing():
            out = text.model.generate(
                input_ids=ids.to(text.device),
                attention_mask=mask.to(text.device),
                max_new_tokens=max_new_tokens,
                pad_token_id=text.tokenizer.pad_token_id,
                eos_token_id=sorted(ends),
                **sampling,
            )
        for i, row in zip(places, out[:, ids.shape[1] :].tolist(), strict=True):
            length = next((n + 1 for n, token in enumerate(row) if token in ends), len(row))
            found[i] = row[:length]
    text.model.train(was_training)
    return [found[i] for i in range(len(prompts))]


def answers(text: TextModel, conversations: Sequence[Sequence[dict[str, str]]], **settings: Any) -> list[str]:
    """The assistant's next turn in each conversation, as text; settings as in `generate`."""
    prompts = [prompt_tokens(text, messages) for messages in conversations]
    return decoded(text, generate(text, prompts, **settings))


def decoded(text: TextModel, answers: Sequence[Sequence[int]]) -> list[str]:
    """What answers say, without what ends them."""
    return [text.tokenizer.decode(tokens, skip_special_tokens=True).strip() for tokens in answers]
