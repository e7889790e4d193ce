"""Sound in: any container to mono 16 kHz samples, and samples to the log-mel frames Whisper reads. And out: as a file.

The numbers are those of the Whisper paper (Radford et al., 2022, arXiv 2212.04356, section 2.2): 25 ms windows
every 10 ms, 80 mel bins (128 since large-v3), a floor 80 dB below the loudest value of the clip.
"""

from __future__ import annotations

import io
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import soundfile

from speechft.cut_off import cut_off, for_libsndfile
from speechft.errors import SpeechftError
from speechft.files import hindrance, write_bytes

if TYPE_CHECKING:
    import torch  # imported where it is used: processes that only decode files are small without it

Seconds = float

SAMPLE_RATE = 16_000  # samples per second
LOWEST_RATE = 1000  # samples per second of a file; at 1, a few kilobytes would become gigabytes
N_FFT = 400  # samples: 25 ms
HOP_LENGTH = 160  # samples: 10 ms
WINDOW_SECONDS = 30.0  # the longest stretch the encoder has positions for
SILENT_PEAK = 1e-4  # of full scale (-80 dB): below it there is nothing to hear
SOUND_WITHIN = 4000  # samples: a recording that is no silence hardly ever begins with more of it
FRAMES_PER_SECOND = SAMPLE_RATE // HOP_LENGTH  # 100 log-mel frames
MAX_FRAMES = int(WINDOW_SECONDS * FRAMES_PER_SECOND)  # 3000 frames in, 1500 encoder positions out
LOG_FLOOR = 2.0  # a clip's floor lies this far below its loudest log-mel value: 8 decades / 4

_ADVICE = "Record or export it again (wav and flac are safest), or drop the row."


class Undecodable(SpeechftError):
    """A recording that no library here can read.

    Attributes:
        plain: what is wrong, for people who know nothing of libraries.
        reason: what the library says of it, for a terminal or a log; `what` has both.
    """

    def __init__(self, plain: str, *, reason: str = "", where: object = None, fix: str = "") -> None:
        super().__init__(f"{plain} ({reason})" if reason else plain, where=where, fix=fix)
        self.plain, self.reason = plain, reason


def load_audio(
    path: str | Path | BinaryIO,
    start_s: Seconds | None = None,
    end_s: Seconds | None = None,
    *,
    where: object = None,
) -> np.ndarray:
    """Decode a recording, or the stretch from `start_s` to `end_s` of it, to mono 16 kHz.

    libsndfile reads wav, flac, mp3 and ogg; what it cannot (m4a, webm, amr, video) goes through PyAV. Channels
    are averaged. Samples that are not finite are an error, not silence.

    Args:
        path: the file, or one that is open in binary mode.
        start_s, end_s: seconds from the start of the file; None means from its start or to its end.
        where: what to name in an error instead of the path, such as a manifest row.

    Returns:
        float32 samples in [-1, 1], shape (samples,).

    Raises:
        SpeechftError: the file is missing or unreadable, or holds no samples or too few a second.
    """
    source: str | BinaryIO
    if isinstance(path, str | Path):
        path = Path(path)
        name, source, where = f"audio '{path.name}'", str(path), where or path
        if what := hindrance(path):
            raise SpeechftError(f"{name} {what}", where=where, fix="Check the path, or drop the row.")
    else:
        name, source = "the recording", path
    try:
        samples, rate = _read_soundfile(source, start_s, end_s)
    except (soundfile.SoundFileError, RuntimeError):
        if not isinstance(source, str):
            source.seek(0)
        samples, rate = _read_av(source, start_s, end_s, name, where)
    except MemoryError:
        raise SpeechftError(f"{name} claims to be longer than fits in memory", where=where, fix=_ADVICE) from None
    if not np.isfinite(samples).all():
        raise SpeechftError(f"{name} holds samples that are not numbers", where=where, fix=_ADVICE, kind="not-finite")
    if rate < LOWEST_RATE:
        raise SpeechftError(f"{name} claims {rate} samples per second, too few for speech", where=where, fix=_ADVICE)
    if rate != SAMPLE_RATE:
        import soxr  # 25 ms to import; most corpora are at 16 kHz already

        samples = soxr.resample(samples, rate, SAMPLE_RATE) if samples.size else samples
    if samples.size == 0:  # also three samples of a recorder that makes 384,000 a second
        span = "" if start_s is None and end_s is None else f" between {start_s} and {end_s} s"
        raise SpeechftError(f"{name} holds no samples{span}", where=where, fix=_ADVICE, kind="empty")
    return np.ascontiguousarray(samples, dtype=np.float32)


def holds_nothing(path: Path) -> bool:
    """Whether a whole recording is silence, with a constant offset or without; read no further than its first sound.

    False also where only decoding it all could tell: what libsndfile cannot read, and noise at the edge of silence.
    """
    low, high = np.inf, -np.inf
    try:
        with soundfile.SoundFile(for_libsndfile(str(path))) as file, np.errstate(invalid="ignore"):
            for block in file.blocks(SOUND_WITHIN, dtype="float32", always_2d=True):
                mono = block.mean(axis=1)
                low, high = min(low, mono.min()), max(high, mono.max())
                if not high - low < SILENT_PEAK:  # or not a number
                    return False
    except (soundfile.SoundFileError, RuntimeError):
        return False
    return bool(low <= high)


def _read_soundfile(source: str | BinaryIO, start_s: Seconds | None, end_s: Seconds | None) -> tuple[np.ndarray, int]:
    with soundfile.SoundFile(for_libsndfile(source) if isinstance(source, str) else source) as file:
        rate = file.samplerate
        start = round((start_s or 0.0) * rate)
        stop = file.frames if end_s is None else min(file.frames, round(end_s * rate))
        if start >= stop:
            return np.zeros(0, np.float32), rate
        if start:
            file.seek(start)
        return _mono(file.read(stop - start, dtype="float32", always_2d=True)), rate


