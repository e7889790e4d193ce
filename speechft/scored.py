"""One utterance and what was made of it: the row that every measure is of."""

from __future__ import annotations

from dataclasses import dataclass

from speechft.error_rate import ErrorRate, word_errors
from speechft.hallucination import LOOP_TIMES, repeats
from speechft.normalize import by_digits


@dataclass(frozen=True, slots=True)
class Scored:
    """One utterance and what was made of it.

    Attributes:
        id, speaker, duration_s: of the utterance.
        groups: fields to break results down by, with its values.
        reference, hypothesis: as they are; the first is empty where the text has no letter and no digit.
        normalized: both, as they were compared.
        words, characters: errors of the normalised texts.
        raw_words: errors of the texts as they are.
        verbatim_words: errors against the normalised verbatim text (repetitions and fillers written out), if any.
        verbatim: that text as it is.
        command, entities: normalised words that matter; see `speechft.tasks`.
        digits: errors of words where each digit is one, of a normaliser that joins digits; else None.
        said: words of the text as they were written, before any were joined; as in `words` where none are.
        apart: `normalized` with the words apart that the normaliser joined.
        language: of the utterance, if it names one.
    """

    id: str
    speaker: str
    duration_s: float | None
    groups: dict[str, str]
    reference: str
    hypothesis: str
    normalized: tuple[str, str]
    words: ErrorRate
    characters: ErrorRate
    raw_words: ErrorRate
    verbatim_words: ErrorRate | None = None
    verbatim: str | None = None
    command: str | None = None
    entities: tuple[str, ...] = ()
    digits: ErrorRate | None = None
    said: int = 0
    apart: tuple[str, str] = ("", "")
    language: str | None = None

    @property
    def heard_words(self) -> ErrorRate:
        """Errors of words, without those that are only how numbers are written: digit by digit where that has fewer."""
        return self.digits if self.digits and self.digits.errors < self.words.errors else self.words

    @property
    def compared(self) -> tuple[str, str]:
        """The normalised texts that `heard_words` is of."""
        one, two = self.normalized
        return (one, two) if self.heard_words is self.words else (by_digits(one), by_digits(two))

    @property
    def loops(self) -> bool:
        """Whether the hypothesis repeats itself, and more often than the text does: a stutter is no loop.

        Forty times "five" are one word when the normaliser has joined them, so words are counted before that; and of
        the text its digits too, for "5555" may be said and written one by one.
        """
        heard = repeats(self.apart[1].split())
        if heard < LOOP_TIMES or not self.heard_words.errors:
            return False
        said = (self.apart[0], self.normalized[0] if self.digits is None else by_digits(self.normalized[0]))
        return heard > max(repeats(text.split()) for text in said)

    @property
    def inserted(self) -> int:
        """Words inserted, counted before any were joined, but for those that are only how numbers are written."""
        if self.digits is None or self.apart == self.normalized:
            return self.heard_words.insertions
        return min(word_errors(*self.apart).insertions, self.digits.insertions)
