"""CHAT transcripts, TalkBank's format: who says what when, and what of it was a slip (MacWhinney, CHAT manual).

Two texts are made of a line: what was said, every filler, fragment and repetition in it; and what was meant, without
them. An impaired speaker's recogniser may be asked for either, so both are kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from speechft.audio import Seconds
from speechft.corpora.reading import read_text
from speechft.errors import SpeechftError

BULLET = re.compile(r"\x15-?(\d+)_(\d+)-?\x15")  # milliseconds; a hyphen tells players to skip the stretch
TOKENS = re.compile(r"\[[^\]]*\]|[<>]|[^\s<>\[\]]+")
RETRACED = {"[/]", "[//]", "[///]", "[/-]", "[/?]"}  # repetition, correction, reformulation, false start, unclear which
UNTRANSCRIBED = {"xxx", "yyy", "www"}
UNKNOWN = "xxx"  # for a target nobody knows, which AphasiaBank writes "x@n"
SOUNDS = re.compile(r"@u\b")  # marks a word that is given in phonetic signs: "tɛf@u"
MARKS = re.compile(r"[↑↓≠⌈⌉⌊⌋∆∇°▁▔☺♋⁇∬Ϋ↗↘→‡„ˈˌ^:\"“”]")
Words = tuple[list[str], list[str]]  # said, meant


@dataclass(frozen=True)
class Line:
    """One utterance.

    Attributes:
        speaker: code of the tier, such as PAR.
        said: every word and part of a word that was spoken; "" where one of them is given in phonetic signs only.
        meant: without fillers, fragments and what was taken back; slips replaced where the transcriber knew by what.
        start_s, end_s: seconds from the start of the recording; None without a time mark.
        number: of the line in the file.
        unclear: something in it could not be understood or was not transcribed, or nobody knows what was meant by it.
    """

    speaker: str
    said: str
    meant: str
    start_s: Seconds | None
    end_s: Seconds | None
    number: int
    unclear: bool


@dataclass
class Transcript:
    """A .cha file.

    Attributes:
        media: name of the recording, without its ending.
        language: first of @Languages, ISO 639-3.
        people: fields of the @ID header by speaker's code: age, sex, group, role, custom.
        lines: in order.
    """

    media: str = ""
    language: str = ""
    people: dict[str, dict[str, str]] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)


def read_chat(path: Path) -> Transcript:
    """Read a transcript.

    Raises:
        SpeechftError: it is not UTF-8, or not CHAT.
    """
    text = read_text(path)
    if "@Begin" not in text[:2000]:
        raise SpeechftError("is not a CHAT transcript: it has no @Begin", where=path, fix="Unpack the corpus again.")
    found = Transcript()
    for number, line in _whole_lines(text):
        name, _, value = line.partition(":")
        value = value.strip()
        if name == "@Media":
            found.media = value.split(",")[0].strip().strip('"')
        elif name == "@Languages":
            found.language = value.split(",")[0].strip()
        elif name == "@ID":
            fields = [*value.split("|"), *[""] * 10]
            person = {"age": fields[3], "sex": fields[4], "group": fields[5], "role": fields[7], "custom": fields[9]}
            found.people[fields[2]] = {key: entry for key, entry in person.items() if entry}
        elif line.startswith("*"):
            found.lines.append(_line(name[1:], value, number))
    return found


def _whole_lines(text: str) -> Iterator[tuple[int, str]]:
    """(number, line) with the lines that go on it, which begin with a tab."""
    number, whole = 0, ""
    for at, line in enumerate(text.splitlines(), 1):
        if line.startswith(("\t", " ")) and whole:
            whole += " " + line.strip()
            continue
        if whole:
            yield number, whole
        number, whole = at, line
    if whole:
        yield number, whole


def _line(speaker: str, value: str, number: int) -> Line:
    times = BULLET.findall(value)
    start = float(times[0][0]) / 1000 if times else None
    end = float(times[-1][1]) / 1000 if times else None
    said, meant = both_texts(BULLET.sub(" ", value))
    unclear = bool(UNTRANSCRIBED & {word.lower() for word in (*said.split(), *meant.split())})
    said = "" if SOUNDS.search(said) else said
    return Line(speaker, said, meant, start, end, number, unclear)


def both_texts(main: str) -> tuple[str, str]:
    """(what was said, what was meant) of a main line without its time mark; what was meant by "tɛf@u" is "xxx"."""
    groups: list[list[Words]] = [[]]  # open < > groups, the line itself outermost
    for piece in TOKENS.findall(main):
        if piece == "<":
            groups.append([])
        elif piece == ">":
            if len(groups) > 1:
                inner = groups.pop()
                groups[-1].append(_joined(inner))
        elif piece.startswith("["):
            _apply(piece, groups[-1])
        elif any(words := _word(piece)):  # a code behind a pause is about the word before it
            groups[-1].append(words)
    said, meant = _joined([_joined(group) for group in groups])
    return " ".join(said), " ".join(meant)


def _joined(parts: list[Words]) -> Words:
    return [w for said, _ in parts for w in said], [w for _, meant in parts for w in meant]


def _apply(code: str, parts: list[Words]) -> None:
    """What a code in square brackets says about the word or group before it; most are comments."""
    if not parts:
        return
    said, meant = parts[-1]
    if code in RETRACED:
        parts[-1] = (said, [])
    elif code.startswith(("[: ", "[:: ")):
        parts[-1] = (said, [w for target in code.strip("[]:").split() for w in _target(target)])
    elif match := re.fullmatch(r"\[x (\d{1,2})\]", code):
        parts[-1] = (said * int(match[1]), meant)


def _target(word: str) -> list[str]:
    """A word that the transcriber took to be meant."""
    return [UNKNOWN] if word.lower().startswith("x@n") else _word(word)[1]


def _word(token: str) -> Words:
    """A word as it was said and as it was meant; nothing for marks of pauses, endings and noises."""
    if token.startswith(("&=", "&*", "&{", "&}", "+", "0")) or re.fullmatch(r"\(\.+\)|\([\d.:]+\)|[.?!,;‡„]+", token):
        return [], []
    extra = token.startswith("&")  # &- a filler, &+ a fragment, &~ no word; & alone any of them in old files
    word = token.lstrip("&-+~") if extra else token
    if SOUNDS.search(word):
        sounds = word.partition("@")[0]
        return [f"{sounds}@u"], [] if extra else [UNKNOWN]
    word = re.sub(r"@[\w:$&-]*", "", word)
    meant = re.sub(r"↫[^↫]*↫", "", word).replace("(", "").replace(")", "")
    said = re.sub(r"\([^)]*\)", "", word)
    said = re.sub(r"↫([^↫]*[^↫-])↫(?=\w)", r"\1-", said).replace("↫", "")  # what is repeated is heard before the word
    clean = [MARKS.sub("", part).replace("_", " ").replace("+", " ").strip(".?!,;").split() for part in (said, meant)]
    return clean[0], [] if extra else clean[1]
