"""What a command leaves: every file of its output folder, by a hash that knows of no times.

Left aside are hidden files (locks and marks), reports (the numbers of result.json again), logs of what happened and the
card that TRL leaves among checkpoints, whose tags come in any order.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path
from typing import Any

from common import complaint, speechft

ASIDE = ("report.html", "report.md", "fleet.md", "trials.md", "fleet.jsonl", "study.journal")
CARD = "checkpoints/README.md"
# Keys of JSON that tell of the process: times, memory, the padding of the steps that it made itself, and how often a
# fleet started a run.
OF_THE_MOMENT = {"seconds", "step_seconds", "real_time_factor", "peak_memory_mb", "padding", "starts"}
# A study lists a killed trial as failed, and makes it again under the next number.
FAILED, NUMBER = {"state": "fail"}, "number"
SPEECH = ("adapter/adapter_model.safetensors", "checkpoints/latest/state.safetensors", "metrics.jsonl", "result.json")
TEXT = ("adapter/adapter_model.safetensors", "metrics.jsonl", "result.json")
MUST_HAVE = {  # by the verb: what must be there for a comparison to say anything
    "prepare": ("manifest.jsonl",),
    "train": SPEECH,
    "evaluate": ("result.json",),
    "export": ("model.safetensors", "config.json"),
    "tune": ("trials.json", *(f"best/{name}" for name in SPEECH)),
    "fleet": ("fleet.json", *(f"{speaker}/{name}" for speaker in ("ann", "ben") for name in SPEECH)),
}


def undisturbed(words: list[str], out: Path, environment: dict[str, str] | None = None) -> dict[str, str]:
    """The outcome of a command that nobody disturbs.

    Args:
        words: of the command line; the first is the verb.
        out: its output folder; the runs that are compared with it need the same, for results name it.
    """
    done = speechft(*words, env=environment)
    assert complaint(done, (0,)) is None, done.stderr
    found = outcome(out)
    missing = set(TEXT if "task=sft" in words else MUST_HAVE[words[0]]) - found.keys()
    assert not missing, f"{words[0]} left no {', '.join(sorted(missing))}: there is too little to compare"
    return found


def outcome(out: Path) -> dict[str, str]:
    """The hash of every file that counts, by its path below the folder."""
    paths = {path.relative_to(out): path for path in out.rglob("*") if path.is_file()}
    return {
        name.as_posix(): hashlib.sha256(timeless(path)).hexdigest()
        for name, path in sorted(paths.items())
        if path.name not in ASIDE and name.as_posix() != CARD and not any(part.startswith(".") for part in name.parts)
    }


def differs(out: Path, expected: dict[str, str]) -> str | None:
    """Which files are not as expected; None if all are."""
    found = outcome(out)
    names = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
    return f"the result differs: {', '.join(names)}"[:300] if names else None


def timeless(path: Path) -> bytes:
    """The content of a file; of JSON without what differs from run to run."""
    content = path.read_bytes()
    with contextlib.suppress(ValueError):  # what is no JSON counts as it is
        if path.suffix == ".json":
            return repr(without_moment(json.loads(content))).encode()
        if path.suffix == ".jsonl":
            return repr([without_moment(json.loads(line)) for line in content.splitlines()]).encode()
    return content


def without_moment(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_moment(each) for key, each in value.items() if key not in OF_THE_MOMENT and key != NUMBER}
    if isinstance(value, list):
        return [
            without_moment(each) for each in value if not (isinstance(each, dict) and FAILED.items() <= each.items())
        ]
    return value
