"""What is wrong with a manifest, its recordings and its splits: every bad row, by file and row, in one pass.

Nothing here changes or drops a row. `check` decodes everything and is for people; `usable` is the quick look
that training takes first, and `sample_problems` judges one clip that has been decoded anyway.
"""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from speechft.audio import SAMPLE_RATE, SILENT_PEAK, WINDOW_SECONDS
from speechft.errors import SpeechftError
from speechft.fingerprint import copies, fingerprint
from speechft.leaks import leaks, split_names
from speechft.manifest import Manifest, Problem, Seconds, Utterance, probe_duration
from speechft.overlap import Overlap, overlap
from speechft.split import UNUSED, sentence_key, usual_name, usual_splits
from speechft.utterance import CLOSE, CLOSE_SHARE

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Checked", "Problem", "check", "examine", "sample_problems", "usable"]

Tokenizer = Callable[[str], Sequence[int]]  # text to the ids of a whole label, special tokens included
Progress = Callable[[int, int], None]  # rows done, rows in all

MOST_TOKENS = 448  # positions of its decoder
CHARACTERS_PER_TOKEN = 4.0  # of English; only used when no tokenizer is given
QUIET = 0.02  # peak, of full scale: -34 dB
FULL_SCALE = 0.99
CLIPPED_SHARE = 0.002  # of samples at full scale; speech that isn't clipped stays under a tenth of this
WORDS_PER_SECOND = 8.0  # nobody speaks faster; the recording was cut, or the text belongs to another one
LETTERS_PER_SECOND = 45.0
SHORTEST = 0.1  # seconds; no word is shorter


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
) -> Checked:
    """Read a manifest and decode every recording in it.

    Args:
        path: the manifest.
        allow_outside: let audio lie outside the manifest's folder.
        tokenizer: the model's, to count tokens; without one the count is estimated and never an error.
        progress: called after each row.

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
    problems += leaks(manifest)
    problems += split_names(read)
    if not manifest and not problems:
        problems.append(
            Problem("error", "no-rows", Path(path).name, "holds no utterances", "Write one JSON object a line.")
        )
    shared = overlap(manifest, sounds=[(copy.earlier.id, copy.row.id) for copy in found])
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


def sample_problems(utterance: Utterance, samples: np.ndarray) -> list[Problem]:
    """What is wrong with the sound of a decoded clip.

    Args:
        utterance: the row it comes from.
        samples: float32, mono 16 kHz, shape (samples,).
    """
    import numpy as np

    magnitude = np.abs(samples - samples.mean())  # a constant offset is silence too
    peak = float(magnitude.max())
    found: list[Problem] = []
    if peak < SILENT_PEAK:
        if not _no_speech(utterance):
            found.append(_problem(utterance, "error", "silent", "is silent", "Record it again, or drop the row."))
    elif peak < QUIET:
        fix = "Whisper copes with it, but noise weighs more; record nearer the microphone."
        found.append(_problem(utterance, "note", "quiet", f"is very quiet (peak {peak:.1%} of full scale)", fix))
    clipped = float((np.abs(samples) >= FULL_SCALE).mean())
    if clipped > CLIPPED_SHARE:
        what = f"is clipped ({clipped:.1%} of its samples are at full scale)"
        fix = "Record it again at a lower level if you can."
        found.append(_problem(utterance, "warning", "clipped", what, fix))
    return found


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
            looks.append(replace(look, problems=(*_text_problems(look.utterance, tokenizer), *look.problems)))
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
            found += _length_problems(u, seconds)
        else:
            seconds = _quick_seconds(u)
    except SpeechftError as error:
        return _Look(u, (Problem("error", _kind(u, error), u.where, error.what, error.fix),), None, None)
    if seconds > WINDOW_SECONDS:
        fix = f"Cut it into parts of under {WINDOW_SECONDS:.0f} s, or give rows with start_s and end_s."
        what = f"lasts {seconds:.1f} s; Whisper hears {WINDOW_SECONDS:.0f} s at once"
        severity = "warning" if pieces else _limit(u)
        what += ", so it is cut at pauses and heard in pieces" if severity == "warning" else ""
        found.append(_problem(u, severity, "too-long", what, fix))
    found += [*_times_problems(u, seconds), *_speed_problems(u, seconds)]
    return _Look(u, tuple(found), seconds, sound, bits)


def _quick_seconds(u: Utterance) -> Seconds:
    """The length the manifest states if the file is there, else that of its header."""
    whole = u.start_s is None and u.end_s is None  # times of a part may lie past the end
    if u.duration_s and whole and u.audio.is_file() and u.audio.stat().st_size:
        return u.duration_s
    seconds = probe_duration(u)
    if seconds <= 0:
        what = f"audio '{u.audio.name}' holds no samples"
        raise SpeechftError(what, where=u.where, fix="Record it again, or drop the row.", kind="empty")
    return seconds


def _text_problems(u: Utterance, tokenizer: Tokenizer | None) -> list[Problem]:
    if not sentence_key(u.text):
        if _no_speech(u):
            return []
        what = "the text holds no words" if u.text.strip() else "the text is empty"
        fix = 'Write what is said; if nobody speaks, on purpose, add "no_speech": true to the row.'
        return [Problem("error", "empty-text", u.where, what, fix)]
    if tokenizer is not None:
        tokens = len(tokenizer(u.text))
        if tokens > MOST_TOKENS:
            what = f"the text is {tokens} tokens long; Whisper writes {MOST_TOKENS} at most"
            return [Problem(_limit(u), "too-many-tokens", u.where, what, "Cut the recording and its text.")]
    elif len(u.text.encode()) / CHARACTERS_PER_TOKEN > MOST_TOKENS:
        tokens = round(len(u.text.encode()) / CHARACTERS_PER_TOKEN)
        what = f"the text is about {tokens} tokens long; Whisper writes {MOST_TOKENS} at most"
        return [Problem("warning", "too-many-tokens", u.where, what, "Cut the recording and its text.")]
    return []


def _times_problems(u: Utterance, seconds: Seconds) -> list[Problem]:
    short = 0.0 if u.end_s is None else u.end_s - (u.start_s or 0.0) - seconds
    if short <= SHORTEST:
        return []
    severity: Literal["error", "warning"] = "error" if u.missing(seconds) else "warning"
    fix = "Correct the time, or record it again."
    return [_problem(u, severity, "times", f"ends {short:.2f} s before end_s ({u.end_s:g} s)", fix)]


def _length_problems(u: Utterance, seconds: Seconds) -> list[Problem]:
    found = []
    wrong = u.duration_s is not None and abs(u.duration_s - seconds) > max(CLOSE, CLOSE_SHARE * seconds)
    if wrong and not _times_problems(u, seconds):
        what = f"lasts {seconds:.2f} s, not {u.duration_s:g} s as the row says"
        fix = "Was the file replaced or cut? Correct or remove duration_s."
        found.append(_problem(u, "warning", "duration", what, fix))
    missing = _missing_bytes(u.audio)
    if missing:
        what = f"is cut off: {missing:,} bytes that its header names are not there"
        found.append(_problem(u, "warning", "truncated", what, "Copy the file again from where it came."))
    return found


def _missing_bytes(path: Path) -> int:
    """How much shorter a wav file is than its header says; decoders accept that without a word."""
    with path.open("rb") as file:
        head = file.read(12)
    if head[:4] != b"RIFF" or head[8:] != b"WAVE":
        return 0
    size, stated = path.stat().st_size, int.from_bytes(head[4:8], "little") + 8
    written_as_stream = stated >= 0x7FFF_FFFF  # a size that was never filled in
    missing = 0 if written_as_stream else stated - size
    return missing if missing > max(1024, size // 100) else 0


def _speed_problems(u: Utterance, seconds: Seconds) -> list[Problem]:
    words = sentence_key(u.text).split()
    letters = sum(map(len, words))
    too_fast = len(words) > WORDS_PER_SECOND * seconds or letters > LETTERS_PER_SECOND * seconds
    if not words or not (seconds < SHORTEST or (too_fast and letters > 4)):
        return []
    count = f"{len(words)} word{'s' if len(words) > 1 else ''}"
    what = f"lasts {seconds:.2f} s, too short for its {count}"
    fix = "The recording may be cut, or the text may belong to another one; listen to it."
    return [_problem(u, "warning", "too-fast", what, fix)]


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
    severity: Literal["error", "warning"] = "error" if copy.between else "warning"
    return _problem(u, severity, "duplicate-audio", what, "Keep one of the two rows.")


def _problem(u: Utterance, severity: Literal["error", "warning", "note"], kind: str, what: str, fix: str) -> Problem:
    return Problem(severity, kind, u.where, f"audio '{u.audio.name}' {what}", fix)


def _kind(u: Utterance, error: SpeechftError) -> str:
    """Which kind of fault kept a recording from being read."""
    if not u.audio.is_file():
        return "missing"
    return error.kind or ("unreadable" if u.audio.stat().st_size else "empty")


def _limit(u: Utterance) -> Literal["error", "warning"]:
    """Too long to train on is an error; a test clip is used, in pieces."""
    return "warning" if usual_name(u.split or "") == "test" else "error"


def _no_speech(u: Utterance) -> bool:
    return u.extra.get("no_speech") is True


def _row_number(problem: Problem) -> int:
    row = problem.where.rpartition(":")[2]
    return int(row) if row.isdigit() else 0
