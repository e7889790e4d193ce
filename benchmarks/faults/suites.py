"""What the tests count, slow ones included: one row of the table a suite.

    python benchmarks/faults/suites.py numbers|security|documentation|interruption [--out DIR]

Tests that are skipped, for want of an extra or a GPU, are not counted as tried.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from common import run
from tally import Tally

TESTS = Path(__file__).parents[2] / "tests"
SUITES = {
    "numbers": (
        ["train", "cache", "decode", "whisper", "fast_lora", "feed", "quantization", "bank", "gguf_weights"],
        "losses that are not finite, determinism, gradients, bf16 and 4 bits against fp32, cached against uncached, "
        "encoder and decoder against transformers'",
    ),
    "security": (
        ["security", "sources", "files", "hub", "server", "app"],
        "no network, no pickle, no shell; hashes of weights; hostile requests; what others may read",
    ),
    "documentation": (
        ["docs", "documented_lines", "release", "result_schema", "data_cards"],
        "code blocks, links, versions, schema, cards",
    ),
    "interruption": (
        ["interruption", "fleet", "memory", "supervision", "tune"],
        "stopped and resumed bit for bit, killed workers, memory that runs out, studies gone on with",
    ),
}


def main(a: argparse.Namespace) -> Tally:
    names, notes = SUITES[a.suite]
    files = [TESTS / name if (TESTS / name).is_dir() else TESTS / f"test_{name}.py" for name in names]
    tally = Tally(f"tests: {a.suite}", notes=notes)
    with tempfile.TemporaryDirectory() as work:
        report = Path(work) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-m", "not gpu", f"--junitxml={report}", *map(str, files)]
        subprocess.run(command, cwd=TESTS.parent, env=os.environ | {"HYPOTHESIS_PROFILE": "default"}, check=False)
        for case in ElementTree.parse(report).iter("testcase"):
            if case.find("skipped") is None:
                wrong = next((problem for kind in ("failure", "error") for problem in case.findall(kind)), None)
                said = None if wrong is None else (wrong.get("message") or "failed")[:200]
                tally.count(f"{case.get('classname')}.{case.get('name')}", said)
    return tally


if __name__ == "__main__":
    run(main, __doc__, 0, lambda parser: parser.add_argument("suite", choices=SUITES))
