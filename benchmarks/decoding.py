"""Our decoder against transformers' `generate()` on the same clips, in turn, in one run: seconds and WER.

    python benchmarks/decoding.py MANIFEST [--split dev] [--limit 64] [--rounds 3] [--adapter runs/me/adapter]

`generate()` gets its best: features prepared ahead, clips sorted by length, batches of 16, bf16 weights.
Ours is timed from the same features' samples, features included.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from speechft import Manifest, load
from speechft.adapters import merge
from speechft.audio import log_mel, pad_frames
from speechft.decode import DecodeOptions, decode
from speechft.decoder import inference_copy, inference_dtype
from speechft.scoring import score

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
    for _ in range(a.rounds):
        for name, options in (("ours", DecodeOptions()), ("ours, no retries", DecodeOptions(temperatures=()))):
            started = time.perf_counter()
            texts[name] = [t.text for t in decode(ours, samples, options, ready=True)]
            timings[name].append(time.perf_counter() - started)
        started = time.perf_counter()
        texts["generate()"] = generate(theirs, frames, ours.tokenizer)
        timings["generate()"].append(time.perf_counter() - started)
    peer = statistics.median(timings["generate()"])
    for name, seconds in timings.items():
        middle = statistics.median(seconds)
        wer = score(clips, texts[name]).wer
        print(f"{name:18} {middle:7.2f} s   {peer / middle:5.1f}x generate()   WER {wer:.3f}")


def starts(samples: list) -> range:
    return range(0, len(samples), BATCH)


@torch.inference_mode()
def generate(model, batches: list[torch.Tensor], tokenizer) -> list[str]:
    out = []
    for frames in batches:
        ids = model.generate(frames.to(model.dtype))
        out += tokenizer.batch_decode(ids, skip_special_tokens=True)
    return out


if __name__ == "__main__":
    main()
