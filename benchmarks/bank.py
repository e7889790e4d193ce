"""Many adapters in mixed batches against one adapter: throughput, and memory for each further adapter.

    python benchmarks/bank.py MANIFEST [--adapter runs/me/adapter] [--voices 64] [--limit 64] [--rounds 5]

The voices are copies of one adapter, each with a little noise on its matrices, so that all of them decode about the
same words and only the serving differs. Compared in turn, in one run: the adapter merged into the base model, a bank
that serves it to all clips, and a bank that serves each clip another voice. Without --adapter, LoRA matrices of --rank
are made that hardly change the model. On a machine that does other work too, read the processor's time.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import torch
from safetensors.torch import load_file

from speechft import adapters, exits
from speechft.bank import AdapterBank
from speechft.decode import decode
from speechft.decoder import inference_copy
from speechft.files import save_tensors
from speechft.manifest import Manifest
from speechft.recogniser import load
from speechft.sources import resolve
from speechft.transcript import DecodeOptions
from speechft.whisper import load_whisper

ALL = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]
PLAIN = DecodeOptions(temperatures=())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest")
    parser.add_argument("--split", default="dev")
    parser.add_argument("--model", default="bundled:tiny.en")
    parser.add_argument("--adapter", type=Path)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--voices", type=int, default=64)
    parser.add_argument("--limit", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    a = parser.parse_args()
    clips = [u.load() for u in Manifest.load(a.manifest).split(a.split)[: a.limit]]
    with tempfile.TemporaryDirectory() as work:
        source = a.adapter or made(a.model, a.rank, Path(work) / "one")
        names = [f"voice{n:03d}" for n in range(a.voices)]
        for seed, name in enumerate(names):
            vary(source, Path(work) / "voices" / name, seed)
        single = load(a.model, source)
        merged = inference_copy(single.whisper)
        bank = AdapterBank(load_whisper(a.model), Path(work) / "voices", capacity=a.voices)
        before = psutil.Process().memory_info().rss
        started = time.perf_counter()
        with bank.using(names), torch.inference_mode():
            bank.select(range(a.voices))
        loading = time.perf_counter() - started
        growth = psutil.Process().memory_info().rss - before
        mixed = [names[i % a.voices] for i in range(len(clips))]
        runs: dict[str, Any] = {
            "merged": (merged, None),
            "bank, one voice": (bank, names[0]),
            "bank, mixed": (bank, mixed),
        }
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        cpu: dict[str, list[float]] = {name: [] for name in runs}
        words: dict[str, int] = {}
        for turn in range(a.rounds + 1):
            for name, (model, voices) in runs.items():
                started, worked = time.perf_counter(), time.process_time()
                if voices is None:
                    found = decode(model, clips, PLAIN, ready=True)
                else:
                    with model.using(voices):
                        found = decode(model.whisper, clips, PLAIN, ready=True)
                if turn:  # the first is a rehearsal
                    seconds[name].append(time.perf_counter() - started)
                    cpu[name].append(time.process_time() - worked)
                words[name] = sum(len(t.tokens) for t in found)
        times = {name: statistics.median(values) for name, values in seconds.items()}
        work = {name: statistics.median(values) for name, values in cpu.items()}
        print(
            json.dumps(
                {
                    "clips": len(clips),
                    "voices": a.voices,
                    "device": str(bank.whisper.device),
                    "threads": torch.get_num_threads(),
                    "seconds": {name: round(value, 3) for name, value in times.items()},
                    "tokens": words,
                    "throughput to merged": round(times["merged"] / times["bank, mixed"], 3),
                    "throughput to one voice": round(times["bank, one voice"] / times["bank, mixed"], 3),
                    "seconds of processor": {name: round(value, 3) for name, value in work.items()},
                    "the same by processor time": {
                        "to merged": round(work["merged"] / work["bank, mixed"], 3),
                        "to one voice": round(work["bank, one voice"] / work["bank, mixed"], 3),
                    },
                    "MB an adapter on disk": mb(sum(f.stat().st_size for f in source.glob("*.safetensors"))),
                    "MB an adapter in the bank": mb(bank.bytes_held / (a.voices + 1)),
                    "MB an adapter, growth of the process": mb(growth / a.voices),
                    "ms to read one": round(1000 * loading / a.voices, 2),
                    "ms to switch": switching(bank, names),
                },
                indent=2,
            )
        )


def mb(count: float) -> float:
    return round(count / 1e6, 3)


def switching(bank: AdapterBank, names: list[str]) -> float:
    """Median time to enter `using` with another voice in memory."""
    times = []
    for name in names * 3:
        started = time.perf_counter()
        with bank.using(name):
            times.append(time.perf_counter() - started)
    return round(1000 * statistics.median(times), 4)


def made(model: str, rank: int, out: Path) -> Path:
    """A LoRA adapter on all projections that hardly changes the model."""
    whisper, folder = load_whisper(model, device="cpu"), resolve(model)
    adapted = adapters.attach(whisper.model, rank=rank, projections=ALL)
    card = {"model": model, "base_sha256": adapters.base_hash(folder), "context": whisper.context.policy}
    return adapters.save(adapted, out, card, model, folder)


def vary(source: Path, out: Path, seed: int) -> None:
    """A copy with noise on its B's of a hundredth of their size (of 0.001 where they are zero)."""
    shutil.copytree(source, out)
    generator = torch.Generator().manual_seed(seed)
    state = load_file(out / "adapter_model.safetensors")
    for name, value in state.items():
        if ".lora_B." in name:
            size = 0.01 * float(value.std()) or 1e-3
            state[name] = value + size * torch.randn(value.shape, generator=generator)
    save_tensors(out / "adapter_model.safetensors", state)


if __name__ == "__main__":
    exits.run(main)
