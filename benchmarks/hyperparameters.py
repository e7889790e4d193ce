"""Learning rate, batch size, epochs and schedules: small trainings, and the pictures of docs/hyperparameters.md.

    python benchmarks/hyperparameters.py MANIFEST [--clips 100] [--dev 60] [--out runs/hyperparameters]
    python benchmarks/hyperparameters.py --plot docs/images [--out runs/hyperparameters]

Decoder LoRA of tiny.en on the first training clips, the encoder's output read from a cache that all runs share. One
thing is changed at a time from the middle (learning rate 5e-4, batches of 8, 3 epochs, linear). WER is of the dev clips
at the end of the run, whatever a better state before it was, so the picture also shows where training goes wrong. Each
run is one seed: differences within an interval are none. A run that is in runs.json already is not repeated.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from speechft import exits
from speechft.config import SpeechRecipe
from speechft.evaluate import evaluate_model
from speechft.manifest import Manifest
from speechft.recogniser import load
from speechft.schedule import Schedule, learning_rate_factor
from speechft.train import Run

MIDDLE: dict[str, Any] = {"learning_rate": 5e-4, "batch_size": 8, "epochs": 3, "schedule": "linear"}
STUDIES: dict[str, list[Any]] = {
    "learning_rate": [1e-4, 5e-4, 1e-3, 2e-3, 4e-3],
    "batch_size": [2, 8, 32],
    "epochs": [1, 3, 6],
    "schedule": ["constant", "linear", "cosine"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", nargs="?")
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--dev", type=int, default=60)
    parser.add_argument("--studies", nargs="+", default=list(STUDIES), choices=STUDIES)
    parser.add_argument("--out", type=Path, default=Path("runs/hyperparameters"))
    parser.add_argument("--plot", type=Path, help="folder for the pictures; nothing is trained")
    a = parser.parse_args()
    file = a.out / "runs.json"
    done: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    if a.plot:
        plot_schedules(a.plot / "schedules.svg")
        if done:
            plot_runs(done, a.plot / "hyperparameters.svg")
        return
    manifest = Manifest.load(a.manifest).with_durations()
    train, dev = manifest.split("train")[: a.clips], manifest.split("dev")[: a.dev]
    a.out.mkdir(parents=True, exist_ok=True)
    train = Manifest(train, a.out / "manifest.jsonl")  # the cache lies beside it
    if "before" not in done:
        done["before"] = summary(load("bundled:tiny.en").evaluate(dev).scores)
    for study in a.studies:
        for value in STUDIES[study]:
            settings = MIDDLE | {study: value}
            name = " ".join(f"{key}={settings[key]}" for key in MIDDLE)
            if name not in done:
                with tempfile.TemporaryDirectory() as work:
                    done[name] = settings | trained(settings, train, dev, Path(work))
                file.write_text(json.dumps(done, indent=2) + "\n")
                print(f"{name}: {done[name]['wer']:.1%} {done[name]['ci95']} in {done[name]['seconds']} s", flush=True)


class Blind(Run):
    """A run that chooses nothing: its last state is what is looked at."""

    def _consider(self, label: str, tamer: bool = False) -> None:
        pass


def trained(settings: dict[str, Any], train: Manifest, dev: Manifest, out: Path) -> dict[str, Any]:
    """WER after the last step, and the course of the loss."""
    recipe = SpeechRecipe(
        manifest=train.path or Path("-"), output_dir=out, min_steps=0, average=False, augment=None, cache="on", views=1,
        context="clip+10s:2s", adapter={"placement": "decoder"}, evaluations=1, checkpoint_every=10**9, **settings,
    )  # fmt: skip
    losses: list[float] = []
    started = time.perf_counter()
    run = Blind(recipe, train, dev, lambda event: losses.append(event["loss"]) if "loss" in event else None)
    run.go({}, base=(1.0, 1.0))
    seconds = round(time.perf_counter() - started)
    run.whisper.model.eval()
    found = summary(evaluate_model(run.whisper, dev).scores)
    return {**found, "seconds": seconds, "steps": run.steps, "losses": losses}


def summary(scores: Any) -> dict[str, Any]:
    return {"wer": scores.wer, "ci95": [round(bound, 4) for bound in scores.wer_ci95]}


def plot_schedules(out: Path) -> None:
    """Every course of the learning rate over 200 steps."""
    pyplot = _pyplot()
    figure, axes = pyplot.subplots(figsize=(7, 3), layout="constrained")
    for kind in Schedule.__args__:  # type: ignore[attr-defined]
        axes.plot([learning_rate_factor(step, 200, kind) for step in range(201)], label=kind, linewidth=1.4)
    axes.set_xlabel("optimiser step of 200")
    axes.set_ylabel("share of learning_rate")
    axes.legend(fontsize=8, frameon=False, ncols=2)
    _save(figure, out)


def plot_runs(done: dict[str, Any], out: Path) -> None:
    """A panel for each study: WER with its interval, and what it was before training."""
    pyplot = _pyplot()
    names = [study for study in STUDIES if sum(_varies(run, study) for run in done.values()) > 1]
    figure, panels = pyplot.subplots(1, len(names), figsize=(3.1 * len(names), 3), sharey=True, layout="constrained")
    for axes, study in zip(np.atleast_1d(panels), names, strict=True):
        runs = [r for value in STUDIES[study] for r in done.values() if _varies(r, study) and r[study] == value]
        wer = np.array([run["wer"] for run in runs])
        low, high = np.array([run["ci95"] for run in runs]).T
        places = range(len(runs))
        axes.errorbar(places, 100 * wer, 100 * np.array([wer - low, high - wer]), fmt="o-", capsize=3, color="#24527a")
        axes.axhline(100 * done["before"]["wer"], color="#999", linewidth=1, linestyle="--")
        axes.set_xticks(places, [f"{run[study]:g}" if study != "schedule" else run[study] for run in runs])
        axes.tick_params(axis="x", rotation=30)
        axes.set_xlabel(study)
    np.atleast_1d(panels)[0].set_ylabel("WER of dev, % (dashed: before)")
    _save(figure, out)


def _varies(run: dict[str, Any], study: str) -> bool:
    return all(run.get(key) == value for key, value in MIDDLE.items() if key != study)


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.fonttype"] = "none"
    from matplotlib import pyplot

    return pyplot


def _save(figure: Any, out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, metadata={"Date": None})
    print(out)


if __name__ == "__main__":
    exits.run(main)
