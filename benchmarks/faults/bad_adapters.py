"""Adapters that are damaged, hostile, or another model's: each must be refused with a sentence, and run nothing.

python benchmarks/faults/bad_adapters.py [--count 100]
"""

from __future__ import annotations

import argparse
import json
import pickle
import random
import shutil
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
import torch
from common import Tally, in_process, run

from speechft import adapters
from speechft.sources import resolve
from speechft.whisper import load_whisper

BASE = "bundled:tiny.en"
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


class Bomb:
    """What a pickle in disguise would do."""

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return Path.touch, (Path(tempfile.gettempdir()) / "speechft-was-here",)  # type: ignore[return-value]


def main(a: argparse.Namespace) -> Tally:
    tally = Tally("damaged and hostile adapters", notes="truncated, other shapes, pickles, paths, other bases")
    touched = Path(tempfile.gettempdir()) / "speechft-was-here"
    touched.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        good = make(folder / "good")
        sound = folder / "a.wav"
        soundfile.write(sound, 0.1 * np.random.default_rng(0).standard_normal(16_000), 16_000)
        tally.count("the good one", in_process(["transcribe", str(sound), "--adapter", str(good)], (0,)))
        for name, change in changes(a.count):
            bad = folder / "bad"
            shutil.rmtree(bad, ignore_errors=True)
            shutil.copytree(good, bad)
            change(bad)
            tally.count(name, in_process(["transcribe", str(sound), "--adapter", str(bad)]))
        tally.count("nothing was run", "a pickle was loaded" if touched.exists() else None)
    return tally


def make(folder: Path) -> Path:
    whisper = load_whisper(BASE, device="cpu")
    model = adapters.attach(whisper.model, rank=2, placement="decoder")
    base = resolve(BASE)
    card = {"model": BASE, "context": "clip", "base_sha256": adapters.base_hash(base)}
    return adapters.save(model, folder, card, BASE, base)


def changes(count: int) -> list[tuple[str, Callable[[Path], object]]]:
    rng = random.Random(0)

    def weights(data: Callable[[bytes], bytes]) -> Callable[[Path], object]:
        return lambda folder: (folder / WEIGHTS).write_bytes(data((folder / WEIGHTS).read_bytes()))

    def config(**values: object) -> Callable[[Path], object]:
        def change(folder: Path) -> None:
            old = json.loads((folder / CONFIG).read_text())
            (folder / CONFIG).write_text(json.dumps(old | values))

        return change

    def card(text: str) -> Callable[[Path], object]:
        return lambda folder: (folder / adapters.CARD).write_text(text)

    def tensors(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], object]:
        from safetensors.torch import load_file, save_file

        def apply(folder: Path) -> None:
            state = {name: change(t).contiguous() for name, t in load_file(folder / WEIGHTS).items()}
            save_file(state, folder / WEIGHTS)

        return apply

    def pickled(name: str) -> Callable[[Path], object]:
        def apply(folder: Path) -> None:
            (folder / WEIGHTS).unlink()
            (folder / name).write_bytes(pickle.dumps(Bomb()))

        return apply

    cut = [(f"cut at {share:.0%}", weights(lambda d, s=share: d[: int(len(d) * s)])) for share in (0, 0.001, 0.3, 0.99)]
    places = [rng.random() for _ in range(count)]
    cut += [(f"cut at {share:.3%}", weights(lambda d, s=share: d[: int(len(d) * s)])) for share in places]
    return [
        *cut,
        ("a huge header", weights(lambda d: struct.pack("<Q", 1 << 60) + d[8:])),
        ("a header of another length", weights(lambda d: struct.pack("<Q", 5) + d[8:])),
        ("a header that is no JSON", weights(lambda d: d[:8] + b"x" * 200 + d[208:])),
        ("no weights", lambda folder: (folder / WEIGHTS).unlink()),
        ("a pickle instead", pickled("adapter_model.bin")),
        ("a pickle called safetensors", pickled(WEIGHTS)),
        ("other shapes", tensors(lambda t: t[:, : t.shape[1] // 2])),
        ("other rank", config(r=3)),
        ("not numbers", tensors(lambda t: torch.full_like(t, float("nan")))),
        ("no config", lambda folder: (folder / CONFIG).unlink()),
        ("a config that is no JSON", lambda folder: (folder / CONFIG).write_text("{")),
        ("a config that is a list", lambda folder: (folder / CONFIG).write_text("[]")),
        ("a kind that is none", config(peft_type="MAGIC")),
        ("remote code", config(auto_mapping={"base_model_class": "os", "parent_library": "os"}, peft_type=None)),
        ("a damaged card", card("{")),
        ("a card that is a list", card("[]")),
        ("a card with another context", card(json.dumps({"model": BASE, "context": "always"}))),
        ("another base", card(json.dumps({"model": "bundled:base", "context": "clip", "base_sha256": "0"}))),
        ("a base that is a path", card(json.dumps({"model": "../../etc/passwd", "context": "clip"}))),
        ("a base that is a number", card(json.dumps({"model": 3, "context": "clip"}))),
    ]


if __name__ == "__main__":
    run(main, __doc__, 30)
