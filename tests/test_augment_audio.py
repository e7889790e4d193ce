"""Variations of sound: repeatable, of the stated length, and doing what their names say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speechft.audio import SAMPLE_RATE, log_mel
from speechft.augment import mask
from speechft.augment_audio import (
    EFFECTS,
    length_after,
    noise,
    pitch,
    reverberation,
    speech_level,
    speed,
    tempo,
    vary,
    vocal_tract,
)
from speechft.config import AugmentSettings
from speechft.impair_speech import impaired, slowed
from speechft.manifest import Manifest
from speechft.spectral import HERTZ_PER_BIN, analyse, apply, find_pitch, smoothed, sound, spectrum


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def tone(hertz: float, seconds: float = 1.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE)).astype(np.float32)


def buzz(hertz: float, resonance: float, seconds: float = 1.0) -> np.ndarray:
    """A vowel-like sound: pulses of one pitch through one resonance."""
    pulses = np.zeros(round(seconds * SAMPLE_RATE))
    pulses[:: round(SAMPLE_RATE / hertz)] = 1.0
    times = np.arange(400) / SAMPLE_RATE
    ring = np.exp(-300 * times) * np.sin(2 * np.pi * resonance * times)
    out = np.convolve(pulses, ring)[: len(pulses)]
    return (0.3 * out / np.abs(out).max()).astype(np.float32)


def loudest_hertz(samples: np.ndarray) -> float:
    power = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(power.argmax() * SAMPLE_RATE / len(samples))


def resonance_of(samples: np.ndarray) -> float:
    frames = smoothed(np.log(np.maximum(spectrum(samples).abs().numpy(), 1e-7)))
    return float(frames[:, 10:-10].mean(1).argmax() * HERTZ_PER_BIN)


@pytest.fixture(scope="module")
def speech(voice: Manifest) -> np.ndarray:
    return voice[0].load()


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(sorted(EFFECTS)), st.integers(0, 10_000), st.integers(1, 6_000))
def test_the_seed_decides_and_the_input_is_left(kind: str, seed: int, length: int) -> None:
    samples = (0.1 * rng(seed).standard_normal(length)).astype(np.float32)
    before = samples.copy()
    one, amounts = vary(samples, [kind], seed, "clip")
    two, again = vary(samples, [kind], seed, "clip")
    assert np.array_equal(one, two)
    assert amounts == again
    assert np.array_equal(samples, before)
    low, high = EFFECTS[kind].amounts
    assert low <= amounts[kind] <= high
    assert one.dtype == np.float32
    assert np.isfinite(one).all()
    assert np.abs(one).max() <= 1.0
    if kind != "impairment":
        assert len(one) == (length_after(length, amounts[kind]) if EFFECTS[kind].stretches else length)


def test_each_clip_and_copy_is_another_variation() -> None:
    drawn = {vary(tone(200), ["tempo"], 0, name, copy)[1]["tempo"] for name in "ab" for copy in (0, 1)}
    assert len(drawn) == 4
    assert vary(tone(200), ["tempo"], 1, "a", 0)[1]["tempo"] not in drawn


def test_speed_moves_pitch_and_tempo_does_not() -> None:
    assert loudest_hertz(speed(tone(400), 1.25, rng())) == pytest.approx(500, rel=0.01)
    assert loudest_hertz(tempo(tone(400), 1.25, rng())) == pytest.approx(400, rel=0.01)
    assert len(speed(tone(400), 1.25, rng())) == len(tempo(tone(400), 1.25, rng())) == SAMPLE_RATE / 1.25


def test_pitch_moves_by_semitones() -> None:
    shifted = pitch(tone(400), 12.0, rng())
    assert loudest_hertz(shifted) == pytest.approx(800, rel=0.01)
    assert len(shifted) == SAMPLE_RATE


@pytest.mark.parametrize("factor", [0.88, 1.12])
def test_a_vocal_tract_moves_the_resonance_and_keeps_the_pitch(factor: float) -> None:
    before = buzz(125, 1500)
    after = vocal_tract(before, factor, rng())
    assert resonance_of(before) == pytest.approx(1500, abs=100)
    assert resonance_of(after) == pytest.approx(1500 * factor, abs=100)
    assert np.median(find_pitch(after, 80)) == pytest.approx(125, rel=0.02)


def test_formants_bring_vowels_together() -> None:
    """Two vowels; after the effect their envelopes are nearer to each other."""
    two = np.concatenate([buzz(125, 700), buzz(125, 2000)])
    after = EFFECTS["formants"].make(two, 0.5, rng())

    def apart(samples: np.ndarray) -> float:
        harmonics = analyse(samples).harmonics
        return float(np.abs(harmonics[:200, 10:70] - harmonics[:200, 90:150]).mean())

    assert apart(after) < 0.7 * apart(two)
    assert np.abs(EFFECTS["formants"].make(two, 0.0, rng()) - two).max() < 1e-4


@pytest.mark.parametrize("snr", [0.0, 10.0])
def test_noise_has_the_level_that_was_asked_for(speech: np.ndarray, snr: float) -> None:
    quiet = 0.2 * speech / np.abs(speech).max()
    for clip in (quiet, np.concatenate([np.zeros(5 * SAMPLE_RATE, np.float32), quiet])):  # silence is no speech
        added = noise(clip, snr, rng()) - clip
        level = 20 * np.log10(speech_level(quiet) / np.sqrt(np.mean(added**2)))
        assert level == pytest.approx(snr, abs=0.3)
    assert speech_level(quiet) >= np.sqrt(np.mean(quiet**2))


@pytest.mark.parametrize("kind", EFFECTS)
def test_digital_silence_stays_silent(kind: str) -> None:
    for amount in EFFECTS[kind].amounts:
        assert not EFFECTS[kind].make(np.zeros(SAMPLE_RATE, np.float32), amount, rng()).any()


def test_a_room_rings_for_the_time_that_was_asked_for() -> None:
    click = np.zeros(SAMPLE_RATE, np.float32)
    click[0] = 0.5
    for rt60 in (0.2, 0.8):
        energy = np.cumsum(reverberation(click, rt60, rng())[::-1].astype(float) ** 2)[::-1]
        decay = 10 * np.log10(np.maximum(energy[100:], 1e-12) / energy[100])
        fallen = [int(np.argmax(decay < level)) / SAMPLE_RATE for level in (-5, -25)]
        assert 3 * (fallen[1] - fallen[0]) == pytest.approx(rt60, rel=0.25)


def test_nothing_changed_is_the_recording(speech: np.ndarray) -> None:
    tracks = analyse(speech)
    assert np.abs(apply(speech, tracks, tracks) - speech).max() < 1e-4
    assert np.abs(sound(spectrum(speech), len(speech)) - speech).max() < 1e-4
    assert np.array_equal(impaired(speech, 0.0, rng()), speech)


def test_severity_is_a_dial(speech: np.ndarray) -> None:
    """More severity is longer, duller and further from the recording."""
    made = [impaired(speech, severity, rng(3)) for severity in (0.3, 1.0)]
    assert len(speech) < len(made[0]) < len(made[1])

    def high(samples: np.ndarray) -> float:
        power = spectrum(samples).abs().square().sum(1)
        return float(power[175:].sum() / power.sum())  # above 3.5 kHz

    assert high(made[1]) < high(made[0]) < high(speech)
    for samples in made:  # the level of the recording, but for what would clip
        assert np.sqrt(np.mean(samples**2)) == pytest.approx(np.sqrt(np.mean(speech**2)), rel=0.05)
    with pytest.raises(ValueError, match="severity"):
        impaired(speech, -0.1, rng())


def test_pauses_are_where_they_are_said_to_be() -> None:
    from speechft.impair import Impairment

    out, gaps = slowed(tone(200, 2.0), [(80, 40)], Impairment().at(1.0), rng())
    assert len(gaps) == 1
    start, length = gaps[0]
    assert length == 0.5
    inside = out[round((start + 0.05) * SAMPLE_RATE) : round((start + 0.4) * SAMPLE_RATE)]
    assert np.abs(inside).max() < 1e-6


@pytest.mark.parametrize("seconds", [0.4, 1.0, 1.3, 3.0])
def test_the_rate_wanders_around_the_one_that_was_asked_for(seconds: float) -> None:
    from speechft.impair import Impairment

    how = Impairment().at(1.0)
    for seed in range(12):
        out, _ = slowed(tone(200, seconds), [], how, rng(seed))
        assert len(out) / SAMPLE_RATE == pytest.approx(how.stretch * seconds, rel=0.05)


def test_pitch_of_silence_and_of_noise() -> None:
    assert not find_pitch(np.zeros(8000, np.float32), 40).any()
    assert (find_pitch(rng().standard_normal(8000), 40) > 0).mean() < 0.2
    assert torch.isfinite(spectrum(np.zeros(800, np.float32)).abs()).all()


def test_masks_are_heard_where_training_has_them() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, SAMPLE_RATE).astype(np.float32)
    frames = log_mel(noise)
    width = 0.2
    masks = AugmentSettings(time_masks=2, time_width=width, mel_masks=2, mel_width=16)
    masked = mask(frames, masks, np.random.default_rng(5))
    heard = log_mel(EFFECTS["specaugment"].make(noise, width, np.random.default_rng(5)))
    hidden = masked != frames
    assert 0.05 < hidden.float().mean() < 0.6
    difference = (frames - heard)[:, :100]
    hidden = hidden[:, :100]
    assert difference[hidden].median() > 0.25  # 10 dB; windows overlap, so edges of a mask leak
    assert difference[~hidden].abs().median() < 0.01
