"""Which utterances an adapter was trained on and chosen by: it says so itself, so that none of them passes for a test.

A manifest without splits is split in memory by every run; whoever evaluates the adapter on that manifest later would
score what it learnt. Only short hashes of ids and texts are kept, no text and no sound.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from speechft.errors import SpeechftError
from speechft.manifest import Manifest, Utterance

MOST = 100_000  # of a part: a corpus of that size has its own splits, and the card stays small


def hashes(part: Iterable[Utterance]) -> list[str] | None:
    """What a card keeps of a part; None for parts that are too large."""
    found = [_hash(u) for u in part]
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
        left = rows.filter(lambda u: _hash(u) not in self.train and _hash(u) not in self.dev)
        if not len(left):
            raise SpeechftError(
                f"the adapter was trained on, or chosen by, all of these {len(rows)} recordings",
                where=rows.path, fix="Evaluate on other recordings, or name a --split of a manifest that has splits.",
            )  # fmt: skip
        return left

    def chose(self, rows: Manifest) -> Manifest:
        """The rows that its best state was chosen by."""
        return rows.filter(lambda u: _hash(u) in self.dev)

    def caveats(self, rows: Manifest) -> list[str]:
        """What the reader of scores on these rows must know."""
        trained = sum(_hash(u) in self.train for u in rows)
        chose = sum(_hash(u) in self.dev for u in rows)
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


def _hash(u: Utterance) -> str:
    return hashlib.sha256(f"{u.id}\0{u.text}".encode()).hexdigest()[:12]
