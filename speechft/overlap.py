"""What splits have in common that they should not: speakers, sessions, sentences, prompts, recordings."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from speechft.files import refuse_special
from speechft.manifest import Manifest, Seconds, Utterance
from speechft.split import UNUSED, name_key, sentence_key, sentence_keys, session_of, usual_splits


@dataclass(frozen=True, slots=True)
class SharedBetween:
    """What two splits have in common.

    Attributes:
        first, second: names of the splits.
        speakers, sessions, texts, prompts: what is in both; sessions as "speaker/session", texts as keys.
        audio: ids of rows of `second` whose sound is in `first` too.
        text_rows: how many rows of `second` have a text that is in `first`.
        rows: how many rows `second` has.
        alike: speakers and prompts of `second` that differ from one of `first` only in case or spaces.
        nameless: rows of `first` and of `second` that name no speaker, and may be of any.
    """

    first: str
    second: str
    speakers: tuple[str, ...]
    sessions: tuple[str, ...]
    texts: tuple[str, ...]
    prompts: tuple[str, ...]
    audio: tuple[str, ...]
    text_rows: int
    rows: int
    alike: tuple[str, ...] = ()
    nameless: tuple[int, int] = (0, 0)

    def __str__(self) -> str:
        kinds = (
            (len(self.speakers), "speaker"),
            (len(self.sessions), "session"),
            (len(self.prompts), "prompt"),
            (len(self.audio), "recording"),
        )
        found = [f"{count} {kind}{'s' if count > 1 else ''}" for count, kind in kinds if count]
        if self.texts:
            share = f"{self.text_rows} of {self.rows} rows of {self.second}"
            found.append(f"{len(self.texts)} sentence{'s' if len(self.texts) > 1 else ''} ({share})")
        alike = f", and perhaps {', '.join(self.alike)}, but for case or spaces" if self.alike else ""
        parts = zip(self.nameless, (self.first, self.second), strict=True)
        unknown = [f"{rows} row{'s' if rows > 1 else ''} of {name}" for rows, name in parts if rows]
        unsaid = f" (no speaker is named in {' and '.join(unknown)})" if unknown and not self.speakers else ""
        return f"{self.first} and {self.second} share {', '.join(found) or 'nothing'}{alike}{unsaid}"

    def to_dict(self) -> dict[str, Any]:
        """As JSON. Sentences and prompts are counted, not written out: splits are passed on, texts may not be."""
        counts = {"prompts": len(self.prompts), "texts": len(self.texts), "text_rows": self.text_rows}
        unsure = {"alike": list(self.alike), "nameless": list(self.nameless)}
        names = {"speakers": list(self.speakers), "sessions": list(self.sessions)}
        return {
            "first": self.first, "second": self.second, "rows": self.rows,
            **names, **counts, "audio": list(self.audio), **unsure,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Overlap:
    """What each pair of splits has in common; `str()` is one line."""

    pairs: tuple[SharedBetween, ...]

    def __str__(self) -> str:
        return "; ".join(map(str, self.pairs)) or "only one split, so nothing to share"

    def to_dict(self) -> list[dict[str, Any]]:
        """One object a pair, as results hold it under `leakage`."""
        return [pair.to_dict() for pair in self.pairs]

    def between(self, first: str, second: str) -> SharedBetween:
        """The pair with these names, in either order. Raises KeyError when there is none."""
        for pair in self.pairs:
            if {pair.first, pair.second} == {first, second}:
                return pair
        raise KeyError((first, second))


def overlap(manifest: Manifest, audio: bool = True, sounds: Iterable[tuple[str, str]] = ()) -> Overlap:
    """Speakers, sessions, sentences, prompts and recordings that two splits share.

    Args:
        manifest: with splits.
        audio: compare the recordings too; only files of the same size are read. Missing files are skipped.
        sounds: ids of every two rows that are one recording (`speechft.check` decodes them to know).
    """
    partners: dict[str, set[str]] = defaultdict(set)
    for one_id, other_id in sounds:
        partners[one_id].add(other_id)
        partners[other_id].add(one_id)
    manifest = usual_splits(manifest)
    names = sorted(
        set(manifest.splits) - {UNUSED}, key=lambda name: ({"train": 0, "dev": 1, "test": 2}.get(name, 3), name)
    )
    parts = {name: manifest.split(name) for name in names}
    content = audio_contents(u.audio for u in manifest) if audio else {}
    keys = {u.id: sentence_keys(u) for u in manifest}
    pairs = []
    for first, second in combinations(names, 2):
        one, other = parts[first], parts[second]
        said = {key for u in one for key in keys[u.id]}
        known = [u for u in other if not said.isdisjoint(keys[u.id])]
        shared = {
            "speakers": _common(one, other, lambda u: u.speaker),
            "sessions": _common(one, other, session_of),
            "prompts": _common(one, other, lambda u: u.prompt_id or ""),
            "audio": _same_sound(one, other, content, partners),
        }
        texts = tuple(sorted({sentence_key(u.text) for u in known}))
        alike = _alike(one, other, "speaker", lambda u: u.speaker)
        alike += _alike(one, other, "prompt", lambda u: u.prompt_id or "")
        nameless = (_nameless(one), _nameless(other))
        pairs.append(
            SharedBetween(
                first,
                second,
                **shared,
                texts=texts,
                text_rows=len(known),
                rows=len(other),
                alike=alike,
                nameless=nameless,
            )
        )  # fmt: skip
    return Overlap(tuple(pairs))


def _common(one: Manifest, other: Manifest, key: Callable[[Utterance], str]) -> tuple[str, ...]:
    return tuple(sorted(({key(u) for u in one} & {key(u) for u in other}) - {""}))


def _nameless(part: Manifest) -> int:
    return sum(not u.speaker for u in part)


def _alike(one: Manifest, other: Manifest, thing: str, name: Callable[[Utterance], str]) -> tuple[str, ...]:
    """Names in `other` that are none of `one`, and would be without case and spaces."""
    known = {name(u) for u in one}
    keys = {name_key(known_name) for known_name in known}
    return tuple(f"{thing} '{new}'" for new in sorted({name(u) for u in other} - known) if name_key(new) in keys)


def audio_contents(paths: Iterable[Path]) -> dict[Path, Hashable]:
    """A key for each file that is there, equal for files of the same bytes; unequal sizes need no reading."""
    by_size: dict[int, list[Path]] = defaultdict(list)
    for path in dict.fromkeys(paths):
        try:
            by_size[path.stat().st_size].append(path)
        except OSError:
            continue  # 'check' names it
    keys: dict[Path, Hashable] = {}
    for size, same in by_size.items():
        for path in same:
            keys[path] = size if len(same) == 1 else _file_hash(path)
    return keys


def _file_hash(path: Path) -> Hashable:
    try:
        with refuse_special(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError:
        return str(path)


def _same_sound(
    one: Manifest, other: Manifest, content: Mapping[Path, Hashable], partners: Mapping[str, set[str]]
) -> tuple[str, ...]:
    """Ids of rows in `other` that cover a moment which a row in `one` covers too, or are a copy of one."""
    heard = {u.id for u in one}
    spans: dict[Hashable, list[tuple[Seconds, Seconds]]] = defaultdict(list)
    for u in one:
        if u.audio in content:
            spans[content[u.audio]].append(_span(u))
    found = []
    for u in other:
        start, end = _span(u)
        covered = any(start < e and s < end for s, e in spans.get(content.get(u.audio), ()))
        if covered or not heard.isdisjoint(partners.get(u.id, ())):
            found.append(u.id)
    return tuple(found)


def _span(utterance: Utterance) -> tuple[Seconds, Seconds]:
    start = utterance.start_s or 0.0
    return start, float("inf") if utterance.end_s is None else utterance.end_s
