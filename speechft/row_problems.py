"""What is wrong with one row of a manifest: its text, the sound of its clip, and whether the two fit each other."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Literal

from speechft.audio import SILENT_PEAK, WINDOW_SECONDS
from speechft.cut_off import CUT_ADVICE, cut_off
from speechft.errors import SpeechftError
from speechft.manifest import Problem, Seconds, Utterance
from speechft.normalize import AUTO, joins_numbers, knows_language, normalizer, normalizer_of, spaceless_letter
from speechft.problems import TRUNCATED
from speechft.split import sentence_key, usual_name
from speechft.tasks import command_of, entities_of
from speechft.utterance import CLOSE, CLOSE_SHARE

if TYPE_CHECKING:
    import numpy as np

Tokenizer = Callable[[str], Sequence[int]]  # text to the ids of a whole label, special tokens included
Severity = Literal["error", "warning", "note"]

MOST_TOKENS = 448  # positions of Whisper's decoder
CHARACTERS_PER_TOKEN = 4.0  # of English; only used when no tokenizer is given
QUIET = 0.02  # peak, of full scale: -34 dB
FULL_SCALE = 0.99
CLIPPED_SHARE = 0.002  # of samples at full scale; speech that isn't clipped stays under a tenth of this
WORDS_PER_SECOND = 8.0  # nobody speaks faster; the recording was cut, or the text belongs to another one
CHARACTERS_PER_SECOND = 20.0  # where each is a word: fast Japanese has 10 kana a second, Thai about twice its syllables
LETTERS_PER_SECOND = 45.0
ANY_LANGUAGE = ("en", None, "zh")  # what a model may be told where nobody knows: each has another normaliser
SHORTEST: Seconds = 0.1  # no word is shorter
CURLY_APOSTROPHE = re.compile("\\w[\u2018\u2019\u02bc\uff07]\\w")  # the normaliser of English knows straight ones


def text_problems(u: Utterance, tokenizer: Tokenizer | None) -> list[Problem]:
    """What is wrong with a row's text; without a tokenizer its tokens are estimated."""
    if not sentence_key(u.text):
        if _no_speech(u):
            return []
        what = "the text holds no words" if u.text.strip() else "the text is empty"
        fix = 'Write what is said; if nobody speaks, on purpose, add "no_speech": true to the row.'
        return [Problem("error", "empty-text", u.where, what, fix)]
    if tokenizer is not None:
        tokens = len(tokenizer(u.text))
        if tokens > MOST_TOKENS:
            what = f"the text is {tokens} tokens long; Whisper writes {MOST_TOKENS} at most"
            return [Problem(_limit(u), "too-many-tokens", u.where, what, "Cut the recording and its text.")]
    elif len(u.text.encode()) / CHARACTERS_PER_TOKEN > MOST_TOKENS:
        tokens = round(len(u.text.encode()) / CHARACTERS_PER_TOKEN)
        what = f"the text is about {tokens} tokens long; Whisper writes {MOST_TOKENS} at most"
        return [Problem("warning", "too-many-tokens", u.where, what, "Cut the recording and its text.")]
    return []


def language_problems(u: Utterance) -> list[Problem]:
    """What is wrong with the language that a row names."""
    if not u.language or knows_language(u.language):
        return []
    what = f"the language '{u.language[:40]}' is none that Whisper knows, so a multilingual model leaves the row out"
    fix = "Write its code, such as en, de or zh-TW, or the nearest language that Whisper knows."
    return [Problem("warning", "language", u.where, what, fix)]


def named_words_problems(
    rows: Sequence[Utterance], told: Iterable[str | None], normalizer_name: str = AUTO
) -> list[Problem]:
    """What is wrong with the commands and entities of rows that are scored together.

    Args:
        told: the languages that the model may be told to hear, see `normalizer_of`; a row is wrong where it is
            wrong by all of them.
        normalizer_name: `auto`, or the one that they will be scored by.
    """
    names = dict.fromkeys(normalizer_of(rows, one, normalizer_name) for one in told)
    ways = list(map(normalizer, names))
    found = []
    for u in rows:
        problems = [_named_words_problems(u, normalize) for normalize in ways]
        found += problems[0] if all(problems) else []
    return found


def _named_words_problems(u: Utterance, normalize: Callable[[str], str]) -> list[Problem]:
    found = []
    for named in (command_of, entities_of):
        try:
            named(u, normalize)
        except SpeechftError as error:
            found.append(Problem("error", "named-words", u.where, error.what, error.fix))
    return found


def curly_apostrophes(rows: Sequence[Utterance], told: Iterable[str | None]) -> int:
    """How many texts have typographic apostrophes, where the rows may be compared as English.

    Args:
        told: as of `named_words_problems`.
    """
    if not any(joins_numbers(normalizer_of(rows, one)) for one in told):
        return 0
    return sum(bool(CURLY_APOSTROPHE.search(u.text)) for u in rows)


