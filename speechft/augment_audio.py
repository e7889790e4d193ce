"""Variations of recorded speech: speed, tempo, pitch, vocal tract, formants, noise, reverberation, masks, impairment.

Each is a function of samples, an amount and a generator; the same three give the same sound. Its length is known
beforehand (`length_after`), except that of `impairment`, which slows down and pauses. `speechft.augment` varies log-mel
frames in training at no cost; what is here makes recordings that can be listened to, and effects that frames cannot
have.

Rows made here are marked `synthetic` in the manifest; a test set with one says so before any number.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from speechft.audio import HOP_LENGTH, N_FFT, SAMPLE_RATE, Seconds, hann, log_mel, mel_filters
from speechft.augment import mask
from speechft.config import AugmentSettings
from speechft.impair_speech import impaired
from speechft.spectral import GRID, filtered, move_resonances, stretched

NONE_GIVEN: Mapping[str, float] = {}
LEVEL = 0.99  # of full scale: what comes out louder is turned down
TAPER_HZ = 4_800.0  # above it a warped envelope is led back to the top of the band (Jaitly and Hinton, 2013)
ACTIVE_DB = 30.0  # below the loudest frame: what is quieter counts as a pause
MASKS = 2  # of time, and of mels
REVERB_START: Seconds = 0.003  # reflections come after the direct sound


@dataclass(frozen=True)
class Effect:
    """One kind of variation.

    Attributes:
        make: function of samples at 16 kHz, amount and generator.
        amounts: lowest and highest that is drawn.
        possible: lowest and highest that can be asked for.
        unit: of the amount.
        stretches: whether the length is divided by the amount.
    """

    make: Callable[[np.ndarray, float, np.random.Generator], np.ndarray]
    amounts: tuple[float, float]
    possible: tuple[float, float]
    unit: str
    stretches: bool = False


def speed(samples: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    """Play `factor` times as fast: tempo and pitch change together, as on a tape (Ko et al., 2015)."""
    from torchaudio.functional import resample

    wave = torch.from_numpy(np.ascontiguousarray(samples))
    ratio = round(1000 / factor)
    return _fit(resample(wave, 1000, ratio).numpy(), length_after(len(samples), factor))


def tempo(samples: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    """Speak `factor` times as fast at the same pitch (phase vocoder)."""
    length = length_after(len(samples), factor)
    return _fit(stretched(samples, factor) if factor != 1 else samples, length)


def pitch(samples: np.ndarray, semitones: float, rng: np.random.Generator) -> np.ndarray:
    """Move the voice up or down by semitones at the same tempo; resonances move with it."""
    factor = 2 ** (semitones / 12)
    return _fit(speed(stretched(samples, 1 / factor), factor, rng), len(samples)) if semitones else samples.copy()


def vocal_tract(samples: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    """A shorter (above 1) or longer vocal tract: every resonance moves to `factor` times its frequency, pitch stays."""
    hertz = np.arange(GRID.bins) * GRID.hertz_per_bin
    top, edge = hertz[-1], min(TAPER_HZ, TAPER_HZ * factor)
    bent = np.interp(hertz, [0.0, edge, top], [0.0, edge / factor, top])
    return move_resonances(samples, bent)


def formants(samples: np.ndarray, fraction: float, rng: np.random.Generator) -> np.ndarray:
    """A smaller vowel space: voiced sounds move by `fraction` of the way to the clip's own neutral vowel."""
    return filtered(samples, centralise=fraction)


def noise(samples: np.ndarray, snr_db: float, rng: np.random.Generator) -> np.ndarray:
    """Add noise with the long-term spectrum of the clip itself, `snr_db` below its speech: the hardest steady noise."""
    if not samples.any():  # nothing that noise could lie below
        return samples.copy()
    spectrum = np.abs(np.fft.rfft(samples))
    spectrum = np.convolve(spectrum, np.ones(201) / 201, mode="same")  # steady noise has the shape, not the harmonics
    turned = spectrum * np.exp(2j * np.pi * rng.random(len(spectrum)))
    made = np.fft.irfft(turned, len(samples)).astype(np.float32)
    made *= speech_level(samples) * 10 ** (-snr_db / 20) / max(float(np.sqrt(np.mean(made**2))), 1e-9)
    return unclipped(samples + made)


