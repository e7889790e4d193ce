"""What the text recipes do with SmolLM2-135M on this machine: time, memory, scores before and after.

    python recipes/text_examples.py runs/text
    python benchmarks/text.py runs/text runs/text-benchmark [sft dpo reward ppo feedback pretrain sft_qlora]

The data are small sets made from templates, so the scores say that training works and nothing about other tasks. Each
recipe runs as `recipes/text_*.yaml` says; the reward model has to come before ppo and feedback. One seed: another one
gives other numbers within and beyond the intervals.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from speechft.config import load_recipe
from speechft.text.pipeline import train

RECIPES = Path(__file__).parents[1] / "recipes"
DATA = {"sft": "commands", "sft_qlora": "commands", "pretrain": "documents"}
ORDER = ["sft", "sft_qlora", "pretrain", "dpo", "reward", "ppo", "feedback"]


def run(name: str, data: Path, out: Path) -> dict[str, Any]:
    """One recipe's result."""
    overrides = [f"data={data / DATA.get(name, 'preferences')}.jsonl", f"output_dir={out / name}"]
    if name == "ppo":
        overrides.append(f"reward={out / 'reward' / 'adapter'}")
    if name == "feedback":
        overrides.append(f"judge=reward:{out / 'reward' / 'adapter'}")
    if name == "pretrain":
        overrides.append(f"other_domain={data / 'everyday.jsonl'}")
    return train(load_recipe(RECIPES / f"text_{name}.yaml", overrides))


def rows(name: str, result: dict[str, Any]) -> list[str]:
    """Lines of a Markdown table."""
    training = result["training"]
    cost = f"{training['seconds']:.0f} s | {training['weight_bytes'] / 2**20:.0f} MiB"
    lines = []
    for measure, after in result["adapted"].items():
        before = result["base"].get(measure)
        lines.append(f"| {name} | {measure} | {_shown(before)} | {_shown(after)} | {cost} |")
    return lines


def _shown(measure: dict[str, Any] | None) -> str:
    if not measure or measure["value"] is None:
        return ""
    low, high = measure["ci95"]
    return f"{measure['value']:.3g}" + (f" ({low:.3g} to {high:.3g})" if low is not None and high is not None else "")


def main(data: Path, out: Path, names: list[str]) -> None:
    print("| recipe | measure | before | after | training | weights |\n|---|---|---|---|---|---|")
    for name in names:
        print("\n".join(rows(name, run(name, data, out))), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:] or ORDER)
