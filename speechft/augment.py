"""Variation of log-mel frames, drawn from a generator that the caller seeds per clip and epoch.

Working on frames, not on sound, makes it cost microseconds; a tempo change is then a stretch of the time axis
(pitch stays), and a change of vocal tract length a stretch of the mel axis (VTLP, Jaitly and Hinton, 2013).
"""

from __future__ import annotations

import numpy as np
from torch import Tensor
from torch.nn import functional

from speechft.audio import LOG_FLOOR, MAX_FRAMES
from speechft.config import AugmentSettings


def augment(frames: Tensor, settings: AugmentSettings, rng: np.random.Generator) -> Tensor:
    """One variation of a clip.

    Args:
        frames: log-mel, shape (n_mels, frames); left as it is.
        settings: ranges to draw from.
        rng: the same state gives the same variation.

    Returns:
        shape (n_mels, other frames).
    """
    if rng.random() < settings.share:
        tempo = rng.uniform(*settings.tempo)
        frames = stretch_time(frames, max(tempo, frames.shape[1] / MAX_FRAMES))  # no word leaves the window
        frames = warp_mels(frames, rng.uniform(*settings.vocal_tract))
    return mask(frames, settings, rng)


def stretch_time(frames: Tensor, tempo: float) -> Tensor:
    """Speak `tempo` times as fast, at the same pitch."""
    length = max(2, round(frames.shape[1] / tempo))
    if length == frames.shape[1]:
        return frames
    return functional.interpolate(frames[None], size=length, mode="linear", align_corners=False)[0]


def warp_mels(frames: Tensor, factor: float) -> Tensor:
    """Move every resonance to `factor` times its mel bin; what moves in from above the top is the top bin's value."""
    n_mels = frames.shape[0]
    source = np.clip((np.arange(n_mels) + 0.5) / factor - 0.5, 0, n_mels - 1)
    low = np.floor(source).astype(np.int64)
    high = np.minimum(low + 1, n_mels - 1)
    share = frames.new_tensor(source - low)[:, None]
    return frames[low] * (1 - share) + frames[high] * share


def mask(frames: Tensor, settings: AugmentSettings, rng: np.random.Generator) -> Tensor:
    """SpecAugment (Park et al., 2019, arXiv 1904.08779): stretches of time and bands of mels set to the clip's floor.

    The floor, not zero: after Whisper's scaling zero is a rather loud value.
    """
    n_mels, length = frames.shape
    frames = frames.clone()
    floor = frames.max() - LOG_FLOOR
    for _ in range(settings.time_masks):
        width = int(rng.integers(0, int(settings.time_width * length) + 1))
        start = int(rng.integers(0, length - width + 1))
        frames[:, start : start + width] = floor
    for _ in range(settings.mel_masks):
        width = int(rng.integers(0, min(settings.mel_width, n_mels) + 1))
        start = int(rng.integers(0, n_mels - width + 1))
        frames[start : start + width] = floor
    return frames
