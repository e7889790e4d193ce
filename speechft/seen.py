"""Which utterances an adapter was trained on and chosen by: in its card, so that none is mistaken for test data.

A manifest without splits is split in memory by every run; whoever evaluates the adapter on that manifest later would
score what it learnt. Only short hashes of ids, texts, speakers and lengths are kept, no text and no sound.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from speechft.errors import SpeechftError
from speechft.manifest import Manifest, Utterance, probe_duration

VERSION = "2:"  # before a hash; those without it are of id and text alone
MOST = 100_000  # of a part: a corpus of that size has its own splits, and the card stays small


def hashes(part: Iterable[Utterance]) -> list[str] | None:
    """What a card keeps of a part; None for parts that are too large."""
    found = [_hash(u, _tenths(u)) for u in part]
    return found if len(found) <= MOST else None


@dataclass(frozen=True)
class Seen:
    """What adapters have seen.

    Attributes:
        train, dev: hashes of the utterances that one of them was trained on, or chosen by.
    """

    train: frozenset[str]
    dev: frozenset[str]

    @classmethod
    def by(cls, cards: Iterable[Mapping[str, Any]]) -> Seen:
        """Of all these cards together; a card that does not say has seen nothing."""
        parts = [card.get("seen") or {} for card in cards]
        return cls(*(frozenset(h for part in parts for h in part.get(name) or ()) for name in ("train", "dev")))

    def to_dict(self) -> dict[str, list[str]]:
        """For a card of what was made of several adapters."""
        return {"train": sorted(self.train), "dev": sorted(self.dev)}

    def unseen(self, rows: Manifest) -> Manifest:
        """The rows that no adapter was trained on or chosen by.

        Raises:
            SpeechftError: there is none.
        """
        left = rows.filter(lambda u: not _is_in(u, self.train) and not _is_in(u, self.dev))
        if not len(left):
            raise SpeechftError(
                f"the adapter was trained on, or chosen by, all of these {len(rows)} recordings",
                where=rows.path, fix="Evaluate on other recordings, or name a --split of a manifest that has splits.",
            )  # fmt: skip
        return left

    def chose(self, rows: Manifest) -> Manifest:
        """The rows that its best state was chosen by."""
        return rows.filter(lambda u: _is_in(u, self.dev))

    def caveats(self, rows: Manifest) -> list[str]:
        """What the reader of scores on these rows must know."""
        trained = sum(_is_in(u, self.train) for u in rows)
        chose = sum(_is_in(u, self.dev) for u in rows)
        notes = []
        if trained:
            notes.append(
                f"{trained} of these {len(rows)} recordings were trained on: the numbers say little about new ones."
            )
        if chose:
            notes.append(
                f"{chose} of these {len(rows)} recordings also chose the adapter's best state, which flatters "
                "the numbers a little."
            )
        return notes


NOTHING = Seen(frozenset(), frozenset())


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
