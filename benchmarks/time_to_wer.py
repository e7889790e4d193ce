"""From raw audio to an error rate: WER on dev against wall-clock time, ours and the peer's.

    python benchmarks/time_to_wer.py MANIFEST [--peer-epochs 3] [--out benchmarks/results]

Each contender is a process of its own and the clock runs from its start: imports, reading the audio, features, cache,
training and every dev evaluation count. The peer is the recipe of benchmarks/peer.py, evaluated with `generate()` after
each epoch. Both evaluate on all dev clips.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from speechft import exits
from speechft.manifest import Manifest

STARTED = time.perf_counter()
QV = {"projections": ["q_proj", "v_proj"]}
OURS: dict[str, dict[str, Any]] = {
    "default recipe": {},
    "the peer's adapter (q and v)": {"adapter": QV, "epochs": 2},
    "decoder from the cache": {
        "adapter": {"placement": "decoder"},
        "context": "clip+10s:2s",
        "cache": "on",
        "learning_rate": 5e-4,
        "epochs": 2,
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest")
    parser.add_argument("--model", default="bundled:tiny.en")
    parser.add_argument("--peer-epochs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.worker:
        for point in peer(a.manifest, a.model, a.peer_epochs) if a.worker == "peer" else ours(a, a.worker):
            print(json.dumps(point), flush=True)
        return
    curves = {}
    for name in [*OURS, *(["peer"] if a.peer_epochs else [])]:
        curves[name] = run(a, name)
        print(f"{name:32}" + "  ".join(f"{p['seconds']:.0f} s {p['wer']:.1%}" for p in curves[name]), flush=True)
    lines = table(curves)
    print("\n".join(lines))
    a.out.mkdir(parents=True, exist_ok=True)
    (a.out / "time_to_wer.json").write_text(json.dumps(curves, indent=2) + "\n")
    (a.out / "time_to_wer.md").write_text("\n".join(lines) + "\n")
    plot(curves, a.out / "time_to_wer.svg")


def run(a: argparse.Namespace, name: str) -> list[dict[str, Any]]:
    words = [a.manifest, "--model", a.model, "--peer-epochs", str(a.peer_epochs), "--worker", name]
    done = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"seconds"')]


def ours(a: argparse.Namespace, name: str) -> list[dict[str, Any]]:
    from speechft.recipes import load_recipe
    from speechft.train import fit

    with tempfile.TemporaryDirectory() as out:
        settings = [f"manifest={a.manifest}", f"output_dir={out}", f"model={a.model}"]
        settings += [f"{key}={json.dumps(value)}" for key, value in OURS[name].items() if key != "adapter"]
        settings += [f"adapter.{key}={json.dumps(value)}" for key, value in OURS[name].get("adapter", {}).items()]
        recipe = load_recipe(None, settings)
        whole = Manifest.load(a.manifest)
        # beside the run, so that a cache left by an earlier run does not help
        train = Manifest(whole.split("train"), Path(out) / "manifest.jsonl")
        points: list[dict[str, Any]] = []

        def watch(event: dict[str, Any]) -> None:
            if "wer" in event:
                points.append({"seconds": time.perf_counter() - STARTED, "wer": event["wer"], "step": event["step"]})

        fit(recipe, train, whole.split("dev"), on_event=watch)
        return points


def peer(manifest: str, model: str, epochs: int) -> list[dict[str, Any]]:
    from peer import Peer

    whole = Manifest.load(manifest)
    contender = Peer(model)
    train, dev = contender.prepared(whole.split("train")), contender.prepared(whole.split("dev"))
    points: list[dict[str, Any]] = []

    def evaluate(step: int) -> None:
        wer = contender.wer(dev, whole.split("dev"))
        points.append({"seconds": time.perf_counter() - STARTED, "wer": wer, "step": step})

    evaluate(0)
    with tempfile.TemporaryDirectory() as out:
        contender.train(train, Path(out), epochs=epochs, on_epoch=evaluate)
    return points


def table(curves: dict[str, list[dict[str, Any]]]) -> list[str]:
    lines = ["| | best dev WER | seconds from raw audio to it |", "|---|---|---|"]
    for name, points in curves.items():
        best = min(points, key=lambda p: p["wer"])
        lines.append(f"| {name} | {best['wer']:.1%} | {best['seconds']:.0f} |")
    if "peer" not in curves:
        return lines
    goal = min(curves["peer"], key=lambda p: p["wer"])
    for name, points in curves.items():
        reached = [p["seconds"] for p in points if p["wer"] <= goal["wer"]]
        if name != "peer":
            how = f"{goal['seconds'] / min(reached):.1f}x sooner" if reached else "not reached"
            lines.append(f"\n{name}: the peer's best, {goal['wer']:.1%}: {how}")
    return lines


def plot(curves: dict[str, list[dict[str, Any]]], path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    for name, points in curves.items():
        axes.plot([p["seconds"] / 60 for p in points], [100 * p["wer"] for p in points], marker="o", label=name)
    axes.set(xscale="log", xlabel="minutes from raw audio, everything counted", ylabel="WER on dev (%)")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path)


if __name__ == "__main__":
    exits.run(main)
