"""The count of what was tried, survived and lost. Needs only Python: benchmarks/matrix.py counts before it installs."""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict, dataclass, field
from pathlib import Path

CHANGED = " + changes"  # of a commit whose files were changed since


def commit() -> str:
    """The last commit that changed the code under trial; documents do not count."""
    git = ["git", "-C", Path(__file__).parents[2]]
    code = ["speechft", "recipes", "benchmarks", "tests", "pyproject.toml"]
    last = subprocess.run([*git, "log", "-1", "--format=%h", "--", *code], capture_output=True, text=True)
    same = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", *code]).returncode == 0
    return (last.stdout.strip() or "no commit") + ("" if same else CHANGED)


@dataclass
class Tally:
    """How a kind of fault was survived.

    Attributes:
        name: of the fault.
        tried: how often it was made to happen.
        survived: times it ended as it should.
        lost: what happened in the others.
        notes: what is to be known of it.
        commit: of the code that was tried.
    """

    name: str
    tried: int = 0
    survived: int = 0
    lost: list[str] = field(default_factory=list)
    notes: str = ""
    commit: str = field(default_factory=commit)

    def count(self, what: str, wrong: str | None) -> None:
        """Count one case; `wrong` says what it should not have done."""
        self.tried += 1
        if wrong:
            self.lost.append(f"{what}: {wrong}")
            print(f"LOST {what}: {wrong}", flush=True)
        else:
            self.survived += 1
            print(f"survived {what}", flush=True)  # of a run of hours that is cut off, the count is known

    def save(self, out: Path | None) -> None:
        """Print the count, and write `tally.json` into a folder, if one is given."""
        print(f"{self.name}: tried {self.tried}, survived {self.survived}, lost {len(self.lost)}")
        if out:
            out.mkdir(parents=True, exist_ok=True)
            (out / "tally.json").write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")
