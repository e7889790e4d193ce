"""Too little memory, by rlimit, for training, evaluation and transcription: smaller batches, or a sentence.

    python benchmarks/faults/little_memory.py [--count 6]

The limits lie between what the libraries take before any work and what the work took without a limit.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from common import Tally, complaint, run, speechft

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
            "evaluate": ["evaluate", "--manifest", str(manifest), "--context", "full"],
            "transcribe": ["transcribe", *map(str, clips)],
        }  # fmt: skip
        for name, words in jobs.items():
            before, most = measured(words, folder / f"{name} whole")
            for number in range(1, a.count + 1):
                room = (most - before) * number // (a.count + 1)
                done = limited(words, folder / f"{name} {number}", before + room)
                smaller += done.returncode == 0 and "memory" in done.stderr
                wrong = complaint(done, (0, 2), place=False)
                if not wrong and done.returncode == 2 and "memory" not in done.stderr:
                    wrong = f"does not say that memory is missing: {done.stderr.strip()[-200:]}"
                unsaid += "most likely" in done.stderr
                tally.count(f"{name} with {room / 1e6:.0f} of {(most - before) / 1e6:.0f} MB", wrong)
    tally.notes = (
        f"train, evaluate, transcribe; {smaller} went on with smaller batches, {unsaid} were ended by a library and "
        "said so all the same, the rest fitted or said so"
    )
    return tally


def measured(words: list[str], out: Path) -> tuple[int, int]:
    """Bytes of address space of a command without a limit: before it begins, and at most."""
    report = out.with_suffix(".txt")
    command = [sys.executable, "-c", MEASURED, str(report), *(word.replace("{out}", str(out)) for word in words)]
    subprocess.run(command, check=True, capture_output=True, timeout=900)
    before, most = map(int, report.read_text().split())
    return before, most


def limited(words: list[str], out: Path, limit: int) -> subprocess.CompletedProcess[str]:
    """A command that may have so many bytes of address space."""
    own = [word.replace("{out}", str(out)) for word in words]
    return speechft(*own, timeout=900, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)))


if __name__ == "__main__":
    run(main, __doc__, 6)
