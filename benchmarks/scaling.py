"""How cost grows with the corpus: start-up, seconds a step and peak memory for 100, 1,000 and 10,000 clips.

    python benchmarks/scaling.py MANIFEST [--sizes 100 1000 10000] [--steps 40]

Real clips are repeated under other names until there are enough. Each size is a process of its own and makes the same
number of optimiser steps of the default recipe; start-up is the time from the process's start to the end of the
first step, without the dev evaluation before it (two clips).
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

STARTED = time.perf_counter()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest")
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1_000, 10_000])
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.worker:
        print(json.dumps(work(a.worker, a.steps)))
        return
    print("| clips | start-up s | s/step | peak MB |\n|---|---|---|---|")
    for size in a.sizes:
        with tempfile.TemporaryDirectory() as folder:
            repeated(a.manifest, Path(folder), size)
            words = [a.manifest, "--steps", str(a.steps), "--worker", folder]
            done = subprocess.run([sys.executable, __file__, *words], capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(done.stderr)
            row = json.loads(done.stdout.splitlines()[-1])
        print(f"| {size} | {row['start']:.1f} | {row['step']:.3f} | {row['peak_mb']:.0f} |", flush=True)


def repeated(manifest: str, folder: Path, size: int) -> None:
    """`size` copies of the training clips, each a file of its own."""
    from speechft.manifest import Manifest

    source = Manifest.load(manifest)
    clips = list(source.split("train") if "train" in source.splits else source)
    with (folder / "manifest.jsonl").open("w") as file:
        for number in range(size):
            clip = clips[number % len(clips)]
            name = f"{number}{clip.audio.suffix}"
            shutil.copyfile(clip.audio, folder / name)
            split = "dev" if number < 2 else "train"
            file.write(json.dumps({"audio": name, "text": clip.text, "speaker": split, "split": split}) + "\n")


def work(folder: Path, steps: int) -> dict[str, Any]:
    from speechft import memory
    from speechft.check import usable
    from speechft.config import SpeechRecipe
    from speechft.train import fit

    recipe = SpeechRecipe(manifest=folder / "manifest.jsonl", output_dir=folder / "run", max_steps=steps, average=False)
    manifest, _ = usable(recipe.manifest, False)
    seconds: list[float] = []
    first: list[float] = []

    def watch(event: dict[str, Any]) -> None:
        if "step_seconds" in event:
            seconds.append(event["step_seconds"])
            first.append(time.perf_counter() - STARTED)

    fit(recipe, manifest.split("train"), manifest.split("dev"), on_event=watch)
    return {"start": first[0], "step": statistics.median(seconds), "peak_mb": memory.peak_mb()}


if __name__ == "__main__":
    main()
