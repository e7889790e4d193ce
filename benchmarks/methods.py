"""Which method, and where, at equal time: word error rates with intervals, in one table.

    python benchmarks/methods.py MANIFEST [--seconds 60] [--arms default "vera, both"] [--clips 400] [--out FOLDER]

Each arm is a process of its own. A few steps say how long a step takes it, and how long its cache of the frozen layers
takes to fill, or EVA to look at the data; then it makes as many steps as fit into the seconds left, at least one, with
a schedule of that length, without augmentation. What it ends with is scored on the clips of test (of dev where there
is no test), whether it is better than the base model or not; nothing is chosen on them. Differences are to the default
recipe's method and placement, paired, with intervals over speakers. An arm that stands in methods.json already is not
run again.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from speechft import exits
from speechft.manifest import Manifest
from speechft.numbers_as_text import interval, points
from speechft.paired import compare
from speechft.scoring import score

PLACES = ("both", "encoder", "decoder")
ARMS: dict[str, dict[str, Any]] = {"default": {}}
ARMS |= {f"lora, {place}": {"adapter": {"placement": place}} for place in ("encoder", "decoder")}
ARMS["lora on q and v, both"] = {"adapter": {"projections": ["q_proj", "v_proj"]}, "learning_rate": 1e-3}
ARMS["lora, decoder from the cache"] = {
    "adapter": {"placement": "decoder"}, "context": "clip+10s:2s", "cache": "on",
}  # fmt: skip
ARMS["lora, upper half of the encoder"] = {"adapter": {"placement": "encoder", "encoder_from": 2}}
ARMS |= {f"{name}, both": {"adapter": {name: True}} for name in ("rslora", "dora")}
ARMS |= {f"{init}, both": {"adapter": {"init": init}} for init in ("pissa", "eva")}
ARMS |= {
    f"{method}, {place}": {"adapter": {"method": method, "placement": place}}
    for method in ("adalora", "vera", "ia3", "oft", "houlsby", "pfeiffer", "bitfit", "norms", "full")
    for place in (PLACES if method in ("houlsby", "ia3") else ("both",))
}
PILOT, WARM = 8, 3  # steps that a step's time is taken from, and of them those that do not count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest")
    parser.add_argument("--model", default="bundled:tiny.en")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clips", type=int, default=400, help="that are scored")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.worker:
        print(json.dumps(measured(a, a.worker)))
        return
    a.out.mkdir(parents=True, exist_ok=True)
    saved = a.out / "methods.json"
    asked = {"manifest": Manifest.load(a.manifest, allow_outside=True).sha256, "seconds": a.seconds, "clips": a.clips}
    done = json.loads(saved.read_text()) if saved.is_file() else {"asked": asked, "arms": {}}
    if done["asked"] != asked:
        raise SystemExit(f"{saved} is of other data or seconds: give another --out")
    for name in ["base", *dict.fromkeys(["default", *a.arms])]:
        if name not in done["arms"]:
            done["arms"][name] = in_process(a, name)
            saved.write_text(json.dumps(done) + "\n")
    rows = scored_rows(a)
    table = lines(done["arms"], rows)
    print("\n".join(table))
    (a.out / "methods.md").write_text("\n".join(table) + "\n")


def in_process(a: argparse.Namespace, name: str) -> dict[str, Any]:
    words = [a.manifest, "--model", a.model, "--seconds", str(a.seconds), "--clips", str(a.clips), "--worker", name]
    done = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def scored_rows(a: argparse.Namespace) -> Manifest:
    whole = Manifest.load(a.manifest, allow_outside=True)
    return whole.split("test" if "test" in whole.splits else "dev")[: a.clips]


def measured(a: argparse.Namespace, name: str) -> dict[str, Any]:
    """One arm: what it made of the seconds, and what it hears in the clips that are scored."""
    from speechft.config import SpeechRecipe
    from speechft.evaluate import evaluate_model
    from speechft.train import Run
    from speechft.whisper import load_whisper

    rows = scored_rows(a)
    if name == "base":
        found = evaluate_model(load_whisper(a.model), rows)
        return {"texts": [t.text for t in found.transcripts]}
    with tempfile.TemporaryDirectory() as out:
        train = Manifest.load(a.manifest, allow_outside=True).split("train")
        train = Manifest(train, Path(out) / "manifest.jsonl")  # no cache that an earlier arm left
        common = {
            "model": a.model, "manifest": a.manifest, "augment": None, "views": 1, "min_steps": 0, "evaluations": 1,
            "checkpoint_every": 10**9, "allow_outside": True, "epochs": 1000,
        }  # fmt: skip
        settings = common | ARMS[name]
        pilot = SpeechRecipe(**settings, output_dir=Path(out) / "pilot", max_steps=PILOT)
        started = time.perf_counter()
        tried = Run(pilot, train, rows[:1], lambda event: None)
        start = time.perf_counter() - started if pilot.adapter.init == "eva" else 0.0  # others only load a model
        step, cache = step_seconds(tried)
        before = start + cache
        steps = max(1, math.floor((a.seconds - before) / step))
        recipe = SpeechRecipe(**settings, output_dir=Path(out) / "run", max_steps=steps)
        run = Run(recipe, train, rows[:1], lambda event: None)
        seconds = steps * step + before
        course(run)
        found = evaluate_model(run.whisper, rows)
        trained = sum(p.numel() for p in run.parameters.values())
        share = trained / sum(p.numel() for p in run.whisper.model.parameters())
        return {
            "steps": steps, "seconds": round(seconds, 1), "seconds_before": round(before, 1), "share": share,
            "learning_rate": recipe.learning_rate, "texts": [t.text for t in found.transcripts],
        }  # fmt: skip


def step_seconds(run: Any) -> tuple[float, float]:
    """Seconds a step, and those that filling the cache took."""
    started = time.perf_counter()
    fill_cache(run)
    before = time.perf_counter() - started if run.cached_layers is not None else 0.0
    times = []
    run.whisper.model.train()
    for number, batches in run.feed.steps(0, PILOT):
        started = time.perf_counter()
        run.descend(number, batches, run.recipe.learning_rate / 1000)
        times.append(time.perf_counter() - started)
    return statistics.median(times[WARM:]), before


def fill_cache(run: Any) -> None:
    from speechft.cache import open_or_build

    if run.cached_layers is not None:
        run.feed.cache = open_or_build(
            run.feed, run.whisper.model, run.folder, run.cached_layers, run.steps, precision=run.accelerator.autocast,
            on_event=run.on_event,
        )  # fmt: skip


def course(run: Any) -> None:
    """All steps of a run, without looking at dev."""
    from speechft.prefetch import prefetch
    from speechft.schedule import rate_factor

    fill_cache(run)
    run.whisper.model.train()
    for step, batches in prefetch(run.feed.steps(0, run.steps), run.base.device):
        run.descend(step, batches, run.recipe.learning_rate * rate_factor(run.recipe, step, run.steps))
    run.whisper.model.eval()


def lines(arms: dict[str, dict[str, Any]], rows: Manifest) -> list[str]:
    """The table, the best first."""
    scores = {name: score(list(rows), arm["texts"], "whisper-english") for name, arm in arms.items()}
    head = f"{len(rows)} clips, {len(rows.speakers)} speakers, normalised by {scores['base'].normalizer}"
    out = [head, "", "| method, placement | steps | trained | rate | WER (95% interval) | to the default |"]
    out.append("|---|---|---|---|---|---|")
    for name in sorted(scores, key=lambda name: scores[name].wer):
        arm, found = arms[name], scores[name].to_dict()
        against = compare(scores["default"], scores[name])
        difference = f"{points(against['wer'])} ({' to '.join(points(bound) for bound in against['wer_ci95'])})"
        numbers = f"{arm['steps']} | {arm['share']:.2%} | {arm['learning_rate']:.0e}" if "steps" in arm else "0 | – | –"
        out.append(f"| {name} | {numbers} | {found['wer']:.1%} ({interval(found['wer_ci95'])}) | {difference} |")
    return out


if __name__ == "__main__":
    exits.run(main)
