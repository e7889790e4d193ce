"""A simulated speaker, so that a first run needs no recordings and no network: a voice from a wheel, impaired.

The voice of the package hibari-tts reads everyday sentences written for this project, and `speechft.impair` makes
it slow, slurred, flat and breathy. It shows that the tool works. It says nothing about real speech.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from speechft import impair
from speechft.audio import SAMPLE_RATE, encoded
from speechft.corpora.copies import Copies
from speechft.corpora.prepared import refuse_changed, save_prepared
from speechft.errors import SpeechftError, missing_extra
from speechft.impair import FRAMES_PER_SECOND, Impairment, Log, Tracks
from speechft.manifest import Manifest, Utterance

SPEAKER = "simulated"
SHARES = {"train": 304, "dev": 40, "test": 80}  # of the 424 sentences; fewer sentences keep the proportions
WORKERS = 2  # threads; the vocoder and NumPy work outside Python's lock most of the time

# What hibari-tts 0.2.1 holds: the voice, and the model that guesses how an unknown word is spoken.
VOICE_FILES = {
    "hibari.onnx": "5f70741d4e900f4e85d0037498736cc1b3e1b9a63a13546a5da1e63abf4fccd8",
    "oov.onnx": "d3cfd8122c5f172a98c8de38268bf1213ee09f2c2ae4df6e055fc6532590fe76",
}
# Read once, to learn what the neutral vowel of this voice is.
NEUTRAL_TEXT = "Who would have thought that her father could fill the old boat with so many good things to eat?"
CLIP_RMS = 0.05  # root mean square of every clip, as a fraction of full scale

Progress = Callable[[int, int], None]


def prepare_simulated(
    out: Path,
    *,
    n_sentences: int | None = None,
    seed: int = 0,
    severity: float = 1.0,
    progress: Progress | None = None,
) -> Path:
    """Make the simulated speaker's recordings and their manifest, split by sentence.

    The same arguments give the same bytes on the same machine. Clips are FLAC, 16 kHz, mono, 16 bit.

    Args:
        out: folder to write `manifest.jsonl` and `clips/` to; made when missing.
        n_sentences: how many of the 424 sentences, at least 3; None means all.
        seed: chooses which sentence is in which split, and how each utterance varies.
        severity: 0 is the clean voice, 1 costs unmodified tiny.en about half of the words, more is worse.
        progress: called with clips done and clips in all.

    Returns:
        the path of the manifest.

    Raises:
        SpeechftError: hibari-tts is missing or not the version this was made for, an argument is out of range, or see
            `refuse_changed`.
    """
    impairment = _checked(Impairment(), n_sentences, severity)
    path = Path(out) / "manifest.jsonl"
    refuse_changed(path)
    voice = Voice()
    plan = _plan(everyday_sentences(), n_sentences, seed)
    copies = Copies(path, "clips")
    make = partial(_make_clip, voice=voice, impairment=impairment, seed=seed)
    # Pronunciation is looked up here and not in the threads: hibari fills its tables lazily.
    rows = [(number, text, split, voice.phonemes(text)) for number, text, split in plan]
    utterances = []
    with ThreadPoolExecutor(WORKERS) as pool:
        for utterance, sound in pool.map(make, rows):
            utterances.append(replace(utterance, audio=copies.put(utterance.audio, sound)))
            if progress:
                progress(len(utterances), len(rows))
    copies.save()
    save_prepared(Manifest(utterances, path))
    return path


def everyday_sentences() -> list[str]:
    """The sentences that come with the package, in the order of the file."""
    text = resources.files("speechft.corpora").joinpath("everyday_sentences.txt").read_text(encoding="ascii")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


class Voice:
    """The bundled voice, checked, and opened up where its network hands over to its vocoder.

    Raises:
        SpeechftError: hibari-tts is not installed, or a file of it has other contents than expected.
    """

    def __init__(self) -> None:
        try:
            import hibari
            from hibari import dsp
        except ImportError as error:
            if (error.name or "").partition(".")[0] not in ("hibari", "onnxruntime"):
                raise
            raise missing_extra("hibari-tts", "quickstart") from None
        _check_files(Path(hibari.__file__).parent / "assets")
        self._hibari: Any = hibari.Hibari(threads=1)
        self._vocode: Any = dsp.synth
        self.rate: int = hibari.SAMPLE_RATE
        self.neutral: Log = impair.neutral_spectrum(self.tracks(self.phonemes(NEUTRAL_TEXT)))

    def phonemes(self, text: str) -> list[int]:
        """Phoneme numbers of a sentence."""
        spoken: list[int] = self._hibari.ids(" ".join(self._hibari.phonemize(text)))
        return spoken

    def tracks(self, phonemes: list[int]) -> Tracks:
        """What the network tells the vocoder to do."""
        inputs = {"ids": np.asarray([phonemes], np.int64), "speed": np.ones(1, np.float32)}
        return Tracks(*(output[0] for output in self._hibari.sess.run(None, inputs)))

    def sound(self, tracks: Tracks, rng: np.random.Generator) -> np.ndarray:
        """The vocoder: float32 samples at 16 kHz, `len(tracks) / FRAMES_PER_SECOND` seconds of them."""
        import soxr

        samples = self._vocode(*vars(tracks).values(), rng)
        return soxr.resample(samples, self.rate, SAMPLE_RATE)[: len(tracks) * SAMPLE_RATE // FRAMES_PER_SECOND]


def speak(voice: Voice, phonemes: list[int], how: Impairment, rng: np.random.Generator) -> np.ndarray:
    """One utterance of the simulated speaker: all effects in their fixed order.

    Returns:
        float32 samples at 16 kHz, shape (samples,).
    """
    tracks = impair.trim(voice.tracks(phonemes))
    pauses = impair.find_pauses(tracks, how.pauses, how.pause_s, rng)
    tracks = impair.weaken_consonants(tracks, how.weaken_db)
    tracks = impair.centralise(tracks, how.centralise, voice.neutral)
    tracks = impair.retract(tracks, how.retract)
    tracks = impair.flatten_pitch(tracks, how.monotone)
    tracks, gaps = impair.slow(tracks, how.stretch, how.unevenness, pauses, rng)
    tracks = impair.slur(tracks, how.sluggish_s)
    tracks = impair.breathe_through(tracks, how.breath_noise_db)
    samples = voice.sound(tracks, rng)
    samples = impair.add_breaths(samples, gaps, how.breath_db, rng)
    samples = impair.dull(samples, how.dull_db, how.dull_hertz)
    samples = impair.decay(samples, how.decay_db)
    samples = samples * (CLIP_RMS / max(float(np.sqrt(np.mean(samples**2))), 1e-9))
    return np.clip(samples, -1.0, 1.0).astype(np.float32)


def _make_clip(
    row: tuple[int, str, str, list[int]], *, voice: Voice, impairment: Impairment, seed: int
) -> tuple[Utterance, bytes]:
    """A row whose recording has a name and no place yet, and the recording."""
    number, text, split, phonemes = row
    samples = speak(voice, phonemes, impairment, np.random.default_rng([seed, number]))
    name = f"sim{number:03d}"
    utterance = Utterance(
        audio=Path(f"{name}.flac"),
        text=text,
        id=name,
        speaker=SPEAKER,
        split=split,
        duration_s=round(len(samples) / SAMPLE_RATE, 3),
        prompt_id=name,
        language="en",
        extra={"simulated": True},
    )
    return utterance, encoded(samples, container="flac")


def _plan(sentences: list[str], n_sentences: int | None, seed: int) -> list[tuple[int, str, str]]:
    """(line number from 1, sentence, split) of the chosen sentences, in the order of the file."""
    order = list(range(len(sentences)))
    random.Random(seed).shuffle(order)
    order = order[:n_sentences]
    dev, test = (max(1, round(len(order) * SHARES[name] / sum(SHARES.values()))) for name in ("dev", "test"))
    splits = ["test"] * test + ["dev"] * dev
    splits += ["train"] * (len(order) - len(splits))
    return sorted((index + 1, sentences[index], split) for index, split in zip(order, splits, strict=True))


def _checked(impairment: Impairment, n_sentences: int | None, severity: float) -> Impairment:
    most = sum(SHARES.values())
    if n_sentences is not None and not 3 <= n_sentences <= most:
        raise SpeechftError(
            f"n_sentences is {n_sentences}", fix=f"There are {most} sentences; three splits need at least 3."
        )
    if not 0 <= severity <= 2:
        raise SpeechftError(f"severity is {severity}", fix="It goes from 0 (clean) to 1 (default) and up to 2.")
    return impairment.at(severity)


def _check_files(assets: Path) -> None:
    for name, expected in VOICE_FILES.items():
        path = assets / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != expected:
            state = "has other contents than this version was made for" if path.is_file() else "is missing"
            raise SpeechftError(
                f"the voice's file {state}",
                where=path,
                fix="Reinstall it: pip install --force-reinstall --no-deps hibari-tts==0.2.1",
            )
