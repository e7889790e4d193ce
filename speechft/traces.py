"""What rows are recognised by in another part of the data: speakers, sessions, prompts, sentences, recordings.

Within a manifest those are names. An adapter's card keeps them as short salted hashes, each kind apart, so that what
was learnt is found in any other manifest, whatever its rows are called there.

A hash is 6 bytes long: a recording, name or sentence is taken for one of 100,000 others once in 2.8 billion times.
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from speechft.files import refuse_special
from speechft.manifest import Seconds, Utterance
from speechft.split import name_key, sentence_keys, session_of

BYTES = 6  # of a hash; 8 characters in a card
Span = tuple[Seconds, Seconds]
WHOLE: Span = (0.0, float("inf"))

KINDS: Mapping[str, Callable[[Utterance], Iterable[str]]] = {
    "speakers": lambda u: (u.speaker,),
    "sessions": lambda u: (session_of(u),),
    "prompts": lambda u: (u.prompt_id or "",),
    "texts": sentence_keys,
    "speaker_names": lambda u: (name_key(u.speaker),),  # to find those written nearly alike
    "prompt_names": lambda u: (name_key(u.prompt_id or ""),),
}


@dataclass(frozen=True)
class Traces:
    """What the rows of a part are recognised by.

    Attributes:
        names: of each of `KINDS`, or hashes of them.
        spans: the stretches of each recording that were taken, by what is known of its file's bytes.
        nameless: rows without a speaker, which may be of any.
        salt: of the hashes; "" where `names` are names. Each card has its own: no list of hashed sentences fits two of
            them, and two do not show that they hold one name. Who has the card can still try a name or a sentence.
    """

    names: Mapping[str, frozenset[str]]
    spans: Mapping[Hashable, Sequence[Span]]
    nameless: int = 0
    salt: str = ""

    @classmethod
    def of(cls, rows: Iterable[Utterance], content: Mapping[Path, Hashable], salt: str = "") -> Traces:
        """Of these rows; `content` is what tells their files apart, see `file_digests`."""
        rows = list(rows)
        names = {kind: {n for u in rows for n in names_of(u) if n} for kind, names_of in KINDS.items()}
        spans: dict[Hashable, set[Span]] = defaultdict(set)
        for u in rows:
            if u.audio in content:
                spans[_known_as(content[u.audio], "audio", salt)].add(span(u))
        return cls(
            {kind: frozenset(_known_as(name, kind, salt) for name in found) for kind, found in names.items()},
            {key: sorted(found) for key, found in spans.items()},
            sum(not u.speaker for u in rows),
            salt,
        )

    def has(self, kind: str, name: str) -> bool:
        """Whether one of the rows has this name; nobody has an empty one."""
        return bool(name) and _known_as(name, kind, self.salt) in self.names.get(kind, ())

    def has_sound(self, u: Utterance, content: Mapping[Path, Hashable]) -> bool:
        """Whether one of the rows covers a moment of the recording that this one covers too."""
        if u.audio not in content:
            return False
        start, end = span(u)
        known = self.spans.get(_known_as(content[u.audio], "audio", self.salt), ())
        return any(start < e and s < end for s, e in known)

    def to_dict(self) -> dict[str, Any]:
        """As a card holds it: of each kind one text, for it is short; `hash@start-end` of a stretch of a recording."""
        sounds = (f"{key}{_times(one)}" for key, spans in self.spans.items() for one in spans)
        kinds = {**self.names, "audio": sounds}
        return {**{kind: " ".join(sorted(found)) for kind, found in kinds.items()}, "nameless": self.nameless}

    @classmethod
    def from_dict(cls, found: Mapping[str, Any], salt: str) -> Traces:
        """From a card that was checked (`adapter_files`)."""
        spans: dict[Hashable, list[Span]] = defaultdict(list)
        for sound in found.get("audio", "").split():
            key, _, times = sound.partition("@")
            start, _, end = times.partition("-")
            spans[key].append((float(start or 0), float(end or "inf")))
        names = {kind: frozenset(found.get(kind, "").split()) for kind in KINDS}
        return cls(names, spans, found.get("nameless", 0), salt)


def span(u: Utterance) -> Span:
    """From which to which second of its file a row goes, in milliseconds: what only touches stays apart."""
    return round(u.start_s or 0.0, 3), float("inf") if u.end_s is None else round(u.end_s, 3)


def _times(of: Span) -> str:
    start, end = of
    return "" if of == WHOLE else f"@{start:.3f}-{'' if end == WHOLE[1] else f'{end:.3f}'}"


def _known_as(name: Any, kind: str, salt: str) -> Any:
    """A name as it is, or its hash."""
    if not salt:
        return name
    digest = hashlib.sha256(f"{salt}\0{kind}\0{name}".encode()).digest()
    return urlsafe_b64encode(digest[:BYTES]).decode()


def file_digests(paths: Iterable[Path]) -> dict[Path, str]:
    """A hash of all bytes of each file that can be read."""
    found = {path: file_digest(path) for path in dict.fromkeys(paths)}
    return {path: digest for path, digest in found.items() if digest}


def file_digest(path: Path) -> str:
    """A hash of all bytes of a file, "" where it cannot be read; a file of the same size and time is read once."""
    try:
        found = path.stat()
        return _file_digest(path, found.st_size, found.st_mtime_ns)
    except OSError:
        return ""


@lru_cache(maxsize=2**17)
def _file_digest(path: Path, size: int, changed: int) -> str:
    with refuse_special(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
