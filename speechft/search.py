"""Greedy and beam search over a `DecoderCache`: from the logits after the prompt to token ids and probabilities."""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from speechft.decoder import DecoderCache
from speechft.whisper import Whisper

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TIMESTAMP = re.compile(r"<\|\d+\.\d\d\|>")  # such as <|0.02|>; some tokenizers do not list them


def suppressed(whisper: Whisper, vocabulary: int) -> tuple[Tensor, Tensor]:
    """Masks added to the logits: at every step, and at the first (no blank, no immediate end)."""
    always = torch.zeros(vocabulary, device=whisper.device)
    no_timestamps = whisper.generation.no_timestamps_token_id
    always[no_timestamps:] = -torch.inf  # it, the timestamps after it, and rows that only fill up the vocabulary
    always[_added_after(no_timestamps, whisper.tokenizer)] = 0.0
    banned = list(getattr(whisper.generation, "suppress_tokens", None) or [])
    always[banned] = -torch.inf
    first = always.clone()
    first[list(getattr(whisper.generation, "begin_suppress_tokens", None) or [])] = -torch.inf
    return always, first


@lru_cache(maxsize=8)  # asking a tokenizer takes 40 ms, as long as some batches
def _added_after(no_timestamps: int, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Ids that somebody gave to tokens of their own."""
    added = tokenizer.get_added_vocab().items()
    return [i for token, i in added if i > no_timestamps and not TIMESTAMP.fullmatch(token)]


class Steps(Protocol):
    """What greedy search needs of a cache."""

    def step(self, tokens: Tensor) -> Tensor: ...

    def keep(self, clips: Tensor) -> None: ...


Found = list[list[tuple[list[int], list[float], float]]]  # per clip, per hypothesis: ids, log-probs, of the end


def greedy_search(
    whisper: Whisper,
    cache: Steps,
    logits: Tensor,
    caps: list[int],
    temperature: float = 0.0,
    seed: int = 0,
) -> Found:
    """The best token each step, or one drawn at `temperature`; finished clips leave the batch."""
    always, mask = suppressed(whisper, logits.shape[1])
    end = whisper.generation.eos_token_id
    generator = torch.Generator().manual_seed(seed)
    out: Found = [[([], [], 0.0)] for _ in caps]
    active = list(range(len(caps)))
    while True:
        logits = logits + mask
        if temperature > 0:
            # one draw of Gumbel noise for all clips: what a clip gets does not depend on who is beside it
            noise = -torch.empty(logits.shape[1]).exponential_(generator=generator).log()
            tokens = (logits / temperature + noise.to(logits.device)).argmax(-1)
        else:
            tokens = logits.argmax(-1)
        chosen = logits.gather(1, tokens[:, None])[:, 0] - logits.logsumexp(-1)
        going = []
        for row, (token, logprob) in enumerate(zip(tokens.tolist(), chosen.tolist(), strict=True)):
            ids, logprobs, _ = out[active[row]][0]
            if token == end:
                out[active[row]][0] = (ids, logprobs, logprob)
                continue
            ids.append(token)
            logprobs.append(logprob)
            if len(ids) < caps[active[row]]:
                going.append(row)
        if not going:
            return out
        if len(going) < len(active):
            going = _gaps_filled(going)
            kept = torch.tensor(going, device=tokens.device)
            cache.keep(kept)
            tokens = tokens[kept]
            active = [active[row] for row in going]
        logits, mask = cache.step(tokens[:, None]), always


def _gaps_filled(rows: list[int]) -> list[int]:
    """Rows in an order in which most stay where they are: those from the end go where others have left."""
    staying = {row for row in rows if row < len(rows)}
    coming = iter([row for row in rows if row >= len(rows)])
    return [place if place in staying else next(coming) for place in range(len(rows))]


def beam_search(
    whisper: Whisper,
    cache: DecoderCache,
    logits: Tensor,
    caps: list[int],
    length_penalty: float = 1.0,
) -> Found:
    """Beam search; a clip is done when as many hypotheses have ended as there are beams."""
    beams, end = cache.beams, whisper.generation.eos_token_id
    always, mask = suppressed(whisper, logits.shape[1])
    scores = torch.full((len(caps), beams), -torch.inf, device=logits.device)
    scores[:, 0] = 0.0  # all beams are the prompt still: only one may be continued
    live: list[list[tuple[list[int], list[float]]]] = [[([], [])] * beams for _ in caps]
    ended: Found = [[] for _ in caps]
    active = list(range(len(caps)))
    while active:
        logprobs = (logits + mask).log_softmax(-1)
        top, ids = logprobs.topk(beams + 1, dim=-1)  # one more than the beams: one of them may be the end
        totals = (scores.view(-1, 1) + top).view(len(active), -1)
        best, places = totals.topk(2 * beams, dim=-1)
        flat_ids, flat_top = ids.view(len(active), -1), top.view(len(active), -1)
        rows, tokens, next_scores, going = [], [], [], []
        for clip, index in enumerate(active):
            kept: list[tuple[int, int, float, tuple[list[int], list[float]]]] = []
            for score, place in zip(best[clip].tolist(), places[clip].tolist(), strict=True):
                if score == -math.inf or len(kept) == beams:
                    continue
                parent, token = place // (beams + 1), int(flat_ids[clip, place])
                old_ids, old_logprobs = live[index][parent]
                logprob = float(flat_top[clip, place])
                if token == end:
                    ended[index].append((old_ids, old_logprobs, logprob))
                else:
                    kept.append((parent, token, score, ([*old_ids, token], [*old_logprobs, logprob])))
            live[index] = [hypothesis for *_, hypothesis in kept]
            full = not kept or len(live[index][0][0]) >= caps[index]
            if full:
                ended[index] += [(i, p, 0.0) for i, p in live[index]]
            if not full and len(ended[index]) < beams:
                kept += [(kept[-1][0], kept[-1][1], -math.inf, kept[-1][3])] * (beams - len(kept))
                live[index] = [hypothesis for *_, hypothesis in kept]
                rows += [clip * beams + parent for parent, *_ in kept]
                tokens += [token for _, token, *_ in kept]
                next_scores.append([score for _, _, score, _ in kept])
                going.append(clip)
        if not going:
            break
        cache.reorder(_with_gaps(rows, going, len(active), beams, logits.device))
        if len(going) < len(active):
            cache.keep(torch.tensor(going, device=logits.device))
            active = [active[clip] for clip in going]
        scores = torch.tensor(next_scores, device=logits.device)
        logits, mask = cache.step(torch.tensor(tokens, device=logits.device)[:, None]), always
    return [_ranked(hypotheses, length_penalty)[:beams] for hypotheses in ended]


def _with_gaps(rows: list[int], going: list[int], clips: int, beams: int, device: torch.device) -> Tensor:
    """Row order for the whole cache: clips that are done keep theirs, they are dropped next."""
    order = torch.arange(clips * beams, device=device).view(clips, beams)
    order[torch.tensor(going, device=device)] = torch.tensor(rows, device=device).view(-1, beams)
    return order.flatten()


def _ranked(
    hypotheses: list[tuple[list[int], list[float], float]], penalty: float
) -> list[tuple[list[int], list[float], float]]:
    return sorted(hypotheses, key=lambda h: (sum(h[1]) + h[2]) / max(1, len(h[0]) + 1) ** penalty, reverse=True)
