"""Does training on its own mistakes help a trained adapter? The adapter before and after, on test clips.

python recipes/min_wer.py me/manifest.jsonl runs/me/adapter runs/me-min-wer
"""

from __future__ import annotations

import sys
from pathlib import Path

from speechft import load
from speechft.check import usable
from speechft.min_wer import refine
from speechft.scoring import compare
from speechft.split import auto_split


def main(manifest_path: str, adapter: Path, out: Path) -> None:
    manifest, _ = usable(manifest_path)
    manifest = auto_split(manifest)
    refined = refine(adapter, manifest.split("train"), manifest.split("dev"), out)
    print(f"dev WER {refined.before[0]:.1%} -> {refined.after[0]:.1%} in {refined.steps} steps")
    if refined.adapter is None:
        print("No state was better on dev: keep the adapter as it is.")
        return
    split = "test" if "test" in manifest.splits else "dev"
    held_out = manifest.split(split)
    before, after = (load(None, folder).evaluate(held_out).scores for folder in (adapter, refined.adapter))
    change = compare(before, after)
    print(f"{split} WER {before.wer:.1%} -> {after.wer:.1%}, difference {change['wer']:+.1%}, 95% {change['wer_ci95']}")
    loops = [scores.to_dict()["clips_above_one"] for scores in (before, after)]
    print(f"clips with more errors than words: {loops[0]} -> {loops[1]}")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
