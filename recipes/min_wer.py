"""Does training on its own mistakes help a trained adapter? Three arms from one adapter, on clips never trained on.

    python recipes/min_wer.py me/manifest.jsonl runs/me/adapter runs/me-min-wer [--clips 400 --held-out 100]

The adapter as it is; as many more steps of plain training at the same rate (what the steps alone do); and minimum word
error rate training. Where a state is not better on dev than the adapter it started from, that adapter counts.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from speechft import Manifest, adapters, exits, load
from speechft.check import usable
from speechft.files import write_text
from speechft.min_wer import refine
from speechft.overlap import Overlap, overlap
from speechft.own_results import refuse_foreign_results
from speechft.paired import compare
from speechft.result import environment, notice
from speechft.seen import Seen, caveats_of, learnt_from
from speechft.split import auto_split
from speechft.study import cautions, parts_apart
from speechft.trained_on import THE_ADAPTER
from speechft.transcript import DecodeOptions

ARMS = {"more training": {"risk": 0.0, "cross_entropy": 1.0}, "minimum WER": {"risk": 1.0, "cross_entropy": 0.1}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest")
    parser.add_argument("adapter", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--clips", type=int, help="training clips at most")
    parser.add_argument("--held-out", type=int, help="dev clips, and test clips, at most")
    parser.add_argument("--rounds", type=int, default=2)
    a = parser.parse_args()
    refuse_foreign_results(a.out)
    manifest = auto_split(usable(a.manifest)[0])
    parts = parts_apart(manifest, a.clips, a.held_out)
    shared = overlap(manifest)
    caveats = caveats_of(learnt_from({THE_ADAPTER: Seen.by([adapters.read_card(a.adapter)])}, parts["test"], "test"))
    print(*cautions(parts["test"], manifest, shared), *caveats, sep="\n", flush=True)
    table = [{"arm": "the adapter", **measured(a.adapter, parts["test"])}]
    for name, weights in ARMS.items():
        folder = a.out / name.replace(" ", "-").lower()
        refined = refine(a.adapter, parts["train"], parts["dev"], folder, rounds=a.rounds, **weights)
        chosen = {"dev_wer": [refined.progress.base, refined.progress.best], "steps": refined.steps}
        table.append({"arm": name, **chosen, **measured(refined.adapter or a.adapter, parts["test"], a.adapter)})
        print(json.dumps(table[-1]), flush=True)
    found = result(table, parts["test"], manifest, shared, caveats)
    write_text(a.out / "result.json", json.dumps(found, indent=2) + "\n")


def result(
    table: list[dict[str, Any]], test: Manifest, manifest: Manifest, shared: Overlap, caveats: list[str]
) -> dict[str, Any]:
    """The arms, after what must be read before them, and what they were measured on."""
    return {
        "notice": notice(test, manifest),
        "caveats": caveats,
        "task": "Minimum word error rate",
        "evaluated_on": {"clips": len(test), "speakers": len(test.voices)},
        "arms": table,
        "overlap": str(shared),
        "leakage": shared.to_dict(),
        "manifest_sha256": manifest.sha256,
        "environment": environment(),
    }


def measured(adapter: Path, test: Manifest, start: Path | None = None) -> dict[str, Any]:
    """Error rates with the guards, and clips that loop without them; the change from another adapter."""
    recogniser = load(None, adapter)
    scores = recogniser.evaluate(test).scores
    bare = recogniser.evaluate(test, options=DecodeOptions(temperatures=())).scores.to_dict()
    found = scores.to_dict()
    keys = ("wer", "wer_ci95", "insertions", "loops")
    row = {**{key: found[key] for key in keys}, "without_guards": {key: bare[key] for key in keys}}
    if start is not None and start != adapter:
        change = compare(load(None, start).evaluate(test).scores, scores)
        row |= {"change": change["wer"], "change_ci95": change["wer_ci95"]}
    return row


if __name__ == "__main__":
    exits.run(main)
