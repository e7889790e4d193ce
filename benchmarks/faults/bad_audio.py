"""Broken recordings of every kind, through `check`, `prepare folder` and the decoder of files.

    python benchmarks/faults/bad_audio.py [--count 400]

Each must end in a recording that is used, or in a sentence about it; nothing else may happen, and what is right beside
it must still be used: by `transcribe` and `train` too, which get the strange ones among good ones.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import random
import tempfile
import warnings
from pathlib import Path

import av
import numpy as np
import soundfile
from common import complaint, run, speechft
from tally import Tally

from speechft.audio import LOWEST_RATE, load_audio
from speechft.check import usable
from speechft.corpora.folder import prepare_folder
from speechft.errors import SpeechftError
from speechft.manifest import Manifest

SHORT = 0.05  # seconds of the recordings that are cut at every byte
RATES = (1, 7, 100, 4000, 8000, 11_025, 44_100, 96_000, 384_000)
KINDS = {"wav": "WAV", "flac": "FLAC", "ogg": "OGG"}  # some have not all rates and channels
REFUSED = {f"rate{rate}.{ending}" for rate in RATES for ending in KINDS if rate < LOWEST_RATE}
REFUSED |= {"nan.wav", "infinite.wav"}  # and not heard as silence
GOOD = 8  # clips beside the strange ones


def main(a: argparse.Namespace) -> Tally:
    warnings.simplefilter("ignore")
    tally = Tally("broken recordings", notes="wav, flac, mp3, ogg, m4a, webm; cut, damaged, strange")
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        for name, data in cases(random.Random(0), a.count):
            tally.count(name, decode(folder / name, data))
        tally.count("all of them beside a good one", together(folder))
        given = among_good_ones(folder, folder / "strange")
        tally.count("strange ones among good ones: transcribe", transcribed(folder / "strange", given))
        tally.count("strange ones among good ones: train", trained_on(folder / "strange", given))
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


def among_good_ones(folder: Path, out: Path) -> dict[Path, bool]:
    """Strange recordings and good ones in a folder of their own, and which of them can be read."""
    out.mkdir()
    names = ["nan.wav", "infinite.wav", "silence.wav", "one.wav", "offset.wav", "channels.wav", "channels.flac"]
    names += ["channels.ogg", "rate1.wav", "rate384000.flac", "empty.wav", "none.wav", "short384000.wav"]
    found = {}
    for number in range(GOOD):
        (good := out / f"good{number}.wav").write_bytes(encoded(speech(1 + number / 10), 16_000, "WAV"))
        found[good] = True
    for name in names:
        if (folder / name).exists():
            strange = out / f"{name.replace('.', '-')}{Path(name).suffix}"  # transcripts have the names before the dot
            strange.write_bytes((folder / name).read_bytes())
            found[strange] = readable(strange)
    (cut := out / "half.flac").write_bytes((folder / "whole.flac").read_bytes()[:5000])
    return found | {cut: readable(cut)}


def readable(path: Path) -> bool:
    try:
        load_audio(path)
    except SpeechftError:
        return False
    return True


def transcribed(folder: Path, given: dict[Path, bool]) -> str | None:
    """What is wrong with how they are transcribed together: each is written or named."""
    done = speechft("transcribe", "--format", "json", "--out", folder / "texts", *given)
    if wrong := complaint(done):
        return wrong
    for path, good in given.items():
        written = (folder / "texts" / f"{path.stem}.json").is_file()
        named = f"{path}: " in done.stderr
        if (written, named) != (good, not good):
            return f"{path.name}: {'written' if written else 'not written'}, {'named' if named else 'not named'}"
    return None


def trained_on(folder: Path, given: dict[Path, bool]) -> str | None:
    """What is wrong with how they are trained on together: each that cannot be read is listed with its reason."""
    parts = ["dev", "test"]
    rows = [{"audio": path.name, "text": f"number {n}", "split": parts[n] if n < 2 else "train"}
            for n, path in enumerate(given)]  # fmt: skip
    manifest = folder / "m.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    small = ["epochs=1", "min_steps=0", "batch_size=4", "adapter.rank=1", "evaluations=1"]
    done = speechft("train", f"manifest={manifest}", f"output_dir={folder / 'out'}", *small)
    if wrong := complaint(done, (0,)):
        return wrong
    result = json.loads((folder / "out" / "result.json").read_text())
    left_out = {entry["where"] for entry in result["left_out"]}
    bad = {f"m.jsonl:{n}" for n, good in enumerate(given.values(), 1) if not good}
    if lost := bad - left_out:
        return f"neither trained on nor named in the result: {sorted(lost)}"
    if lost := {where for where in bad if where not in done.stderr + done.stdout}:
        return f"not told: {sorted(lost)}"
    if wrongly := left_out & {f"m.jsonl:{n}" for n in range(1, GOOD + 1)}:
        return f"good ones left out: {sorted(wrongly)}"
    return None


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
    for ending, kind in KINDS.items():
        for rate in RATES if kind != "OGG" else RATES[:-1]:  # libsndfile crashes when it writes the last
            with contextlib.suppress(soundfile.SoundFileError):
                found.append((f"rate{rate}.{ending}", encoded(speech(), rate, kind)))
                found.append((f"short{rate}.{ending}", encoded(speech()[:3], rate, kind)))
        for channels in (32, 8):  # flac has 8 at most
            with contextlib.suppress(soundfile.SoundFileError):
                found.append((f"channels.{ending}", encoded(np.tile(speech()[:, None], (1, channels)), 16_000, kind)))
                break
    strange = {
        "nan": np.full(16_000, np.nan), "infinite": np.full(16_000, np.inf), "silence": np.zeros(16_000),
        "offset": np.full(16_000, 0.7), "one": np.ones(1), "loud": 100 * speech(), "hour": np.zeros(3600 * 8000),
    }  # fmt: skip
    found += [(f"{n}.wav", encoded(x.astype(np.float32), 8000, "WAV", "FLOAT")) for n, x in strange.items()]
    return [*found, ("empty.wav", b""), ("none.wav", encoded(np.zeros(0, np.float32), 16_000, "WAV"))]


if __name__ == "__main__":
    run(main, __doc__, 400)
