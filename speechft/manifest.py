"""A manifest: which recording says what, who speaks, and which split it belongs to.

One file of JSON lines (UTF-8), one utterance a line. `audio` is a path relative to the manifest's folder and
never leaves it unless the caller allows that, symbolic links included: a manifest from a stranger must not
read files elsewhere on this machine. Importing this module costs milliseconds and brings no torch.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import overload

from speechft.cut_off import for_libsndfile
from speechft.errors import SpeechftError
from speechft.files import hindrance, write_text
from speechft.problems import BadRow, Problem
from speechft.rows import OF_THE_RECORDING, Folder, duplicate_id, parse_row, read_rows, with_ids
from speechft.utterance import Seconds, Utterance, languages, says_something

__all__ = ["Manifest", "Problem", "Seconds", "Utterance", "languages", "probe_duration", "says_something"]

GROUPS = ("severity", "aetiology", "gender", "language", "session")  # known fields to break results down by
MAX_GROUP_VALUES = 30  # an extra field with more values than this names things, it doesn't group them


class Manifest(Sequence[Utterance]):
    """Utterances in order, with unique ids. Immutable: `split`, `filter` and the like return new ones.

    Args:
        utterances: what it holds.
        path: the file it came from or belongs to; audio inside that folder is written relative to it.
    """

    def __init__(self, utterances: Iterable[Utterance], path: Path | None = None) -> None:
        self._utterances = tuple(utterances)
        self.path = path
        if len({u.id for u in self._utterances}) < len(self._utterances):
            seen: set[str] = set()
            for u in self._utterances:
                if u.id in seen:
                    raise duplicate_id(u.id).problem(u.where).error()
                seen.add(u.id)

    @classmethod
    def load(cls, path: str | Path, allow_outside: bool = False) -> Manifest:
        """Read a manifest in which every row must be right.

        Args:
            path: a JSONL file, or a folder that holds `manifest.jsonl`.
            allow_outside: let audio lie outside the manifest's folder.

        Raises:
            SpeechftError: the first bad row and how many others there are, or no rows at all.
        """
        manifest, problems = cls.read(path, allow_outside)
        if problems:
            first, others = problems[0], len(problems) - 1
            count = f"{others} more row{'s are' if others > 1 else ' is'} wrong"
            more = f" {count}; 'speechft check' lists every one." if others else ""
            raise SpeechftError(first.what, where=first.where, fix=f"{first.fix}{more}")
        if not manifest:
            raise SpeechftError("holds no utterances", where=path, fix="Write one JSON object per line.")
        return manifest

    @classmethod
    def read(cls, path: str | Path, allow_outside: bool = False) -> tuple[Manifest, list[Problem]]:
        """Read the rows that are right, and name every row that isn't.

        Raises:
            SpeechftError: the file is missing or isn't JSON lines at all.
        """
        path = Path(path)
        if path.is_dir() and (path / "manifest.jsonl").is_file():
            path = path / "manifest.jsonl"
        rows, problems = read_rows(path)
        inside = Folder(path.parent, allow_outside)
        utterances: list[Utterance] = []
        seen: set[str] = set()
        for number, values in rows:
            try:
                utterance = parse_row(values, number, path.name, inside)
                if utterance.id and utterance.id in seen:
                    raise duplicate_id(utterance.id)
            except BadRow as bad:
                problems.append(bad.problem(f"{path.name}:{number}"))
                continue
            seen.add(utterance.id)
            utterances.append(utterance)
        problems.sort(key=lambda problem: int(problem.where.rpartition(":")[2]))
        return cls(with_ids(utterances, seen), path), problems

    def save(self, path: str | Path) -> Manifest:
        """Write all rows at once: a crash leaves the old file or the new one, never half of one.

        Audio inside the file's folder is written relative to it; audio elsewhere by its absolute path, which
        needs `allow_outside` to be read again.

        Returns:
            the same utterances, belonging to `path`.
        """
        path = Path(path)
        write_text(path, self._lines(path.parent.resolve()))
        rows = (replace(u, row=row, source=path.name) for row, u in enumerate(self, 1))
        return Manifest(rows, path)

    def split(self, name: str) -> Manifest:
        """The utterances of one split; empty when it has none."""
        return self.filter(lambda utterance: utterance.split == name)

    def filter(self, keep: Callable[[Utterance], bool]) -> Manifest:
        """The utterances for which `keep` is true, in the same order."""
        return Manifest((u for u in self if keep(u)), self.path)

    def with_durations(self) -> Manifest:
        """Every `duration_s` filled in, from file headers where the manifest doesn't state it."""
        return Manifest(
            (u if u.duration_s is not None else replace(u, duration_s=_seconds(u)) for u in self), self.path
        )

    @property
    def speakers(self) -> tuple[str, ...]:
        """Names of the speakers, in order of first appearance; without the nameless."""
        return tuple(dict.fromkeys(u.speaker for u in self if u.speaker))

    @property
    def voices(self) -> tuple[str, ...]:
        """Those of the speakers who have a text, as a silence has not; results count by their scores."""
        return tuple(dict.fromkeys(u.speaker for u in self if u.speaker and says_something(u.text)))

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits, in order of first appearance."""
        return tuple(dict.fromkeys(u.split for u in self if u.split))

    @property
    def seconds(self) -> Seconds:
        """Total length; reads the header of each file whose length the manifest doesn't state."""
        return math.fsum(_seconds(u) for u in self)

    @property
    def groups(self) -> tuple[str, ...]:
        """Fields to break results down by: the known ones in use, then extras with few different values."""
        names = dict.fromkeys(GROUPS) | dict.fromkeys(name for u in self for name in u.extra)
        return tuple(name for name in names if self._is_group(name))

    def _is_group(self, name: str) -> bool:
        if name in OF_THE_RECORDING:
            return False
        values = {u.group(name) for u in self} - {""}
        if name in GROUPS:
            return 0 < len(values) <= MAX_GROUP_VALUES
        scalars = all(isinstance(u.extra.get(name), str | int | float | None) for u in self)
        return scalars and 0 < len(values) <= min(MAX_GROUP_VALUES, max(2, len(self) // 2))

    @cached_property
    def sha256(self) -> str:
        """Hash of the rows, not of the sound; the same wherever the folder lies."""
        digest = hashlib.sha256()
        for line in self._lines(self.path.parent.resolve() if self.path else None):
            digest.update(line.encode())
        return digest.hexdigest()

    def _lines(self, folder: Path | None) -> Iterator[str]:
        for utterance in self:
            yield json.dumps(utterance.to_row(folder), ensure_ascii=False) + "\n"

    def __len__(self) -> int:
        return len(self._utterances)

    @overload
    def __getitem__(self, index: int) -> Utterance: ...
    @overload
    def __getitem__(self, index: slice) -> Manifest: ...
    def __getitem__(self, index: int | slice) -> Utterance | Manifest:
        if isinstance(index, slice):
            return Manifest(self._utterances[index], self.path)
        return self._utterances[index]

    def spread(self, most: int) -> Manifest:
        """At most so many, at even distances: manifests are often sorted by speaker."""
        n = len(self)
        return self if n <= most else Manifest((self[i * n // most] for i in range(most)), self.path)

    def __iter__(self) -> Iterator[Utterance]:
        return iter(self._utterances)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Manifest) and self._utterances == other._utterances

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Manifest({self.path or 'in memory'}, {len(self)} utterances, splits {list(self.splits)})"


def probe_duration(utterance: Utterance) -> Seconds:
    """Length of an utterance in seconds from the file's header, without decoding it.

    Where the header doesn't tell (a browser's webm), packets are counted. Respects `start_s` and `end_s`.

    Raises:
        SpeechftError: the file is missing or isn't sound.
    """
    import soundfile

    start, audio = utterance.start_s or 0.0, utterance.audio
    if what := hindrance(audio):
        raise SpeechftError(f"audio '{audio.name}' {what}", where=utterance.where, fix="Check the path.")
    try:
        whole = soundfile.info(for_libsndfile(str(audio))).duration
    except (soundfile.SoundFileError, RuntimeError):
        whole = _probe_av(utterance)
    end = whole if utterance.end_s is None else min(whole, utterance.end_s)
    return max(0.0, end - start)


def _probe_av(utterance: Utterance) -> Seconds:
    import av

    try:
        with av.open(str(utterance.audio)) as container:
            stream = container.streams.audio[0]
            if stream.duration and stream.time_base:
                return float(stream.duration * stream.time_base)
            if container.duration:
                return container.duration / av.time_base
            ends = (
                float(((packet.pts or 0) + (packet.duration or 0)) * packet.time_base)
                for packet in container.demux(stream)
                if packet.pts is not None
            )
            return max(ends, default=0.0)
    except (av.FFmpegError, OSError, IndexError, ValueError):
        raise SpeechftError(
            f"audio '{utterance.audio.name}' cannot be read as sound",
            where=utterance.where,
            fix="Export it again.",
        ) from None


def _seconds(utterance: Utterance) -> Seconds:
    known = utterance.seconds
    return probe_duration(utterance) if known is None else known