def _read_av(
    source: str | BinaryIO, start_s: Seconds | None, end_s: Seconds | None, name: str, where: object
) -> tuple[np.ndarray, int]:
    import av  # 60 ms to import, and only phone and browser formats need it

    try:
        with av.open(source, mode="r") as container:
            if not container.streams.audio:
                raise SpeechftError(f"{name} holds no sound", where=where, fix=_ADVICE)
            stream = container.streams.audio[0]
            rate = stream.rate
            to_float = av.AudioResampler(format="fltp", layout=stream.layout, rate=rate)
            blocks = [
                block.to_ndarray()
                for frame in container.decode(stream)
                for block in to_float.resample(frame)
                if end_s is None or frame.time is None or frame.time <= end_s
            ]
            blocks += [block.to_ndarray() for block in to_float.resample(None)]
    except (av.FFmpegError, OSError, ValueError, AttributeError) as error:  # the last of a stream without a codec
        reason = getattr(error, "strerror", None) or type(error).__name__  # the whole message names the file again
        cut = cut_off(Path(source)) if isinstance(source, str) else ""
        plain = f"{name} cannot be decoded" + (f": it {cut}" if cut else "")
        raise Undecodable(plain, reason=reason, where=where, fix=_ADVICE) from None
    if not blocks:
        return np.zeros(0, np.float32), rate
    samples = _mono(np.concatenate(blocks, axis=1).T)
    return samples[round((start_s or 0.0) * rate) : None if end_s is None else round(end_s * rate)], rate


def _mono(samples: np.ndarray) -> np.ndarray:
    """(samples, channels) to (samples,), by the mean, so that no channel is favoured."""
    return samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1, dtype=np.float32)


def encoded(samples: np.ndarray, rate: int = SAMPLE_RATE, container: str = "wav", subtype: str = "PCM_16") -> bytes:
    """Samples as the bytes of a file.

    Args:
        samples: in [-1, 1], shape (samples,) or (samples, channels).
        rate: a second.
        container, subtype: as libsndfile calls them.
    """
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=container, subtype=subtype)
    return file.getvalue()


def write_audio(path: Path, samples: np.ndarray) -> Path:
    """Write 16 kHz samples, whole or not at all, as a wav or flac file; its ending says which.

    Raises:
        OSError: as of any file; libsndfile, when it writes itself, has no word for a full disk.
    """
    return write_bytes(path, encoded(samples, container=path.suffix.removeprefix(".")))


@lru_cache(maxsize=4)
def mel_filters(n_mels: int) -> torch.Tensor:
    """Slaney mel filterbank as Whisper uses it, shape (n_mels, N_FFT // 2 + 1)."""
    import torch
    from transformers.audio_utils import mel_filter_bank

    bank = mel_filter_bank(
        num_frequency_bins=N_FFT // 2 + 1,
        num_mel_filters=n_mels,
        min_frequency=0.0,
        max_frequency=SAMPLE_RATE / 2,
        sampling_rate=SAMPLE_RATE,
        norm="slaney",
        mel_scale="slaney",
    )
    return torch.from_numpy(bank.T.astype(np.float32)).contiguous()


def log_mel(samples: np.ndarray | torch.Tensor, n_mels: int = 80) -> torch.Tensor:
    """Log-mel frames of one clip, with the two frames its last window rings on into.

    Silence after the clip is `silence_after(frames)` in every bin, so a clip is computed once and padded later;
    the clamp is the clip's own and features never depend on their neighbours in a batch.

    Args:
        samples: shape (samples,), mono 16 kHz.
        n_mels: 80, or 128 for large-v3 models.

    Returns:
        float32, shape (n_mels, frames), 100 frames a second.
    """
    import torch

    wave = torch.as_tensor(samples, dtype=torch.float32)
    n_frames = -(-wave.numel() // HOP_LENGTH) + 2
    wave = torch.nn.functional.pad(wave, (0, n_frames * HOP_LENGTH - wave.numel()))
    spectrum = torch.stft(wave, N_FFT, HOP_LENGTH, window=hann(), return_complex=True)[:, :-1]
    power = spectrum.real.square() + spectrum.imag.square()
    log = torch.clamp(mel_filters(n_mels) @ power, min=1e-10).log10()
    log = torch.maximum(log, log.max() - 4 * LOG_FLOOR)
    return (log + 4.0) / 4.0


@lru_cache(maxsize=1)
def hann() -> torch.Tensor:
    """The window of every spectrum here, shape (400,)."""
    import torch

    return torch.hann_window(N_FFT)


def silence_after(frames: torch.Tensor) -> float:
    """The log-mel value of digital silence appended to a clip: the floor its own loudest value sets.

    A clip of nothing but zeros has its maximum at the absolute floor of 1e-10, which is then silence too.
    """
    absolute_floor = (-10.0 + 4.0) / 4.0
    return max(float(frames.max()) - LOG_FLOOR, absolute_floor)


def pad_frames(clips: list[torch.Tensor], n_frames: int) -> torch.Tensor:
    """Stack clips of (n_mels, frames) into (batch, n_mels, n_frames), silence after each, longer ones cut."""
    batch = clips[0].new_empty(len(clips), clips[0].shape[0], n_frames)
    for row, frames in zip(batch, clips, strict=True):
        kept = min(frames.shape[1], n_frames)
        row[:, :kept] = frames[:, :kept]
        row[:, kept:] = silence_after(frames)
    return batch
