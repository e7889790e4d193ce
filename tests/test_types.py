"""The types are there for those who use the package, not only for those who check it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_a_strict_program_of_a_user_is_checked_against_the_package(tmp_path: Path) -> None:
    """As from anywhere: found beside site-packages, where mypy reads the types of packages with py.typed only."""
    (tmp_path / "mypy.ini").write_text("[mypy]\nstrict = true\nwarn_unreachable = true\n")
    command = [sys.executable, "-m", "mypy", "--config-file", tmp_path / "mypy.ini", ROOT / "tests" / "consumer.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
