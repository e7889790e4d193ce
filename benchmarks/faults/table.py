"""Runs every script on faults and writes the table of docs/reliability.md.

python benchmarks/faults/table.py [--kills 24] [--out docs/reliability.md]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

SCRIPTS = ("bad_audio", "bad_texts", "bad_adapters", "full_disk", "kills")
HEAD = """# Reliability

What happens when things go wrong, counted by `make reliability`. Survived means: a message that says what, where and
what to do, no traceback, nothing else affected; after a kill or a full disk, the same command ends as if nothing had
been.

| fault | tried | survived | lost | |
|---|---|---|---|---|
"""
TAIL = """
Tested elsewhere, by `make test` or `make test-all`: training killed in mid-epoch and resumed bit for bit; two runs on
one folder; gradients of our own modules and of every way to cut a batch; decoding against transformers' `generate()`;
the app killed in mid-training; the server against broken, slow and hostile requests (`benchmarks/server.py` counts
thousands).

Not covered yet: memory that runs out, clocks that jump, kills in studies and fleets beyond one worker, a server's soak
of half an hour, Windows.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=24)
    parser.add_argument("--out", type=Path, default=Path("docs/reliability.md"))
    a = parser.parse_args()
    here = Path(__file__).parent
    rows, lost = [], 0
    with tempfile.TemporaryDirectory() as work:
        for name in SCRIPTS:
            command = [sys.executable, str(here / f"{name}.py"), "--out", work]
            subprocess.run([*command, *(["--count", str(a.kills)] if name == "kills" else [])], check=False)
            tally = json.loads((Path(work) / f"{name}.json").read_text())
            counts = (tally["tried"], tally["survived"], len(tally["lost"]))
            lost += counts[2]
            rows.append(f"| {tally['name']} | {counts[0]} | {counts[1]} | {counts[2]} | {tally['notes']} |\n")
    a.out.write_text(HEAD + "".join(rows) + TAIL, encoding="utf-8")
    sys.exit(bool(lost))


if __name__ == "__main__":
    main()
