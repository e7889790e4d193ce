"""Runs everything that counts reliability, some five hours of it, and writes the table of docs/reliability.md.

    python benchmarks/faults/table.py [--only stops little_memory] [--manifest MANIFEST] [--work .reliability]

What was counted of this very commit with nothing lost is not counted again, so a run that was stopped goes on where it
was, and two with other --only can share the work. With --only, the other rows of the table stay as they are, and so
does all that stands below it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
from pathlib import Path

from suites import SUITES
from tally import CHANGED, commit

HERE = Path(__file__).parent
PARTS = {
    **{name: [HERE / f"{name}.py"] for name in ("bad_audio", "bad_texts", "bad_corpora", "bad_data", "bad_adapters")},
    **{name: [HERE / f"{name}.py"] for name in ("full_disk", "kills", "stops", "little_memory", "parity", "release")},
    **{name: [HERE / "suites.py", name] for name in SUITES},
    "matrix": [HERE.parent / "matrix.py"],
    "wheel": [HERE.parent / "wheel.py", "dist"],
    "soak": [HERE.parent / "soak.py"],
}
HEAD = """# Reliability

What happens when things go wrong, counted by `make reliability`. Survived means: a message that says what is wrong,
where, and what to do; no traceback; nothing else affected; and after a kill, a stop or a full disk, the same command
ends as if nothing had happened, with the same files bit for bit (in JSON but for times, memory, the padding of
a process's own steps, and how often a fleet started a run; reports, logs and hidden files are not compared).

| fault | tried | survived | lost | counted of | |
|---|---|---|---|---|---|
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--work", type=Path, default=Path(".reliability"), help="folder of the tallies")
    parser.add_argument("--manifest", help="real recordings for the decoder; the simulated voice unless given")
    parser.add_argument("--out", type=Path, default=Path("docs/reliability.md"))
    a = parser.parse_args()
    if a.manifest:
        PARTS["parity"] += ["--manifest", a.manifest]
    for part in a.only:
        tally = counted(part, a.work / part)
        # a row at a time, of the file as it is then: the whole takes hours, may be stopped, or be shared
        rows, below = read_page(a.out)
        rows[tally["name"]] = tuple(str(tally[key]) for key in ("tried", "survived", "lost", "commit", "notes"))
        lines = [f"| {' | '.join((name, *row))} |\n" for name, row in rows.items()]
        a.out.write_text(HEAD + "".join(lines) + below, encoding="utf-8")
    sys.exit(any(row[2] != "0" for row in read_page(a.out)[0].values()))


def counted(part: str, work: Path) -> dict:
    """What a script counted of this commit: before, or now."""
    found = read_tally(work)
    if not found or found["lost"] or found["commit"] != commit() or found["commit"].endswith(CHANGED):
        subprocess.run([sys.executable, *PARTS[part], "--out", work], check=False)
        found = read_tally(work)
    assert found, f"{part} counted nothing"
    return found | {"lost": len(found["lost"])}


def read_tally(work: Path) -> dict | None:
    tally = work / "tally.json"
    return json.loads(tally.read_text(encoding="utf-8")) if tally.is_file() else None


def read_page(page: Path) -> tuple[dict[str, tuple[str, ...]], str]:
    """The rows of a table written before, by name, and what stands below it."""
    text = page.read_text(encoding="utf-8") if page.is_file() else HEAD
    _, _, table = text.partition(HEAD.splitlines()[-1] + "\n")
    lines = list(itertools.takewhile(lambda line: line.startswith("|"), table.splitlines(keepends=True)))
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|", 5)] for line in lines]
    return {name: tuple(row) for name, *row in rows}, table.removeprefix("".join(lines))


if __name__ == "__main__":
    main()