def speech_level(samples: np.ndarray) -> float:
    """Root mean square while somebody speaks: pauses and silence around the words are not part of it.

    As the active speech level of ITU-T P.56, but simpler: frames of 20 ms that are within 30 dB of the loudest one.
    """
    length = min(len(samples), SAMPLE_RATE // 50)
    energies = np.mean(samples[: len(samples) // length * length].reshape(-1, length).astype(np.float64) ** 2, axis=1)
    return float(np.sqrt(energies[energies >= energies.max() * 10 ** (-ACTIVE_DB / 10)].mean()))


def reverberation(samples: np.ndarray, rt60: Seconds, rng: np.random.Generator) -> np.ndarray:
    """A room whose sound falls by 60 dB in `rt60` seconds: decaying noise after the direct sound (Polack, 1988).

    Direct sound and reflections have the same energy; the tail is cut at the clip's end.
    """
    from torchaudio.functional import fftconvolve

    times = np.arange(max(1, round(rt60 * SAMPLE_RATE))) / SAMPLE_RATE
    room = rng.standard_normal(len(times)) * 10 ** (-3 * times / rt60)
    room[times < REVERB_START] = 0.0
    room /= max(float(np.sqrt(np.sum(room**2))), 1e-9)
    room[0] = 1.0
    waves = (torch.from_numpy(np.asarray(x, np.float32)) for x in (samples, room))
    return unclipped(fftconvolve(*waves)[: len(samples)].numpy())


def specaugment(samples: np.ndarray, width: float, rng: np.random.Generator) -> np.ndarray:
    """Two stretches of time and two bands of mels set to the clip's floor: `augment.mask`, made audible.

    What the mask takes from each log-mel value is taken from the spectrum under it; phases stay.
    """
    wave = torch.from_numpy(np.ascontiguousarray(samples, np.float32))
    wave = torch.nn.functional.pad(wave, (0, -len(wave) % HOP_LENGTH + 2 * HOP_LENGTH))
    frames, filters = log_mel(wave), mel_filters(80)
    settings = AugmentSettings(
        time_masks=MASKS, time_width=width, mel_masks=MASKS, mel_width=round(width * len(frames))
    )
    power = 10.0 ** (4 * (mask(frames, settings, rng) - frames))  # of 1 where nothing is masked
    power = (filters.T @ power + 1e-6) / (filters.sum(dim=0)[:, None] + 1e-6)  # bins outside all filters stay
    spectrum = torch.stft(wave, N_FFT, HOP_LENGTH, window=hann(), return_complex=True)
    spectrum *= torch.nn.functional.pad(power, (0, spectrum.shape[1] - power.shape[1]), value=1.0).sqrt()
    return _fit(torch.istft(spectrum, N_FFT, HOP_LENGTH, window=hann()).numpy(), len(samples))


EFFECTS: Mapping[str, Effect] = {
    "speed": Effect(speed, (0.9, 1.1), (0.5, 2.0), "times", stretches=True),
    "tempo": Effect(tempo, (0.8, 1.2), (0.5, 2.0), "times", stretches=True),
    "pitch": Effect(pitch, (-3.0, 3.0), (-12.0, 12.0), "semitones"),
    "vocal_tract": Effect(vocal_tract, (0.88, 1.12), (0.7, 1.4), "times"),
    "formants": Effect(formants, (0.1, 0.5), (0.0, 1.0), "of the way to the neutral vowel"),
    "noise": Effect(noise, (5.0, 20.0), (-10.0, 60.0), "dB below the speech"),
    "reverberation": Effect(reverberation, (0.2, 0.8), (0.05, 5.0), "s to fall by 60 dB"),
    "specaugment": Effect(specaugment, (0.05, 0.2), (0.0, 1.0), "of time and mels at most"),
    "impairment": Effect(impaired, (0.25, 1.0), (0.0, 1.0), "of the simulated speaker's severity"),
}


def vary(
    samples: np.ndarray,
    kinds: Sequence[str],
    seed: int,
    name: str = "",
    copy: int = 0,
    given: Mapping[str, float] = NONE_GIVEN,
) -> tuple[np.ndarray, dict[str, float]]:
    """One variation of a clip, with amounts drawn from each effect's range, in the order of `kinds`.

    Args:
        samples: mono 16 kHz.
        kinds: names in `EFFECTS`.
        seed, name, copy: decide everything, on any machine and in any order of clips.
        given: amounts that are not drawn, by kind.

    Returns:
        float32 samples, and the amount of each effect.
    """
    rng = np.random.default_rng(_number(seed, name, copy))
    amounts = {}
    for kind in kinds:
        low, high = EFFECTS[kind].amounts
        drawn = round(float(rng.uniform(low, high)), 3)
        amounts[kind] = given.get(kind, drawn)
        samples = EFFECTS[kind].make(samples, amounts[kind], rng)
    return unclipped(samples), amounts


def length_after(n_samples: int, factor: float) -> int:
    """Samples of a clip that is played or spoken `factor` times as fast."""
    return max(1, round(n_samples / factor))


def _number(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256("\0".join(map(str, parts)).encode()).digest()[:8], "big")


def _fit(samples: np.ndarray, length: int) -> np.ndarray:
    """Exactly so many samples: resamplers and vocoders end a few early or late."""
    return np.pad(samples[:length], (0, max(0, length - len(samples)))).astype(np.float32)


def unclipped(samples: np.ndarray) -> np.ndarray:
    """Turned down where it would clip."""
    peak = float(np.abs(samples).max(initial=0.0))
    return (samples * (LEVEL / peak) if peak > LEVEL else samples).astype(np.float32)
