"""Does training on its own mistakes help a trained adapter? Three arms from one adapter, on clips never trained on.

    python recipes/min_wer.py me/manifest.jsonl runs/me/adapter runs/me-min-wer [clips=400]

The adapter as it is; as many more steps of plain training at the same rate (what the steps alone do); and minimum word
error rate training. Where a state is not better on dev than the adapter it started from, that adapter counts.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from speechft import load
from speechft.check import usable
from speechft.files import write_text
from speechft.min_wer import refine
from speechft.scoring import compare
from speechft.split import auto_split
from speechft.study import parts_of

ARMS = {"more training": {"risk": 0.0, "cross_entropy": 1.0}, "minimum WER": {"risk": 1.0, "cross_entropy": 0.1}}


def main(manifest_path: str, adapter: Path, out: Path, clips: int | None = None) -> None:
    manifest, _ = usable(manifest_path)
    train, dev, test, caveat = parts_of(auto_split(manifest))
    start = load(None, adapter).evaluate(test).scores
    table = [_row("the adapter", None, start)]
    for name, weights in ARMS.items():
        refined = refine(adapter, train[:clips], dev, out / name.replace(" ", "-").lower(), **weights)
        found = load(None, refined.adapter).evaluate(test).scores if refined.adapter else start
        progress = refined.progress
        table.append(_row(name, {"dev": [progress.base, progress.best], "steps": refined.steps}, found, start))
        print(json.dumps(table[-1]), flush=True)
    write_text(out / "result.json", json.dumps({"caveat": caveat, "arms": table}, indent=2) + "\n")
    print("| arm | WER | 95% | change | 95% | insertions | clips with more errors than words |")
    print("|---|---|---|---|---|---|---|")
    for row in table:
        change = f"{row['change']:+.1%} | {row['change_ci95']}" if "change" in row else "|"
        print(
            f"| {row['arm']} | {row['wer']:.1%} | {row['ci95']} | {change} | {row['insertions']} | {row['looping']} |"
        )
    print(caveat)


def _row(name: str, about: dict[str, Any] | None, scores: Any, start: Any = None) -> dict[str, Any]:
    found = scores.to_dict()
    row = {
        "arm": name, **(about or {}), "wer": scores.wer, "ci95": found["wer_ci95"],
        "insertions": found["insertions"], "looping": found["clips_above_one"],
    }  # fmt: skip
    if start is not None:
        change = compare(start, scores)
        row |= {"change": change["wer"], "change_ci95": change["wer_ci95"]}
    return row


if __name__ == "__main__":
    main(*sys.argv[1:2], *map(Path, sys.argv[2:4]), *(int(a.removeprefix("clips=")) for a in sys.argv[4:]))
