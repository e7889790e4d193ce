"""The server under load: many clients at once with mixed voices, against one at a time.

    python benchmarks/server.py MANIFEST --voices runs [--clients 64] [--seconds 60] [--out DIR]

It starts `speechft serve` on the folder of voices and sends clips of the manifest's dev part. Every answer is compared
with what the same voice says to the same clip when asked alone, so a lost, mixed or wrong-voice answer is counted.
Memory and processor time are those of the server and its decoding processes. Clients run on the same machine and take
their share of it; on a machine that has other work, compare `cpu_s_per_answer`.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import random
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from speechft import exits
from speechft.manifest import Manifest

PATH = "/v1/audio/transcriptions"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest")
    parser.add_argument("--voices", required=True, help="folder of adapters, a voice each")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    a = parser.parse_args()
    manifest = Manifest.load(a.manifest)
    part = manifest.split("dev") if "dev" in manifest.splits else manifest
    clips = [u.audio.read_bytes() for u in list(part)[: a.clips]]
    with Server(a.voices) as server:
        results = asyncio.run(measure(server, clips, a))
    print(json.dumps(results, indent=2))
    a.out.mkdir(parents=True, exist_ok=True)
    (a.out / "server.json").write_text(json.dumps(results, indent=2) + "\n")


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """`speechft serve` in a process of its own."""

    def __init__(self, voices: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.command = [sys.executable, "-m", "speechft.cli", "serve", voices, "--port", str(self.port)]

    def __enter__(self) -> Server:
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while True:
            try:
                httpx.get(f"{self.url}/health")
                return self
            except httpx.HTTPError:
                assert self.process.poll() is None, "the server did not start"
                time.sleep(0.2)

    def __exit__(self, *error: object) -> None:
        self.process.terminate()
        self.process.wait(timeout=60)

    def memory_mb(self) -> float:
        """Resident memory of the server and its children, MB."""
        import psutil

        main = psutil.Process(self.process.pid)
        return sum(p.memory_info().rss for p in [main, *main.children(recursive=True)]) / 1e6

    def cpu_s(self) -> float:
        """Processor time of the server and its children so far, seconds."""
        import psutil

        main = psutil.Process(self.process.pid)
        return sum(sum(p.cpu_times()[:2]) for p in [main, *main.children(recursive=True)])


async def measure(server: Server, clips: list[bytes], a: argparse.Namespace) -> dict[str, Any]:
    limits = httpx.Limits(max_connections=a.clients + 8)
    async with httpx.AsyncClient(base_url=server.url, timeout=300, limits=limits) as client:
        models = [m["id"] for m in (await client.get("/v1/models")).json()["data"]]
        alone = {}
        started, cpu = time.perf_counter(), server.cpu_s()
        for model in models:
            for number in range(len(clips)):
                alone[model, number] = (await ask(client, model, clips[number]))[1]
        one_at_a_time = len(alone) / (time.perf_counter() - started)
        cpu_alone = (server.cpu_s() - cpu) / len(alone)
        await under_load(client, clips, alone, a.clients, 5.0, server)  # every voice is in memory from here on
        memory = server.memory_mb()
        load = await under_load(client, clips, alone, a.clients, a.seconds, server)
        load |= {
            "voices": len(models),
            "one_at_a_time_per_s": round(one_at_a_time, 2),
            "times_one_at_a_time": round(load["answers_per_s"] / one_at_a_time, 2),
            "cpu_s_per_answer_one_at_a_time": round(cpu_alone, 3),
            "memory_before_mb": round(memory),
            "memory_after_mb": round(server.memory_mb()),
        }
    return load


async def ask(client: httpx.AsyncClient, model: str, clip: bytes) -> tuple[int, str, float]:
    """(status, text, seconds)."""
    started = time.perf_counter()
    reply = await client.post(PATH, data={"model": model}, files={"file": ("clip", clip)})
    text = reply.json()["text"] if reply.status_code == 200 else reply.headers.get("retry-after", "")
    return reply.status_code, text, time.perf_counter() - started


async def under_load(
    client: httpx.AsyncClient,
    clips: list[bytes],
    alone: dict[tuple[str, int], str],
    clients: int,
    seconds: float,
    server: Server,
) -> dict[str, Any]:
    """`clients` that each ask again as soon as they are answered, about voices and clips in a random order."""
    counts: collections.Counter[str] = collections.Counter()
    times: list[float] = []
    peak = 0.0
    started, cpu = time.perf_counter(), server.cpu_s()

    async def one(seed: int) -> None:
        nonlocal peak
        rng = random.Random(seed)
        while time.perf_counter() - started < seconds:
            model, number = rng.choice(list(alone))
            status, text, took = await ask(client, model, clips[number])
            if status == 429:
                counts["busy"] += 1
                await asyncio.sleep(min(5.0, float(text or 1)))
                continue
            counts["answers" if status == 200 else f"status {status}"] += 1
            times.append(took)
            if text != alone[model, number]:
                others = {alone[m, n] for m, n in alone if n == number and m != model}
                mixed = {t for (_, n), t in alone.items() if n != number}
                counts["wrong voice" if text in others else "mixed up" if text in mixed else "different"] += 1
            peak = max(peak, server.memory_mb()) if counts["answers"] % 50 == 0 else peak

    await asyncio.gather(*(one(seed) for seed in range(clients)))
    took, cpu = time.perf_counter() - started, server.cpu_s() - cpu
    p50, p95 = np.percentile(times, [50, 95])
    return {
        "clients": clients,
        "seconds": round(took, 1),
        "answers": counts["answers"],
        "answers_per_s": round(counts["answers"] / took, 2),
        "cpu_s_per_answer": round(cpu / max(1, counts["answers"]), 3),
        "p50_s": round(float(p50), 2),
        "p95_s": round(float(p95), 2),
        "peak_memory_mb": round(peak),
        **{name: counts[name] for name in ("busy", "wrong voice", "mixed up", "different")},
        "failed": sum(n for name, n in counts.items() if name.startswith("status")),
    }


if __name__ == "__main__":
    exits.run(main)
