"""A fleet of speakers, one of whose workers is killed midway: who has an adapter, and how often each was trained.

    python benchmarks/fleet.py [--speakers 16] [--sentences 40] [--cpus 1] [--out runs/fleet-benchmark] [key=value ...]

The speakers are simulated, each with other sentences and another severity. After the first speaker is done a worker in
the middle of its training gets a kill -9. Expected: an adapter for each speaker, one that began twice, none that
finished twice, and no step made twice in the killed one's course. key=value changes the recipe of all of them.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from speechft import exits
from speechft.corpora.simulated import prepare_simulated
from speechft.manifest import Manifest, Utterance

RECIPE = ["min_steps=40", "evaluations=2", "checkpoint_every=5"]
SEVERITIES = (0.8, 1.0, 1.2, 1.4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.add_argument("--speakers", type=int, default=16)
    parser.add_argument("--sentences", type=int, default=40)
    parser.add_argument("--cpus", type=float, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/fleet-benchmark"))
    a = parser.parse_intermixed_args()
    manifest, out = cohort(a.out / "voices", a.speakers, a.sentences), a.out / "fleet"
    command = [sys.executable, "-m", "speechft.cli", "fleet", f"manifest={manifest}", f"output_dir={out}", *RECIPE]
    started = time.perf_counter()
    run = subprocess.Popen([*command, *a.overrides, "--cpus", str(a.cpus), "--json"], stdout=subprocess.PIPE)
    killed = kill_one(run, out)
    assert run.stdout is not None
    result = json.loads(run.stdout.read())
    assert run.wait() == 0
    found = {"seconds": round(time.perf_counter() - started), "killed": killed, **counted(result, out)}
    print(json.dumps(found, indent=2))
    (a.out / "fleet.json").write_text(json.dumps(found, indent=2) + "\n")


def cohort(out: Path, speakers: int, sentences: int) -> Path:
    """A manifest of simulated speakers, `s00` and so on."""

    def of(number: int) -> Iterator[Utterance]:
        severity = SEVERITIES[number % len(SEVERITIES)]
        own = prepare_simulated(out / f"s{number:02d}", n_sentences=sentences, seed=number, severity=severity)
        for utterance in Manifest.load(own):
            yield replace(utterance, id=f"s{number:02d}-{utterance.id}", speaker=f"s{number:02d}")

    path = out / "cohort.jsonl"
    Manifest([utterance for number in range(speakers) for utterance in of(number)]).save(path)
    return path


def kill_one(run: subprocess.Popen, out: Path) -> dict[str, Any] | None:
    """Kill a worker that has made some steps, once a speaker is done; None if the fleet was over before."""
    while run.poll() is None:
        for metrics in out.glob("*/metrics.jsonl"):
            last = json.loads((metrics.parent / "fleet.jsonl").read_text().splitlines()[-1])
            step = metrics.read_text().count('"loss"')
            if last["event"] == "started" and step > 10 and any(out.glob("*/result.json")):
                os.kill(last["pid"], signal.SIGKILL)
                return {"speaker": metrics.parent.name, "after_step": step}
        time.sleep(0.05)
    return None


def counted(result: dict[str, Any], out: Path) -> dict[str, Any]:
    """What a fleet left."""
    rows = result["speakers"]
    events = {row["speaker"]: (out / row["folder"] / "fleet.jsonl").read_text() for row in rows}
    twice = 0
    for row in rows:
        lines = map(json.loads, (out / row["folder"] / "metrics.jsonl").read_text().splitlines())
        steps = [line["step"] for line in lines if "loss" in line]
        twice += len(steps) - len(set(steps))
    return {
        "speakers": len(rows),
        "adapters": sum((out / row["folder"] / "adapter" / "adapter_model.safetensors").is_file() for row in rows),
        "began_more_than_once": [name for name, text in events.items() if text.count('"started"') > 1],
        "finished_more_than_once": [name for name, text in events.items() if text.count('"finished"') > 1],
        "steps_made_twice": twice,
        "pooled": result["pooled"],
    }


if __name__ == "__main__":
    exits.run(main)
