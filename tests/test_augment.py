"""Variation is repeatable, stays in range, and leaves the clip alone."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speechft.augment import augment, mask, stretch_time, warp_mels
from speechft.config import AugmentSettings


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 400), st.integers(0, 10_000))
def test_the_seed_decides_and_the_input_is_left(length: int, seed: int) -> None:
    frames = torch.rand(80, length)
    before = frames.clone()
    choice = AugmentSettings(share=1.0, time_masks=2, time_width=0.3, mel_masks=2)
    one = augment(frames, choice, np.random.default_rng(seed))
    two = augment(frames, choice, np.random.default_rng(seed))
    assert torch.equal(one, two)
    assert torch.equal(frames, before)
    assert length / 1.1 - 1 <= one.shape[1] <= length / 0.9 + 1
    assert one.max() <= frames.max() + 1e-5


def test_tempo_is_a_rate() -> None:
    assert stretch_time(torch.rand(80, 300), 1.5).shape == (80, 200)
    assert stretch_time(torch.rand(80, 300), 0.75).shape == (80, 400)


def test_a_resonance_moves_by_the_factor() -> None:
    frames = torch.zeros(80, 10)
    frames[40] = 1.0
    assert int(warp_mels(frames, 1.1)[:, 0].argmax()) == 44
    assert torch.equal(warp_mels(frames, 1.0), frames)


def test_masks_are_silence_not_zero() -> None:
    frames = torch.full((80, 100), 1.5)
    frames[0, 0] = 1.6
    masked = mask(frames, AugmentSettings(time_masks=2, time_width=0.2, mel_masks=2), np.random.default_rng(3))
    assert masked.min() < 0  # the floor, 2.0 below the loudest value
    assert float(masked.min()) == float(frames.max()) - 2.0


def test_nothing_to_do_is_nothing_done() -> None:
    choice = AugmentSettings(share=0.0, time_masks=0, mel_masks=0)
    frames = torch.rand(80, 50)
    assert torch.equal(augment(frames, choice, np.random.default_rng(0)), frames)


def test_the_last_word_stays_in_the_window() -> None:
    frames = torch.zeros(80, 2900)
    frames[:, -10:] = 1.0
    slow = AugmentSettings(tempo=(0.5, 0.5), vocal_tract=(1, 1), share=1.0)
    made = augment(frames, slow, np.random.default_rng(0))
    assert made.shape[1] == 3000
    assert float(made[0, -1]) == 1.0
