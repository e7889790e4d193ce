"""Whether a stretch of a text was heard: its words in a row, and its numbers whole, however their digits are written.

"Two five hundred" may be written "2 500" or "2500", and nobody can hear where one number ends and the next begins: that
is right where the text has two numbers there. Where it has one, "channel two", then "channel 21" and "channel 2 1" are
another channel. So a stretch is looked for digit by digit, and what stands beside its numbers is compared by place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from speechft.error_rate import align
from speechft.normalize import by_digits

if TYPE_CHECKING:
    from speechft.scored import Scored


def times(stretch: Sequence[str], words: Sequence[str]) -> int:
    """How often a stretch of words occurs in a row, without overlap.

    >>> times(["on"], "turn on the lamp on the left".split())
    2
    """
    count = i = 0
    while stretch and i + len(stretch) <= len(words):
        hit = list(words[i : i + len(stretch)]) == list(stretch)
        count, i = count + hit, i + (len(stretch) if hit else 1)
    return count


def times_heard(row: Scored, stretch: str) -> int:
    """How often a stretch of a row's normalised text is in its transcript, without overlap."""
    said, heard = (_parts(text, row.digits is not None) for text in row.normalized)
    wanted = [part.text for part in _parts(stretch, row.digits is not None)]
    texts, places = [part.text for part in heard], _places(said, heard)
    count = first = 0
    while wanted and first + len(wanted) <= len(texts):
        last = first + len(wanted) - 1
        hit = texts[first : last + 1] == wanted and all(
            _ends(said, heard, places, edge, step) for edge, step in ((first, -1), (last, 1))
        )
        count, first = count + hit, last + 1 if hit else first + 1
    return count


@dataclass(frozen=True, slots=True)
class _Part:
    """A word, or a digit of one; `word` is the number of the word in its text."""

    text: str
    word: int

    @property
    def is_digit(self) -> bool:
        return self.text[0].isdigit()


def _parts(text: str, joined: bool) -> list[_Part]:
    """The words of a normalised text, digit by digit where its normaliser joins digits."""
    split = by_digits if joined else str
    return [_Part(part, number) for number, word in enumerate(text.split()) for part in split(word).split()]


def _places(said: Sequence[_Part], heard: Sequence[_Part]) -> list[int | None]:
    """The place in the text of each part that was heard; None where it is wrong or was not said."""
    places: list[int | None] = []
    place = 0
    for kind, one, two in align([part.text for part in said], [part.text for part in heard]):
        if two:
            places.append(place if kind == "equal" else None)
        place += bool(one)
    return places


def _ends(said: Sequence[_Part], heard: Sequence[_Part], places: Sequence[int | None], edge: int, step: int) -> bool:
    """Whether a stretch ends at a part that was heard, so that what is beside it is no more of the same number.

    Args:
        said, heard, places: of the whole texts.
        edge: the first or last part of the stretch.
        step: -1 or 1, to the part beside it.
    """
    beside, place = edge + step, places[edge]
    if not 0 <= beside < len(heard):
        return True
    in_one_word = heard[beside].word == heard[edge].word
    if not in_one_word and not (heard[edge].is_digit and heard[beside].is_digit):
        return True
    if place is None or not 0 <= place + step < len(said):
        return False
    if not in_one_word:
        return said[place + step].is_digit
    other = places[beside]  # right, and of the numbers that follow on each other there in the text
    return other is not None and all(said[i].is_digit for i in range(place + step, other, step))
