"""Files are whole or absent, and as private as the user's umask says, whoever else writes at the same moment."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from speechft import files
from speechft.adapters import base_hash
from speechft.audio import load_audio
from speechft.cache import _opened
from speechft.card import read_card
from speechft.checkpoint import append_metrics, load_checkpoint
from speechft.config import SpeechRecipe
from speechft.conversions import MADE, is_as_made
from speechft.corpora import prepare
from speechft.errors import SpeechftError
from speechft.files import NotAFile, read_bytes, read_text, replace_folder, save_tensors, write_bytes, write_text
from speechft.fleet import _ended
from speechft.locks import is_locked, locked
from speechft.lora_sums import lora_tensors
from speechft.manifest import Manifest, probe_duration
from speechft.recipes import load_recipe
from speechft.split_files import read_split
from speechft.text.data import read
from speechft.text.hosted import validate
from speechft.utterance import Utterance


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


def test_a_full_disk_keeps_no_half_of_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(tensors: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OSError, match="No space"):
        save_tensors(tmp_path / "best.safetensors", {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("exchange", [True, False])
def test_a_folder_is_replaced_by_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool) -> None:
    if not exchange:
        monkeypatch.setattr(files, "_exchanged", lambda *_: False)
    for name in ("new", "out", "linked"):
        write_text(tmp_path / name / name, name)
    replace_folder(tmp_path / "new", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["new"]
    (tmp_path / "link").symlink_to(tmp_path / "linked")
    replace_folder(tmp_path / "out", tmp_path / "link")
    assert not (tmp_path / "link").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "linked"]
    assert (tmp_path / "linked" / "linked").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux exchanges folders")
def test_no_reader_sees_that_a_folder_is_replaced(tmp_path: Path) -> None:
    out, ended = tmp_path / "out", threading.Event()
    write_text(out / "file", "0")

    def missing() -> int:
        found = 0
        while not ended.is_set():
            found += not (out / "file").exists()
        return found

    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(missing)
        for number in range(200):
            write_text(tmp_path / "new" / "file", str(number))
            replace_folder(tmp_path / "new", out)
        ended.set()
        assert reader.result() == 0
    assert (out / "file").read_text() == "199"


@pytest.fixture
def in_time() -> Iterator[None]:
    """Ends a test that waits for a pipe, or reads a device without end."""

    def late(*_: Any) -> None:
        raise AssertionError("it waits for what is no file")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def checkpoint(path: Path) -> Path:
    """A folder of checkpoints one of whose files this is."""
    latest = path.parent / "checkpoints" / "latest"
    latest.mkdir(parents=True)
    if path.name != "state.json":
        (latest / "state.json").write_text("{}")
    path.rename(latest / path.name)
    return latest.parent


READERS: dict[str, Callable[[Path], Any]] = {
    "x.jsonl": Manifest.load,
    "x.yaml": load_recipe,
    "x.md": read_card,
    "x.split.json": read_split,
    "x.csv": lambda path: read(str(path)),
    "x.txt.gz": lambda path: read(str(path)),
    "y.jsonl": lambda path: validate(path, "openai"),
    "x.wav": load_audio,
    "x.webm": lambda path: probe_duration(Utterance(path, "", "x")),
    "adapter_model.safetensors": lambda path: lora_tensors(path.parent),
    "model.safetensors": lambda path: base_hash(path.parent),
    "state.json": lambda path: load_checkpoint(checkpoint(path), None),  # type: ignore[arg-type]
    "state.safetensors": lambda path: load_checkpoint(checkpoint(path), None),  # type: ignore[arg-type]
    "metrics.jsonl": lambda path: append_metrics(path, {}),
    ".lock": lambda path: locked(path.parent).__enter__(),
    "bytes": read_bytes,
    "text": read_text,
}


FORGIVING: dict[str, Callable[[Path], Any]] = {  # what they cannot read is made again
    "states.bin": lambda path: _opened(path.parent, layers=1, views=1, clips=1, width=1),
    "index.json": lambda path: _opened(path.parent, layers=1, views=1, clips=1, width=1),
    MADE: lambda path: is_as_made(path.parent),
    "result.json": lambda path: _ended(SpeechRecipe(manifest=Path(), output_dir=path.parent)),
    ".lock": lambda path: is_locked(path.parent),
}


@contextlib.contextmanager
def there(path: Path, kind: str) -> Iterator[None]:
    """Something under the name of a file that is none."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    with socket.socket(socket.AF_UNIX) as bound:
        if kind == "socket":
            bound.bind(str(path))
        yield


@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
@pytest.mark.parametrize("name", FORGIVING)
def test_what_is_no_file_is_made_again(tmp_path: Path, in_time: None, name: str, kind: str) -> None:
    if name == "index.json":
        (tmp_path / "states.bin").write_bytes(b"12")
    with there(tmp_path / name, kind):
        assert not FORGIVING[name](tmp_path / name)


@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "folder"])
@pytest.mark.parametrize("name", READERS)
def test_what_is_no_file_is_refused(tmp_path: Path, in_time: None, name: str, kind: str) -> None:
    path = tmp_path / name
    with there(path, kind), pytest.raises((SpeechftError, IsADirectoryError)) as error:
        READERS[name](path)
    if kind != "folder":
        assert isinstance(error.value, SpeechftError)
        assert "exist" not in error.value.what


def test_to_whom_a_file_cannot_be_read_a_pipe_is_one_more(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="a pipe, a socket or a device") as error:
        read_text(tmp_path / "pipe")
    assert isinstance(error.value, NotAFile)
    assert error.value.strerror


def test_a_pipe_in_a_folder_of_recordings_takes_no_other_with_it(
    tmp_path: Path, in_time: None, voice: Manifest
) -> None:
    for number, u in enumerate(list(voice)[:2]):
        (tmp_path / f"{number}.wav").write_bytes(u.audio.read_bytes())
    (tmp_path / "0.txt").write_text("hello")
    os.mkfifo(tmp_path / "1.txt")
    os.mkfifo(tmp_path / "2.wav")
    found = prepare("folder", str(tmp_path), tmp_path / "out")
    assert [u.text for u in found.manifest] == ["hello"]
    assert "1" in str(found.left_out)


def test_the_name_of_a_new_file_is_brought_to_the_disk_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced, fsync = [], os.fsync

    def noted(handle: int) -> None:
        fsync(handle)
        synced.append((os.path.isdir(handle), (tmp_path / "a").exists()))

    monkeypatch.setattr(os, "fsync", noted)
    write_bytes(tmp_path / "a", b"x")
    assert synced == [(False, False), (True, True)]
