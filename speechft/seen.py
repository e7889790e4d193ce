"""Which utterances an adapter was trained on and chosen by: in its card, so that none is mistaken for test data.

A manifest without splits is split in memory by every run, and an adapter is tested on other manifests than its own:
whoever evaluates it would score what it learnt. Of ids, texts, names, lengths and recordings only short hashes are
kept, no text and no sound: of each row as a whole, which is found again where the recording was converted, and of its
parts (`speechft.traces`), which are found under any id.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from speechft.errors import SpeechftError
from speechft.manifest import Manifest, Utterance, probe_duration
from speechft.overlap import Overlap, SharedBetween, shared_between
from speechft.traces import Traces, file_digests
from speechft.trained_on import CHOICE, THE_ADAPTERS, TRAINING, chosen_by, trained_on

VERSION = "2:"  # before a hash; those without it are of id and text alone
MOST = 100_000  # of a part: a corpus of that size has its own splits, and the card stays small


def hashes(part: Iterable[Utterance]) -> list[str] | None:
    """What a card keeps of the rows of a part as a whole; None for parts that are too large."""
    found = [_hash(u, _tenths(u)) for u in part]
    return found if len(found) <= MOST else None


@dataclass(frozen=True)
class Seen:
    """What an adapter has seen, in all the runs that led to it.

    Attributes:
        train, dev: hashes of the utterances that it was trained on, or chosen by.
        parts: of each run the `salt` and, for `train` and `dev`, `Traces.to_dict`.
        complete: whether that is all; cards of earlier versions, of others, and of more than `MOST` rows do not say.
    """

    train: frozenset[str]
    dev: frozenset[str]
    parts: tuple[Mapping[str, Any], ...] = ()
    complete: bool = False

    @classmethod
    def of(cls, train: Manifest, dev: Manifest) -> Seen:
        """Of one run; reads every recording that was not read for this before."""
        own = hashes(train), hashes(dev)
        rows = frozenset(own[0] or ()), frozenset(own[1] or ())
        if None in own:
            return cls(*rows)
        salt = hashlib.sha256(f"{train.sha256}{dev.sha256}".encode()).hexdigest()[:16]
        content = file_digests(u.audio for part in (train, dev) for u in part)
        traces = {name: Traces.of(part, content, salt).to_dict() for name, part in (("train", train), ("dev", dev))}
        return cls(*rows, ({"salt": salt, **traces},), complete=True)

    @classmethod
    def by(cls, cards: Iterable[Mapping[str, Any]]) -> Seen:
        """Of all these cards together; a card that does not say has seen nothing that is known."""
        found = [card.get("seen") or {} for card in cards]
        train, dev = (frozenset(h for seen in found for h in seen.get(name) or ()) for name in ("train", "dev"))
        parts: list[Mapping[str, Any]] = []
        for part in (part for seen in found for part in seen.get("parts") or ()):
            if part not in parts:
                parts.append(part)
        return cls(train, dev, tuple(parts), all(seen.get("complete") for seen in found))

    def to_dict(self) -> dict[str, Any]:
        """For a card."""
        rows = {"train": sorted(self.train), "dev": sorted(self.dev)}
        return {**rows, "parts": list(self.parts), "complete": self.complete}

    @cached_property
    def traces(self) -> dict[str, list[Traces]]:
        """Of `train` and `dev`, of each run."""
        names = ("train", "dev")
        return {name: [Traces.from_dict(p.get(name) or {}, p["salt"]) for p in self.parts] for name in names}

    def chose(self, rows: Manifest) -> Manifest:
        """The rows that its best state was chosen by."""
        chose = self.ids("dev", rows)
        return rows.filter(lambda u: u.id in chose)

    def ids(self, part: str, rows: Manifest) -> set[str]:
        """Of the rows that are in a part, `train` or `dev`, of what was seen."""
        return set(self.shared(part, "", rows, "").audio)

    def shared(self, part: str, first: str, rows: Manifest, second: str) -> SharedBetween:
        """What rows have in common with a part, `train` or `dev`, of what was seen.

        Args:
            first, second: what that part and the rows are called.
        """
        known = self.train if part == "train" else self.dev
        copies = {u.id for u in rows if _is_in(u, known)}
        content = file_digests(u.audio for u in rows) if self.parts else {}
        return shared_between(first, self.traces[part], second, rows, content, copies)


def unseen(rows: Manifest, seen: Iterable[Seen]) -> Manifest:
    """The rows that no adapter was trained on or chosen by.

    Raises:
        SpeechftError: there is none.
    """
    learnt = {name for one in seen for part in ("train", "dev") for name in one.ids(part, rows)}
    left = rows.filter(lambda u: u.id not in learnt)
    if not len(left):
        raise SpeechftError(
            f"the adapter was trained on, or chosen by, all of these {len(rows)} recordings",
            where=rows.path, fix="Evaluate on other recordings, or name a --split of a manifest that has splits.",
        )  # fmt: skip
    return left


def learnt_from(seen: Mapping[str, Seen], rows: Manifest, split: str | None) -> Overlap:
    """What rows have in common with what adapters were trained on and chosen by.

    Args:
        seen: by the name of the adapter; those that saw the same are told together.
        split: that the rows are of; None if they are of none, or of several.

    Returns:
        first what they were trained on. Of an adapter that does not say, only what cannot be by chance: then "nothing
        in common" would be a guess.
    """
    alike: list[tuple[list[str], Seen]] = []
    for name, one in seen.items():
        others = next((names for names, other in alike if other == one), None)
        if others is None:
            alike.append(([name], one))
        else:
            others.append(name)
    groups = {THE_ADAPTERS if len(alike) == 1 < len(seen) else ", ".join(names): one for names, one in alike}
    pairs = [
        one.shared(part, f"{said}{who}", rows, split or "these recordings")
        for part, said in (("train", TRAINING), ("dev", CHOICE))
        for who, one in groups.items()
    ]
    complete = {f"{said}{who}" for said in (TRAINING, CHOICE) for who, one in groups.items() if one.complete}
    told = tuple(pair for pair in pairs if pair.first in complete or pair.beside_people)
    return Overlap(told, tuple(who for who, one in groups.items() if not one.complete))


def caveats_of(learnt: Overlap) -> list[str]:
    """What the reader of scores must know of `learnt_from` the rows that they are of; the gravest first."""
    pairs = learnt.to_dict()
    unknown = [
        f"The card of {who} does not say by hashes what it learnt from, as one made elsewhere, by an earlier version "
        f"or of over {MOST:,} recordings: what these recordings have in common with its training is not known."
        for who in learnt.unknown
    ]
    return [*trained_on(pairs), *chosen_by(pairs), *unknown]


def _is_in(u: Utterance, hashes: frozenset[str]) -> bool:
    """Whether one of the hashes is this utterance's, by what a card of now or of before version 2 keeps."""
    if not hashes:
        return False
    near = range(_tenths(u) - 1, _tenths(u) + 2)  # a length is stated in one manifest and measured for another
    return _old_hash(u) in hashes or any(_hash(u, tenths) in hashes for tenths in near)


def _hash(u: Utterance, tenths: int) -> str:
    """Two people who read one list, by one id each sentence, differ by name or at least by the time they took."""
    return VERSION + _short(f"{u.id}\0{u.text}\0{u.speaker}\0{tenths}")


def _old_hash(u: Utterance) -> str:
    return _short(f"{u.id}\0{u.text}")


def _short(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _tenths(u: Utterance) -> int:
    """The length in tenths of a second; 0 where nobody can tell."""
    try:
        return round(10 * (probe_duration(u) if u.seconds is None else u.seconds))
    except SpeechftError:
        return 0
