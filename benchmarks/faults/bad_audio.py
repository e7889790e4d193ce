"""Broken recordings of every kind, through `check`, `prepare folder` and the decoder of files.

    python benchmarks/faults/bad_audio.py [--count 400]

Each must end in a recording that is used, or in a sentence about it; nothing else may happen, and what is right beside
it must still be used.
"""

from __future__ import annotations

import argparse
import io
import random
import tempfile
import warnings
from pathlib import Path

import av
import numpy as np
import soundfile
from common import Tally, run

from speechft.audio import LOWEST_RATE, load_audio
from speechft.check import usable
from speechft.corpora.folder import prepare_folder
from speechft.errors import SpeechftError
from speechft.manifest import Manifest

SHORT = 0.05  # seconds of the recordings that are cut at every byte
RATES = (1, 7, 100, 4000, 8000, 11_025, 44_100, 96_000, 384_000)
REFUSED = {f"rate{rate}.wav" for rate in RATES if rate < LOWEST_RATE}


def main(a: argparse.Namespace) -> Tally:
    warnings.simplefilter("ignore")
    tally = Tally("broken recordings", notes="wav, flac, mp3, ogg, m4a, webm; cut, damaged, strange")
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        for name, data in cases(random.Random(0), a.count):
            tally.count(name, decode(folder / name, data))
        tally.count("all of them beside a good one", together(folder))
        cut = folder / "cut"
        cut.mkdir()
        for ending, data in whole(SHORT).items():
            for length in range(len(data)):
                tally.count(f"the first {length} bytes of {ending}", decode(cut / f"cut.{ending}", data[:length]))
    return tally


def decode(path: Path, data: bytes) -> str | None:
    path.write_bytes(data)
    try:
        samples = load_audio(path)
    except SpeechftError as error:
        return None if error.what and error.fix else "an error without advice"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    if path.name in REFUSED:
        return "taken all the same"
    return None if samples.ndim == 1 and samples.size and np.isfinite(samples).all() else "samples that are no sound"


def together(folder: Path) -> str | None:
    """Prepare and check the folder with a good recording in it."""
    (folder / "good.wav").write_bytes(encoded(speech(), 16_000, "WAV"))
    recordings = {path.name for path in folder.iterdir()}
    for path in list(folder.iterdir()):
        path.with_suffix(".txt").write_text("some words")
    try:
        prepared = prepare_folder(folder, folder / "out")
        rows, problems = usable(prepared.manifest.path or "")
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    if "good" not in {u.id for u in rows}:
        return "the good recording is gone"
    taken = {u.audio.name for u in prepared.manifest} | {where for where, _ in prepared.left_out}
    if lost := recordings - taken:
        return f"neither prepared nor named: {sorted(lost)[:5]}"
    known = {u.where for u in rows} | {p.where for p in problems if p.severity == "error"}
    lost = {u.where for u in Manifest.load(prepared.manifest.path or "")} - known
    return f"neither used nor named by check: {sorted(lost)[:5]}" if lost else None


def speech(seconds: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (0.1 * rng.standard_normal(int(16_000 * seconds))).astype(np.float32)


def encoded(samples: np.ndarray, rate: int, kind: str, subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, subtype=subtype)
    return file.getvalue()


def container(kind: str, codec: str, rate: int, seconds: float) -> bytes:
    """Noise as phones and browsers store it."""
    file = io.BytesIO()
    with av.open(file, "w", format=kind) as out:
        stream = out.add_stream(codec, rate=rate)
        samples = speech(seconds * rate / 16_000)[None, :]
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout="mono")
        frame.rate = rate
        resampler = av.AudioResampler(format=stream.format.name, layout="mono", rate=rate, frame_size=1024)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            out.mux(stream.encode(part))
        out.mux(stream.encode(None))
    return file.getvalue()


def whole(seconds: float) -> dict[str, bytes]:
    """A recording that is right, by the ending of its format."""
    return {
        "wav": encoded(speech(seconds), 16_000, "WAV"),
        "flac": encoded(speech(seconds), 16_000, "FLAC"),
        "ogg": encoded(speech(seconds), 16_000, "OGG"),
        "mp3": encoded(speech(seconds), 16_000, "MP3"),
        "m4a": container("ipod", "aac", 16_000, seconds),
        "webm": container("webm", "libopus", 48_000, seconds),
    }


def cases(rng: random.Random, count: int) -> list[tuple[str, bytes]]:
    """Names and contents of files."""
    right = whole(1.0)
    found = [(f"whole.{ending}", data) for ending, data in right.items()]
    for number in range(count):
        ending, data = rng.choice(list(right.items()))
        cut = bytearray(data[: rng.randrange(len(data))])
        if number % 2 and cut:
            for _ in range(rng.randrange(1, 30)):
                cut[rng.randrange(len(cut))] = rng.randrange(256)
        found.append((f"cut{number}.{ending}", bytes(cut)))
        if number % 20 == 0:
            found.append((f"wrong{number}.{rng.choice(list(right))}", data))
            found.append((f"noise{number}.{ending}", rng.randbytes(rng.randrange(5000))))
    for rate in RATES:
        found.append((f"rate{rate}.wav", encoded(speech(), rate, "WAV")))
        found.append((f"short{rate}.wav", encoded(speech()[:3], rate, "WAV")))
    strange = {
        "nan": np.full(16_000, np.nan), "infinite": np.full(16_000, np.inf), "silence": np.zeros(16_000),
        "offset": np.full(16_000, 0.7), "one": np.ones(1), "loud": 100 * speech(), "hour": np.zeros(3600 * 8000),
        "channels": np.tile(speech()[:, None], (1, 32)),
    }  # fmt: skip
    found += [(f"{n}.wav", encoded(x.astype(np.float32), 8000, "WAV", "FLOAT")) for n, x in strange.items()]
    return [*found, ("empty.wav", b""), ("none.wav", encoded(np.zeros(0, np.float32), 16_000, "WAV"))]


if __name__ == "__main__":
    run(main, __doc__, 400)
