"""Transcripts against texts: the error rates of a corpus, of its speakers and of its groups."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import Any

from speechft.error_rate import ErrorRate, char_errors, sclite_char_errors, word_errors
from speechft.hallucination import hallucinations
from speechft.manifest import Manifest, Utterance, languages, says_something
from speechft.normalize import (
    by_digits,
    describe,
    joins_numbers,
    letters_apart,
    resolve_normalizer,
    splits,
    unjoined,
    without_asides,
)
from speechft.normalize import normalizer as named_normalizer
from speechft.references import CloserText, clipped_errors, closer_text
from speechft.scored import Scored
from speechft.scoring_notes import notes, speaking
from speechft.significance import ENOUGH_SPEAKERS, bootstrap_ci, shuffled_gap
from speechft.tasks import command_of, command_success, entities_of, entity_errors

WORST_SHARE = 0.01  # of the clips; one looping clip can move a corpus by ten points
UNKNOWN = "unknown"  # value of a group for the rows that don't state it
GROUP_DRAWS = 2_000  # of an interval a group; the corpus gets all
SCLITE_LONGEST = 2_000  # characters, of two minutes and more; it takes under a second
LENGTHS = ((1, 1), (2, 4), (5, 9), (10, 10_000))  # words of the reference


@dataclass(frozen=True)
class Scores:
    """Error rates of a corpus. All rates are fractions, corpus-wise.

    Attributes:
        rows: every utterance, in order.
        normalizer: name and version.
    """

    rows: tuple[Scored, ...]
    normalizer: str

    @cached_property
    def words(self) -> ErrorRate:
        return total(row.words for row in self.rows)

    @cached_property
    def characters(self) -> ErrorRate:
        return total(row.characters for row in self.rows)

    @property
    def wer(self) -> float:
        """Word errors by reference words; as in jiwer 4, the number of insertions where no text has a word."""
        return _rate(self.words)

    @property
    def wer_digits(self) -> float | None:
        """WER where each digit is a word on both sides; None without a word, or if the normaliser joins no digits."""
        found = total(row.digits for row in self.rows if row.digits is not None)
        return found.rate if found.length else None

    @property
    def cer(self) -> float:
        """The same of characters."""
        return _rate(self.characters)

    @cached_property
    def cer_sclite(self) -> float:
        """The same of characters as NIST's `sclite -c` counts them: without spaces, by its weights.

        It takes longer than the other rates, so that only results have it; nan where a text is longer than
        `SCLITE_LONGEST`, since the time grows with the square of that.
        """
        if any(len(text) > SCLITE_LONGEST for row in self.rows for text in row.normalized):
            return math.nan
        return _rate(total(sclite_char_errors(*row.normalized) for row in self.rows))

    @cached_property
    def hallucination(self) -> dict[str, Any]:
        """Invented words, where they can be told from mishearings; see `speechft.hallucination`."""
        return hallucinations(self.rows, self.normalizer)

    @property
    def speakers(self) -> list[str]:
        return [row.speaker for row in self.rows]

    @cached_property
    def wer_ci95(self) -> tuple[float, float]:
        """By drawing speakers, or utterances where there are too few speakers."""
        return bootstrap_ci([row.words for row in self.rows], self.speakers)

    def by(self, keys: Sequence[str]) -> dict[str, list[Scored]]:
        """Rows by a key a row, in order of the keys' names."""
        parts: dict[str, list[Scored]] = defaultdict(list)
        for key, row in zip(keys, self.rows, strict=True):
            parts[key].append(row)
        return {key: parts[key] for key in sorted(parts)}

    @cached_property
    def per_speaker(self) -> dict[str, dict[str, Any]]:
        return {speaker: _rates(rows) for speaker, rows in self.by(self.speakers).items()}

    @cached_property
    def per_group(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Rates by field and value. Where intervals are over speakers, a group of too few has none."""
        fields = sorted({name for row in self.rows for name in row.groups})
        least = ENOUGH_SPEAKERS if speaking(self.per_speaker) >= ENOUGH_SPEAKERS else 1
        return {
            name: {
                value: _group(rows, least, self.wer_ci95 if len(rows) == len(self.rows) else None)
                for value, rows in self.by([row.groups.get(name) or UNKNOWN for row in self.rows]).items()
            }
            for name in fields
        }

    @cached_property
    def gaps(self) -> dict[str, float | None]:
        """WER of the worst group minus that of the best, by field; None where fewer than two have a rate."""
        found = {}
        for field, values in self.per_group.items():
            rates = [entry["wer"] for value, entry in values.items() if value != UNKNOWN and entry["wer"] is not None]
            found[field] = max(rates) - min(rates) if len(rates) > 1 else None
        return found

    @cached_property
    def gaps_p(self) -> dict[str, float | None]:
        """How likely gaps as wide are if speakers belong to groups by chance, by field; see `shuffled_gap`."""
        found = {}
        for field in self.per_group:
            known = self.known(field)
            groups, speakers = [row.groups[field] for row in known], [row.speaker for row in known]
            found[field] = shuffled_gap([row.words for row in known], groups, speakers)
        return found

    def known(self, field: str) -> list[Scored]:
        """The rows that state a field: what `gaps_p` is of."""
        return [row for row in self.rows if (row.groups.get(field) or UNKNOWN) != UNKNOWN]

    def clipped(self) -> float:
        """WER with the errors of a clip counted up to its words: what invented words beyond them hide or show."""
        errors = sum(clipped_errors(row.words) for row in self.rows)
        return errors / self.words.length if self.words.length else math.nan

    def closer_text(self, clip: bool = False) -> CloserText:
        """Errors against text or verbatim text, whichever is closer in each utterance."""
        return closer_text(((row.words, row.verbatim_words) for row in self.rows), clip=clip)

    def without_worst(self, share: float = WORST_SHARE) -> float:
        """WER without the clips that cost the most errors, at least one of them; nan where that leaves no word."""
        ranked = sorted((row.words for row in self.rows), key=lambda words: words.errors)
        kept = total(ranked[: -worst_clips(len(ranked), share)])
        return kept.rate if kept.length else math.nan

    def to_dict(self) -> dict[str, Any]:
        """As JSON: a rate that does not exist (no word in the reference) is null."""
        speakers = [entry["wer"] for entry in self.per_speaker.values() if entry["wer"] is not None]
        by_length, n = {}, speaking(self.per_speaker)
        for low, high in LENGTHS:
            rows = [row for row in self.rows if row.words.length and low <= row.said <= high]
            if rows:
                by_length[str(low) if low == high else f"{low}-{high}" if high < 10_000 else f"{low}+"] = _rates(rows)
        return {
            "wer": finite(self.wer),
            "wer_ci95": [finite(bound) for bound in self.wer_ci95],
            "wer_digits": self.wer_digits,
            "cer": finite(self.cer),
            "cer_sclite": finite(self.cer_sclite),
            "mer": self.words.match_error_rate,
            "wil": self.words.information_lost,
            "n_utterances": len(self.rows),
            "n_words": self.words.length,
            "n_speakers": n,
            "substitutions": self.words.substitutions,
            "deletions": self.words.deletions,
            "insertions": self.words.insertions,
            "normalizer": self.normalizer,
            "wer_raw": finite(total(row.raw_words for row in self.rows).rate),
            "wer_without_worst": finite(self.without_worst()),
            "wer_clipped": finite(self.clipped()),
            **_closer(self),
            "wer_speaker_mean": sum(speakers) / len(speakers) if speakers else None,
            "worst_speaker": max(
                (s for s in self.per_speaker if self.per_speaker[s]["wer"] is not None and (s or n > 1)),
                key=lambda s: self.per_speaker[s]["wer"],
                default=None,
            ),
            "empty_references": sum(row.words.length == 0 for row in self.rows),
            "clips_above_one": self.hallucination["above_one"]["clips"],
            "loops": self.hallucination["loops"]["clips"],
            "all_right": sum(not row.words.errors for row in self.rows) / len(self.rows) if self.rows else None,
            "per_speaker": self.per_speaker,
            "per_group": self.per_group,
            "gaps": self.gaps,
            "gaps_p": self.gaps_p,
            "by_length": by_length,
            "hallucination": self.hallucination,
            "command_success": command_success(self.rows),
            "entity_errors": entity_errors(self.rows),
            "notes": notes(self),
        }


def score(utterances: Sequence[Utterance], hypotheses: Sequence[str], normalizer: str = "auto") -> Scores:
    """Score one hypothesis an utterance.

    Args:
        utterances: with their texts.
        hypotheses: in the same order.
        normalizer: see `speechft.normalize`; it is applied to both. Spaces that it puts between letters are no
            characters.
    """
    normalizer = resolve_normalizer(normalizer, languages(utterances))
    normalize, spaces, joins = named_normalizer(normalizer), not splits(normalizer), joins_numbers(normalizer)
    word = cache(normalize)  # texts are of the same words, and normalising English takes its time
    fields, apart, lettered = Manifest(utterances).groups, partial(unjoined, normalize=word), letters_apart(normalizer)
    rows = []
    for utterance, hypothesis in zip(utterances, hypotheses, strict=True):
        text = utterance.text if says_something(utterance.text) else ""  # the normaliser would keep a dot of "..."
        one, two = normalize(text), normalize(hypothesis)
        verbatim, errors = (utterance.text_verbatim or "").strip() or None, word_errors(one, two)
        rows.append(
            Scored(
                utterance.id,
                utterance.speaker,
                utterance.seconds,
                {name: utterance.group(name) for name in fields},
                text,
                hypothesis,
                (one, two),
                errors,
                char_errors(one, two, spaces=spaces),
                word_errors(lettered(text), lettered(hypothesis)),
                None if verbatim is None else word_errors(normalize(verbatim), two),
                verbatim,
                command_of(utterance, normalize),
                entities_of(utterance, normalize),
                word_errors(by_digits(one), by_digits(two)) if joins else None,
                _pieces_of(text, word) if joins and one else errors.length,
                (apart(text, one), apart(hypothesis, two)) if joins else (one, two),
                utterance.language,
            )
        )
    return Scores(tuple(rows), describe(normalizer))


def _pieces_of(text: str, normalize: Callable[[str], str]) -> int:
    """Pieces between spaces of which something is left; at least one, for this is of a text that has words."""
    return max(1, sum(bool(normalize(piece)) for piece in without_asides(text).split()))


def worst_clips(clips: int, share: float = WORST_SHARE) -> int:
    """How many of so many clips are the worst `share`: at least one."""
    return max(1, round(share * clips))


def total(errors: Iterable[ErrorRate]) -> ErrorRate:
    """The sum of counts; of none, zeros."""
    return sum(errors, ErrorRate())


def _rate(errors: ErrorRate) -> float:
    return errors.rate if errors.length else float(errors.insertions)


def finite(value: float) -> float | None:
    """The number, or None where JSON has no word for it."""
    return value if math.isfinite(value) else None


def _closer(scores: Scores) -> dict[str, Any]:
    """WER against the closer text, as it is and clipped, and how often which one was closer."""
    whole, clipped = scores.closer_text(), scores.closer_text(clip=True)
    both = bool(whole.text + whole.verbatim + whole.equal)
    return {
        "wer_closer_text": finite(whole.rate),
        "wer_closer_text_clipped": finite(clipped.rate),
        "closer_text": {"text": whole.text, "verbatim": whole.verbatim, "equal": whole.equal} if both else None,
    }


def _group(rows: Sequence[Scored], least: int, whole: tuple[float, float] | None = None) -> dict[str, Any]:
    """Rates of a group, with an interval if it has `least` speakers: that of the `whole` where it is the corpus."""
    speakers = [row.speaker for row in rows]
    n, bounds = len({row.speaker for row in rows if row.words.length}), (math.nan, math.nan)
    if n >= least:
        bounds = whole or bootstrap_ci([row.words for row in rows], speakers, draws=GROUP_DRAWS)
    return {**_rates(rows), "n_speakers": n, "wer_ci95": [finite(bound) for bound in bounds]}


def _rates(rows: Sequence[Scored]) -> dict[str, Any]:
    words, characters = total(row.words for row in rows), total(row.characters for row in rows)
    return {
        "wer": finite(words.rate) if words.length else None,  # nobody who said nothing made no mistake
        "cer": finite(characters.rate) if characters.length else None,
        "n_utterances": len(rows),
        "n_words": words.length,
    }
