"""A personal voice model in one readable script: how the pieces of speechft compose.

    python recipes/personal_voice.py me/manifest.jsonl runs/me

It does what `speechft train` does, step by step, so that a study can change any of them.
"""

from __future__ import annotations

import sys
from pathlib import Path

from speechft import Manifest, SpeechRecipe, exits, load
from speechft.overlap import overlap
from speechft.paired import compare
from speechft.split import auto_split
from speechft.train import fit


def main(manifest_path: Path, out: Path) -> None:
    # 1. Recordings, split so that no sentence (or, with several people, no speaker) is in two parts.
    manifest = auto_split(Manifest.load(manifest_path).with_durations())
    print(overlap(manifest))

    # 2. An adapter: LoRA on the projections of the encoder and the decoder, at the clips' own length.
    recipe = SpeechRecipe(manifest=manifest_path, output_dir=out)
    trained = fit(recipe, manifest.split("train"), manifest.split("dev"), on_event=show)

    # 3. Before and after, on sentences that neither trained the adapter nor chose it.
    test = manifest.split("test") or manifest.split("dev")
    before = load(recipe.model, language=trained.language).evaluate(test)
    print(f"before: {before.scores.wer:.1%} of the words wrong")
    if trained.adapter is None:
        print("Nothing trained was better than the base model: it is kept, and there is no adapter.")
        return
    after = load(adapter=trained.adapter).evaluate(test)
    difference = compare(before.scores, after.scores)
    print(f"after:  {after.scores.wer:.1%}; difference {difference}")

    # 4. Use it.
    print(load(adapter=trained.adapter).transcribe(test[0].audio).text)


def show(event: dict) -> None:
    if "wer" in event:
        print(f"step {event['step']:4}  dev WER {event['wer']:.1%}  ({event['model']})")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    exits.run(lambda: main(Path(sys.argv[1]), Path(sys.argv[2])))
