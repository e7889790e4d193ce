"""A fixed speech impairment, for a synthetic voice: what a first run of speechft adapts Whisper to.

Each effect imitates one thing that the literature on dysarthria names (Darley, Aronson and Brown, 1969, and
the perceptual dimensions that followed it), and is one function: slowed and uneven rate with pauses, sluggish
articulation, centralised vowels, a retracted tongue, weak consonants, monopitch, breathiness, audible
breaths, loss of high frequencies and of loudness. It is a caricature with known settings. It has no patient
behind it and is never evidence about real speech.

Where it can, an effect works on what the vocoder is told (`Tracks`) and not on the sound that comes out: flat
pitch is then a change of one number per frame, with none of the artefacts of pitch shifting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage, signal

from speechft.audio import SAMPLE_RATE, Seconds

FRAMES_PER_SECOND = 80  # of the vocoder: a hop of 300 samples at 24 kHz
HERTZ_PER_BIN = 20.0  # of the vocoder: 24 kHz / 1200 points
FLOOR = -9.0  # log magnitude (natural) below which a bin is silence; speech lies between -6 and 3
VOICED_HERTZ = 40.0  # a fundamental below this means "no voice", as in the vocoder
SPEECH_DB = 45.0  # below the loudest frame, what is quieter is silence
EDGE = (0.12, 0.3)  # seconds of silence kept before and after the speech
RETRACTED_HERTZ = 700.0  # about where first formants end and second ones begin
FADE = 2  # frames over which sound fades into a pause

Gap = tuple[Seconds, Seconds]  # start and length of a silence
Log = np.ndarray  # natural logarithm of magnitudes, float32, shape (601 bins, frames)


@dataclass(frozen=True)
class Tracks:
    """What the vocoder is told, 80 times a second.

    Attributes:
        harmonics, harmonics_phase: the vocal tract's response to the voice; log magnitude, and phase before tanh.
        noise: log magnitude of the noise under the voice.
        free, free_phase: everything else (consonants); log magnitude, and phase in radians.
        pitch: fundamental frequency in hertz, shape (frames,); below 40 where there is no voice.
    """

    harmonics: Log
    harmonics_phase: np.ndarray
    noise: Log
    free: Log
    free_phase: np.ndarray
    pitch: np.ndarray

    def __len__(self) -> int:
        return len(self.pitch)

    @property
    def voiced(self) -> np.ndarray:
        """bool, shape (frames,)."""
        return self.pitch > VOICED_HERTZ

    @property
    def loudness(self) -> np.ndarray:
        """Decibels per frame on an arbitrary scale, shape (frames,)."""
        power = np.exp(2 * np.minimum(self.free, 7.0)).sum(0) * 2
        power += np.exp(2 * np.minimum(self.harmonics, 7.0)).sum(0) * self.voiced
        return 10 * np.log10(power + 1e-6)


@dataclass(frozen=True)
class Impairment:
    """How strong each effect is at severity 1; `at` scales all of them. The defaults are this speaker's.

    Attributes:
        stretch: times as long as the clean voice, before pauses.
        unevenness: standard deviation of the local rate, as a fraction.
        pauses: mean number of inserted pauses per second of clean speech.
        pause_s: shortest and longest pause, in seconds.
        sluggish_s: standard deviation of the smearing of articulation in time, in seconds.
        centralise: fraction by which every voiced sound moves to the neutral vowel.
        retract: fraction by which frequencies above the first formant move down towards it.
        weaken_db: loss of the consonants' noise.
        monotone: fraction of the pitch movement that is lost.
        breath_noise_db: level of breath noise in a voiced frame, relative to the harmonics, at its strongest.
        breath_db: level of an audible intake of breath, relative to the speech.
        dull_db: loss of everything above `dull_hertz`.
        decay_db: loss of level from the start of an utterance to its end.
    """

    stretch: float = 1.7
    unevenness: float = 0.2
    pauses: float = 0.5
    pause_s: tuple[float, float] = (0.15, 0.5)
    sluggish_s: float = 0.03
    centralise: float = 0.58
    retract: float = 0.43
    weaken_db: float = 4.0
    monotone: float = 0.85
    breath_noise_db: float = -14.0
    breath_db: float = -16.0
    dull_db: float = 9.0
    dull_hertz: float = 2500.0
    decay_db: float = 6.0

    def at(self, severity: float) -> Impairment:
        """The same speaker at another severity: 0 is no impairment, 1 the default, more is worse."""
        if severity < 0:
            raise ValueError(f"severity must be 0 or more, not {severity}")
        quieter = 20 * np.log10(max(severity, 1e-3))  # decibels relative to severity 1: noise grows from nothing
        return replace(
            self,
            stretch=1 + severity * (self.stretch - 1),
            unevenness=severity * self.unevenness,
            pauses=severity * self.pauses,
            sluggish_s=severity * self.sluggish_s,
            centralise=min(0.95, severity * self.centralise),
            retract=min(0.6, severity * self.retract),
            weaken_db=severity * self.weaken_db,
            monotone=min(1.0, severity * self.monotone),
            breath_noise_db=self.breath_noise_db + quieter,
            breath_db=self.breath_db + quieter,
            dull_db=severity * self.dull_db,
            decay_db=severity * self.decay_db,
        )


def trim(tracks: Tracks) -> Tracks:
    """Cut the silence around the speech down to `EDGE` seconds. Speech is what is within `SPEECH_DB` of the peak."""
    loudness = tracks.loudness
    speech = np.flatnonzero(loudness > loudness.max() - SPEECH_DB)
    before, after = (round(seconds * FRAMES_PER_SECOND) for seconds in EDGE)
    return _take(tracks, slice(max(0, speech[0] - before), min(len(tracks), speech[-1] + 1 + after)))


def slow(
    tracks: Tracks,
    stretch: float,
    unevenness: float,
    pauses: Sequence[tuple[int, int]],
    rng: np.random.Generator,
) -> tuple[Tracks, list[Gap]]:
    """Slowed, uneven rate, and breaks between and within words.

    Args:
        stretch: mean length relative to the original.
        unevenness: standard deviation of the local rate, which wanders a little faster than once a second.
        pauses: (frame, frames of silence to put before it), as `find_pauses` returns them.

    Returns:
        the slower tracks, and where in them the pauses lie.
    """
    if stretch == 1 and not unevenness and not pauses:
        return tracks, []
    wander = ndimage.gaussian_filter1d(rng.standard_normal(len(tracks)), FRAMES_PER_SECOND / 5, mode="wrap")
    lengths = np.exp(unevenness * wander / max(float(wander.std()), 1e-6))
    starts = np.concatenate([[0.0], np.cumsum(lengths)]) * stretch / lengths.mean()
    position = np.interp(np.arange(round(starts[-1])), starts[:-1], np.arange(len(tracks)))
    silent = np.zeros(len(position), bool)
    gaps: list[tuple[int, int]] = []
    for frame, length in reversed(pauses):  # from the back, so that earlier positions stay true
        at = int(np.searchsorted(position, frame))
        position = np.insert(position, at, np.full(length, float(frame)))
        silent = np.insert(silent, at, np.ones(length, bool))
        gaps = [(at, length)] + [(start + length, n) for start, n in gaps]
    seconds = [(at / FRAMES_PER_SECOND, length / FRAMES_PER_SECOND) for at, length in gaps]
    return _mute(_resample(tracks, position, rng), silent), seconds


def find_pauses(
    tracks: Tracks, per_second: float, length_s: tuple[float, float], rng: np.random.Generator
) -> list[tuple[int, int]]:
    """Where to break off: at dips of loudness, which lie between words and in the closures of stops.

    Returns:
        (frame, frames of silence) in order of frame; fewer than asked for where there are too few dips.
    """
    loudness = ndimage.gaussian_filter1d(tracks.loudness, 1.5)
    dips, shape = signal.find_peaks(-loudness, prominence=4.0, distance=FRAMES_PER_SECOND // 8)
    edge = [round(1.5 * seconds * FRAMES_PER_SECOND) for seconds in EDGE]
    inside = (dips > edge[0]) & (dips < len(tracks) - edge[1])
    dips, depth = dips[inside], shape["prominences"][inside]
    wanted = min(len(dips), int(rng.poisson(per_second * len(tracks) / FRAMES_PER_SECOND)))
    if not wanted:
        return []
    chosen = np.sort(rng.choice(dips, wanted, replace=False, p=depth / depth.sum()))
    seconds = rng.uniform(*length_s, size=wanted)
    return [(int(dip), round(float(s) * FRAMES_PER_SECOND)) for dip, s in zip(chosen, seconds, strict=True)]


def slur(tracks: Tracks, sluggish_s: Seconds) -> Tracks:
    """Sluggish articulators: every movement of the spectrum is smeared in time, so targets are undershot.

    Args:
        sluggish_s: standard deviation of the Gaussian, in seconds.
    """
    if not sluggish_s:
        return tracks
    width = sluggish_s * FRAMES_PER_SECOND

    def smear(log: Log) -> Log:
        return ndimage.gaussian_filter1d(np.maximum(log, FLOOR), width, axis=1, mode="nearest")

    return replace(tracks, harmonics=smear(tracks.harmonics), free=smear(tracks.free))


def neutral_spectrum(tracks: Tracks) -> Log:
    """The mean voiced spectrum of a voice, shape (601, 1): what its vowels centralise to."""
    voiced = tracks.voiced & (tracks.loudness > tracks.loudness.max() - 25)
    return tracks.harmonics[:, voiced].mean(1, keepdims=True)


def centralise(tracks: Tracks, fraction: float, neutral: Log) -> Tracks:
    """A smaller vowel space: the voiced spectrum moves towards the neutral one, at unchanged loudness.

    Args:
        fraction: 0 keeps every vowel, 1 makes them all the same.
        neutral: as `neutral_spectrum` returns it.
    """
    if not fraction:
        return tracks
    band = slice(0, round(4000 / HERTZ_PER_BIN))  # the formants
    level = tracks.harmonics[band].mean(0, keepdims=True) - neutral[band].mean()
    return replace(tracks, harmonics=tracks.harmonics + fraction * (neutral + level - tracks.harmonics))


def retract(tracks: Tracks, fraction: float) -> Tracks:
    """A tongue that lies back: what is above `RETRACTED_HERTZ` moves down, second formants and sibilants first.

    Args:
        fraction: by which the distance from `RETRACTED_HERTZ` shrinks.
    """
    if not fraction:
        return tracks
    hertz = np.arange(len(tracks.harmonics)) * HERTZ_PER_BIN
    above = np.maximum(hertz - RETRACTED_HERTZ, 0)
    source = np.minimum(hertz + above * (1 / (1 - fraction) - 1), hertz[-1]) / HERTZ_PER_BIN
    low = np.minimum(source.astype(int), len(hertz) - 2)
    part = (source - low).astype(np.float32)[:, None]

    def move(log: Log) -> Log:
        moved: Log = log[low] * (1 - part) + log[low + 1] * part
        return moved

    return replace(tracks, harmonics=move(tracks.harmonics), noise=move(tracks.noise), free=move(tracks.free))


def weaken_consonants(tracks: Tracks, loss_db: float) -> Tracks:
    """Imprecise consonants: bursts and frication lose `loss_db` of their level."""
    return replace(tracks, free=tracks.free - np.float32(_nepers(loss_db))) if loss_db else tracks


def flatten_pitch(tracks: Tracks, fraction: float) -> Tracks:
    """Monopitch: the pitch keeps 1 - `fraction` of its distance, in log hertz, from the utterance's median."""
    if not fraction or not tracks.voiced.any():
        return tracks
    voiced = tracks.voiced
    median = np.median(tracks.pitch[voiced])
    flat = median * (np.maximum(tracks.pitch, VOICED_HERTZ) / median) ** (1 - fraction)
    return replace(tracks, pitch=np.where(voiced, flat, tracks.pitch).astype(np.float32))


