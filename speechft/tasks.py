"""What the words were for: whether a command would have been carried out, and whether the names came through.

An error rate weighs every word alike. A lamp does not: "turn the lamp on" heard as "turned the lamp on" works, heard
as "turn the lamp off" does not. Two fields of a manifest say what matters in a row:

    "command": "lamp on"                  the words that must be there; `true` means the whole text
    "entities": ["Anna", "half past two"]  names, times, amounts, medicines: each a stretch of the text

What a normaliser joins with the words beside it counts with them: "twenty" of "twenty dollars" is right where "$20" is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from speechft.errors import SpeechftError
from speechft.heard import times, times_heard
from speechft.manifest import Utterance
from speechft.normalize import digits_together, normalizer, pieces
from speechft.rows import TRUTH

if TYPE_CHECKING:
    from speechft.scored import Scored


def command_of(utterance: Utterance, normalize: Callable[[str], str]) -> str | None:
    """The normalised words of a row's command; None where it has none.

    Raises:
        SpeechftError: the field is neither words of the text nor true or false, as tables write them too.
    """
    value = utterance.extra.get("command")
    if value is None or value == "":
        return None
    words = _as_compared(value, utterance.text, normalize) if isinstance(value, str) else ""
    if words:  # also of "yes" and "no", where they are what is said
        return words
    told = TRUTH.get(f"{value}".strip().casefold())
    if told is not None:
        return normalize(utterance.text) if told else None
    fix = "Write its words as the text does, or true for all of it."
    what = f"the command '{value}' is not in the text" if isinstance(value, str) else "'command' is not text"
    raise SpeechftError(what, where=utterance.where, fix=fix)


def entities_of(utterance: Utterance, normalize: Callable[[str], str]) -> tuple[str, ...]:
    """The normalised entities of a row.

    Raises:
        SpeechftError: the field is no list of texts, or one of them is not in the row's text.
    """
    value = utterance.extra.get("entities") or []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise SpeechftError("'entities' is not a list of texts", where=utterance.where, fix='Write ["Anna", "ten"].')
    found = []
    for item in value:
        entity = _as_compared(item, utterance.text, normalize)
        if not entity:
            raise SpeechftError(
                f"the entity '{item}' is not in the text",
                where=utterance.where,
                fix="Write it as it appears in the text.",
            )
        found.append(entity)
    return tuple(found)


def _as_compared(words: str, text: str, normalize: Callable[[str], str]) -> str:
    """Normalised words of a text, with those beside them that they were joined with; empty if they are not in it."""
    alone = normalize(words)
    if times(alone.split(), normalize(text).split()):
        return alone
    basic = normalizer("basic")
    wanted, parts = basic(words).split(), pieces(text.split(), normalize)
    if not times(wanted, basic(text).split()):
        return ""
    if parts is None:
        return normalize(text)
    for size in range(1, len(parts) + 1):  # the shortest stretch that has them
        for first in range(len(parts) - size + 1):
            stretch = parts[first : first + size]
            if times(wanted, basic(" ".join(word for said, _ in stretch for word in said)).split()):
                return " ".join(word for _, made in stretch for word in made)
    return ""


def command_success(rows: Sequence[Scored]) -> dict[str, Any] | None:
    """How many commands would have been carried out; None where no row has a command.

    Returns:
        `clips`; `exact`, the share whose words are all there, in a row, however digits are written; `nearest`, the
        share for which a device that knows the `commands` of these rows and takes the one with the fewest different
        characters takes the right one; nothing heard is no command.
    """
    from rapidfuzz.distance import Levenshtein

    asked = [(row, row.command, str if row.digits is None else digits_together) for row in rows if row.command]
    if not asked:
        return None
    known = sorted({written(command) for _, command, written in asked})
    exact = nearest = 0
    for row, command, written in asked:
        heard = written(row.normalized[1])
        exact += times_heard(row, command) > 0
        distances = [Levenshtein.distance(other, heard) for other in known]
        best = min(distances)
        nearest += bool(heard) and distances[known.index(written(command))] == best and distances.count(best) == 1
    return {
        "clips": len(asked),
        "commands": len(known),
        "exact": exact / len(asked),
        "nearest": nearest / len(asked) if len(known) > 1 else None,
    }


def entity_errors(rows: Sequence[Scored]) -> dict[str, Any] | None:
    """How many entities were lost; None where no row has any.

    Returns:
        `entities`, how many were `missed`, and their share, `rate`. An entity is right when all of its words are in
        the transcript, in a row, as often as the row names it; those that were joined into one number, when it is.
        How digits are written does not matter.
    """
    named = [row for row in rows if row.entities]
    if not named:
        return None
    total = missed = 0
    for row in named:
        for entity in set(row.entities):
            wanted, said = row.entities.count(entity), times(entity.split(), row.normalized[0].split())
            total += wanted
            missed += wanted - min(wanted, times_heard(row, entity) * math.ceil(wanted / said))
    return {"entities": total, "missed": missed, "rate": missed / total}
