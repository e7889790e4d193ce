"""Two texts of one utterance: as it was meant, and verbatim with every repetition and filler.

A transcript may follow either, so each utterance is measured against the one it is closer to. The rule is that of the
Speech Accessibility Project challenge (Zheng et al., 2025, arXiv 2507.22047; its published scoring script): the lower
rate counts, and where both are equal the mean of both. The challenge also clips: an utterance has at most as many
errors as its text has words. Clipping hides invented words, so both numbers are given.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from speechft.error_rate import ErrorRate


@dataclass(frozen=True, slots=True)
class CloserText:
    """Errors against the closer of two texts; halves come from ties.

    Attributes:
        errors, words: over all utterances.
        text, verbatim, equal: in how many utterances with both the text was closer, the verbatim one, or neither.
    """

    errors: float
    words: float
    text: int
    verbatim: int
    equal: int

    @property
    def rate(self) -> float:
        """Errors by words; nan where no utterance has a verbatim text."""
        if not self.text + self.verbatim + self.equal:
            return math.nan
        return self.errors / self.words if self.words else math.nan


def clipped_errors(words: ErrorRate) -> int:
    """Errors of an utterance, at most as many as its text has words: a text without words has none."""
    return min(words.errors, words.length)


def closer_text(pairs: Iterable[tuple[ErrorRate, ErrorRate | None]], *, clip: bool = False) -> CloserText:
    """Errors of each utterance against whichever text is closer.

    Args:
        pairs: (errors against the text, errors against the verbatim text or None) of each utterance.
        clip: count at most as many errors as the text has words, before the texts are compared.
    """
    errors, words = 0.0, 0.0
    closer = {"text": 0, "verbatim": 0, "equal": 0}
    for text, verbatim in pairs:
        both = (text, verbatim or text)
        found = [(clipped_errors(e) if clip else e.errors, e.length) for e in both]
        # Of a text without words, whether anything was heard: clipped, it never has an error.
        one, two = (count / e.length if e.length else e.rate for (count, _), e in zip(found, both, strict=True))
        name = "equal" if one == two else "text" if one < two else "verbatim"
        chosen = found if name == "equal" else [found[name == "verbatim"]]
        errors += sum(count for count, _ in chosen) / len(chosen)
        words += sum(length for _, length in chosen) / len(chosen)
        if verbatim is not None:
            closer[name] += 1
    return CloserText(errors, words, **closer)
