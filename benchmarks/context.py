"""How much silence a model wants after a clip: WER and speed by context policy, for a model or an adapter.

python benchmarks/context.py MANIFEST [--split dev] [--limit 120] [--adapter runs/me/adapter]
"""

from __future__ import annotations

import argparse
import json

from speechft import Manifest, exits, load
from speechft.context import Context
from speechft.transcript import DecodeOptions

POLICIES = ("clip", "clip+0.5s", "clip+2s", "clip+5s", "clip+10s", "clip+15s", "full")
PLAIN = DecodeOptions(temperatures=())  # without retries, which would hide what a policy does


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("manifest")
    arguments.add_argument("--split", default="dev")
    arguments.add_argument("--limit", type=int, default=120)
    arguments.add_argument("--model")
    arguments.add_argument("--adapter")
    arguments.add_argument("--json", action="store_true")
    a = arguments.parse_args()
    clips = Manifest.load(a.manifest).split(a.split)[: a.limit]
    recogniser = load(a.model, a.adapter)
    rows = []
    for policy in POLICIES:
        row: dict = {"context": policy}
        for name, options in (("plain", PLAIN), ("guarded", DecodeOptions())):
            found = recogniser.evaluate(clips, options=options, context=Context(policy))
            row |= {f"wer_{name}": found.scores.wer, f"seconds_{name}": round(found.seconds, 2)}
        rows.append(row)
        if not a.json:
            print("  ".join(f"{k} {v:.3f}" if isinstance(v, float) else f"{v:10}" for k, v in row.items()), flush=True)
    if a.json:
        print(json.dumps(rows, indent=2))


if __name__ == "__main__":
    exits.run(main)
