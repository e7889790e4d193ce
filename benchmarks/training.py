"""Seconds a step, memory and model FLOPs: ours against the peer, each in a process of its own, in turn.

    python benchmarks/training.py MANIFEST [--rounds 2] [--steps 12] [--clips corpus 5] [--out benchmarks/results]

Clips of 1 to 30 s are cut from the manifest's train part (joined where one is too short). Both train the same adapter,
LoRA of rank 32 on q_proj and v_proj, on the same clips with batches of 8; the peer hears windows of 30 s whatever the
clip. Ours is timed as a user gets it: features, batches and augmentation included; the peer's features are prepared
ahead. Model FLOPs are those of one step as torch's FlopCounterMode counts them (products, convolutions), the machine's
peak is its best product of square matrices in the format that is trained in: bf16 where the machine has it, else fp32.
Where there is a GPU both train on it, and memory is the GPU's.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from speechft import exits
from speechft.manifest import Manifest
from speechft.precision import default_device, inference_dtype

LENGTHS = (1, 3, 5, 10, 30)
QV = {"rank": 32, "alpha": 64, "projections": ["q_proj", "v_proj"]}
WARM = 3
DEVICE = default_device()
FORMAT = inference_dtype(DEVICE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--base", action="store_true", help="bundled:base too")
    parser.add_argument("--model", default="bundled:tiny.en")
    parser.add_argument("--clips", nargs="+", default=["corpus", *map(str, LENGTHS)], help="rows: corpus, or seconds")
    parser.add_argument("--placements", nargs="+", default=["both", "encoder", "decoder"], help="rows")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.worker:
        print(json.dumps(work(json.loads(a.worker))))
        return
    peak = products_peak()
    print(f"{FORMAT} products: {peak / 1e9:.0f} GFLOP/s at best")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        corpora = {"corpus": real_clips(a.manifest, Path(folder), 8 * (a.steps + WARM))}
        corpora |= {str(n): cut_clips(a.manifest, Path(folder), n, 8 * (a.steps + WARM)) for n in LENGTHS}
        wanted = [s for s in settings(a.model, a.base) if s["clips"] in a.clips and s["placement"] in a.placements]
        for setting in wanted:
            found: dict[str, list[dict[str, Any]]] = {"ours": [], "peer": []}
            for _ in range(a.rounds):
                for who in ("peer", "ours"):
                    job = setting | {"who": who, "manifest": str(corpora[setting["clips"]]), "steps": a.steps}
                    found[who].append(in_process(job))
            rows.append(summary(setting, found, peak))
            print(line(rows[-1]), flush=True)
    a.out.mkdir(parents=True, exist_ok=True)
    (a.out / "training.json").write_text(
        json.dumps({"format": str(FORMAT), "peak_gflops": peak / 1e9, "rows": rows}, indent=2) + "\n"
    )
    (a.out / "training.md").write_text("\n".join([HEAD, *map(line, rows)]) + "\n")


def settings(model: str, base: bool) -> list[dict[str, Any]]:
    """What is compared: real clips by placement, then clip lengths, then the larger model."""
    tiny = {"model": model, "placement": "both", "context": "clip", "clips": "corpus"}
    rows = [
        tiny,
        tiny | {"placement": "encoder"},
        tiny | {"placement": "decoder", "context": "clip+10s:2s", "cache": "off"},
        tiny | {"placement": "decoder", "context": "clip+10s:2s", "cache": "on"},
    ]
    rows += [tiny | {"clips": str(n)} for n in LENGTHS]
    return rows + ([tiny | {"model": "bundled:base", "clips": "5"}] if base else [])


def work(job: dict[str, Any]) -> dict[str, Any]:
    """One measurement, in a process of its own: seconds of each step, and memory in MB."""
    out = Path(tempfile.mkdtemp())
    clips = Manifest.load(job["manifest"], allow_outside=True)
    if job["who"] == "peer":
        from peer import Peer

        peer = Peer(job["model"], job["placement"])
        rows = peer.prepared(clips)
        before = weights_mb(peer.model)
        seconds = peer.train(rows, out, max_steps=WARM + min(job["steps"], 4))
        return {"seconds": seconds[WARM:], "before": before, "peak": peak_mb()}
    from speechft.config import SpeechRecipe
    from speechft.train import fit
    from speechft.whisper import load_whisper

    recipe = SpeechRecipe(
        model=job["model"], manifest=job["manifest"], output_dir=out, context=job["context"], epochs=2, min_steps=0,
        max_steps=WARM + job["steps"], cache=job.get("cache", "auto"), augment=None, average=False,
        adapter=QV | {"placement": job["placement"]}, checkpoint_every=10_000, allow_outside=True,
    )  # fmt: skip
    import peft  # noqa: F401

    lines: list[dict[str, Any]] = []
    whisper = load_whisper(job["model"])
    before = weights_mb(whisper.model)
    del whisper
    fit(recipe, clips, clips[:2], on_event=lines.append)
    seconds = [event["step_seconds"] for event in lines if "step_seconds" in event]
    return {"seconds": seconds[WARM:], "before": before, "peak": peak_mb(), "flops": flops(recipe, clips)}


def flops(recipe: Any, clips: Manifest) -> float:
    """Model FLOPs of the median batch: forward and backward, as our step computes them."""
    from torch.utils.flop_counter import FlopCounterMode

    from speechft import adapters, attention
    from speechft.batching import with_labels
    from speechft.cache import cached_layers, open_or_build
    from speechft.feed import Feed
    from speechft.objective import TokenLoss
    from speechft.sources import resolve
    from speechft.whisper import load_whisper

    # as plain products at every length and in every format: the counter does not know the CPU's kernel
    attention.MOST_POSITIONS, attention.FORMATS = 1500, (torch.bfloat16, torch.float32)
    whisper = load_whisper(recipe.model)
    train, labels = with_labels(whisper, clips, lambda *_: None)
    model = adapters.attach(whisper.model, **recipe.adapter.attach_arguments())
    feed = Feed(whisper, train, labels, recipe, lambda *_: None)
    layers = cached_layers(model, recipe)
    if layers is not None:
        feed.cache = open_or_build(feed, model, resolve(recipe.model), layers, recipe.max_steps or 1)
    found = []
    for _, batches in feed.steps(0, 5):
        with FlopCounterMode(display=False) as counter:
            for batch in batches:
                TokenLoss(model, layers or 0)(*batch.tensors(DEVICE)).backward()
        found.append(counter.get_total_flops())
    return statistics.median(found)


def in_process(job: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, __file__, "unused", "--worker", json.dumps(job)], capture_output=True, text=True
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def summary(setting: dict[str, Any], found: dict[str, list[dict[str, Any]]], peak: float) -> dict[str, Any]:
    ours, theirs = ([statistics.median(r["seconds"]) for r in found[who]] for who in ("ours", "peer"))
    extra = {who: statistics.median(r["peak"] - r["before"] for r in found[who]) for who in found}
    step = statistics.median(ours)
    return setting | {
        "ours_s": step,
        "peer_s": statistics.median(theirs),
        "ratio": statistics.median(theirs) / step,
        "ratios": [b / a for a, b in zip(ours, theirs, strict=True)],
        "utterances_per_s": 8 / step,
        "share_of_peak": found["ours"][0]["flops"] / step / peak,
        "peak_mb": {who: statistics.median(r["peak"] for r in found[who]) for who in found},
        "extra_mb": extra,
    }


HEAD = (
    "| model | LoRA in | clips | ours s/step | peer s/step | ratio | utt/s | share of peak | ours MB (above weights) |"
    " peer MB (above weights) |\n|---|---|---|---|---|---|---|---|---|---|"
)


def line(row: dict[str, Any]) -> str:
    where = row["placement"] + {"on": ", from the cache", "off": ", no cache"}.get(row.get("cache", ""), "")
    clips = row["clips"] if row["clips"] == "corpus" else f"{row['clips']} s"
    memory = [f"{row['peak_mb'][who]:.0f} ({row['extra_mb'][who]:.0f})" for who in ("ours", "peer")]
    return (
        f"| {row['model']} | {where} | {clips} | {row['ours_s']:.3f} | {row['peer_s']:.2f} | {row['ratio']:.1f}x "
        f"| {row['utterances_per_s']:.0f} | {row['share_of_peak']:.0%} | {memory[0]} | {memory[1]} |"
    )


def real_clips(manifest: str, folder: Path, count: int) -> Path:
    """The first `count` training clips, as they are."""
    source = Manifest.load(manifest)
    clips = (source.split("train") if "train" in source.splits else source)[:count]
    return save(folder / "corpus.jsonl", [(str(u.audio.resolve()), u.text) for u in clips])


def cut_clips(manifest: str, folder: Path, seconds: int, count: int) -> Path:
    """Clips of one length, made of training clips laid end to end; texts cut in proportion."""
    source = Manifest.load(manifest)
    clips = list(source.split("train") if "train" in source.splits else source)
    rows, place = [], 0
    (folder / str(seconds)).mkdir()
    for number in range(count):
        sound, words = np.zeros(0, np.float32), []
        while len(sound) < 16_000 * seconds:
            sound = np.concatenate([sound, clips[place % len(clips)].load()])
            words += clips[place % len(clips)].text.split()
            place += 1
        kept = max(1, round(len(words) * 16_000 * seconds / len(sound)))
        path = folder / str(seconds) / f"{number}.wav"
        soundfile.write(path, sound[: 16_000 * seconds], 16_000)
        rows.append((str(path), " ".join(words[:kept])))
    return save(folder / f"{seconds}.jsonl", rows)


def save(path: Path, rows: list[tuple[str, str]]) -> Path:
    path.write_text("".join(json.dumps({"audio": audio, "text": text}) + "\n" for audio, text in rows))
    return path


def products_peak() -> float:
    """FLOP/s of the best product of square matrices."""
    best = 0.0
    for n in (1024, 2048, 4096) if DEVICE.type == "cpu" else (4096, 8192):
        a = torch.randn(n, n, device=DEVICE).to(FORMAT)
        a @ a
        for _ in range(5):
            wait()
            started = time.perf_counter()
            a @ a
            wait()
            best = max(best, 2 * n**3 / (time.perf_counter() - started))
    return best


def wait() -> None:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()


def weights_mb(model: torch.nn.Module) -> float:
    """What is in memory before training: on a GPU the weights, else all that the process holds."""
    if DEVICE.type == "cuda":
        return sum(p.nbytes for p in model.parameters()) / 1e6
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def peak_mb() -> float:
    if DEVICE.type == "cuda":
        return torch.cuda.max_memory_allocated() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


if __name__ == "__main__":
    exits.run(main)