def in_other_letters(text: str) -> bool:
    """Whether most letters of a text are not Latin, so that a model of English cannot have been meant to write it."""
    if text.isascii():
        return False
    latin = [unicodedata.name(letter, "").startswith("LATIN") for letter in text if letter.isalpha()]
    return 2 * sum(latin) < len(latin)


def sample_problems(utterance: Utterance, samples: np.ndarray) -> list[Problem]:
    """What is wrong with the sound of a decoded clip.

    Args:
        utterance: the row it comes from.
        samples: float32, mono 16 kHz, shape (samples,).
    """
    import numpy as np

    magnitude = np.abs(samples - samples.mean())  # a constant offset is silence too
    peak = float(magnitude.max())
    found: list[Problem] = []
    if peak < SILENT_PEAK:
        if not _no_speech(utterance):
            found.append(audio_problem(utterance, "error", "silent", "is silent", "Record it again, or drop the row."))
    elif peak < QUIET and not _no_speech(utterance):  # a room where nobody speaks is quiet
        fix = "Whisper copes with it, but noise weighs more; record nearer the microphone."
        found.append(audio_problem(utterance, "note", "quiet", f"is very quiet (peak {peak:.1%} of full scale)", fix))
    clipped = float((np.abs(samples) >= FULL_SCALE).mean())
    if clipped > CLIPPED_SHARE:
        what = f"is clipped ({clipped:.1%} of its samples are at full scale)"
        fix = "Record it again at a lower level if you can."
        found.append(audio_problem(utterance, "warning", "clipped", what, fix))
    return found


def length_problems(u: Utterance, seconds: Seconds, *, decoded: bool, pieces: bool = False) -> list[Problem]:
    """What is wrong with how long a clip lasts.

    Args:
        seconds: of its sound, or as its header says.
        decoded: `seconds` were counted, so that what the row and the file say of them can be judged.
        pieces: what is too long is heard in pieces, whatever its split.
    """
    times = _times_problems(u, seconds)
    found = _truncated_problems(u)
    if decoded:
        found += _stated_problems(u, seconds) if not times else []
    if seconds > WINDOW_SECONDS:
        fix = f"Cut it into parts of under {WINDOW_SECONDS:.0f} s, or give rows with start_s and end_s."
        what = f"lasts {seconds:.1f} s; Whisper hears {WINDOW_SECONDS:.0f} s at once"
        severity = "warning" if pieces else _limit(u)
        what += ", so it is cut at pauses and heard in pieces" if severity == "warning" else ""
        found.append(audio_problem(u, severity, "too-long", what, fix))
    return [*found, *times, *_speed_problems(u, seconds)]


def _stated_problems(u: Utterance, seconds: Seconds) -> list[Problem]:
    if u.duration_s is None or abs(u.duration_s - seconds) <= max(CLOSE, CLOSE_SHARE * seconds):
        return []
    what = f"lasts {seconds:.2f} s, not {u.duration_s:g} s as the row says"
    fix = "Was the file replaced or cut? Correct or remove duration_s."
    return [audio_problem(u, "warning", "duration", what, fix)]


def _truncated_problems(u: Utterance) -> list[Problem]:
    what = cut_off(u.audio)
    return [audio_problem(u, "warning", TRUNCATED, what, CUT_ADVICE)] if what else []


def _times_problems(u: Utterance, seconds: Seconds) -> list[Problem]:
    short = 0.0 if u.end_s is None else u.end_s - (u.start_s or 0.0) - seconds
    if short <= SHORTEST:
        return []
    severity: Severity = "error" if u.missing(seconds) else "warning"
    fix = "Correct the time, or record it again."
    return [audio_problem(u, severity, "times", f"ends {short:.2f} s before end_s ({u.end_s:g} s)", fix)]


def _speed_problems(u: Utterance, seconds: Seconds) -> list[Problem]:
    key = sentence_key(u.text)
    others, characters = spaceless_letter().subn(" ", key)
    words, letters = len(others.split()), sum(map(len, key.split()))
    needed = max(words / WORDS_PER_SECOND + characters / CHARACTERS_PER_SECOND, letters / LETTERS_PER_SECOND)
    if not letters or not (seconds < SHORTEST or (needed > seconds and letters > 4)):
        return []
    parts = [(words, "word"), (characters, "character")]
    count = " and ".join(f"{n} {name}{'s' if n > 1 else ''}" for n, name in parts if n)
    what = f"lasts {seconds:.2f} s, too short for its {count}"
    fix = "The recording may be cut, or the text may belong to another one; listen to it."
    return [audio_problem(u, "warning", "too-fast", what, fix)]


def audio_problem(u: Utterance, severity: Severity, kind: str, what: str, fix: str) -> Problem:
    """A problem of a row's recording, which is named."""
    return Problem(severity, kind, u.where, f"audio '{u.audio.name}' {what}", fix)


def _limit(u: Utterance) -> Literal["error", "warning"]:
    """Too long to train on is an error; a test clip is used, in pieces."""
    return "warning" if usual_name(u.split or "") == "test" else "error"


def _no_speech(u: Utterance) -> bool:
    return u.extra.get("no_speech") is True
