"""When each word was said: the path of the decoder's attention over the sound.

A few of Whisper's cross-attention heads follow the speech (`alignment_heads` in its generation config). Their
weights, smoothed over time, are a map of tokens by 20 ms positions; dynamic time warping finds the path through it.
The method is that of the reference implementation's word timestamps (openai/whisper, 2022).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import median_filter
from torch import Tensor

from speechft.audio import FRAMES_PER_SECOND, Seconds, pad_frames
from speechft.decode import precision
from speechft.decoder import DecoderCache
from speechft.normalize import SPACELESS
from speechft.transcript import Transcript
from speechft.whisper import Whisper, encode

POSITION_SECONDS: Seconds = 2 / FRAMES_PER_SECOND  # an encoder position is two log-mel frames
SMOOTHING = 7  # positions: single peaks of attention are noise


@dataclass(frozen=True)
class Word:
    """A word and when it was said.

    Attributes:
        text: with the punctuation that follows it.
        start_s, end_s: seconds from the start of the recording.
        confidence: geometric mean of its tokens' probabilities, 0 to 1.
    """

    text: str
    start_s: Seconds
    end_s: Seconds
    confidence: float


def word_times(whisper: Whisper, frames: Tensor, transcript: Transcript, length: int) -> list[Word]:
    """Times of the words of one clip.

    Args:
        whisper: an inference copy of the model that made the transcript.
        frames: log-mel of the clip, shape (n_mels, frames).
        transcript: what `decode` found in it.
        length: frames the encoder sees.

    Returns:
        words in order; empty for an empty transcript.
    """
    if not transcript.tokens:
        return []
    prompt = whisper.prompt(transcript.language or None)
    ids = [*prompt, *transcript.tokens, whisper.generation.eos_token_id]
    with torch.inference_mode(), precision(whisper):
        states = encode(whisper.model, pad_frames([frames], length).to(whisper.device))
        cache = DecoderCache(whisper.model, states, len(ids))
        cache.attended = {}
        cache.states(torch.tensor([ids], device=whisper.device))
    n_positions = max(1, min(length, frames.shape[1]) // 2)
    heads = alignment_heads(whisper)
    weights = torch.stack([cache.attended[layer][0, head, :, :n_positions] for layer, head in heads])
    # the row of a token is the attention with which it was *predicted*: that of the token before it
    weights = weights[:, len(prompt) - 1 : -1]
    matrix = _standardised(weights.cpu().numpy())
    starts, ends = _warp(-matrix)
    words = []
    for text, first, last in words_of(whisper, transcript):
        confidence = math.exp(float(np.mean(transcript.logprobs[first:last])))
        start, end = starts[first] * POSITION_SECONDS, ends[last - 1] * POSITION_SECONDS
        words.append(Word(text, round(start, 2), round(max(start, end), 2), round(confidence, 4)))
    return words


def alignment_heads(whisper: Whisper) -> list[tuple[int, int]]:
    """(layer, head) of the heads that follow the speech; the upper half of all layers where nobody said which.

    A distilled model may have those of its teacher in its configuration, and not have their layers.
    """
    layers, heads = whisper.config.decoder_layers, whisper.config.decoder_attention_heads
    said = getattr(whisper.generation, "alignment_heads", None) or []
    if known := [(layer, head) for layer, head in said if layer < layers and head < heads]:
        return known
    return [(layer, head) for layer in range(layers // 2, layers) for head in range(heads)]


def _standardised(weights: np.ndarray) -> np.ndarray:
    """(heads, tokens, positions) to one map: each position's weights standardised over tokens, smoothed, averaged."""
    mean, deviation = weights.mean(axis=1, keepdims=True), weights.std(axis=1, keepdims=True)
    weights = (weights - mean) / np.maximum(deviation, 1e-8)
    return median_filter(weights, size=(1, 1, SMOOTHING), mode="reflect").mean(axis=0)


def _warp(cost: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and last position of every token on the cheapest path that never goes back.

    Args:
        cost: shape (tokens, positions).
    """
    tokens, positions = cost.shape
    total = np.full((tokens + 1, positions + 1), np.inf)
    total[0, 0] = 0.0
    came = np.zeros((tokens, positions), np.int8)  # 0 both on, 1 next token, 2 next position
    for i in range(tokens):
        above, row = total[i], total[i + 1]
        for j in range(positions):
            options = (above[j], above[j + 1], row[j])
            best = min(range(3), key=options.__getitem__)
            came[i, j] = best
            row[j + 1] = options[best] + cost[i, j]
    starts, ends = np.zeros(tokens, np.int64), np.full(tokens, -1)
    i, j = tokens - 1, positions - 1
    while i >= 0 and j >= 0:
        ends[i] = max(ends[i], j)
        starts[i] = j
        step = came[i, j]
        i, j = i - (step != 2), j - (step != 1)
    return starts, np.maximum(ends, starts)


def words_of(whisper: Whisper, transcript: Transcript) -> list[tuple[str, int, int]]:
    """(text, first token, one past the last): a word starts with a space, or is a character
    where none are written; punctuation belongs to the word before it."""
    words: list[tuple[str, int, int]] = []
    pending: list[int] = []
    start = 0
    for index, token in enumerate(transcript.tokens):
        pending.append(token)
        text = whisper.text(pending)
        if "\ufffd" in text:  # a character whose bytes are spread over tokens is not whole yet
            continue
        new = text.startswith(" ") or transcript.language in SPACELESS or not words
        if new and any(map(str.isalnum, text)):
            words.append((text.strip(), start, index + 1))
        elif words:
            before, first, _ = words[-1]
            words[-1] = (before + (text if not text.startswith(" ") else text.rstrip()), first, index + 1)
        elif text.strip():
            words.append((text.strip(), start, index + 1))
        pending, start = [], index + 1
    return words
