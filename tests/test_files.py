"""Files are whole or absent, and as private as the user's umask says, whoever else writes at the same moment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from speechft.files import write_bytes, write_text


@pytest.fixture
def private() -> Iterator[None]:
    """As the app sets it: all that is written is its owner's alone."""
    before = os.umask(0o077)
    yield
    os.umask(before)


def test_files_are_as_private_as_the_umask_says(tmp_path: Path, private: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def touched(mask: int) -> int:
        raise AssertionError("the umask is the process's: another thread would write its file without one meanwhile")

    with monkeypatch.context() as patched:
        patched.setattr(os, "umask", touched)
        path = write_bytes(tmp_path / "a.bin", b"x")
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = write_text(tmp_path / "folder" / "a.txt", "old")
    with pytest.raises(UnicodeEncodeError):
        write_text(path, iter(["new", "\ud800"]))
    assert path.read_text() == "old"
    assert [file.name for file in path.parent.iterdir()] == ["a.txt"]
    write_text(path, ["ne", "w"])
    assert path.read_text() == "new"
