"""How fast to learn from little: error rates of small trainings by learning rate, on the simulated voice.

    python benchmarks/small_voice.py [--clips 30 60 150] [--rates 2.5e-4 5e-4 1e-3] [--out benchmarks/results]
        [--set key=value ...]

A part of the voice's training sentences is trained on; every evaluation is on 40 others, so the whole course is seen
and nothing is chosen. The simulated voice is no evidence about real speech; how the rates compare is what carries over.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path

from speechft import exits
from speechft.config import SpeechRecipe
from speechft.corpora.simulated import prepare_simulated
from speechft.manifest import Manifest
from speechft.recipes import load_recipe
from speechft.train import fit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, nargs="+", default=[30, 60, 150])
    parser.add_argument("--rates", type=float, nargs="+", default=[2.5e-4, 5e-4, 1e-3])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--set", nargs="*", default=[], metavar="key=value", help="of the recipe")
    a = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as work:
        voice = Manifest.load(prepare_simulated(Path(work) / "voice"))
        others = voice.split("test")[:40]
        for clips in a.clips:
            part = Manifest([replace(u, split="train") for u in voice.split("train")[:clips]], voice.path)
            for rate in a.rates:
                course: list[tuple[int, float]] = []
                own = [f"manifest={voice.path}", f"output_dir={work}/{clips}-{rate}", f"learning_rate={rate}"]
                recipe = load_recipe(None, ["patience=99", *own, *a.set])
                assert isinstance(recipe, SpeechRecipe)
                fit(
                    recipe,
                    part,
                    others,
                    on_event=lambda e, c=course: c.append((e["step"], e["wer"])) if "wer" in e else None,
                )
                rows.append({"clips": clips, "rate": rate, "course": course})
                end = course[-1][1]
                print(f"{clips:4} clips, {rate:.1e}: before {course[0][1]:.1%}, after {end:.1%}, "
                      f"least {min(w for _, w in course):.1%}", flush=True)  # fmt: skip
    a.out.mkdir(parents=True, exist_ok=True)
    (a.out / "small_voice.json").write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    exits.run(main)
