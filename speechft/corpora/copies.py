"""Recordings that we write beside a manifest: what it wrote itself is replaced, and nothing else."""

from __future__ import annotations

import contextlib
import filecmp
import hashlib
import itertools
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from speechft.errors import SpeechftError
from speechft.files import read_bytes, refuse_special, write_bytes, write_text
from speechft.rows import read_rows


class Copies:
    """The recordings that one manifest gets from us.

    A file is the manifest's own where it is as we wrote it, by a hash in a file beside the manifest, and no other
    manifest of that folder names it too. A name that holds something else is left to whoever put it there: the copy
    gets the same name in a folder called like the manifest, such as audio/ben/0.flac where audio/0.flac is Anna's. Its
    row has the same id there, and a repeated run finds it again.

    Args:
        manifest: its path.
        folder: of the recordings, relative to the manifest's.
    """

    def __init__(self, manifest: Path, folder: str) -> None:
        self._manifest = manifest
        self._beside = manifest.parent.resolve()
        self._folder = self._beside / folder
        self._record = refuse_special(manifest.with_name(f".{manifest.name}.copies"))
        self._made = self._recorded()
        self._placed: set[Path] = set()

    def put(self, name: Path, content: Path | bytes) -> Path:
        """Have a recording lie beside the manifest.

        Args:
            name: relative to the folder of the recordings.
            content: a file to copy, with its times, or what the file is to hold.

        Returns:
            where it lies.
        """
        chosen = None
        for path in self._candidates(name):
            if path in self._placed:
                continue
            if not os.path.lexists(path):
                chosen = chosen or path
                break
            if _holds(path, content):  # first: a name that was found once stays
                self._placed.add(path)
                return path
            if chosen is None and self._is_own(path):
                chosen = path
        assert chosen is not None
        self._write(chosen, content)
        self._placed.add(chosen)
        return chosen

    def drop(self, path: Path) -> None:
        """Delete a recording that turned out to be of no use, if it is our own."""
        if path.is_file() and self._is_own(path):
            path.unlink()
            del self._made[self._name(path)]

    def save(self) -> None:
        """Bring the record into order; until then its lines stand as they came, so that a crash loses none."""
        if self._made or self._record.is_file():
            write_text(self._record, (_line(name, made) for name in sorted(self._made) for made in self._made[name]))

    def _candidates(self, name: Path) -> Iterator[Path]:
        yield self._folder / name
        for number in itertools.count(1):
            yield self._folder / (self._manifest.stem + (f"-{number}" if number > 1 else "")) / name

    def _is_own(self, path: Path) -> bool:
        made = self._made.get(self._name(path))
        if not made or path.is_symlink() or not path.is_file() or path in self._named_by_others:
            return False
        return _hash_of(path) in made

    def _name(self, path: Path) -> str:
        return path.relative_to(self._beside).as_posix()

    def _recorded(self) -> dict[str, list[str]]:
        """Hashes of what was written, by name: of a run that was cut off also those of what was there before."""
        found: dict[str, list[str]] = {}
        lines = read_bytes(self._record).splitlines() if self._record.is_file() else ()
        for line in lines:
            with contextlib.suppress(ValueError, TypeError):  # half a line, of a process that was killed
                name, made = json.loads(line)
                if isinstance(name, str) and isinstance(made, str):
                    found.setdefault(name, []).append(made)
        return found

    @cached_property
    def _named_by_others(self) -> set[Path]:
        """Recordings that other manifests in the folder name: to change one would change what they say was said."""
        found: set[Path] = set()
        for other in self._beside.glob("*.jsonl"):
            if other.name == self._manifest.name:
                continue
            with contextlib.suppress(SpeechftError):
                names = [row.get("audio") for _, row in read_rows(other)[0]]
                found |= {Path(os.path.normpath(self._beside / name)) for name in names if isinstance(name, str)}
        return found

    def _write(self, path: Path, content: Path | bytes) -> None:
        """Record, then replace: whenever the process ends, what lies there is known."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name[:50]}-{secrets.token_hex(4)}.part")  # a name may be as long as any can be
        try:
            if isinstance(content, bytes):
                write_bytes(part, content)
            else:
                shutil.copyfile(content, part)
                stat = content.stat()
                os.utime(part, ns=(stat.st_atime_ns, stat.st_mtime_ns))
            name, made = self._name(path), _hash_of(part)
            self._made.setdefault(name, []).append(made)
            with self._record.open("a", encoding="ascii") as file:
                file.write(f"\n{_line(name, made)}")  # a line of its own, after half a one too
            os.replace(part, path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        self._made[name] = [made]


def _line(name: str, made: str) -> str:
    return json.dumps([name, made]) + "\n"


def _hash_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _holds(path: Path, content: Path | bytes) -> bool:
    """Whether a file, and no link to one, has this content already."""
    try:
        if path.is_symlink() or not path.is_file():
            return False
        if isinstance(content, bytes):
            return path.stat().st_size == len(content) and path.read_bytes() == content
        return filecmp.cmp(path, content, shallow=False)
    except PermissionError:  # somebody else's; if it is the source's, copying says so
        return False
