"""Runs every script on faults and writes the table of docs/reliability.md.

    python benchmarks/faults/table.py [--kills 24] [--only stops little_memory] [--out docs/reliability.md]

With --only, the rows of the others stay as they are in the file.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

SCRIPTS = ("bad_audio", "bad_texts", "bad_adapters", "full_disk", "kills", "stops", "little_memory")
HEAD = """# Reliability

What happens when things go wrong, counted by `make reliability`. Survived means: a message that says what, where and
what to do, no traceback, nothing else affected; after a kill, a stop or a full disk, the same command ends as if
nothing had been, with the same files bit for bit.

| fault | tried | survived | lost | |
|---|---|---|---|---|
"""
TAIL = """
Tested elsewhere, by `make test` or `make test-all`: a run stopped by Ctrl-C or SIGTERM, saved and resumed bit for bit
(`tests/test_interruption.py`); memory that runs out in a training step or in decoding, with the same gradient and the
same texts from smaller batches (`tests/test_memory.py`); steps whose loss is not finite, named, skipped, or the end of
the run by policy (`tests/test_train.py`); a killed worker of a fleet (`tests/test_fleet.py`); gradients of our own
modules and of every way to cut a batch; decoding against transformers' `generate()`; runs without a network
(`tests/test_security.py`); the app killed in mid-training; the server against broken, slow and hostile requests
(`benchmarks/server.py` counts thousands). `make soak` is a server under load for half an hour and fifty trainings in
one process.

Not covered: Windows and macOS; memory that the system
takes back by killing the process (that is a kill -9, and the same command goes on); a GPU's memory that runs out (the
code is the same, and was not seen on a GPU); a disk that returns other bytes than were written; power that fails
between a write and the disk (folders are renamed, not flushed); studies of text recipes killed; a clock that jumps
between processes on one cluster.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=24)
    parser.add_argument("--only", nargs="+", choices=SCRIPTS, default=SCRIPTS)
    parser.add_argument("--out", type=Path, default=Path("docs/reliability.md"))
    a = parser.parse_args()
    rows = rows_of(a.out)
    for name in a.only:
        tally = counted(name, a.kills)
        rows[tally["name"]] = (tally["tried"], tally["survived"], len(tally["lost"]), tally["notes"])
    lines = [f"| {' | '.join(map(str, (name, *row)))} |\n" for name, row in rows.items()]
    a.out.write_text(HEAD + "".join(lines) + TAIL, encoding="utf-8")
    sys.exit(any(lost for _, _, lost, _ in rows.values()))


def counted(name: str, kills: int) -> dict:
    """What a script counted."""
    with tempfile.TemporaryDirectory() as work:
        command = [sys.executable, str(Path(__file__).parent / f"{name}.py"), "--out", work]
        subprocess.run([*command, *(["--count", str(kills)] if name == "kills" else [])], check=False)
        return json.loads((Path(work) / f"{name}.json").read_text())


def rows_of(page: Path) -> dict[str, tuple[int, int, int, str]]:
    """The rows of a table written before."""
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    found = re.findall(r"^\| ([^|]+) \| (\d+) \| (\d+) \| (\d+) \| (.*) \|$", text, re.M)
    return {name: (int(tried), int(survived), int(lost), notes) for name, tried, survived, lost, notes in found}


if __name__ == "__main__":
    main()
