"""Recorded speech as the vocoder of `speechft.impair` sees it: envelopes of voiced and unvoiced sound, and back.

The sound itself is not synthesised: effects change the smoothed spectral envelope, and the difference becomes a filter
over the recording, whose pitch, phase and fine structure stay. So an effect of strength 0 gives the recording back.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from speechft import impair
from speechft.audio import SAMPLE_RATE
from speechft.impair import FLOOR, FRAMES_PER_SECOND, HERTZ_PER_BIN, Log, Tracks

SILENT = np.float32(-20.0)  # natural logarithm of nothing
LIFTER: float = 0.0015  # seconds: cepstrum below it is the envelope; pitch periods lie above 2 ms
VOICED_PEAK = 0.5  # autocorrelation at the pitch period, by that at 0
PITCH_HERTZ = (65.0, 400.0)
STRETCH_FFT = 512  # samples: longer windows blur speech (benchmarks/augmentation.py)
MOST_GAIN = 6.0  # nepers (52 dB): an envelope at the floor is not raised without end


@dataclass(frozen=True)
class Grid:
    """Frames and bins of the analysis; the rates are those of `speechft.impair`."""

    hop: int = SAMPLE_RATE // FRAMES_PER_SECOND  # 200 samples
    n_fft: int = round(SAMPLE_RATE / HERTZ_PER_BIN)  # 800 samples

    @property
    def bins(self) -> int:
        return self.n_fft // 2 + 1

    @property
    def hertz_per_bin(self) -> float:
        return HERTZ_PER_BIN


GRID = Grid()


def spectrum(samples: np.ndarray) -> torch.Tensor:
    """Complex frames, shape (401 bins, frames), 80 a second."""
    wave = torch.from_numpy(np.ascontiguousarray(samples, np.float32))
    return torch.stft(wave, GRID.n_fft, GRID.hop, window=_window(), pad_mode="constant", return_complex=True)


def sound(frames: torch.Tensor, length: int) -> np.ndarray:
    """Samples of complex frames."""
    return torch.istft(frames, GRID.n_fft, GRID.hop, window=_window(), length=length).numpy()


def analyse(samples: np.ndarray) -> Tracks:
    """Envelopes of a recording, and its pitch where it has one.

    Both `harmonics` and `free` hold the envelope of every frame, so that effects which look at neighbours (slurring)
    meet no holes; `apply` reads the first in voiced frames and the second in the others.
    """
    envelope = smoothed(np.log(np.maximum(spectrum(samples).abs().numpy(), 1e-7)))
    pitch = find_pitch(samples, envelope.shape[1])
    return Tracks(
        harmonics=envelope,
        harmonics_phase=np.zeros((1, len(pitch)), np.float32),
        noise=np.full_like(envelope, SILENT),
        free=envelope.copy(),
        free_phase=np.zeros((1, len(pitch)), np.float32),
        pitch=pitch,
    )


def apply(samples: np.ndarray, before: Tracks, after: Tracks) -> np.ndarray:
    """The recording filtered by what changed between two analyses of the same frames."""
    gain = np.where(before.voiced, after.harmonics - before.harmonics, after.free - before.free)
    gain = np.clip(gain, -MOST_GAIN, MOST_GAIN)
    return sound(spectrum(samples) * torch.from_numpy(np.exp(gain).astype(np.float32)), len(samples))


def filtered(samples: np.ndarray, centralise: float) -> np.ndarray:
    """Voiced sounds moved towards the clip's own neutral vowel; unchanged where nothing is voiced."""
    tracks = analyse(samples)
    if not centralise or not has_voice(tracks):
        return samples.copy()
    return apply(samples, tracks, impair.centralise(tracks, centralise, impair.neutral_spectrum(tracks)))


def move_resonances(samples: np.ndarray, source_hertz: np.ndarray) -> np.ndarray:
    """The envelope read at other frequencies, shape (401,): where each bin's new value comes from."""
    frames = spectrum(samples)
    envelope = smoothed(np.log(np.maximum(frames.abs().numpy(), 1e-7)))
    place = np.clip(source_hertz / HERTZ_PER_BIN, 0, len(envelope) - 1)
    low = np.minimum(place.astype(int), len(envelope) - 2)
    part = (place - low)[:, None]
    moved = envelope[low] * (1 - part) + envelope[low + 1] * part
    gain = np.exp(np.clip(moved - envelope, -MOST_GAIN, MOST_GAIN)).astype(np.float32)
    return sound(frames * torch.from_numpy(gain), len(samples))


def stretched(samples: np.ndarray, rate: float, n_fft: int = STRETCH_FFT) -> np.ndarray:
    """The same sound `rate` times as fast at the same pitch (phase vocoder); about len(samples) / rate samples."""
    from torchaudio.functional import phase_vocoder

    hop, wanted = n_fft // 4, max(1, round(len(samples) / rate))
    window = torch.hann_window(n_fft)
    wave = torch.from_numpy(np.ascontiguousarray(samples, np.float32))
    wave = torch.nn.functional.pad(wave, (0, max(0, n_fft - len(wave))))
    frames = torch.stft(wave, n_fft, hop, window=window, return_complex=True)
    advance = torch.linspace(0, np.pi * hop, frames.shape[0])[:, None]
    slower = phase_vocoder(frames, rate, advance)
    return torch.istft(slower, n_fft, hop, window=window, length=wanted).numpy()


def has_voice(tracks: Tracks) -> bool:
    """Whether anything near the clip's loudest is voiced: without it there is no neutral vowel."""
    return bool((tracks.voiced & (tracks.loudness > tracks.loudness.max() - 25)).any())


def smoothed(log: np.ndarray) -> Log:
    """The envelope: the slow part of the log spectrum over frequency (cepstral liftering)."""
    cepstrum = np.fft.irfft(np.maximum(log, FLOOR), axis=0)
    kept = round(LIFTER * SAMPLE_RATE)
    cepstrum[kept + 1 : -kept] = 0.0
    return np.fft.rfft(cepstrum, axis=0).real.astype(np.float32)


def find_pitch(samples: np.ndarray, n_frames: int) -> np.ndarray:
    """Hertz per frame by autocorrelation, 0 where there is no voice; shape (n_frames,)."""
    size = 2 * GRID.n_fft
    padded = np.pad(samples, (GRID.n_fft // 2, size))
    starts = np.arange(n_frames) * GRID.hop
    frames = padded[starts[:, None] + np.arange(GRID.n_fft)] * np.hanning(GRID.n_fft)
    power = np.abs(np.fft.rfft(frames, size)) ** 2
    likeness = np.fft.irfft(power)
    window = np.fft.irfft(np.abs(np.fft.rfft(np.hanning(GRID.n_fft), size)) ** 2)
    shortest, longest = (int(SAMPLE_RATE / hertz) for hertz in reversed(PITCH_HERTZ))
    lags = np.arange(shortest, longest)
    peaks = likeness[:, lags] / np.maximum(likeness[:, :1], 1e-12) * (window[0] / window[lags])
    best = peaks.argmax(1)
    level = likeness[:, 0]
    voiced = (peaks[np.arange(n_frames), best] > VOICED_PEAK) & (level > level.max() * 1e-4)
    return np.where(voiced, SAMPLE_RATE / lags[best], 0.0).astype(np.float32)


def _window() -> torch.Tensor:
    return torch.hann_window(GRID.n_fft)
