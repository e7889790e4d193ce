"""What the text recipes do with SmolLM2-135M on this machine: scores before and after, time, memory.

    python benchmarks/text.py sft                    # also: pretrain, dpo, reward, ppo, judge, feedback
    python benchmarks/text.py sft --quantize nf4     # the same with QLoRA; likewise dpo, reward, ppo
    python benchmarks/text.py table                  # everything measured so far, as Markdown

Each is the recipe `recipes/text_*.yaml` at the size given here; key=value changes it further. ppo, judge and feedback
need the reward model, so reward comes first. The data are made from templates (recipes/text_examples.py): the scores
say that training works, and nothing about other tasks. One seed: another gives other numbers.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from speechft import exits
from speechft.recipes import load_recipe
from speechft.text.audit import judge_pairs
from speechft.text.data import read
from speechft.text.judge import judge_from
from speechft.text.pipeline import train

ROOT = Path(__file__).parents[1]
SIZES = {
    "sft": ["test_examples=60", "dev_examples=24", "evaluations=1"],
    "pretrain": ["test_examples=12", "dev_examples=6", "evaluations=1", "epochs=1"],
    "dpo": ["test_examples=80", "dev_examples=24", "evaluations=1"],
    "reward": ["test_examples=80", "dev_examples=24", "evaluations=1"],
    "ppo": ["test_examples=48", "dev_examples=16", "evaluations=1"],
    "feedback": ["test_examples=32", "dev_examples=12", "rows=120", "evaluations=1"],
}
DATA = {"sft": "commands", "pretrain": "documents"}
JUDGED = 40  # pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=[*SIZES, "judge", "table"])
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--quantize", help="nf4 or int8 for the frozen weights")
    parser.add_argument("--judge", default="model:bundled:smollm2", help="of `judge`: as in a recipe of feedback")
    parser.add_argument("--out", type=Path, default=Path("runs/text-benchmark"))
    a = parser.parse_intermixed_args()  # key=value may stand after options
    if a.task == "table":
        print(table(a.out))
        return
    if not (a.out / "data").is_dir():
        subprocess.run([sys.executable, ROOT / "recipes" / "text_examples.py", a.out / "data"], check=True)
    name = a.task + (f"-{a.quantize}" if a.quantize else "")
    started = time.perf_counter()
    found = judged(a.out, a.judge) if a.task == "judge" else trained(a.out, a.task, name, a.quantize, a.overrides)
    found = {"task": name, "overrides": a.overrides, "seconds": round(time.perf_counter() - started), **found}
    (a.out / f"{name}.json").write_text(json.dumps(found, indent=2) + "\n")
    print(table(a.out, [name]))


def trained(out: Path, task: str, name: str, quantize: str | None, overrides: list[str]) -> dict[str, Any]:
    """One recipe's measures before and after."""
    settings = [f"data={out / 'data' / DATA.get(task, 'preferences')}.jsonl", f"output_dir={out / name}", *SIZES[task]]
    if task == "ppo":
        settings.append(f"reward={out / 'reward' / 'adapter'}")
    if task == "feedback":
        settings.append(f"judge=reward:{out / 'reward' / 'adapter'}")
    if task != "reward":
        settings.append(f"other_domain={out / 'data' / 'everyday.jsonl'}")
    if quantize:
        settings.append(f"adapter.quantize={quantize}")
    result = train(load_recipe(ROOT / "recipes" / f"text_{task}.yaml", settings + overrides))
    return {key: result[key] for key in ("base", "adapted", "difference", "training", "kept")}


def judged(out: Path, judge: str) -> dict[str, Any]:
    """How far a judge can be trusted, on pairs whose better answer is known; which comes first alternates."""
    examples = read(str(out / "data" / "preferences.jsonl"), needs="preference").test[:JUDGED]
    measures = judge_pairs(judge_from(judge), examples)
    return {"base": {}, "adapted": measures, "difference": {}, "training": {}, "judge": judge}


def table(out: Path, names: list[str] | None = None) -> str:
    """Markdown of what was measured."""
    lines = [
        "| run | measure | before | after | change | training | all | weights | peak |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for path in sorted(out.glob("*.json")):
        if names and path.stem not in names:
            continue
        found = json.loads(path.read_text(encoding="utf-8"))
        cost = found["training"]
        costs = f"{found['seconds']} s | |"
        if cost:
            costs = f"{found['seconds']} s | {cost['weights_mb']:.0f} MB | {cost['peak_memory_mb']:.0f} MB"
        spent = f"{cost['seconds']:.0f} s, {cost['steps']} steps" if cost else ""
        for measure, after in found["adapted"].items():
            change = _change(found["difference"].get(measure))
            before = _shown(found["base"].get(measure))
            lines.append(f"| {path.stem} | {measure} | {before} | {_shown(after)} | {change} | {spent} | {costs} |")
    return "\n".join(lines)


def _shown(measure: dict[str, Any] | None) -> str:
    return "" if not measure or measure["value"] is None else f"{measure['value']:.3g}{_span(measure)}"


def _change(change: dict[str, Any] | None) -> str:
    if not change:
        return ""
    return (f"x{change['ratio']:.3g}" if "ratio" in change else f"{change['difference']:+.3g}") + _span(change)


def _span(measure: dict[str, Any]) -> str:
    low, high = measure["ci95"]
    return f" ({low:.3g} to {high:.3g})" if low is not None and high is not None else ""


if __name__ == "__main__":
    exits.run(main)
