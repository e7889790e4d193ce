"""Too little memory, by rlimit, for training, evaluation and transcription: smaller batches, or a sentence.

    python benchmarks/faults/little_memory.py [--count 6]

The limits lie between what the libraries take before any work and what the work took without a limit.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from common import Tally, complaint, run

from speechft.corpora.simulated import prepare_simulated

# The command line in a process whose address space is what it is once everything is loaded, and `room` MB.
LIMITED = """
import resource, sys
import accelerate, numpy, peft, torch, transformers, librosa, speechft.pipeline, speechft.cli

def size(field):
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith(field))

room, report = float(sys.argv[1]), sys.argv[2]
# the threads of both are there now; OpenBLAS ends a process that has no memory for them
torch.ones(1000, 1000) @ torch.ones(1000, 1000)
numpy.ones((1000, 1000)) @ numpy.ones((1000, 1000))
before = size("VmSize")
if room:
    resource.setrlimit(resource.RLIMIT_AS, (before + int(room * 1e6),) * 2)
sys.argv = ["speechft", *sys.argv[3:]]
try:
    speechft.cli.main()
finally:
    if not room:
        print((size("VmPeak") - before) / 1e6, file=open(report, "w"))
"""


def main(a: argparse.Namespace) -> Tally:
    tally = Tally("too little memory", notes="")
    smaller = 0
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        manifest = prepare_simulated(folder / "voice", n_sentences=20, severity=0.5)
        clips = sorted((folder / "voice").rglob("*.flac"))[:4] or sorted((folder / "voice").rglob("*.wav"))[:4]
        jobs = {
            "train": ["train", f"manifest={manifest}", "output_dir={out}", "max_steps=2", "dev_clips=4", "test=false",
                      "context=clip+10s"],
            "evaluate": ["evaluate", "--manifest", str(manifest), "--context", "full"],
            "transcribe": ["transcribe", *map(str, clips)],
        }  # fmt: skip
        for name, words in jobs.items():
            done, most = limited(words, folder / f"{name} whole", 0)
            assert done.returncode == 0, done.stderr
            for number in range(1, a.count + 1):
                room = most * number / (a.count + 1)
                done, _ = limited(words, folder / f"{name} {number}", room)
                smaller += done.returncode == 0 and "memory" in done.stderr
                wrong = complaint(done, (0, 2))
                if not wrong and done.returncode == 2 and "memory" not in done.stderr:
                    wrong = f"does not say that memory is missing: {done.stderr.strip()[-200:]}"
                tally.count(f"{name} with {room:.0f} of {most:.0f} MB", wrong)
    tally.notes = f"train, evaluate, transcribe; {smaller} went on with smaller batches, the rest fitted or said so"
    return tally


def limited(words: list[str], out: Path, room: float) -> tuple[subprocess.CompletedProcess[str], float]:
    """A command with `room` MB, and what it took at most; 0 is no limit."""
    report = out.with_suffix(".mb")
    own = [word.replace("{out}", str(out)) for word in words]
    command = [sys.executable, "-c", LIMITED, str(room), str(report), *own]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900)
    return done, float(report.read_text()) if report.exists() else 0.0


if __name__ == "__main__":
    run(main, __doc__, 6)
