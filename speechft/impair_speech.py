"""A simulated impairment laid over recorded typical speech, with a dial for its severity.

The effects and their strengths are those of the simulated speaker (`speechft.impair`): slow and uneven rate, pauses
with audible breaths, sluggish articulation, centralised vowels, a retracted tongue, weak consonants, breathiness, dull
and fading sound. One is missing: flat pitch, which needs the voice to be made anew. It is a caricature; whether to
train on it is a question for `recipes/augmentation_ablation.py`, and it is no evidence in a test set.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

from speechft import impair
from speechft.audio import SAMPLE_RATE
from speechft.impair import FRAMES_PER_SECOND, Gap, Impairment, Tracks
from speechft.spectral import analyse, apply, has_voice, sound, spectrum, stretched

SHORTEST = round(0.15 * SAMPLE_RATE)  # samples: shorter pieces join the one before
FADE = 80  # samples (5 ms) over which one piece goes into the next


def impaired(samples: np.ndarray, severity: float, rng: np.random.Generator) -> np.ndarray:
    """Recorded speech with every effect at a severity: 0 gives it back, 1 is the simulated speaker.

    Args:
        samples: mono 16 kHz.

    Returns:
        float32 samples, longer where it is slower and pauses; at the level of the recording.

    Raises:
        ValueError: the severity is negative.
    """
    how = Impairment().at(severity)
    if not severity or len(samples) < SAMPLE_RATE // 4:
        return samples.copy()
    before = analyse(samples)
    pauses = impair.find_pauses(before, how.pauses, how.pause_s, rng) if len(before) > FRAMES_PER_SECOND else []
    out = breathy(apply(samples, before, articulation(before, how)), before, how.breath_noise_db, rng)
    out, gaps = slowed(out, pauses, how, rng)
    out = impair.add_breaths(out, gaps, how.breath_db, rng)
    out = impair.decay(impair.dull(out, how.dull_db, how.dull_hertz), how.decay_db)
    level = float(np.sqrt(np.mean(samples**2))) / max(float(np.sqrt(np.mean(out**2))), 1e-9)
    return np.clip(out * level, -1.0, 1.0).astype(np.float32)


def articulation(tracks: Tracks, how: Impairment) -> Tracks:
    """What the tongue and lips do: the effects on the envelope, in the order of the simulated speaker."""
    changed = impair.weaken_consonants(tracks, how.weaken_db)
    if has_voice(tracks):
        changed = impair.centralise(changed, how.centralise, impair.neutral_spectrum(tracks))
    return impair.slur(impair.retract(changed, how.retract), how.sluggish_s)


def breathy(samples: np.ndarray, tracks: Tracks, level_db: float, rng: np.random.Generator) -> np.ndarray:
    """Noise of the envelope's shape under the voiced frames, `level_db` below it."""
    leak = impair.breathe_through(tracks, level_db).noise
    if not (leak > -15).any():
        return samples
    frames = spectrum(samples)
    turned = torch.from_numpy(np.exp(1j * rng.uniform(-np.pi, np.pi, leak.shape)).astype(np.complex64))
    return sound(frames + turned * torch.from_numpy(np.exp(leak).astype(np.float32)), len(samples))


def slowed(
    samples: np.ndarray, pauses: list[tuple[int, int]], how: Impairment, rng: np.random.Generator
) -> tuple[np.ndarray, list[Gap]]:
    """Cut at the pauses and at random, every piece at its own slow rate, with silence at the pauses.

    Returns:
        samples, and where in them the silences lie.
    """
    cuts = {round(frame * SAMPLE_RATE / FRAMES_PER_SECOND): length for frame, length in pauses}
    for second in np.arange(0.5, len(samples) / SAMPLE_RATE, 0.5):  # the rate wanders about twice a second
        cuts.setdefault(round(float(second) * SAMPLE_RATE), 0)
    places = [0]
    for place in sorted(cuts):
        if place - places[-1] >= SHORTEST and len(samples) - place >= SHORTEST:
            places.append(place)
    places.append(len(samples))
    wander = ndimage.gaussian_filter1d(rng.standard_normal(len(places) - 1), 0.7)
    wander -= wander.mean()  # few neighbours are alike: their common part is no unevenness
    rates = np.exp(how.unevenness * wander / max(float(wander.std()), 1e-6))
    rates /= np.average(rates, weights=np.diff(places))
    out = np.zeros(0, np.float32)
    gaps: list[Gap] = []
    for start, end, rate in zip(places[:-1], places[1:], rates, strict=True):
        silence = round(cuts.get(start, 0) * SAMPLE_RATE / FRAMES_PER_SECOND)
        if silence:
            gaps.append((len(out) / SAMPLE_RATE, silence / SAMPLE_RATE))
            out = joined(out, np.zeros(silence, np.float32))
        stretch = max(0.5, how.stretch * float(rate))
        out = joined(out, stretched(samples[start:end], 1 / stretch))
    return out, gaps


def joined(one: np.ndarray, two: np.ndarray) -> np.ndarray:
    """One sound after the other without a click: the last of the first fades into the start of the second."""
    fade = min(FADE, len(one), len(two))
    if not fade:
        return np.concatenate([one, two])
    rise = np.linspace(0, 1, fade, dtype=np.float32)
    middle = one[-fade:] * (1 - rise) + two[:fade] * rise
    return np.concatenate([one[:-fade], middle, two[fade:]])
