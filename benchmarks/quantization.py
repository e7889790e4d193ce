"""LoRA on quantised weights against LoRA on bf16 weights: memory, time and quality; and a picture of NF4.

    python benchmarks/quantization.py MANIFEST [--limit 200] [--steps 60] [--models bundled:tiny.en bundled:smollm2]
    python benchmarks/quantization.py MANIFEST --plot docs/images/nf4.svg

Each run is a process of its own, so that its peak is its own. Speech: the recipe's defaults on `--limit` training
clips, WER on dev (at most 100 clips) before and after. Text: the clips' texts as documents; the loss is of dev texts.
The picture shows a model's own weights, each divided by the largest of its block, between the 16 values that NF4 has.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from speechft import exits
from speechft.manifest import Manifest

VARIANTS: dict[str, dict[str, Any]] = {
    "bf16": {},
    "int8": {"quantize": "int8"},
    "nf4": {"quantize": "nf4"},
    "nf4-single": {"quantize": "nf4-single"},
    "fp4": {"quantize": "fp4"},
    "nf4, LoftQ": {"quantize": "nf4", "init": "loftq"},
}
MODELS = ["bundled:tiny.en", "bundled:base", "bundled:smollm2"]
BLOCK = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest")
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--limit", type=int, default=200)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.worker:
        print(json.dumps(measured(Path(a.manifest), a.limit, a.steps, **json.loads(a.worker))))
        return
    if a.plot:
        plot(a.models[0], a.plot)
        return
    print(
        "| model | weights | weights MB | process peak MB | s a step | before | after |\n|---|---|---|---|---|---|---|"
    )
    for model in a.models:
        for name in a.variants:
            job = json.dumps({"model": model, "adapter": VARIANTS[name]})
            command = [sys.executable, __file__, a.manifest, "--worker", job]
            command += ["--limit", str(a.limit), "--steps", str(a.steps)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(done.stderr)
            f = json.loads(done.stdout.splitlines()[-1])
            numbers = f"{f['weights_mb']:.0f} | {f['peak_mb']:.0f} | {f['step_seconds']:.2f}"
            unit = "{:.1%} WER" if f["measure"] == "wer" else "{:.3f} nats"
            row = f"| {model} | {name} | {numbers} | {unit.format(f['before'])} | {unit.format(f['after'])} |"
            print(row, flush=True)


def measured(manifest: Path, limit: int, steps: int, model: str, adapter: dict[str, Any]) -> dict[str, Any]:
    """One training run; what it held and what it reached."""
    from speechft.memory import peak_mb

    clips = Manifest.load(manifest)
    run = text_run if model == "bundled:smollm2" else speech_run
    with tempfile.TemporaryDirectory() as out:
        found = run(clips.split("train")[:limit], clips.split("dev")[:100], steps, model, adapter, Path(out))
    return found | {"peak_mb": peak_mb()}


def speech_run(
    train: Manifest, dev: Manifest, steps: int, model: str, adapter: dict[str, Any], out: Path
) -> dict[str, Any]:
    from speechft.config import SpeechRecipe
    from speechft.train import fit

    recipe = SpeechRecipe(
        manifest="unused", output_dir=out, model=model, max_steps=steps, adapter=adapter, learning_rate=5e-4,
        language=None if model.endswith(".en") else "en", cache="off",
    )  # fmt: skip
    seconds: list[float] = []
    trained = fit(recipe, train, dev, on_event=lambda e: seconds.append(e.get("step_seconds", math.nan)))
    progress = trained.progress
    assert progress.base is not None
    after = progress.best or progress.base
    return {
        "measure": "wer",
        "weights_mb": weights_mb(model, adapter),
        "step_seconds": float(np.nanmedian(seconds)),
        "before": progress.base[0],
        "after": after[0],
    }


def text_run(
    train: Manifest, dev: Manifest, steps: int, model: str, adapter: dict[str, Any], out: Path
) -> dict[str, Any]:
    from speechft.text.config import PretrainRecipe
    from speechft.text.pipeline import train as train_text

    rows = [{"text": u.text, "split": split} for split, part in (("train", train), ("dev", dev)) for u in part]
    (out / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = PretrainRecipe(
        data=str(out / "rows.jsonl"), output_dir=out / "run", model=model, max_steps=steps, adapter=adapter,
        max_length=64, test=False, evaluations=1,
    )  # fmt: skip
    training = train_text(recipe)["training"]
    return {
        "measure": "loss",
        "weights_mb": weights_mb(model, adapter),
        "step_seconds": training["seconds"] / steps,
        "before": training["dev_base"],
        "after": training["dev_best"] or training["dev_base"],
    }


def weights_mb(model: str, adapter: dict[str, Any]) -> float:
    """Of the frozen weights as training keeps them."""
    from speechft.adapters import store_frozen
    from speechft.quantization import size
    from speechft.text.model import load_text_model
    from speechft.whisper import load_whisper

    load = load_text_model if model == "bundled:smollm2" else load_whisper
    loaded = load(model, quantize=adapter.get("quantize")).model
    store_frozen(loaded, torch.bfloat16)
    return size(loaded).weights_mb


def plot(model: str, out: Path) -> None:
    """Weights of a model in units of their block's largest, NF4's values, and the error of three 4-bit formats."""
    import matplotlib

    import speechft.quantization  # noqa: F401 (it quietens bitsandbytes)

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.fonttype"] = "none"
    from bitsandbytes.functional import get_4bit_type
    from matplotlib import pyplot

    blocks = blocks_of(model)
    levels = {
        "NF4": get_4bit_type("nf4", device="cpu").numpy(),
        "FP4": get_4bit_type("fp4", device="cpu").numpy(),
        "16 even steps": np.linspace(-1, 1, 16),
    }
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(10, 3.4), width_ratios=[3, 1], layout="constrained")
    left.hist(blocks.ravel(), bins=160, range=(-1, 1), color="#9bb7d4", density=True)
    for level in levels["NF4"]:
        left.axvline(level, color="#b33", linewidth=0.8)
    left.set_xlabel("weight / largest of its block of 64")
    left.set_yticks([])
    left.set_title(f"Weights of {model.removeprefix('bundled:')} and the 16 values of NF4")
    errors = {name: rms_error(blocks, np.sort(values)) for name, values in levels.items()}
    right.bar(list(errors), list(errors.values()), color=["#b33", "#9bb7d4", "#9bb7d4"])
    right.set_title("relative error")
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, metadata={"Date": None})
    print(json.dumps({name: round(value, 4) for name, value in errors.items()}))


def blocks_of(model: str) -> np.ndarray:
    """All weights of the linear layers in blocks, each divided by its largest magnitude, shape (blocks, 64)."""
    from safetensors.torch import load_file

    from speechft.sources import resolve

    state = {k: v for f in resolve(model).glob("*.safetensors") for k, v in load_file(f).items()}
    linear = [v.float().numpy() for k, v in state.items() if "proj" in k or "fc" in k]
    flat = np.concatenate([v.ravel() for v in linear if v.ndim == 2 and v.size % BLOCK == 0])
    blocks = flat.reshape(-1, BLOCK)
    return blocks / np.abs(blocks).max(1, keepdims=True).clip(1e-12)


def rms_error(blocks: np.ndarray, levels: np.ndarray) -> float:
    """Of rounding to the nearest level, by the root mean square of what is rounded."""
    edges = (levels[1:] + levels[:-1]) / 2
    rounded = levels[np.searchsorted(edges, blocks)]
    return float(np.sqrt(((rounded - blocks) ** 2).mean() / (blocks**2).mean()))


if __name__ == "__main__":
    exits.run(main)