def breathe_through(tracks: Tracks, level_db: float) -> Tracks:
    """Breathy voice: noise shaped by the envelope of the speech, from air that the vocal folds let pass.

    Args:
        level_db: of the noise relative to the harmonics, per bin; under -60 it is left out.
    """
    if level_db < -60:
        return tracks
    leak = tracks.harmonics + np.float32(_nepers(level_db))
    leak = np.where(tracks.voiced, leak, np.float32(-20.0))
    return replace(tracks, noise=np.logaddexp(tracks.noise, leak))


def breath(seconds: Seconds, rng: np.random.Generator) -> np.ndarray:
    """An audible intake of air: band-passed noise that swells and stops. Root mean square 1, at 16 kHz."""
    n = max(64, round(seconds * SAMPLE_RATE))
    air = signal.sosfilt(
        signal.butter(2, (400, 3000), "bandpass", fs=SAMPLE_RATE, output="sos"), rng.standard_normal(n)
    )
    rise = np.linspace(0, 1, n)
    swell = np.sin(np.pi * rise**1.5) ** 1.5
    air = air * swell
    return air / np.sqrt(np.mean(air**2))


def add_breaths(samples: np.ndarray, gaps: Sequence[Gap], level_db: float, rng: np.random.Generator) -> np.ndarray:
    """Breaths in the gaps that are long enough for one (0.25 s).

    Args:
        gaps: the silences.
        level_db: relative to the whole clip's root mean square; under -60 there are none.
    """
    if level_db < -60:
        return samples
    out = samples.copy()
    level = np.sqrt(np.mean(samples**2)) * 10 ** (level_db / 20)
    for start, length in gaps:
        if length >= 0.25:
            air = breath(length * 0.85, rng) * level
            first = round(start * SAMPLE_RATE)
            out[first : first + len(air)] += air[: len(out) - first]
    return out


