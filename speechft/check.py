"""What is wrong with a manifest, its recordings and its splits: every bad row, by file and row, in one pass.

Nothing here changes or drops a row. `check` decodes everything and is for people; `usable` is the quick look
that training takes first. What can be wrong with a row by itself is in `speechft.row_problems`.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from speechft.audio import SAMPLE_RATE
from speechft.errors import SpeechftError
from speechft.files import hindrance
from speechft.fingerprint import copies, fingerprint
from speechft.leaks import leaks, split_names
from speechft.manifest import Manifest, Problem, Seconds, Utterance, probe_duration
from speechft.overlap import Overlap, overlap
from speechft.row_problems import (
    ANY_LANGUAGE,
    Severity,
    Tokenizer,
    audio_problem,
    curly_apostrophes,
    in_other_letters,
    language_problems,
    length_problems,
    named_words_problems,
    sample_problems,
    text_problems,
)
from speechft.split import UNUSED, sentence_key, usual_splits

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Checked", "Problem", "check", "examine", "usable"]

Progress = Callable[[int, int], None]  # rows done, rows in all


@dataclass(frozen=True, slots=True)
class Checked:
    """What a manifest turned out to be.

    Attributes:
        manifest: the rows that could be read.
        problems: everything that is wrong, in the order of the rows; empty when nothing is.
        shared: what its splits have in common; recordings are compared by how they sound.
    """

    manifest: Manifest
    problems: list[Problem]
    shared: Overlap


def check(
    path: str | Path,
    allow_outside: bool = False,
    tokenizer: Tokenizer | None = None,
    progress: Progress | None = None,
) -> list[Problem]:
    """The problems that `examine` finds."""
    return examine(path, allow_outside, tokenizer, progress).problems


def examine(
    path: str | Path,
    allow_outside: bool = False,
    tokenizer: Tokenizer | None = None,
    progress: Progress | None = None,
    english: str = "",
    language: str | None = None,
) -> Checked:
    """Read a manifest and decode every recording in it.

    Args:
        path: the manifest.
        allow_outside: let audio lie outside the manifest's folder.
        tokenizer: the model's, to count tokens; without one the count is estimated and never an error.
        progress: called after each row.
        english: the model's name, if it is one of English only.
        language: what the model will be told to hear; without it a command or entity of rows that name no language is
            an error only where it is one in every language.

    Raises:
        SpeechftError: the manifest itself is missing or isn't JSON lines.
    """
    read, problems = Manifest.read(path, allow_outside)
    manifest = usual_splits(read)
    looks = _look_at_all(manifest, tokenizer, True, progress)
    problems += [problem for look in looks for problem in look.problems]
    found = _copies(looks)
    earlier: dict[str, list[_Copy]] = defaultdict(list)
    for copy in found:
        earlier[copy.row.id].append(copy)
    told = [min(rows, key=lambda copy: not copy.between) for rows in earlier.values()]  # the first that is in two parts
    problems += [_duplicate(copy) for copy in told if not copy.meant]
    problems += [problem for u in manifest for problem in language_problems(u)]
    languages_told, curly = [language] if language else ANY_LANGUAGE, 0
    for split in dict.fromkeys(u.split for u in manifest):  # each is scored by itself
        rows = [u for u in manifest if u.split == split]
        problems += named_words_problems(rows, languages_told)
        curly += curly_apostrophes(rows, languages_told)
    if curly:
        what = f"{curly} of {len(manifest)} texts have typographic apostrophes, with which English words count as wrong"
        fix = "Write straight ones (') in texts and entities, as Whisper does; name the language of other rows."
        problems.append(Problem("warning", "apostrophe", Path(path).name, what, fix))
    problems += leaks(manifest)
    problems += split_names(read)
    if english and (count := sum(in_other_letters(u.text) for u in manifest)):
        what = (
            f"{count} of {len(manifest)} texts are mostly in other letters than English, all that {english} can write"
        )
        fix = "Name a multilingual model by --model, and train that one, such as bundled:base."
        problems.append(Problem("warning", "script", Path(path).name, what, fix))
    if not manifest and not problems:
        problems.append(
            Problem("error", "no-rows", Path(path).name, "holds no utterances", "Write one JSON object a line.")
        )
    shared = overlap(manifest, sounds=[(copy.earlier.id, copy.row.id) for copy in found])
    copied = {u.id for copy in found if copy.between for u in (copy.earlier, copy.row)}
    problems += _same_stretches(manifest, shared, copied)
    return Checked(manifest, sorted(problems, key=_row_number), shared)


def usable(
    source: str | Path | Manifest,
    allow_outside: bool = False,
    tokenizer: Tokenizer | None = None,
    decode: bool = False,
    progress: Progress | None = None,
    pieces: bool = False,
) -> tuple[Manifest, list[Problem]]:
    """The rows that can be used, each with its length, and what is wrong with the others.

    Args:
        source: a manifest or its path.
        decode: also decode every recording; otherwise only headers are read, where lengths aren't stated.
        pieces: what is too long is heard in pieces whatever its split, and can be used.

    Returns:
        the rows without an error, `duration_s` filled in; and all problems, warnings included, to be shown.

    Raises:
        SpeechftError: no row can be used.
    """
    manifest, problems = (source, []) if isinstance(source, Manifest) else Manifest.read(source, allow_outside)
    looks = _look_at_all(manifest, tokenizer, decode, progress, pieces)
    problems += [problem for look in looks for problem in look.problems]
    good = [replace(look.utterance.within(look.seconds or 0.0), duration_s=look.seconds) for look in looks if look.ok]
    if not good:
        first = next((f"The first problem is {p} " for p in problems if p.severity == "error"), "")
        raise SpeechftError("no row can be used", where=manifest.path, fix=f"{first}'speechft check' lists all.")
    return Manifest(good, manifest.path), sorted(problems, key=_row_number)


@dataclass(frozen=True, slots=True)
class _Look:
    """What one row turned out to be; `sound` is a hash of its samples and `bits` their fingerprint when decoded."""

    utterance: Utterance
    problems: tuple[Problem, ...]
    seconds: Seconds | None
    sound: bytes | None
    bits: np.ndarray | None = None

    @property
    def ok(self) -> bool:
        return not any(problem.severity == "error" for problem in self.problems)


def _look_at_all(
    manifest: Manifest, tokenizer: Tokenizer | None, decode: bool, progress: Progress | None, pieces: bool = False
) -> list[_Look]:
    looks = []
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for look in pool.map(lambda u: _look_at(u, decode, pieces), manifest):
            # Tokenizers that are written in Rust are not all safe to share between threads: count here.
            looks.append(replace(look, problems=(*text_problems(look.utterance, tokenizer), *look.problems)))
            if progress:
                progress(len(looks), len(manifest))
    return looks


def _look_at(u: Utterance, decode: bool, pieces: bool) -> _Look:
    found: list[Problem] = []
    sound = bits = None
    try:
        if decode:
            samples = u.load()
            seconds = samples.size / SAMPLE_RATE
            sound, bits = hashlib.sha256(samples.tobytes()).digest(), fingerprint(samples)
            found += sample_problems(u, samples)
        else:
            seconds = _quick_seconds(u)
    except SpeechftError as error:
        return _Look(u, (Problem("error", _kind(u, error), u.where, error.what, error.fix),), None, None)
    found += length_problems(u, seconds, decoded=decode, pieces=pieces)
    return _Look(u, tuple(found), seconds, sound, bits)


def _quick_seconds(u: Utterance) -> Seconds:
    """The length the manifest states if the file is there, else that of its header."""
    whole = u.start_s is None and u.end_s is None  # times of a part may lie past the end
    if u.duration_s and whole and not hindrance(u.audio) and u.audio.stat().st_size:
        return u.duration_s
    seconds = probe_duration(u)
    if seconds <= 0:
        what = f"audio '{u.audio.name}' holds no samples"
        raise SpeechftError(what, where=u.where, fix="Record it again, or drop the row.", kind="empty")
    return seconds


@dataclass(frozen=True, slots=True)
class _Copy:
    """A row with the sound of an earlier one, and what makes the two the same."""

    earlier: Utterance
    row: Utterance
    why: str

    @property
    def between(self) -> bool:
        """Whether the two are in two parts."""
        return self.earlier.split != self.row.split and UNUSED not in (self.earlier.split, self.row.split)

    @property
    def meant(self) -> bool:
        """Whether it is there on purpose, as `speechft augment` adds them; one in another split never is."""
        return self.row.is_synthetic and self.row.split == self.earlier.split


def _copies(looks: Sequence[_Look]) -> list[_Copy]:
    """Rows that are one recording, in order; of equal sounds each beside the first of every split."""
    heard = [look for look in looks if look.sound and not any(p.kind == "silent" for p in look.problems)]
    equal: dict[bytes, list[int]] = defaultdict(list)
    for number, look in enumerate(heard):
        equal[look.sound or b""].append(number)
    pairs: dict[tuple[int, int], str] = {}
    for rows in equal.values():
        firsts = {heard[number].utterance.split: number for number in reversed(rows)}.values()
        both = ((min(one, other), max(one, other)) for one in rows for other in firsts if one != other)
        pairs |= dict.fromkeys(both, "holds the same sound as")
    for pair in copies([look.bits for look in heard if look.bits is not None]):
        pairs.setdefault(pair, "sounds like a copy of")
    return [_Copy(heard[i].utterance, heard[j].utterance, why) for (i, j), why in sorted(pairs.items())]


def _duplicate(copy: _Copy) -> Problem:
    earlier, u = copy.earlier, copy.row
    what = f"{copy.why} {earlier.where}"
    if copy.between:
        what += f", which is in {earlier.split} while this is in {u.split}"
    if sentence_key(earlier.text) != sentence_key(u.text):
        what += ", with another text"
    severity: Severity = "error" if copy.between else "warning"
    return audio_problem(u, severity, "duplicate-audio", what, "Keep one of the two rows.")


def _same_stretches(manifest: Manifest, shared: Overlap, told: set[str]) -> list[Problem]:
    """Rows with a stretch of a recording that another part has too, but for the `told`, which are copies as a whole."""
    rows = {u.id: u for u in manifest}
    problems = {}
    for pair in shared.pairs:
        what = f"holds a stretch of a recording that is in {pair.first} too, while this is in {pair.second}"
        for name in pair.audio:
            if name not in told and name not in problems:
                fix = "Keep one of the two rows."
                problems[name] = audio_problem(rows[name], "error", "duplicate-audio", what, fix)
    return list(problems.values())


def _kind(u: Utterance, error: SpeechftError) -> str:
    """Which kind of fault kept a recording from being read."""
    if error.kind:
        return error.kind
    if hindrance(u.audio):
        return "unreadable" if os.path.isfile(u.audio) else "missing"
    return "unreadable" if u.audio.stat().st_size else "empty"


def _row_number(problem: Problem) -> int:
    row = problem.where.rpartition(":")[2]
    return int(row) if row.isdigit() else 0
