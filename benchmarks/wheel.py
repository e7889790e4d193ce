"""The built wheel, installed in an environment of its own: the verbs, and the quickstart, far from the checkout.

    python benchmarks/wheel.py dist [--borrow] [--no-quickstart]

With --borrow the packages it needs are those of this interpreter, and only speechft comes from the wheel: seconds
instead of minutes, and the same test of what the wheel holds.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

# In a process of its own: where speechft comes from, without the editable checkout that may be installed beside it.
WHERE = "import speechft; print(speechft.__file__)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dist", type=Path)
    parser.add_argument("--borrow", action="store_true", help="take the other packages from this interpreter")
    parser.add_argument("--no-quickstart", action="store_true", help="only look at it and at its help")
    a = parser.parse_args()
    (wheel,) = a.dist.resolve().glob("*.whl")
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work)
        python = installed(wheel, folder / "venv", a.borrow)
        where = said(python, folder, "-c", WHERE).strip()
        assert where.startswith(str(folder / "venv")), f"speechft comes from {where}"
        assert "quickstart" in said(python, folder, "-m", "speechft.cli", "--help")
        page = Path(where).parent / "app" / "page" / "index.html"
        assert page.is_file(), "the wheel lacks the app's page"
        assert (Path(where).parent / "py.typed").is_file(), "the wheel lacks its types"
        print(f"{wheel.name}: imported from {where}")
        if not a.no_quickstart:
            said(python, folder, "-m", "speechft.cli", "quickstart", "--out", "quickstart")
            result = json.loads((folder / "quickstart" / "result.json").read_text())
            rates = [f"{result[system]['wer']:.1%}" for system in ("base", "adapted")]
            print(f"quickstart from the wheel: WER {rates[0]} before, {rates[1]} after")


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
