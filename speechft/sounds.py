"""Which sounds, or letters, were heard as which others inside misheard words.

Sounds come from the pronunciation rules of the voice package hibari-tts (American English), which the quickstart
brings along; where it is missing, or the text is not English, letters stand in for them. Words are paired first, so a
word that was missed altogether does not count as missed sounds.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from speechft.error_rate import align

if TYPE_CHECKING:
    from speechft.scoring import Scores

STRESS = "ˈˌ"
LONG_NUMBER = re.compile(r"\d{16,}")  # a loop of digits that was joined; the rules have no word for 36 and more
IPA = {"A": "eɪ", "I": "aɪ", "O": "oʊ", "W": "aʊ", "Y": "ɔɪ", "Q": "əʊ", "T": "ɾ", "ᵊ": "ə", "ᵻ": "ɪ"}


@dataclass(frozen=True)
class Confusions:
    """What was heard instead of what.

    Attributes:
        unit: `sounds` or `letters`.
        pairs: (said, heard) to how often; "" for missed or invented.
        said: how often each occurs in the texts, misheard or not.
    """

    unit: str
    pairs: Counter[tuple[str, str]]
    said: Counter[str]


def confused_sounds(scores: Scores) -> Confusions:
    """Confusions inside words that were heard as other words."""
    speak = pronunciation() if scores.normalizer.startswith("whisper-english/") else None
    spell: Callable[[str], Sequence[str]] = speak or list
    pairs: Counter[tuple[str, str]] = Counter()
    said: Counter[str] = Counter()
    for row in scores.rows:
        for kind, one, two in align(*(text.split() for text in row.compared)):
            if one:
                said.update(spell(one))
            if kind == "substitute":
                found = align(spell(one), spell(two))
                pairs.update((a, b) for how, a, b in found if how != "equal")
    return Confusions("sounds" if speak else "letters", pairs, said)


@cache
def pronunciation() -> Callable[[str], tuple[str, ...]] | None:
    """The sounds of an English word in IPA, without stress; None where no pronunciation rules are installed."""
    try:
        from hibari.g2p import G2P
    except ImportError:
        return None
    rules = G2P()

    @cache
    def sounds(word: str) -> tuple[str, ...]:
        spoken = rules(LONG_NUMBER.sub(lambda number: " ".join(number[0]), word)) or ""
        return tuple(IPA.get(sign, sign) for sign in spoken if sign not in STRESS and not sign.isspace())

    return sounds
