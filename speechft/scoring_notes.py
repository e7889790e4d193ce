"""How many people a score speaks of, and what its reader must know: notes of `Scores`, in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from speechft.normalize import splits
from speechft.numbers_as_text import percent
from speechft.significance import ENOUGH_SPEAKERS, ENOUGH_UTTERANCES

if TYPE_CHECKING:
    from speechft.scoring import Scores

NAMELESS = "speakers are not named: the interval is over recordings only; if they are several people it is too narrow"
NO_WORD = (
    "no text has a word after normalisation, so there is no error rate: 'wer' and 'cer' of result.json are the numbers "
    "of inserted words and characters"
)
SPLIT = "in languages written without spaces each character counts as a word"


def speaking(per_speaker: Mapping[str, Mapping[str, Any]]) -> int:
    """How many speakers have a word in any text: with `ENOUGH_SPEAKERS`, intervals and p values are over them.

    Args:
        per_speaker: of `Scores`, or of a result.
    """
    return len(voices(per_speaker))


def with_words(scores: Mapping[str, Any]) -> int:
    """How many recordings have a word in their text: those of silence make a few no more.

    Args:
        scores: `Scores.to_dict`.
    """
    return int(scores["n_utterances"] - scores["empty_references"])


def voices(per_speaker: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Those speakers' names; that of a recording of silence is none."""
    return [name for name, entry in per_speaker.items() if entry["n_words"] > 0]


def nameless(per_speaker: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether nobody who has a word is named."""
    return voices(per_speaker) == [""]


def speakers_said(per_speaker: Mapping[str, Mapping[str, Any]]) -> str:
    """How many speakers, for people: where nobody is named it is not one."""
    n = speaking(per_speaker)
    return "speakers not named" if nameless(per_speaker) else f"{n} speaker{'s' if n != 1 else ''}"


def notes(scores: Scores) -> list[str]:
    """What an interval is over, what counts as a word, and what only looks like errors."""
    return [*_of_speakers(scores), *_of_words(scores)]


def _of_speakers(scores: Scores) -> list[str]:
    found: list[str] = []
    spoken = [row for row in scores.rows if row.words.length]
    clips, n, unnamed = len(spoken), speaking(scores.per_speaker), sum(not row.speaker for row in spoken)
    if not n:  # nobody speaks: there is no interval
        return found
    if nameless(scores.per_speaker):
        found.append(NAMELESS)
    elif n < ENOUGH_SPEAKERS:
        found.append(f"{n} speaker{'s' if n != 1 else ''}: the interval is over recordings, not about other people")
    if unnamed and n > 1:
        found.append(f"{unnamed} of {clips} recordings name no speaker: they count as one speaker")
    if n < ENOUGH_SPEAKERS and clips < ENOUGH_UTTERANCES:
        few = f"{clips} recording{'s' if clips > 1 else ''}{' with a word' if clips < len(scores.rows) else ''}"
        found.append(f"{few}: an interval over so few is far too narrow")
    return found


def _of_words(scores: Scores) -> list[str]:
    found = []
    if splits(scores.normalizer):
        found.append(SPLIT)
    written = [row.words.errors - row.heard_words.errors for row in scores.rows if row.heard_words is not row.words]
    if written:
        errors, where = scores.words.errors, f"in {len(written)} recording{'s' if len(written) > 1 else ''}"
        # not the rate of digits, which is of more words: wrong numbers make it higher than the WER
        without = percent((errors - sum(written)) / scores.words.length)
        found.append(
            f"only how numbers are written makes {sum(written)} of the {errors} errors, {where}: "
            f"WER {without} without these errors"
        )
    if scores.rows and not scores.words.length:
        found.append(NO_WORD)
    return found