def dull(samples: np.ndarray, loss_db: float, above_hertz: float) -> np.ndarray:
    """Weaker high frequencies, as from a narrowed or slack vocal tract: a shelf, same length."""
    if not loss_db:
        return samples
    import torch
    from torchaudio.functional import treble_biquad

    wave = torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float64))
    return treble_biquad(wave, SAMPLE_RATE, -loss_db, above_hertz).clamp(-1, 1).numpy()


def decay(samples: np.ndarray, loss_db: float) -> np.ndarray:
    """Breath support runs out: the level falls by `loss_db`, evenly, from the first sample to the last."""
    return samples * 10 ** (np.linspace(0, -loss_db, len(samples)) / 20)


def _nepers(decibels: float) -> float:
    return decibels * np.log(10) / 20


def _take(tracks: Tracks, frames: slice) -> Tracks:
    return Tracks(**{name: track[..., frames] for name, track in vars(tracks).items()})


def _resample(tracks: Tracks, position: np.ndarray, rng: np.random.Generator) -> Tracks:
    """The tracks read at fractional frames. Phase of free sound cannot be read between frames or twice."""
    low = np.minimum(position.astype(int), len(tracks) - 1)
    high = np.minimum(low + 1, len(tracks) - 1)
    part = (position - low).astype(np.float32)
    read = {
        name: track[..., low] * (1 - part) + track[..., high] * part
        for name, track in vars(tracks).items()
        if name != "free_phase"
    }
    random = rng.uniform(-np.pi, np.pi, read["free"].shape).astype(np.float32)
    repeated = np.diff(low, prepend=-1) == 0
    return Tracks(**read, free_phase=np.where(repeated, random, tracks.free_phase[:, low]))


def _mute(tracks: Tracks, silent: np.ndarray) -> Tracks:
    """Silence where `silent`, shape (frames,), with a short fade on both sides."""
    if not silent.any():
        return tracks
    drop = ndimage.uniform_filter1d(silent.astype(np.float32), 2 * FADE + 1) * np.float32(12.0)
    return replace(tracks, harmonics=tracks.harmonics - drop, noise=tracks.noise - drop, free=tracks.free - drop)
