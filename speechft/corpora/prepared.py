"""What every `prepare_*` function makes: a manifest, and a list of what was left out of it and why."""

from __future__ import annotations

import csv
import errno
import filecmp
import hashlib
import io
import os
from collections import defaultdict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from speechft.audio import holds_nothing
from speechft.corpora.copies import Copies
from speechft.corpora.reading import closed_folders, read_text
from speechft.errors import SpeechftError, disk_error
from speechft.files import write_text
from speechft.manifest import Manifest, Utterance, probe_duration
from speechft.own_results import refuse_foreign_file
from speechft.plain_text import encodable
from speechft.problems import BadRow
from speechft.rows import Folder, duplicate_id, parse_row, read_flag, with_ids
from speechft.split import usual_splits

HEADINGS = ("where", "reason")  # of the list of what was left out, which is known as ours by them


@dataclass(frozen=True, slots=True)
class Prepared:
    """The result of preparing a corpus.

    Attributes:
        manifest: the rows that can be used; `manifest.path` is the file that was written.
        left_out: (where, reason) of everything that wasn't taken; also in `left_out.csv` beside the manifest.
    """

    manifest: Manifest
    left_out: tuple[tuple[str, str], ...]


class Preparation:
    """Collects rows for a manifest, copies the recordings beside it, and remembers what it had to leave out.

    Recordings that already lie under the manifest's folder are used where they are. Others are copied into
    its `audio` folder, so that it can be moved, backed up and deleted as one: voices are health data, and a
    manifest that points at a dozen places is how copies of them get forgotten. `copy=False` refers to them by
    absolute path; such a manifest is read with `allow_outside`.

    Args:
        source: folder that the corpus lies in.
        out: folder to write `manifest.jsonl` into, or the manifest's own path ending in ".jsonl".
        copy: copy recordings that lie outside the manifest's folder.
        allow_outside: take recordings that lie outside `source`, where absolute paths in a table or links lead.

    Attributes:
        copies: where recordings beside the manifest are written.

    Raises:
        SpeechftError: see `refuse_changed`; or the list of what was left out would replace a file that is none.
    """

    def __init__(self, source: Path, out: str | Path, copy: bool = True, allow_outside: bool = False) -> None:
        self.path = manifest_path(out)
        refuse_changed(self.path)
        self.source = Path(source).resolve()
        self.folder = self.path.parent.resolve()
        name = "left_out.csv" if self.path.name == "manifest.jsonl" else f"{self.path.stem}.left_out.csv"
        self._list = self.path.with_name(name)
        refuse_foreign_file(self._list, ",".join(HEADINGS) + "\n", at_start=True)
        self.copy = copy
        self.copies = Copies(self.path, "audio")
        self.left_out: list[tuple[str, str]] = []
        self.utterances: list[Utterance] = []
        self._inside = Folder(self.source, allow_outside)
        self._placed: dict[Path, Path] = {}
        self._names: set[Path] = set()
        self._ids: set[str] = set()
        self._taken: dict[Hashable, list[Path]] = defaultdict(list)

    def leave_out(self, where: object, reason: str) -> None:
        """Remember something that isn't taken; `where` is a path in the corpus or "file:row"."""
        name = self.name_of(where) if isinstance(where, Path) else str(where)
        self.left_out.append((encodable(name), encodable(reason)))

    def name_of(self, path: Path) -> str:
        """What to call a file: its path in the corpus."""
        return path.relative_to(self.source).as_posix() if path.is_relative_to(self.source) else str(path)

    def add(self, values: Mapping[str, Any], where: object) -> Path | None:
        """Take one row, or leave it out and say why.

        Args:
            values: fields as in a manifest; `audio` relative to the source or absolute, `entities` also as one text
                with semicolons between them.
            where: what to call the row in the list of what was left out.

        Returns:
            the resolved recording when it was taken.
        """
        given = {name: value for name, value in values.items() if value is not None and value != ""}
        if isinstance(named := given.get("entities"), str):
            given["entities"] = [entity.strip() for entity in named.split(";") if entity.strip()]
        try:
            no_speech = read_flag("no_speech", given.get("no_speech", False))
            if not str(given.get("text", "")).strip() and not no_speech:
                raise BadRow("empty-text", "there is no text", "")
            if not given.get("audio"):
                raise BadRow("missing-field", "there is no recording", "")
            row = {"text": "", **given, "audio": str(given["audio"])}
            utterance = parse_row(row, 0, self.path.name, self._inside)
            audio = utterance.audio
            if utterance.id in self._ids:
                raise duplicate_id(utterance.id)
            seconds = probe_duration(utterance)
            if seconds <= 0:
                raise BadRow("empty", f"audio '{audio.name}' holds no samples", "")
            if missing := utterance.missing(seconds):
                what = f"audio '{audio.name}' ends {missing:.2f} s before end_s ({utterance.end_s:g})"
                raise BadRow("times", what, "")
            whole = utterance.start_s is None and utterance.end_s is None  # to seek in mp3 is to decode what is before
            if whole and not no_speech and holds_nothing(audio):
                raise BadRow("silent", f"audio '{audio.name}' is silent", "")
            if earlier := self._taken_before(utterance):
                what = f"the same recording and text as {self.name_of(earlier)}"
                raise BadRow("duplicate-audio", what, "")
            placed = self._place(audio)
        except (BadRow, SpeechftError) as bad:
            outside = isinstance(bad, BadRow) and bad.kind == "outside"
            self.leave_out(where, f"{bad.what}; allow_outside takes it" if outside else bad.what)
            return None
        except OSError as error:
            if disk_error(error):  # shutil names the source of the copy there was no room for
                error.filename = str(self.folder)
                raise
            if error.filename != str(audio) and error.errno != errno.ENAMETOOLONG:
                raise  # not about this recording
            self.leave_out(where, f"the recording cannot be copied ({error.strerror})")
            return None
        if utterance.id:
            self._ids.add(utterance.id)
        utterance = replace(utterance, audio=placed, duration_s=round(seconds, 3))
        self.utterances.append(utterance.within(seconds))
        return audio

    def add_first(self, values: Mapping[str, Any], takes: Mapping[str, Path]) -> list[str]:
        """Take one row, with the first of several microphones' recordings of it that can be used.

        Args:
            values: see `add`; without `audio`.
            takes: recordings by microphone, the best first.

        Returns:
            the microphones whose recordings were not needed.
        """
        microphones = list(takes)
        for number, name in enumerate(microphones, 1):
            if self.add({**values, "audio": takes[name], "microphone": name}, takes[name]) is not None:
                return microphones[number:]
        return []

    def text_of(self, path: Path, errors: str = "replace") -> str | None:
        """The transcript of a single recording; None for one that cannot be read, which is left out."""
        try:
            return read_text(path, errors).strip()
        except SpeechftError as error:
            self.leave_out(path, f"the transcript {error.what}")
            return None

    def finish(self, searched: bool = True) -> Prepared:
        """Write the manifest and the list of what was left out.

        Args:
            searched: recordings are whatever lies in the source, so that folders which cannot be opened are left out.

        Raises:
            SpeechftError: not a single row could be taken.
        """
        for folder, reason in closed_folders(self.source) if searched else ():
            self.leave_out(folder, f"the folder cannot be opened ({reason})")
        table = io.StringIO(newline="")
        csv.writer(table).writerows([HEADINGS, *self.left_out])
        write_text(self._list, table.getvalue())
        self.copies.save()
        if not self.utterances:
            reasons = "".join(f" {where}: {reason}." for where, reason in self.left_out[:3])
            raise SpeechftError(
                f"nothing could be used; {len(self.left_out)} recordings or rows were left out",
                where=self.source,
                fix=f"The first:{reasons} All are in {self._list.name}." if reasons else "Is this the right folder?",
            )
        manifest = usual_splits(Manifest(with_ids(self.utterances, self._ids), self.path))
        return Prepared(save_prepared(manifest), tuple(self.left_out))

    def _taken_before(self, utterance: Utterance) -> Path | None:
        """The recording of an earlier row that is this one again, byte for byte, with the same text; None if none is.

        One in another split, by another speaker or of another session is for `speechft check` to name: which of them is
        right, nobody knows.
        """
        u = utterance
        same = self._taken[u.text, u.speaker, u.split, u.session, u.start_s, u.end_s, u.audio.stat().st_size]
        earlier = next((path for path in same if path == u.audio or filecmp.cmp(path, u.audio, shallow=False)), None)
        if earlier is None:
            same.append(u.audio)
        return earlier

    def _place(self, audio: Path) -> Path:
        """Where the manifest finds a recording: itself, or its copy."""
        if not self.copy or audio.is_relative_to(self.folder):
            return audio
        if audio not in self._placed:
            apart = f"{hashlib.sha256(str(audio.parent).encode()).hexdigest()[:8]}-{audio.name}"
            if audio.is_relative_to(self.source):
                name = audio.relative_to(self.source)
                # A corpus keeps its own "audio" folder rather than getting a second one around it.
                name = name.relative_to("audio") if name.parts[0] == "audio" else name
            else:
                name = Path(apart)
            if name in self._names:  # a.wav of the corpus and of its "audio" folder
                name = name.with_name(apart)
            self._names.add(name)
            self._placed[audio] = self.copies.put(name, audio)
        return self._placed[audio]


