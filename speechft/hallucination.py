"""Invented words: what a recogniser writes that nobody said, measured where it cannot hide.

A word error rate shows invented words only as insertions, among the mishearings. Here they are counted where they can
be nothing else: on clips without speech, on short clips, in loops, above one error a word, and beyond what a mouth can
say in the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from speechft.manifest import Seconds
from speechft.normalize import spaceless_letter, splits, unit
from speechft.row_problems import CHARACTERS_PER_SECOND, WORDS_PER_SECOND

if TYPE_CHECKING:
    from speechft.scored import Scored

LOOP_TIMES = 4  # so many times in a row is a loop, unless the text says it as often
LOOP_WORDS = 40  # the longest stretch that is looked for: four of them hardly fit into Whisper's 448 tokens
SHORT: Seconds = 1.5  # a clip shorter than this gives a model little to go by


def hallucinations(rows: Sequence[Scored], normalizer: str) -> dict[str, Any]:
    """Counts of invented words, where they can be told from mishearings.

    Args:
        rows: scored utterances. Those without a text at all are taken for silence; a text that is only hesitation
            ("hmm") is not, though nothing of it is left after normalisation.
        normalizer: as they were scored with, named or described; it says which words are characters.

    Returns:
        `silence`: `clips`, how many of them were given `with_words`, `words`, and `words_per_minute`;
        `short`: `clips` under `SHORT` seconds with words to say, their `insertions` and the `rate` by spoken words;
        `loops`: `clips` that repeat themselves more than the text does, and the words `inserted` in them;
        `above_one`: `clips` with more errors than words, also where there was none to say, and their `share`, by the
        words of the error rate;
        `too_fast`: `clips` with more words than a mouth can say in their length, and the `words` beyond.
        Words are counted before the normaliser joins any, so that a loop of numbers is no single word; digits that are
        only written apart are not invented (`Scored.inserted`). Rates are None where there is nothing to divide by;
        clips of unknown length are not in `short` and `too_fast`.
    """
    silent = [row for row in rows if not row.reference.strip()]
    spoken = [row for row in rows if row.words.length]
    short = [row for row in spoken if row.duration_s is not None and row.duration_s < SHORT]
    loops = [row for row in rows if row.loops]
    above = [row for row in rows if row.words.errors > row.words.length]
    beyond = [words_beyond_speech(row, normalizer) for row in rows]
    seconds = sum(row.duration_s or 0.0 for row in silent)
    words = sum(len(row.apart[1].split()) for row in silent)
    short_insertions = sum(row.inserted for row in short)
    return {
        "silence": {
            "clips": len(silent),
            "with_words": sum(row.words.insertions > 0 for row in silent),
            "words": words,
            "words_per_minute": words / seconds * 60 if seconds else None,
        },
        "short": {
            "clips": len(short),
            "insertions": short_insertions,
            "rate": short_insertions / sum(row.said for row in short) if short else None,
        },
        "loops": {"clips": len(loops), "inserted": sum(row.inserted for row in loops)},
        "above_one": {"clips": len(above), "share": len(above) / len(rows) if rows else None},
        "too_fast": {"clips": sum(n > 0 for n in beyond), "words": sum(beyond)},
    }


def words_beyond_speech(row: Scored, normalizer: str) -> int:
    """Words of the transcript that cannot have been said in the clip's time; those of a fast text don't count.

    Args:
        normalizer: as in `hallucinations`.
    """
    if row.duration_s is None:
        return 0
    said = max(row.words.length, row.digits.length if row.digits else 0, len(row.apart[0].split()))
    heard = row.apart[1].split()
    return max(0, len(heard) - max(said, _fitting(heard, row.duration_s, normalizer)))


def _fitting(words: Sequence[str], seconds: Seconds, normalizer: str) -> int:
    """How many of the words, from the first on, can be said in the time."""
    letter, each = spaceless_letter(), unit(normalizer) == "characters"
    needed = 0.0
    for fitting, word in enumerate(words):
        is_character = each or (splits(normalizer) and letter.fullmatch(word))
        needed += 1 / (CHARACTERS_PER_SECOND if is_character else WORDS_PER_SECOND)
        if needed > seconds + 1e-9:
            return fitting
    return len(words)


def repeats(words: Sequence[str], longest: int = LOOP_WORDS) -> int:
    """How many times in a row some stretch of up to `longest` words is said; 1 where nothing repeats.

    >>> repeats("no no no thank you thank you".split())
    3
    """
    most = min(1, len(words))
    for size in range(1, min(longest, len(words) // 2) + 1):
        same = 0
        for i in range(size, len(words)):
            same = same + 1 if words[i] == words[i - size] else 0
            most = max(most, same // size + 1)
    return most
