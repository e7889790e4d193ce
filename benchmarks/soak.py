"""Does anything grow? A server under mixed load for MINUTES, then short trainings in one process.

    python benchmarks/soak.py [--minutes 30] [--trainings 50] [--clients 8] [--out DIR]

Memory (resident, of the server and its decoding processes) and open files are sampled all the time. Flat means: over
the later half of the samples memory grows by less than 0.5 MB a minute of the server's, or a training (Theil and Sen's
slope, and the upper end of its 95 % interval: a run too short to tell does not pass), and from the second to the last
quarter by no open file. Load is good requests for two voices and the base model, and one hostile request in eight.
Trainings are those of `speechft.train`, each with its evaluations and its report; C's allocator has one arena there.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import gc
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import fuzz
import httpx
import psutil
from faults.tally import Tally
from scipy.stats import theilslopes
from server import PATH, Server, ask

import speechft
from speechft import exits
from speechft.corpora.simulated import prepare_simulated
from speechft.manifest import Manifest

GROWTH = 0.5  # MB a minute, or a training
M_ARENA_MAX = -8  # of mallopt, in glibc's malloc.h
MOST_SAMPLES = 1000  # whose slope is taken: it compares each with each

Sample = tuple[float, float, int]  # minutes, or trainings before it; MB; open files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--trainings", type=int, default=50)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        manifest = Manifest.load(prepare_simulated(folder / "voice", n_sentences=20, severity=0.5))
        results: dict[str, Any] = {}
        if a.minutes:
            results["server"] = soak_server(manifest, folder, a.minutes, a.clients)
        if a.trainings:
            results["training"] = soak_training(folder, a.trainings)
    print(json.dumps(results, indent=2))
    a.out.mkdir(parents=True, exist_ok=True)
    (a.out / "soak.json").write_text(json.dumps(results, indent=2) + "\n")
    tally = counted(results)
    tally.save(a.out)
    sys.exit(bool(tally.lost))


def counted(results: dict[str, Any]) -> Tally:
    """Requests, trainings and whether all stays flat as tried; but not who was told to come again.

    Lost are good requests that were refused, errors of the server's, and memory or files that grow.
    """
    tally, notes = Tally("soak"), []
    for name, part in results.items():
        tried = ("answers", "refused", "server_errors", "hostile", "runs")
        tally.tried += 1 + sum(part.get(kind, 0) for kind in tried)
        tally.lost += [f"{name}: a good request was refused"] * part.get("refused", 0)
        tally.lost += [f"{name}: an answer of 5xx"] * part.get("server_errors", 0)
        what = f"{part['minutes']:.0f} min, {part['clients']} clients" if "minutes" in part else f"{part['runs']} runs"
        memory, files = (" to ".join(map(str, part[key])) for key in ("memory_mb", "open_files"))
        slope, low, high = part["growth_mb"]
        grew = f"{slope:+.2f} MB a {'minute' if 'minutes' in part else 'run'} ({low:+.2f} to {high:+.2f})"
        grows = f"{name}: it grows, or was too short to tell: {grew}, {files} open files"
        tally.lost += [] if part["flat"] else [grows]
        notes.append(f"{name}, {what}: {memory} MB, in the later half {grew}; {files} open files")
    tally.survived, tally.notes = tally.tried - len(tally.lost), "; ".join(notes)
    return tally


def soak_server(manifest: Manifest, folder: Path, minutes: float, clients: int) -> dict[str, Any]:
    """Mixed load on `speechft serve`."""
    for seed in range(2):
        save_voice(folder / "voices" / f"voice{seed}", seed)
    clips = [utterance.audio.read_bytes() for utterance in manifest[:12]]
    with Server(str(folder / "voices")) as server:
        return asyncio.run(load(server, clips, minutes * 60, clients))


def save_voice(folder: Path, seed: int) -> None:
    """An adapter of random weights: whether it helps does not matter here."""
    import torch

    from speechft import adapters
    from speechft.sources import resolve
    from speechft.whisper import load_whisper

    base = "bundled:tiny.en"
    torch.manual_seed(seed)
    model = adapters.attach(load_whisper(base, device="cpu").model, rank=4)
    for _, parameter in adapters.trainable(model):
        torch.nn.init.normal_(parameter, 0, 0.01)
    card = {"model": base, "context": "clip+10s", "base_sha256": adapters.base_hash(resolve(base))}
    adapters.save(model, folder, card, base, resolve(base))


async def load(server: Server, clips: list[bytes], seconds: float, clients: int) -> dict[str, Any]:
    samples: list[Sample] = []
    counts = {"answers": 0, "busy": 0, "refused": 0, "server_errors": 0, "hostile": 0}
    started = time.perf_counter()
    async with httpx.AsyncClient(base_url=server.url, timeout=300) as client:
        models = [m["id"] for m in (await client.get("/v1/models")).json()["data"]]

        async def one(seed: int) -> None:
            rng = random.Random(seed)
            while time.perf_counter() - started < seconds:
                if rng.random() < 1 / 8:
                    said = fuzz.status_of(await fuzz.exchange(server.port, hostile(rng, clips)))
                    counts["server_errors" if said.startswith("5") and said != "503" else "hostile"] += 1
                    continue
                status, _, _ = await ask(client, rng.choice(models), rng.choice(clips))
                kind = {200: "answers", 429: "busy", 503: "busy"}.get(status, "refused")
                counts["server_errors" if status >= 500 and status != 503 else kind] += 1
                if kind == "busy":
                    await asyncio.sleep(0.5)

        async def watch() -> None:
            while time.perf_counter() - started < seconds:
                await asyncio.sleep(min(2.0, seconds / 60))
                minutes = (time.perf_counter() - started) / 60
                samples.append((minutes, server.memory_mb(), psutil.Process(server.process.pid).num_fds()))

        await asyncio.gather(watch(), *(one(seed) for seed in range(clients)))
    return {"minutes": round(seconds / 60, 1), "clients": clients, **counts, **growth(samples)}


def hostile(rng: random.Random, clips: list[bytes]) -> fuzz.Request:
    """A damaged or strange recording to transcribe, or another of the fuzzer's requests that any server meets."""
    if rng.random() < 0.5:
        data = rng.choice([fuzz.damaged(rng, rng.choice(clips)), fuzz.sound(rng), rng.randbytes(rng.randrange(4000))])
        return fuzz.plain("POST", PATH, *fuzz.form({}, data))
    return rng.choice([fuzz.fields, fuzz.no_form, fuzz.path, fuzz.head])(rng, "nobody")


