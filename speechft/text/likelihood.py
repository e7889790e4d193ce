"""How probable a model finds a text: sums of log-probabilities by sequence, and perplexity with a sliding window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from speechft.text.batches import by_length, padded
from speechft.text.chat import IGNORED, tokenize_chat, tokenize_document
from speechft.text.examples import Message
from speechft.text.model import TextModel, autocast

SumAndCount = tuple[float, float]  # of log-probabilities, and of their tokens


def logprobs(logits: Tensor, targets: Tensor) -> Tensor:
    """Log-probability of each target, in float32.

    Args:
        logits: shape (tokens, vocabulary). Over one that is not the last of several dimensions torch sums less
            exactly, by 1e-4.
        targets: shape (tokens,).

    Returns:
        shape (tokens,).
    """
    return -nn.functional.cross_entropy(logits.float(), targets, reduction="none")


def label_logprobs(
    model: Any, ids: Tensor, attention: Tensor, labels: Tensor, temperature: float = 1.0, **settings: Any
) -> tuple[Tensor, Any]:
    """Log-probability of each label by a model, 0 where it is ignored, and what else the model gives.

    The head sees the places before labels alone: over a large vocabulary the logits of a prompt cost more memory than
    the rest of the model, and nobody asks for them.

    Args:
        model: transformers, adapted or not.
        ids, attention, labels: shape (rows, tokens).
        temperature: of the distribution.
        settings: of the model's forward pass.

    Returns:
        shape (rows, tokens - 1), and the model's output, whose logits are those places' alone.
    """
    targets = labels[:, 1:]
    wanted = nn.functional.pad(targets != IGNORED, (0, 1))
    narrowed: list[bool] = []

    def at_labels(_: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden = given[0]
        own = hidden.shape[1] - wanted.shape[1]  # prompt tuning puts its own positions before the text
        narrowed.append(True)
        return hidden[nn.functional.pad(wanted, (own, 0))][None], *given[1:]

    head = model.get_output_embeddings()
    hook = head.register_forward_pre_hook(at_labels) if head is not None else None
    try:
        out = model(input_ids=ids, attention_mask=attention, **settings)
    finally:
        if hook is not None:
            hook.remove()
    logits = out.logits[0] if narrowed else out.logits[:, -ids.shape[1] :][wanted]
    found = logprobs(logits.float() / temperature, targets[wanted[:, :-1]])
    return torch.zeros_like(targets, dtype=found.dtype).masked_scatter(wanted[:, :-1], found), out


@torch.inference_mode()
def sequence_logprobs(
    text: TextModel,
    ids: Sequence[Sequence[int]],
    labels: Sequence[Sequence[int]],
    batch_size: int = 8,
    temperature: float = 1.0,
) -> list[SumAndCount]:
    """(sum of log-probabilities, number of tokens) of each sequence's labelled tokens, natural logarithms.

    Args:
        ids, labels: as `chat.tokenize_chat` gives them; the first token of a sequence is never predicted.
        temperature: of the distribution; that of sampling, where the probability of what was sampled is wanted.
    """
    was_training = text.model.training
    text.model.eval()
    found: list[SumAndCount] = [(0.0, 0.0)] * len(ids)
    for places in by_length(ids, batch_size):
        batch, mask = padded([ids[i] for i in places], text.tokenizer.pad_token_id)
        targets, _ = padded([labels[i] for i in places], IGNORED)
        with autocast(text.device):
            given = [t.to(text.device) for t in (batch, mask, targets)]
            sums = label_logprobs(text.model, given[0], given[1], given[2], temperature)[0].sum(1)
        counts = (targets[:, 1:] != IGNORED).sum(1)
        for i, total, count in zip(places, sums.tolist(), counts.tolist(), strict=True):
            found[i] = (total, float(count))
    text.model.train(was_training)
    return found


def answer_logprobs(
    text: TextModel, conversations: Sequence[Sequence[Message]], max_length: int = 512, batch_size: int = 8
) -> list[SumAndCount]:
    """(sum of log-probabilities, tokens) of the last answer of each conversation, its end token among them.

    Of an answer that lies beyond `max_length` nothing is counted.
    """
    rows = [tokenize_chat(text.tokenizer, messages, max_length, last_only=True) for messages in conversations]
    return sequence_logprobs(text, [row["input_ids"] for row in rows], [row["labels"] for row in rows], batch_size)


def document_nll(
    text: TextModel, documents: Sequence[str], window: int = 512, stride: int | None = None, batch_size: int = 8
) -> list[SumAndCount]:
    """(negative log-likelihood, tokens) of each document; `exp(sum / tokens)` over all is the perplexity.

    A document longer than the window is read in windows that overlap: each token is counted once, and all but those
    of the first window have at least `window - stride` tokens before them. A short stride is nearer to the perplexity
    of a model that sees everything, at its cost in time. The end token is not counted: it is no part of the text, and
    learning where documents end would hide what became of their words. Of a document of one token nothing is counted.

    Args:
        window: tokens at once.
        stride: tokens from one window to the next; half a window unless told.
    """
    stride = min(stride or window // 2, window - 1)  # the first token of a window is not predicted in it
    ids: list[list[int]] = []
    labels: list[list[int]] = []
    owner: list[int] = []
    for number, document in enumerate(documents):
        tokens = tokenize_document(text.tokenizer, document)[:-1]
        counted = 1  # the first token has nothing before it
        for start in range(0, len(tokens), stride):
            piece = tokens[start : start + window]
            ids.append(piece)
            labels.append([t if start + i >= counted else IGNORED for i, t in enumerate(piece)])
            owner.append(number)
            counted = start + len(piece)
            if counted >= len(tokens):
                break
    totals = [[0.0, 0.0] for _ in documents]
    for number, (total, count) in zip(owner, sequence_logprobs(text, ids, labels, batch_size), strict=True):
        totals[number][0] -= total
        totals[number][1] += count
    return [(total, count) for total, count in totals]
