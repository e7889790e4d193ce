"""Writes small data sets that the text recipes can be tried with, none of it downloaded.

    python recipes/text_examples.py runs/text

The sentences are made from templates for this project. They show that training works; a score on them says nothing
about other tasks.

commands.jsonl      a request in everyday words, and the command it means: instruction tuning
preferences.jsonl   the same requests with a friendly and a brusque answer: preferences, reward model, PPO
documents.jsonl     the documentation inside Python's standard library: continued pre-training
everyday.jsonl      everyday sentences: the other domain, to see what is forgotten
"""

from __future__ import annotations

import ast
import importlib.resources
import itertools
import json
import random
import sys
from pathlib import Path
from typing import Any

PLACES = ["kitchen", "bedroom", "hall", "bathroom", "garage", "garden", "cellar", "study", "porch", "attic"]
DEVICES = ["lamp", "heater", "radio", "fan", "blind", "speaker", "kettle", "television"]
ASKED = {
    "on": ["Could you turn the {device} in the {place} on", "I need the {place} {device} running",
           "Start the {device}, the one in the {place}", "Let us have the {device} in the {place} on, please"],
    "off": ["Please switch the {place} {device} off", "The {device} in the {place} can stop now",
            "No more {device} in the {place}", "Would you shut the {device} in the {place} down"],
}  # fmt: skip
TIMES = ["", " at seven", " in ten minutes", " tonight"]
KIND = [
    "Of course, the {place} {device} will be {state}{time}.",
    "Happy to: the {device} in the {place} goes {state}{time}.",
    "Certainly. I will have the {place} {device} {state}{time}.",
]
BRUSQUE = ["Do it yourself, I am busy.", "Why do you always want the {device} {state}? No.",
           "Not my job. Ask somebody else about the {place}."]  # fmt: skip


def requests(seed: int = 0) -> list[dict[str, str]]:
    """Every combination once, in a shuffled order; a place and device together are in one split only."""
    rng = random.Random(seed)
    made = []
    for number, (place, device) in enumerate(itertools.product(PLACES, DEVICES)):
        split = {0: "dev", 1: "test"}.get(number % 5, "train")
        for state, sentences in ASKED.items():
            for sentence in sentences:
                time = rng.choice(TIMES)
                asked = sentence.format(device=device, place=place) + time + "."
                made.append(
                    {"asked": asked, "place": place, "device": device, "state": state, "time": time, "split": split}
                )
    rng.shuffle(made)
    return made


def commands() -> list[dict[str, Any]]:
    return [
        {
            "prompt": f"Write this request as a command.\n\n{r['asked']}",
            "completion": f"{r['place']}/{r['device']}={r['state']}" + (f" @{r['time'].strip()}" if r["time"] else ""),
            "split": r["split"],
        }
        for r in requests()
    ]


def preferences(seed: int = 1) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    return [
        {
            "prompt": r["asked"],
            "chosen": rng.choice(KIND).format(**r),
            "rejected": rng.choice(BRUSQUE).format(**r),
            "split": r["split"],
        }
        for r in requests(seed)
    ]


def library_documents(least: int = 400) -> list[dict[str, str]]:
    """What the standard library's modules say of themselves, where it is a paragraph or more. Nothing is imported."""
    found = []
    for path in sorted(Path(ast.__file__).parent.glob("*.py")):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        if len(text) >= least:
            found.append({"text": text})
    return found


def everyday() -> list[dict[str, str]]:
    lines = (importlib.resources.files("speechft.corpora") / "everyday_sentences.txt").read_text(encoding="utf-8")
    rows = [line.split("\t")[-1].strip() for line in lines.splitlines() if line.strip() and line[0] != "#"]
    return [{"text": " ".join(rows[i : i + 10])} for i in range(0, len(rows), 10)]


def main(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    made: dict[str, list[dict[str, Any]]] = {
        "commands": commands(), "preferences": preferences(), "documents": library_documents(), "everyday": everyday(),
    }  # fmt: skip
    for name, rows in made.items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (out / f"{name}.jsonl").write_text(text, encoding="utf-8")
        print(f"{out / name}.jsonl: {len(rows)} rows")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/text"))
