"""Every container at odd rates and channels gives the right sound; log-mel is what transformers computes."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import torch
from transformers import WhisperFeatureExtractor

from speechft.audio import SAMPLE_RATE, load_audio, log_mel, pad_frames, silence_after
from speechft.errors import SpeechftError

SECONDS = 1.5
TONE = 440.0  # Hz
SLACK = 0.1  # seconds a lossy codec may add at the ends: two AAC frames at 22 kHz


def tone(rate: int, channels: int = 1, seconds: float = SECONDS, hertz: float = TONE) -> np.ndarray:
    """A tone with a little noise, so that every codec has something to do. float32 (samples, channels)."""
    samples = 0.4 * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)
    samples += 0.01 * np.random.default_rng(0).standard_normal(samples.size)
    return np.repeat(samples[:, None], channels, axis=1).astype(np.float32)


def write_av(path: Path, samples: np.ndarray, rate: int, codec: str) -> None:
    """Encode as phones and browsers do."""
    layout = "mono" if samples.shape[1] == 1 else "stereo"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples.T), format="fltp", layout=layout)
        frame.sample_rate, frame.pts = rate, 0
        queue = av.AudioFifo()
        stream.codec_context.open()
        resampler = av.AudioResampler(format=stream.codec_context.format.name, layout=layout, rate=rate)
        for block in resampler.resample(frame):
            queue.write(block)
        while block := queue.read(stream.codec_context.frame_size or 1024, partial=True):
            container.mux(stream.encode(block))
        container.mux(stream.encode(None))


def write(path: Path, rate: int, channels: int = 1, seconds: float = SECONDS) -> None:
    samples = tone(rate, channels, seconds)
    if path.suffix == ".m4a":
        write_av(path, samples, rate, "aac")
    elif path.suffix == ".webm":
        write_av(path, samples, rate, "libopus")
    elif path.suffix == ".opus":
        soundfile.write(path, samples, rate, format="OGG", subtype="OPUS")
    else:
        soundfile.write(path, samples, rate)


def loudest_hertz(samples: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(samples.size)))
    return float(np.fft.rfftfreq(samples.size, 1 / SAMPLE_RATE)[spectrum.argmax()])


CASES = [
    ("a.wav", 8_000, 1),
    ("a.wav", 16_000, 2),
    ("a.wav", 44_100, 2),
    ("a.wav", 11_025, 6),
    ("a.flac", 22_050, 1),
    ("a.flac", 96_000, 2),
    ("a.mp3", 44_100, 2),
    ("a.mp3", 16_000, 1),
    ("a.ogg", 32_000, 1),
    ("a.ogg", 48_000, 2),
    ("a.opus", 48_000, 1),
    ("a.opus", 24_000, 2),
    ("a.m4a", 44_100, 2),
    ("a.m4a", 22_050, 1),
    ("a.webm", 48_000, 2),
    ("a.webm", 48_000, 1),
]


@pytest.mark.parametrize(("name", "rate", "channels"), CASES)
def test_container(tmp_path: Path, name: str, rate: int, channels: int) -> None:
    write(tmp_path / name, rate, channels)
    samples = load_audio(tmp_path / name)
    assert samples.dtype == np.float32
    assert samples.ndim == 1
    assert samples.flags["C_CONTIGUOUS"]
    slack = 0.0005 if name.endswith(("wav", "flac")) else SLACK
    assert samples.size / SAMPLE_RATE == pytest.approx(SECONDS, abs=slack)
    assert loudest_hertz(samples) == pytest.approx(TONE, abs=1.5)
    assert 0.3 < np.abs(samples).max() < 0.6


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW"])
def test_wav_sample_formats(tmp_path: Path, subtype: str) -> None:
    soundfile.write(tmp_path / "a.wav", tone(16_000), 16_000, subtype=subtype)
    assert np.abs(load_audio(tmp_path / "a.wav") - tone(16_000)[:, 0]).max() < 0.02


def test_channels_are_averaged(tmp_path: Path) -> None:
    both = np.stack([np.full(1600, 0.5), np.full(1600, -0.1)], axis=1)
    soundfile.write(tmp_path / "a.wav", both, 16_000, subtype="FLOAT")
    assert load_audio(tmp_path / "a.wav") == pytest.approx(np.full(1600, 0.2), abs=1e-6)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.m4a", "a.webm"])
def test_segment_is_that_part_of_the_whole(tmp_path: Path, name: str) -> None:
    rate = 48_000
    samples = np.concatenate([tone(rate, 1, 0.5, hertz) for hertz in (300.0, 600.0, 900.0)])
    if name.endswith(("m4a", "webm")):
        write_av(tmp_path / name, samples, rate, "aac" if name.endswith("m4a") else "libopus")
    else:
        soundfile.write(tmp_path / name, samples, rate)
    part = load_audio(tmp_path / name, 0.5, 1.0)
    assert part.size == 8000
    assert loudest_hertz(part) == pytest.approx(600, abs=3)
    assert loudest_hertz(load_audio(tmp_path / name, 1.1)) == pytest.approx(900, abs=4)
    assert loudest_hertz(load_audio(tmp_path / name, None, 0.4)) == pytest.approx(300, abs=4)


def test_segment_past_the_end_is_an_error_and_one_over_the_end_is_not(tmp_path: Path) -> None:
    write(tmp_path / "a.wav", 16_000)
    assert load_audio(tmp_path / "a.wav", 1.0, 9.0).size == 8000
    with pytest.raises(SpeechftError, match=r"holds no samples between 2.0 and 3.0 s"):
        load_audio(tmp_path / "a.wav", 2.0, 3.0)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.ogg", "a.opus", "a.m4a", "a.webm"])
@pytest.mark.parametrize("kept", [0, 7, 40])
def test_file_cut_to_its_first_bytes(tmp_path: Path, name: str, kept: int) -> None:
    write(tmp_path / name, 48_000)
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:kept])
    with pytest.raises(SpeechftError, match=name) as caught:
        load_audio(tmp_path / name, where="train.jsonl:3")
    assert str(caught.value).startswith("train.jsonl:3: ")
    assert caught.value.fix


@pytest.mark.parametrize("name", ["a.flac", "a.m4a"])
def test_file_cut_in_half_is_not_taken_for_a_short_recording(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, 48_000)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(SpeechftError, match="cannot be decoded"):
        load_audio(tmp_path / name)


def test_errors_name_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("this is not sound")
    soundfile.write(tmp_path / "empty.wav", np.zeros((0, 1)), 16_000)
    soundfile.write(tmp_path / "nan.wav", np.array([0.1, np.nan, 0.1]), 16_000, subtype="FLOAT")
    for name, what in [
        ("gone.wav", "does not exist"),
        (".", "is a folder"),
        ("text.wav", r"cannot be decoded \(Invalid data found when processing input\)\."),
        ("empty.wav", "holds no samples"),
        ("nan.wav", "not numbers"),
    ]:
        with pytest.raises(SpeechftError, match=what):
            load_audio(tmp_path / name)


@pytest.mark.parametrize("n_mels", [80, 128])
@pytest.mark.parametrize("seconds", [0.3, 2.345])
def test_log_mel_equals_transformers(n_mels: int, seconds: float) -> None:
    samples = tone(16_000, 1, seconds)[:, 0]
    samples[: samples.size // 3] = 0.0
    theirs = WhisperFeatureExtractor(feature_size=n_mels)(samples, sampling_rate=16_000, return_tensors="pt")
    ours = pad_frames([log_mel(samples, n_mels)], 3000)
    assert ours.shape == theirs.input_features.shape
    assert (ours - theirs.input_features).abs().max() < 1e-4


def test_log_mel_of_a_clip_does_not_depend_on_its_neighbours() -> None:
    quiet, loud = log_mel(0.01 * tone(16_000)[:, 0]), log_mel(tone(16_000)[:, 0])
    batch = pad_frames([quiet, loud], 400)
    assert torch.equal(batch[0], pad_frames([quiet], 400)[0])
    assert batch[0, 0, -1] == silence_after(quiet)


def test_silence_has_a_value() -> None:
    frames = log_mel(np.zeros(16_000, np.float32))
    assert torch.isfinite(frames).all()
    assert silence_after(frames) == pytest.approx(-1.5)


def test_three_samples_at_a_high_rate_are_no_recording(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.full(3, 0.1), 384_000)
    with pytest.raises(SpeechftError, match="holds no samples"):
        load_audio(tmp_path / "a.wav")


def test_a_rate_that_a_small_file_would_become_gigabytes_by_is_refused(tmp_path: Path) -> None:
    for rate, taken in ((1, False), (999, False), (1000, True)):
        soundfile.write(tmp_path / "a.wav", np.full(4000, 0.1), rate)
        if taken:
            assert load_audio(tmp_path / "a.wav").size == 64_000
            continue
        with pytest.raises(SpeechftError, match=f"claims {rate} samples per second") as refused:
            load_audio(tmp_path / "a.wav")
        assert refused.value.fix
