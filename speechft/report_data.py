"""What the report is filled with: sentences and their differences, confusions, recordings, settings."""

from __future__ import annotations

import base64
import json
import mimetypes
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from speechft.audio import encoded
from speechft.error_rate import align
from speechft.errors import SpeechftError
from speechft.manifest import Manifest, Utterance, probe_duration
from speechft.scored import Scored
from speechft.scoring import Scores

Systems = Sequence[tuple[str, Scores]]  # one, or before and after
LEAST_BYTES = 2_000  # of a second of speech as flac
RATES = ("wer", "wer_raw", "cer", "mer", "wil")
SCORES = {"base", "adapted", "difference", "per_speaker", "per_group", "by_length", "dose_curve", "left_out"}
SCORES |= {"adapters", "arms", "pairs", "calibration", "hallucination", "forgetting", "semantic", "leakage"}
SCORES |= {"notice", "caveats"}  # which a report begins with
# Of each that was compared, beside its scores.
SETTINGS = ("adapter", "adapter_sha256", "model", "model_sha256", "language", "context", "beams")
# A recording, or its stretch from and to a second of a longer one.
Clip = Path | tuple[Path, float | None, float | None]


def for_display(scores: Scores | Mapping[str, Any]) -> dict[str, Any]:
    """`Scores.to_dict` for people: where no text has a word, "300% wrong" would be 3 words, so there is no rate."""
    found = scores.to_dict() if isinstance(scores, Scores) else scores
    return {**found, **({} if found["n_words"] else dict.fromkeys(RATES))}


def embedded(value: object) -> str:
    """JSON that no HTML parser can mistake for markup, so nothing in it ends the script element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def sentences(systems: Systems, audio: Mapping[str, str]) -> dict[str, Any]:
    """What the page's list of sentences reads; keys are short because there may be many thousands."""
    rows = []
    for parts in zip(*(scores.rows for _, scores in systems), strict=True):
        first = parts[0]
        rows.append(
            {
                "i": first.id,
                "s": first.speaker,
                "g": first.groups,
                "t": first.duration_s,
                "n": first.words.length,
                "e": [part.words.errors for part in parts],
                "r": first.normalized[0],
                "d": [_difference(part) for part in parts],
                "w": [first.reference, *(part.hypothesis for part in parts)],
                "l": parts[-1].loops,
                "a": audio.get(first.id),
            }
        )
    groups = sorted({name for row in rows for name in row["g"]})
    return {"systems": [name for name, _ in systems], "groups": groups, "rows": rows}


def _difference(row: Scored) -> list[str | list[str]]:
    """A word that was right as itself, any other as [said, heard]."""
    pairs = align(*(text.split() for text in row.normalized))
    return [said if kind == "equal" else [said, heard] for kind, said, heard in pairs]


def addresses(audio: Mapping[str, Clip], out: Path, embed_bytes: int = 0) -> dict[str, str]:
    """Where the page finds each recording: a path relative to `out`, or the recording itself.

    Args:
        audio: recordings by utterance id; those that are gone or on another drive get no player.
        out: the folder of the page.
        embed_bytes: recordings are put into the page, in order, until they add up to this; of a longer one the stretch.
    """
    found = {}
    for name, clip in audio.items():
        path, start, end = clip if isinstance(clip, tuple) else (clip, None, None)
        stretch = f"#t={start or 0:g}{f',{end:g}' if end else ''}" if start or end else ""
        try:
            size = path.stat().st_size
            kind, data = mimetypes.guess_type(path.name)[0] or "audio/wav", None
            if stretch and embed_bytes:
                kind, data = "audio/flac", _stretch(path, start, end, embed_bytes)
            elif not stretch and size <= embed_bytes:
                data = path.read_bytes()
            if data is None:
                found[name] = quote(Path(os.path.relpath(path, out)).as_posix()) + stretch
            else:
                embed_bytes -= len(data)
                found[name] = f"data:{kind};base64,{base64.b64encode(data).decode()}"
        except (OSError, ValueError):
            continue
    return found


def _stretch(path: Path, start: float | None, end: float | None, most_bytes: int) -> bytes | None:
    """A stretch of a recording as a file; None where it is larger than that, or cannot be read."""
    clip = Utterance(path, "", path.name, start_s=start, end_s=end)
    try:
        if probe_duration(clip) * LEAST_BYTES > most_bytes:  # before it is decoded in vain
            return None
        data = encoded(clip.load(), container="flac")
    except SpeechftError:
        return None
    return data if len(data) <= most_bytes else None


def recordings(manifest: Manifest) -> dict[str, Clip]:
    """The recording of each utterance, or its stretch of a longer one."""
    return {u.id: (u.audio, u.start_s, u.end_s) for u in manifest}


def confusions(scores: Scores) -> Counter[tuple[str, str]]:
    """How often each word was heard as each other; ("word", "") was missed and ("", "word") invented.

    Digits that are only written apart are neither; see `Scored.heard_words`.
    """
    pairs = (align(*(text.split() for text in row.compared)) for row in scores.rows if row.heard_words.errors)
    return Counter((said, heard) for words in pairs for kind, said, heard in words if kind != "equal")


def to_repeat(systems: Systems, result: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """Settings and hashes of a result under headings, as names and texts; what was measured is left out."""
    scores = systems[-1][1] if systems else None
    measured = SCORES | (scores.to_dict().keys() if scores else set())
    kept = {key: value for key, value in result.items() if key not in measured}
    single = {key: value for key, value in kept.items() if not isinstance(value, Mapping)}
    nested = {key: value for key, value in kept.items() if isinstance(value, Mapping)}
    compared = {"base": result["base"], **result["adapters"]} if "adapters" in result else {}
    each = {name: {key: entry[key] for key in SETTINGS if key in entry} for name, entry in compared.items()}
    first = ({"normalizer": scores.normalizer} if scores else {}) | single
    return [
        (name, found) for name, value in [("result", first), *nested.items(), *each.items()] if (found := flat(value))
    ]


def flat(value: Any, name: str = "") -> list[tuple[str, str]]:
    """Nested settings as dotted names and texts."""
    if isinstance(value, Mapping):
        return [pair for key, inner in value.items() for pair in flat(inner, f"{name}.{key}" if name else str(key))]
    if isinstance(value, list | tuple):
        return [(name, ", ".join(map(str, value)))]
    return [(name, "–" if value is None else str(value))]