def manifest_path(out: str | Path) -> Path:
    """The manifest's own path, of that or of its folder."""
    out = Path(out)
    return out if out.suffix == ".jsonl" else out / "manifest.jsonl"


def refuse_changed(manifest: Path) -> None:
    """Do nothing where there is no manifest, or the one that `save_prepared` wrote.

    Raises:
        SpeechftError: there is another, which somebody may have corrected by hand.
    """
    if not manifest.is_file():
        return
    record = _record(manifest)
    known = record.read_bytes().decode("ascii", "replace").split() if record.is_file() else []
    if _hash_of(manifest) not in known:
        what = "was changed by hand, or not made by 'speechft prepare', which would replace it"
        raise SpeechftError(what, where=manifest, fix="Prepare into another folder, or move it away.")


def save_prepared(manifest: Manifest) -> Manifest:
    """Write a manifest to its path, and beside it what `refuse_changed` knows it by; raises as that does."""
    path = manifest.path
    assert path is not None
    refuse_changed(path)
    old = [_hash_of(path)] if path.is_file() else []
    # both, and first: whenever the process ends, the manifest is one of them
    write_text(_record(path), "\n".join(dict.fromkeys([*old, manifest.sha256])) + "\n")
    return manifest.save(path)


def _record(manifest: Path) -> Path:
    """Where the hashes of what was prepared stand."""
    return manifest.with_name(f".{manifest.name}.made")


def _hash_of(path: Path) -> str:
    """As `Manifest.sha256` of the same rows."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def key_and_text(work: Preparation, path: Path) -> dict[str, str]:
    """Lines of a key, white space, and the rest; none if there is no such file.

    Of several lines with one key the first counts; the others are left out by file and line.

    Raises:
        SpeechftError: it is not UTF-8.
    """
    if not os.path.lexists(path):
        return {}
    lines = read_text(path).splitlines()
    found: dict[str, str] = {}
    first: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        key, *rest = line.split(maxsplit=1) or [""]
        if key in first:
            work.leave_out(f"{work.name_of(path)}:{number}", f"line {first[key]} is about '{key}' already")
        elif key:
            found[key], first[key] = "".join(rest).strip(), number
    return found