def soak_training(folder: Path, count: int) -> dict[str, Any]:
    """Short trainings, one after the other, in this process."""
    this, samples = psutil.Process(), []
    keep_one_arena()
    for number in range(count):
        speechft.train(
            manifest=folder / "voice", output_dir=folder / f"run{number}", max_steps=3, min_steps=0, batch_size=4,
            dev_clips=2, seed=number, adapter={"rank": 4}, checkpoint_every=1, evaluations=1,
        )  # fmt: skip
        gc.collect()
        samples.append((float(number), this.memory_info().rss / 1e6, this.num_fds()))
    return {"runs": count, **growth(samples)}


def keep_one_arena() -> None:
    """What C's allocator leaves unused in an arena for each thread differs by far more than what is sought."""
    with contextlib.suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


def growth(samples: Sequence[Sample]) -> dict[str, Any]:
    """Memory and open files, from the second quarter of the samples to the last, and the later half's slope."""
    quarter = max(1, len(samples) // 4)
    early, late = samples[quarter : 2 * quarter], samples[-quarter:]
    memory = [statistics.median(mb for _, mb, _ in part) for part in (early, late)]
    # connections come and go: the fewest that were open at once are those that stay
    files = [min(n for *_, n in part) for part in (early, late)]
    slope = slope_of(samples[len(samples) // 2 :])
    return {
        "memory_mb": [round(mb) for mb in memory],
        "peak_memory_mb": round(max(mb for _, mb, _ in samples)),
        "growth_mb": [round(number, 3) for number in slope],
        "open_files": files,
        "flat": max(slope) < GROWTH and files[1] <= files[0],
    }


def slope_of(samples: Sequence[Sample]) -> tuple[float, float, float]:
    """MB a minute or a training, and the ends of its 95 % interval; a few odd samples do not change it."""
    some = samples[:: -(-len(samples) // MOST_SAMPLES)]
    found = theilslopes([mb for _, mb, _ in some], [when for when, *_ in some], alpha=0.95)
    return float(found.slope), float(found.low_slope), float(found.high_slope)


if __name__ == "__main__":
    exits.run(main)
