"""Too little memory, by rlimit, for training, evaluation and transcription: smaller batches, or a sentence.

    python benchmarks/faults/little_memory.py [--count 6]

The limits lie between what the libraries take before any work and what the work took without a limit. A run that ends
well must have the same effect as one without a limit: the same steps and losses, error rates, texts. Where its numbers
are only close to those, it went on with smaller batches, and must have said so.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import complaint, run, speechft
from tally import Tally

from speechft.corpora.simulated import prepare_simulated

# The command line, and how much address space it took: once everything is loaded, and at most.
MEASURED = """
import sys
import accelerate, numpy, peft, torch, transformers, librosa, speechft.pipeline, speechft.cli

def size(field):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(field))

# the threads of both are there now
torch.ones(1000, 1000) @ torch.ones(1000, 1000)
numpy.ones((1000, 1000)) @ numpy.ones((1000, 1000))
before, report = size("VmSize"), sys.argv[1]
sys.argv = ["speechft", *sys.argv[2:]]
try:
    speechft.cli.main()
finally:
    print(before, size("VmPeak"), file=open(report, "w"))
"""
CLOSE = 0.01  # of a loss or a rate: sums in another order, in bf16 where the machine has it
TOLD = "memory ran out"  # and of oneDNN, "ran out of memory"


def main(a: argparse.Namespace) -> Tally:
    tally = Tally("too little memory", notes="")
    smaller = unsaid = 0
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        manifest = prepare_simulated(folder / "voice", n_sentences=20, severity=0.5)
        clips = sorted((folder / "voice").rglob("*.flac"))[:4] or sorted((folder / "voice").rglob("*.wav"))[:4]
        jobs = {
            "train": ["train", f"manifest={manifest}", "output_dir={out}", "max_steps=2", "dev_clips=4", "test=false",
                      "context=clip+10s"],
            "evaluate": ["evaluate", "--manifest", str(manifest), "--context", "full", "--json"],
            "transcribe": ["transcribe", *map(str, clips)],
        }  # fmt: skip
        for name, words in jobs.items():
            before, most, expected = measured(words, folder / f"{name} whole")
            for number in range(1, a.count + 1):
                room = (most - before) * number // (a.count + 1)
                out = folder / f"{name} {number}"
                done = limited(words, out, before + room)
                smaller += done.returncode == 0 and told(done)
                wrong = complaint(done, (0, 2), place=False)
                if not wrong and done.returncode == 2 and "memory" not in done.stderr:
                    wrong = f"does not say that memory is missing: {done.stderr.strip()[-200:]}"
                if not wrong and done.returncode == 0:
                    wrong = another_effect(effect(name, done.stdout, out), expected, told(done))
                unsaid += "most likely" in done.stderr
                tally.count(f"{name} with {room / 1e6:.0f} of {(most - before) / 1e6:.0f} MB", wrong)
    tally.notes = (
        f"train, evaluate, transcribe; {smaller} went on with smaller batches, {unsaid} were ended by a library and "
        "said so all the same, the rest fitted or said so"
    )
    return tally


def told(done: subprocess.CompletedProcess[str]) -> bool:
    """Whether a command said that memory ran out, whatever it did then."""
    plain = " ".join(done.stderr.split())  # which may be broken into lines anywhere
    return TOLD in plain or "ran out of memory" in plain


def effect(name: str, shown: str, out: Path) -> list[Any]:
    """What a job came to, in numbers and texts, without times.

    Args:
        shown: on stdout.
        out: its output folder, if it has one.
    """
    if name == "train":
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        result = json.loads((out / "result.json").read_text(encoding="utf-8"))
        return [result["training"]["steps"], *(value for line in lines for value in (line["step"], line.get("loss")))]
    if name == "evaluate":
        result = json.loads(shown)
        return [result[key] for key in ("n_utterances", "n_words", "wer", "cer", "wer_raw")]
    return shown.splitlines()


def another_effect(found: list[Any], expected: list[Any], was_told: bool) -> str | None:
    """How a run that ended well differs from one that had all the memory it wanted; None where it may."""
    if found == expected:
        return None
    if len(found) != len(expected) or not all(map(alike, found, expected)):
        return f"ended well, but with {found}, not {expected}"[:400]
    return None if was_told else f"went on with smaller batches without a word: {found}, not {expected}"[:400]


def alike(one: Any, other: Any) -> bool:
    """Whether losses or rates are close, and all else the same."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=CLOSE)
    return bool(one == other)


def measured(words: list[str], out: Path) -> tuple[int, int, list[Any]]:
    """Of a command without a limit: bytes of address space before it begins, and at most; and its effect."""
    report = out.with_suffix(".txt")
    command = [sys.executable, "-c", MEASURED, str(report), *(word.replace("{out}", str(out)) for word in words)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=900)
    before, most = map(int, report.read_text().split())
    return before, most, effect(words[0], done.stdout, out)


def limited(words: list[str], out: Path, limit: int) -> subprocess.CompletedProcess[str]:
    """A command that may have so many bytes of address space."""
    own = [word.replace("{out}", str(out)) for word in words]
    return speechft(*own, timeout=900, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)))


if __name__ == "__main__":
    run(main, __doc__, 6)
