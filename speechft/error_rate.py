"""Error rates as counts that add up, never as averaged percentages.

>>> total = word_errors("please turn it on", "please turn on") + word_errors("yes", "yes")
>>> total
ErrorRate(substitutions=0, deletions=1, insertions=0, length=5)
>>> total.rate
0.2

Counts and edge cases are those of jiwer 4, and of `sclite_errors` those of NIST's sclite (both tested on 10,000 random
pairs). For a corpus whose references hold no token at all, jiwer calls the number of insertions a rate; here `rate` is
inf, because nothing was divided.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ErrorRate:
    """Edit counts of hypotheses against references; adds corpus-wise, never averages.

    Attributes:
        substitutions, deletions, insertions: counts of tokens.
        length: tokens in the reference; may be 0, then `rate` is 0.0 or inf.
    """

    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0
    length: int = 0

    def __add__(self, other: ErrorRate) -> ErrorRate:
        if not isinstance(other, ErrorRate):
            return NotImplemented
        return ErrorRate(
            self.substitutions + other.substitutions,
            self.deletions + other.deletions,
            self.insertions + other.insertions,
            self.length + other.length,
        )

    def __radd__(self, other: object) -> ErrorRate:
        """Lets `sum()` start from its 0."""
        return self if other == 0 else NotImplemented

    @property
    def errors(self) -> int:
        return self.substitutions + self.deletions + self.insertions

    @property
    def hits(self) -> int:
        """Tokens of the reference that were recognised."""
        return self.length - self.substitutions - self.deletions

    @property
    def hypothesis_length(self) -> int:
        return self.hits + self.substitutions + self.insertions

    @property
    def rate(self) -> float:
        """Errors by reference tokens: WER of words, CER of characters; above 1 where much was inserted."""
        if self.length == 0:
            return math.inf if self.insertions else 0.0
        return self.errors / self.length

    @property
    def match_error_rate(self) -> float:
        """Errors by aligned positions (MER; Morris et al., 2004); at most 1."""
        positions = self.length + self.insertions
        return self.errors / positions if positions else 0.0

    @property
    def information_lost(self) -> float:
        """1 - hits / reference * hits / hypothesis (WIL; Morris et al., 2004); 0.0 for two empty texts.

        The four counts give the length of the hypothesis, so the sum over a corpus has the WIL of the corpus.
        """
        if self.length == 0 and self.hypothesis_length == 0:
            return 0.0
        if self.length == 0 or self.hypothesis_length == 0:
            return 1.0
        return 1.0 - (self.hits / self.length) * (self.hits / self.hypothesis_length)


def word_errors(reference: str, hypothesis: str) -> ErrorRate:
    """Errors of words, with the fewest edits. An empty reference has only insertions.

    Words are split at any white space; jiwer's default splits at spaces only, which is the same after every
    normaliser here but `none`.
    """
    return _errors(reference.split(), hypothesis.split())


def char_errors(reference: str, hypothesis: str, *, spaces: bool = True) -> ErrorRate:
    """Errors of characters (Unicode code points), with the fewest edits.

    Args:
        reference, hypothesis: texts; spaces at the ends don't count.
        spaces: whether those between words are characters too, as in jiwer. NIST's `sclite -c` counts without
            them; for its very numbers see `sclite_char_errors`.
    """
    if spaces:
        return _errors(reference.strip(), hypothesis.strip())
    return _errors("".join(reference.split()), "".join(hypothesis.split()))


def sclite_errors(reference: Sequence[str], hypothesis: Sequence[str]) -> ErrorRate:
    """Errors as NIST's sclite counts them: a substitution costs 4, a deletion or an insertion 3.

    The cheapest alignment by these costs is not always one with the fewest errors: on 10,000 noisy pairs the totals of
    words were all equal, and those of characters one or two higher in 33 (0.1% of the errors). Where alignments cost
    the same, the one that pairs tokens is taken, then the one that inserts, which gives sclite's very counts.

    Args:
        reference, hypothesis: words, for `sclite`; for `sclite -c` see `sclite_char_errors`.

    >>> sclite_errors("amthemaodontdl", "amdsisterdontd")
    ErrorRate(substitutions=1, deletions=4, insertions=4, length=14)
    """
    from rapidfuzz.distance import Levenshtein

    length, heard = len(reference), len(hypothesis)
    # Only cells that the cheapest alignments can pass through are looked at: each step aside, and back, costs 6.
    cost = Levenshtein.distance(reference, hypothesis, weights=(3, 3, 4))
    aside = (cost // 3 - abs(heard - length)) // 2
    low, high = min(0, heard - length) - aside, max(0, heard - length) + aside
    above = [(3 * j, 0, 0, j) for j in range(heard + 1)]  # cost, substitutions, deletions, insertions
    for i, said in enumerate(reference, 1):
        row = [(cost + 1, 0, 0, 0)] * (heard + 1)
        row[0] = (3 * i, 0, i, 0)
        for j in range(max(1, i + low), min(heard, i + high) + 1):
            (pair, ps, pd, pi), (drop, ds, dd, di), (add, as_, ad, ai) = above[j - 1], above[j], row[j - 1]
            wrong = said != hypothesis[j - 1]
            pair, drop, add = pair + 4 * wrong, drop + 3, add + 3
            if pair <= drop and pair <= add:
                row[j] = (pair, ps + wrong, pd, pi)
            elif add <= drop:
                row[j] = (add, as_, ad, ai + 1)
            else:
                row[j] = (drop, ds, dd + 1, di)
        above = row
    return ErrorRate(*above[-1][1:], length)


def sclite_char_errors(reference: str, hypothesis: str) -> ErrorRate:
    """Errors of characters as `sclite -c` counts them, without the spaces between words."""
    return sclite_errors("".join(reference.split()), "".join(hypothesis.split()))


def align(reference: Sequence[str], hypothesis: Sequence[str]) -> list[tuple[str, str, str]]:
    """The alignment with the fewest edits, token by token.

    Returns:
        (`equal` | `substitute` | `delete` | `insert`, reference token or "", hypothesis token or "").
    """
    from rapidfuzz.distance import Levenshtein

    aligned = []
    for op in Levenshtein.opcodes(list(reference), list(hypothesis)):
        one, two = reference[op.src_start : op.src_end], hypothesis[op.dest_start : op.dest_end]
        kind = "substitute" if op.tag == "replace" else op.tag
        for i in range(max(len(one), len(two))):
            aligned.append((kind, one[i] if i < len(one) else "", two[i] if i < len(two) else ""))
    return aligned


def _errors(reference: Sequence[str], hypothesis: Sequence[str]) -> ErrorRate:
    from rapidfuzz.distance import Levenshtein

    counts = {"replace": 0, "delete": 0, "insert": 0}
    for op in Levenshtein.editops(reference, hypothesis):
        counts[op.tag] += 1
    return ErrorRate(counts["replace"], counts["delete"], counts["insert"], len(reference))
