"""Learning rate, batch size, epochs and schedules: small trainings, and the pictures of docs/hyperparameters.md.

    python benchmarks/hyperparameters.py MANIFEST [--clips 100] [--dev 60] [--out runs/hyperparameters]
    python benchmarks/hyperparameters.py --text [--rows 160] [--out runs/hyperparameters]
    python benchmarks/hyperparameters.py --plot docs/images [--out runs/hyperparameters]

Speech: decoder LoRA of tiny.en on the first training clips, the encoder's output read from a cache that all runs share.
One thing is changed at a time from the middle (learning rate 5e-4, batches of 8, 3 epochs, linear). WER is of the dev
clips at the end of the run, whatever a better state before it was, so the picture also shows where training goes wrong.
Each run is one seed: differences within an interval are none. A run that is known already is not repeated.

Text: instruction tuning of SmolLM2 by recipes/text_sft.yaml on so many examples of recipes/text_examples.py, from
learning rate 5e-4, batches of 4, one epoch, linear. Perplexity is of held-out answers, after the last step.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from speechft import exits
from speechft.config import SpeechRecipe
from speechft.evaluate import evaluate_model
from speechft.manifest import Manifest
from speechft.recipes import load_recipe
from speechft.recogniser import load
from speechft.schedule import Schedule, learning_rate_factor
from speechft.text import pipeline
from speechft.train import Run

ROOT = Path(__file__).parents[1]
MIDDLE: dict[str, dict[str, Any]] = {
    "speech": {"learning_rate": 5e-4, "batch_size": 8, "epochs": 3, "schedule": "linear"},
    "text": {"learning_rate": 5e-4, "batch_size": 4, "epochs": 1, "schedule": "linear"},
}
STUDIES: dict[str, dict[str, list[Any]]] = {
    "speech": {
        "learning_rate": [1e-4, 5e-4, 1e-3, 2e-3, 4e-3],
        "batch_size": [2, 8, 32],
        "epochs": [1, 3, 6],
        "schedule": ["constant", "linear", "cosine"],
    },
    "text": {
        "learning_rate": [5e-5, 2e-4, 5e-4, 1e-3, 4e-3],
        "batch_size": [2, 4, 16],
        "epochs": [1, 2, 4],
        "schedule": ["constant", "linear", "cosine"],
    },
}
MEASURE = {"speech": "wer", "text": "perplexity"}
FILES = {"speech": "runs.json", "text": "text.json"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", nargs="?")
    parser.add_argument("--text", action="store_true")
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--dev", type=int, default=60)
    parser.add_argument("--rows", type=int, default=160, help="of text; six tenths are trained on")
    parser.add_argument("--studies", nargs="+", default=list(STUDIES["speech"]), choices=STUDIES["speech"])
    parser.add_argument("--out", type=Path, default=Path("runs/hyperparameters"))
    parser.add_argument("--plot", type=Path, help="folder for the pictures; nothing is trained")
    a = parser.parse_args()
    if a.plot:
        plot_schedules(a.plot / "schedules.svg")
        for kind, name in (("speech", "hyperparameters.svg"), ("text", "hyperparameters-text.svg")):
            if done := known(a.out, kind):
                plot_runs(done, kind, a.plot / name)
        return
    a.out.mkdir(parents=True, exist_ok=True)
    if a.text:
        study("text", a.out, a.studies, *text(a))
    elif a.manifest:
        study("speech", a.out, a.studies, *speech(a))
    else:
        parser.error("name a manifest, or say --text or --plot")


def known(out: Path, kind: str) -> dict[str, Any]:
    file = out / FILES[kind]
    return json.loads(file.read_text()) if file.is_file() else {}


def study(
    kind: str, out: Path, studies: list[str], before: Callable[[], Any], after: Callable[[Any, Path], Any]
) -> None:
    """Every run that is not known yet, one thing changed at a time."""
    done = known(out, kind) or {"before": before()}
    for varied in studies:
        for value in STUDIES[kind][varied]:
            settings = MIDDLE[kind] | {varied: value}
            name = " ".join(f"{key}={settings[key]}" for key in settings)
            if name not in done:
                with tempfile.TemporaryDirectory() as work:
                    done[name] = settings | after(settings, Path(work))
                (out / FILES[kind]).write_text(json.dumps(done, indent=2) + "\n")
                found = done[name]
                print(f"{name}: {found[MEASURE[kind]]:.4g} {found['ci95']} in {found['seconds']:.0f} s", flush=True)


def speech(a: argparse.Namespace) -> tuple[Callable[[], Any], Callable[[Any, Path], Any]]:
    """What measures the model as it is, and what trains and measures it."""
    manifest = Manifest.load(a.manifest).with_durations()
    train, dev = manifest.split("train")[: a.clips], manifest.split("dev")[: a.dev]
    train = Manifest(train, a.out / "manifest.jsonl")  # the cache lies beside it
    return lambda: summary(load("bundled:tiny.en").evaluate(dev).scores), partial(trained, train, dev)


def text(a: argparse.Namespace) -> tuple[Callable[[], Any], Callable[[Any, Path], Any]]:
    """The same of text."""
    data = a.out / "text" / "commands.jsonl"
    if not data.is_file():
        subprocess.run([sys.executable, ROOT / "recipes" / "text_examples.py", data.parent], check=True)
    fixed = [f"data={data}", f"rows={a.rows}", "metrics=[]", "evaluations=1", "max_steps=null"]

    def recipe(settings: dict[str, Any], out: Path) -> Any:
        chosen = [f"{key}={value}" for key, value in settings.items()]
        return load_recipe(ROOT / "recipes" / "text_sft.yaml", [*fixed, *chosen, f"output_dir={out}"])

    def before() -> dict[str, Any]:
        untrained = recipe({}, a.out).model_dump(mode="json")
        return perplexity(pipeline.evaluate(str(data), task="sft", split="test", settings=untrained))

    def after(settings: dict[str, Any], out: Path) -> dict[str, Any]:
        result = pipeline.train(recipe(settings, out))
        return perplexity(result["adapted"]) | {key: result["training"][key] for key in ("seconds", "steps")}

    return before, after


def perplexity(measures: dict[str, Any]) -> dict[str, Any]:
    return {"perplexity": measures["perplexity"]["value"], "ci95": measures["perplexity"]["ci95"]}


class Blind(Run):
    """A run that chooses nothing: its last state is what is looked at."""

    def _evaluate_here(self, last: bool) -> None:
        pass


def trained(train: Manifest, dev: Manifest, settings: dict[str, Any], out: Path) -> dict[str, Any]:
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


def plot_runs(done: dict[str, Any], kind: str, out: Path) -> None:
    """A panel for each study: the measure with its interval, and what it was before training."""
    pyplot = _pyplot()
    names = [varied for varied in STUDIES[kind] if sum(_varies(run, kind, varied) for run in done.values()) > 1]
    figure, panels = pyplot.subplots(1, len(names), figsize=(3.1 * len(names), 3), sharey=True, layout="constrained")
    percent = 100 if kind == "speech" else 1
    for axes, varied in zip(np.atleast_1d(panels), names, strict=True):
        runs = [
            run for value in STUDIES[kind][varied] for run in done.values()
            if _varies(run, kind, varied) and run[varied] == value
        ]  # fmt: skip
        rate = percent * np.array([run[MEASURE[kind]] for run in runs])
        low, high = percent * np.array([run["ci95"] for run in runs]).T
        places = range(len(runs))
        axes.errorbar(places, rate, np.array([rate - low, high - rate]), fmt="o-", capsize=3, color="#24527a")
        axes.axhline(percent * done["before"][MEASURE[kind]], color="#999", linewidth=1, linestyle="--")
        axes.set_xticks(places, [run[varied] if varied == "schedule" else f"{run[varied]:g}" for run in runs])
        axes.tick_params(axis="x", rotation=30)
        axes.set_xlabel(varied)
        if kind == "text":
            axes.set_yscale("log")
    label = {"speech": "WER of dev, %", "text": "perplexity"}[kind]
    np.atleast_1d(panels)[0].set_ylabel(f"{label} (dashed: before)")
    _save(figure, out)


def _varies(run: dict[str, Any], kind: str, varied: str) -> bool:
    return all(run.get(key) == value for key, value in MIDDLE[kind].items() if key != varied)


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
