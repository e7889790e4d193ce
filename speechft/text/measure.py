"""A score over examples: its value, its interval, and how far it is from another's on the same examples.

Intervals and paired differences are those of `speechft.significance`, by drawing examples again, those that are alike
together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from speechft.significance import bootstrap_ratio, never, paired_bootstrap, units


@dataclass(frozen=True)
class Part:
    """One example's share of a score: a sum, and what the sums are divided by."""

    errors: float
    length: float = 1.0


@dataclass(frozen=True)
class Measure:
    """A score over examples.

    Attributes:
        parts: of each example, in order.
        exponential: the score is exp(sum / length): perplexity from negative log-likelihoods.
        proportion: each part is right or wrong.
        blocks: what each part shares with others that are alike, such as an article; nothing where all are on their
            own.
    """

    parts: tuple[Part, ...]
    exponential: bool = False
    proportion: bool = False
    blocks: tuple[str, ...] = ()

    @classmethod
    def mean(cls, values: Sequence[float]) -> Measure:
        return cls(tuple(Part(float(value)) for value in values))

    @classmethod
    def share(cls, values: Sequence[float]) -> Measure:
        return cls(cls.mean(values).parts, proportion=True)

    @classmethod
    def perplexity(cls, nll: Sequence[tuple[float, float]]) -> Measure:
        return cls(tuple(Part(total, count) for total, count in nll), exponential=True)

    @property
    def n(self) -> int:
        return len(self.parts)

    @property
    def independent(self) -> int:
        """How many are drawn again: blocks, or parts where there are too few blocks."""
        return units(self.blocks, self.n)

    @property
    def value(self) -> float:
        length = sum(part.length for part in self.parts)
        return self._shown(sum(part.errors for part in self.parts) / length) if length else math.nan

    def summary(self) -> dict[str, Any]:
        """`value` and `ci95` as JSON; null where there is none."""
        low, high = bootstrap_ratio([(part.errors, part.length) for part in self.parts], self.blocks or None)
        if self.proportion and self.n > 1 and low == high and low in (0, 1):
            far = never(self.independent)
            low, high = (0.0, far) if low == 0 else (1 - far, 1.0)
        return {
            "value": rounded(self.value),
            "ci95": [rounded(self._shown(low)), rounded(self._shown(high))],
            "n": self.n,
        }

    def against(self, base: Measure) -> dict[str, Any]:
        """This score minus the base's on the same examples; of perplexities the ratio.

        Where drawing again gives no spread, as all pairs differ by the same, there is no interval; of shares, other
        pairs may still be as many as `never` says, and each may differ by 1 either way. With n pairs of wrong and
        right the interval leaves out 0 exactly where the sign test does, from 6 on (McNemar's exact test; Dixon and
        Mood, 1946). A score that is the base's own, as where the base was kept, does not differ from it.
        """
        difference, (low, high) = paired_bootstrap(base.parts, self.parts, self.blocks or None)
        if self is base:
            low = high = difference
        elif self.proportion and self.n > 1 and math.isnan(low):
            far = never(self.independent)
            low, high = (1 - far) * difference - far, (1 - far) * difference + far
        return {
            "ratio" if self.exponential else "difference": rounded(self._shown(difference)),
            "ci95": [rounded(self._shown(low)), rounded(self._shown(high))],
        }

    def _shown(self, value: float) -> float:
        return math.exp(min(value, 700.0)) if self.exponential else value


def rounded(value: float) -> float | None:
    """As a result holds it: six digits, no minus before nought, nothing where there is no number."""
    return round(float(value), 6) + 0.0 if math.isfinite(value) else None
