"""Builds sdist and wheel, installs the wheel in an environment of its own, and tries it far from the checkout.

    python benchmarks/wheel.py dist [--borrow] [--out DIR]

With --borrow the packages it needs are those of this interpreter, and only speechft comes from the wheel: minutes less,
and the same test of what the wheel holds. `build` has to be installed (the extra `release`).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from faults.tally import Tally

ROOT = Path(__file__).parents[1]
# In a process of its own: where speechft comes from, without the editable checkout that may be installed beside it.
WHERE = "import speechft; print(speechft.__file__)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dist", type=Path, help="folder for sdist and wheel")
    parser.add_argument("--borrow", action="store_true", help="take the other packages from this interpreter")
    parser.add_argument("--out", type=Path, help="folder for the count as JSON")
    a = parser.parse_args()
    subprocess.run([sys.executable, "-m", "build", "--outdir", a.dist, ROOT], check=True)  # the wheel from the sdist
    wheel = max(a.dist.resolve().glob("*.whl"), key=lambda path: path.stat().st_mtime)
    tally = Tally("wheel, built and installed")
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        python = installed(wheel, folder / "venv", a.borrow)
        where = Path(said(python, folder, "-c", WHERE).strip())
        inside = where.is_relative_to(folder / "venv")
        tally.count("imported from the wheel", None if inside else f"comes from {where}")
        for part, lost in (("app/page/index.html", "the app's page"), ("py.typed", "its types")):
            tally.count(part, None if (where.parent / part).is_file() else f"the wheel lacks {lost}")
        helps = "quickstart" in said(python, folder, "-m", "speechft.cli", "--help")
        tally.count("help", None if helps else "does not name the quickstart")
        said(python, folder, "-m", "speechft.cli", "quickstart", "--out", "quickstart")
        result = json.loads((folder / "quickstart" / "result.json").read_text(encoding="utf-8"))
        before, after = (result[system]["wer"] for system in ("base", "adapted"))
        tally.count("quickstart", None if after < before else "it did not help")
        tally.notes = f"{wheel.name}; its quickstart: WER {before:.1%} before, {after:.1%} after"
    tally.save(a.out)
    sys.exit(bool(tally.lost))


def installed(wheel: Path, venv: Path, borrow: bool) -> Path:
    """A Python that has the wheel."""
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    python = venv / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--quiet"]
    if borrow:
        subprocess.run([*pip, "--no-deps", wheel], check=True)
        own = said(python, venv, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
        # a path file, not a .pth chain: editable installs of the other environment are left behind
        (Path(own) / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    else:
        subprocess.run([*pip, f"{wheel}[quickstart]"], check=True)
    return python


def said(python: Path, folder: Path, *words: str) -> str:
    """What a command printed, in a folder that is no checkout and without its path."""
    done = subprocess.run([python, *words], cwd=folder, env={"HOME": str(folder), "PATH": "/usr/bin:/bin"},
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


if __name__ == "__main__":
    main()
