"""What each variation of sound costs a recogniser: word errors at the ends of its range, and the severity dial.

    python benchmarks/augmentation.py corpus/manifest.jsonl --split dev --clips 50 --adapter runs/me/adapter

An effect that changes no words but doubles the errors is either realistic or broken: listen to it
(`speechft augment MANIFEST --listen OUT`). `--windows` compares window lengths of the phase vocoder behind tempo.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from speechft import exits
from speechft.audio import SAMPLE_RATE
from speechft.augment_audio import EFFECTS
from speechft.check import usable
from speechft.decode import decode as decoded
from speechft.decoder import inference_copy
from speechft.recogniser import load
from speechft.scoring import score
from speechft.spectral import stretched
from speechft.transcript import DecodeOptions

SEVERITIES = (0.0, 0.25, 0.5, 1.0)
WINDOWS = (400, 512, 768, 1024, 2048)  # samples


def main(manifest: Path, split: str, n_clips: int, adapter: Path | None, windows: bool) -> None:
    rows = usable(manifest)[0].split(split)
    rows = rows[:: max(1, len(rows) // n_clips)][:n_clips]
    model = inference_copy(load(adapter=adapter).whisper)
    clips = [u.load() for u in rows]

    def line(name: str, make: Callable[[np.ndarray, np.random.Generator], np.ndarray]) -> None:
        started = time.process_time()
        varied = [make(clip, np.random.default_rng(i)) for i, clip in enumerate(clips)]
        cost = (time.process_time() - started) / len(clips) * 1000
        # Without retries: they would hide what an effect does.
        found = decoded(model, varied, DecodeOptions(temperatures=()), ready=True)
        wer = score(list(rows), [t.text for t in found]).wer
        length = np.mean([len(b) / len(a) for a, b in zip(clips, varied, strict=True)])
        print(f"{name:24} WER {wer:6.1%}   {cost:4.0f} ms a clip   {length:.2f} times as long", flush=True)

    print(f"{len(clips)} clips of {np.mean([len(clip) for clip in clips]) / SAMPLE_RATE:.1f} s")
    line("as recorded", lambda clip, rng: clip)
    if windows:
        for size in WINDOWS:
            for factor in EFFECTS["tempo"].amounts:
                line(f"tempo {factor}, window {size}", lambda clip, _, f=factor, n=size: stretched(clip, f, n))
        return
    for name, effect in EFFECTS.items():
        for amount in SEVERITIES if name == "impairment" else effect.amounts:
            line(f"{name} {amount:g}", lambda clip, rng, e=effect, a=amount: e.make(clip, a, rng))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--split", default="dev")
    parser.add_argument("--clips", type=int, default=50)
    parser.add_argument("--adapter", type=Path)
    parser.add_argument("--windows", action="store_true")
    given = parser.parse_args()
    exits.run(lambda: main(given.manifest, given.split, given.clips, given.adapter, given.windows))
