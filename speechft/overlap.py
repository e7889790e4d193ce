"""What splits have in common that they should not: speakers, sessions, sentences, prompts, recordings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from speechft.manifest import Manifest
from speechft.split import UNUSED, name_key, sentence_key, sentence_keys, usual_splits
from speechft.traces import KINDS, Traces, file_digest


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
        return f"{self.said}{_no_speaker_named([self])}"

    @property
    def said(self) -> str:
        """What is shared, without the rows that name no speaker."""
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
        alike = f", and perhaps {' and '.join(self._alike)}, but for case or spaces" if self.alike else ""
        return f"{self.first} and {self.second} share {', '.join(found) or 'nothing'}{alike}"

    @property
    def _alike(self) -> list[str]:
        """How many names are alike, of each kind: files are passed on, and a prompt's name may be its text."""
        counts = [(sum(name.startswith(kind) for name in self.alike), kind) for kind in ("speaker", "prompt")]
        return [f"{count} {kind}{'s' if count > 1 else ''}" for count, kind in counts if count]

    @property
    def shares(self) -> bool:
        """Whether there is anything."""
        return bool(self.speakers or self.sessions or self.beside_people)

    @property
    def beside_people(self) -> bool:
        """Whether there is anything but speakers and their sessions."""
        return bool(self.prompts or self.texts or self.audio or self.alike)

    def to_dict(self, named: bool = False) -> dict[str, Any]:
        """As JSON. Sentences and prompts are counted, not written out: splits are passed on, texts may not be.

        Args:
            named: for a terminal, with the names that are alike instead of their number.
        """
        counts = {"prompts": len(self.prompts), "texts": len(self.texts), "text_rows": self.text_rows}
        unsure = {"alike": list(self.alike) if named else self._alike, "nameless": list(self.nameless)}
        names = {"speakers": list(self.speakers), "sessions": list(self.sessions)}
        return {
            "first": self.first, "second": self.second, "rows": self.rows,
            **names, **counts, "audio": list(self.audio), **unsure,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Overlap:
    """What each pair of splits has in common; `str()` is one line, of the pairs that share something if there are any.

    Attributes:
        unknown: adapters that do not say what they learnt from.
    """

    pairs: tuple[SharedBetween, ...]
    unknown: tuple[str, ...] = ()

    def __str__(self) -> str:
        sharing = [pair.said for pair in self.pairs if pair.shares]
        said = "; ".join(sharing) if sharing else self._apart()
        unknown = (f"what {name} learnt from is not known" for name in self.unknown)
        return "; ".join([f"{said}{_no_speaker_named(self.pairs)}", *unknown])

    def _apart(self) -> str:
        """That none shares anything; each pair by itself, unless every two parts are one."""
        if not self.pairs:
            return "only one split" if self.unknown else "only one split, so nothing to share"
        names = list(dict.fromkeys(name for pair in self.pairs for name in (pair.first, pair.second)))
        if 2 * len(self.pairs) < len(names) * (len(names) - 1):
            return "; ".join(pair.said for pair in self.pairs)
        return f"{', '.join(names[:-1])} and {names[-1]} share nothing"

    def to_dict(self, named: bool = False) -> list[dict[str, Any]]:
        """One object a pair, as results hold it under `leakage`."""
        return [pair.to_dict(named) for pair in self.pairs]

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
    traces = {name: Traces.of(part, content) for name, part in parts.items()}
    pairs = []
    for first, second in combinations(names, 2):
        heard = {u.id for u in parts[first]}
        copies = {u.id for u in parts[second] if not heard.isdisjoint(partners[u.id])}
        pairs.append(shared_between(first, [traces[first]], second, parts[second], content, copies))
    return Overlap(tuple(pairs))


def shared_between(
    first: str,
    known: Sequence[Traces],
    second: str,
    rows: Manifest,
    content: Mapping[Path, Hashable],
    copies: Collection[str] = (),
) -> SharedBetween:
    """What the rows of a part have in common with another, of which only traces need be known.

    Args:
        first, second: names of the parts.
        known: of the first.
        rows: of the second.
        content: what tells the files of `rows` apart, as in the traces.
        copies: ids of rows that are known to be recordings of the first anyway.
    """

    def has(kind: str, name: str) -> bool:
        return any(traces.has(kind, name) for traces in known)

    def in_both(kind: str) -> tuple[str, ...]:
        return tuple(sorted(name for name in {n for u in rows for n in KINDS[kind](u)} if has(kind, name)))

    def alike(thing: str, names: set[str]) -> tuple[str, ...]:
        """Names that are none of the first part, and would be without case and spaces."""
        new = sorted(name for name in names if not has(f"{thing}s", name))
        return tuple(f"{thing} '{name}'" for name in new if has(f"{thing}_names", name_key(name)))

    said = [u for u in rows if any(has("texts", key) for key in sentence_keys(u))]
    heard = (u.id for u in rows if u.id in copies or any(traces.has_sound(u, content) for traces in known))
    return SharedBetween(
        first,
        second,
        speakers=in_both("speakers"),
        sessions=in_both("sessions"),
        prompts=in_both("prompts"),
        texts=tuple(sorted({sentence_key(u.text) for u in said})),
        audio=tuple(heard),
        text_rows=len(said),
        rows=len(rows),
        alike=alike("speaker", {u.speaker for u in rows}) + alike("prompt", {u.prompt_id or "" for u in rows}),
        nameless=(sum(traces.nameless for traces in known), sum(not u.speaker for u in rows)),
    )


def _no_speaker_named(pairs: Iterable[SharedBetween]) -> str:
    """Which parts may share a speaker without saying so."""
    unsure = [pair for pair in pairs if not pair.speakers]
    counts = {name: n for pair in unsure for n, name in zip(pair.nameless, (pair.first, pair.second), strict=True) if n}
    unknown = [f"{rows} row{'s' if rows > 1 else ''} of {name}" for name, rows in counts.items()]
    return f" (no speaker is named in {' and '.join(unknown)})" if unknown else ""


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
            keys[path] = size if len(same) == 1 else file_digest(path) or str(path)
    return keys
