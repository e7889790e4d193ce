"""Text normalisers, named and versioned: which words count as the same is part of an error rate."""

from __future__ import annotations

import difflib
import importlib.metadata
import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from speechft.errors import SpeechftError
from speechft.language_codes import WHISPER_CODES
from speechft.utterance import languages

if TYPE_CHECKING:
    from speechft.utterance import Utterance

LIBRARY = "whisper-normalizer"
# A name's version goes up when what it does changes; a result says both.
VERSIONS = {"whisper-english": 1, "basic": 2, "whisper-basic": 1, "characters": 2, "mixed": 2, "none": 1}
AUTO = "auto"
CHINESE = {"yue", "wuu", "gan", "hsn"}  # beside Mandarin; only the first is one that Whisper may know
SPACELESS = {"zh", *CHINESE, "ja", "th", "lo", "my", "km", "bo"}  # written without spaces between words
# What nobody sees: places to hyphenate, directions of writing, marks of a file's begin. Joiners are spelling, and stay.
INVISIBLE = "\u00ad\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
# So is Arabic's tatweel, which only stretches a word; Khmer has spaces of no width, Ukrainian apostrophes as letters.
ALIKE = str.maketrans({**dict.fromkeys(INVISIBLE + "\u0640", ""), "\u200b": " ", "\u02bb": "'", "\u02bc": "'"})
LONGEST_JOINED = 20  # words that become one number; more are hardly said in one breath
SPACELESS_LETTER = r"(?=[\p{Han}\p{Hiragana}\p{scx=Katakana}\p{Thai}\p{Lao}\p{Myanmar}\p{Khmer}\p{Tibetan}])\X"


@cache
def normalizer(name: str) -> Callable[[str], str]:
    """The function from text to normalised text, without white space at the ends.

    Args:
        name: one of
            `whisper-english`: evens out case, punctuation, numbers, contractions, British spellings and hesitations
            such as "hmm" (Radford et al., 2022, appendix C). English only: it turns "hmm" into nothing.
            `basic`: case, punctuation and signs that nobody sees or tells apart, in any language; letters with their
            accents and vowel signs stay.
            `whisper-basic`: as published with Whisper, to compare with its papers; it deletes the vowel signs of
            Hindi, Thai and others, which flatters or hurts a model without saying anything about it.
            `characters`: `basic`, then every letter a word, for languages written without spaces (zh, ja, th, my);
            the word error rate is then a character error rate.
            `mixed`: `basic`, then every letter of a script without spaces a word, for corpora and sentences that mix
            such languages with others; the word error rate is then what is called the mixed error rate.
            `none`: the text as it is.
            Where `auto` is allowed too, `resolve_normalizer` says which of these it is.

    Raises:
        SpeechftError: unknown; the nearest name is given.
    """
    if name == "whisper-english":
        from whisper_normalizer.english import EnglishTextNormalizer

        return _stripped(EnglishTextNormalizer())
    if name in ("basic", "whisper-basic", "characters"):
        from whisper_normalizer.basic import BasicTextNormalizer

        published = name == "whisper-basic"
        evened = BasicTextNormalizer(split_letters=name == "characters", preserve_marks=not published)
        return _stripped(evened if published else lambda text: evened(text.translate(ALIKE)))
    if name == "mixed":
        basic, apart = normalizer("basic"), letters_apart("mixed")
        return lambda text: " ".join(apart(basic(text)).split())
    if name == "none":
        return str.strip
    near = difflib.get_close_matches(name, VERSIONS, n=1)
    hint = f"Did you mean '{near[0]}'?" if near else f"Use one of {', '.join(VERSIONS)}."
    raise SpeechftError(f"unknown normaliser '{name}'", fix=hint)


def letters_apart(name: str) -> Callable[[str], str]:
    """What puts spaces between the letters of a text where a normaliser does, and changes nothing else.

    >>> letters_apart("mixed")("我要 two!").split(), letters_apart("basic")("two!").split()
    (['我', '要', 'two!'], ['two!'])
    """
    if name_of(name) == "characters":
        import regex

        return lambda text: " ".join(regex.findall(r"\X", text))
    return partial(spaceless_letter().sub, r" \g<0> ") if splits(name) else str


@cache
def spaceless_letter() -> Any:
    """The compiled pattern of one letter of a script written without spaces, with its marks."""
    import regex

    return regex.compile(SPACELESS_LETTER)


def resolve_normalizer(name: str, languages: Iterable[str | None], model_language: str | None = "en") -> str:
    """The normaliser for texts; a name other than `auto` is its own answer.

    Args:
        name: see `normalizer`, or `auto`: `whisper-english` for English, `characters` for languages written without
            spaces, `mixed` for those and others, else `basic`. What evens out English also makes different words of
            other languages equal.
        languages: of the texts, such as "en" or "zh-CN"; None or "" where one names none.
        model_language: what a model is told to hear, for texts that name none; None where nobody says.
    """
    if name != AUTO:
        return name
    named = {language or model_language for language in languages} or {model_language}
    found = {language_code(language) for language in named if language}
    if found == {"en"}:
        return "whisper-english"
    if not found & SPACELESS:
        return "basic"
    return "characters" if found <= SPACELESS and all(named) else "mixed"


def normalizer_of(utterances: Sequence[Utterance], told: str | None, name: str = AUTO) -> str:
    """The normaliser for rows, by their languages; where nobody says these, by whether texts are written with spaces.

    Args:
        utterances: rows that are scored together.
        told: the language that a model is told to hear; None where it guesses.
        name: as for `resolve_normalizer`.
    """
    named = languages(utterances)
    if told is None and None in named:
        kinds = {kind for u in utterances if not u.language for kind in _in_letters(u.text)}
        named = named - {None} | kinds
    return resolve_normalizer(name, named, told)


def _in_letters(text: str) -> set[str | None]:
    """What is as good as the languages of a text that names none: "zh" for letters without spaces, None for others."""
    others, letters = spaceless_letter().subn("", text)
    known: set[str | None] = {"zh"} if letters else set()
    return known | ({None} if any(map(str.isalpha, others)) else set())


def unit(name: str) -> str:
    """What an error rate calls words under a normaliser, named or described: "characters" where each is a letter.

    >>> unit("characters/1 (whisper-normalizer 0.1.15)"), unit("basic")
    ('characters', 'words')
    """
    return "characters" if name_of(name) == "characters" else "words"


def splits(name: str) -> bool:
    """Whether a normaliser, named or described, puts spaces between letters; they are no characters of a text."""
    return name_of(name) in ("characters", "mixed")


def joins_numbers(name: str) -> bool:
    """Whether a normaliser, named or described, makes one word of digits that are said one by one."""
    return name_of(name) == "whisper-english"


def by_digits(normalized: str) -> str:
    """A text of such a normaliser with every digit a word, also the 1 that it writes as "one"; a plural keeps its s.

    >>> by_digits("room 101"), by_digits("room one 0 one"), by_digits("the red ones")
    ('room 1 0 1', 'room 1 0 1', 'the red 1s')
    """
    return " ".join(re.sub(r"(\d(?:s\b)?)", r" \1 ", re.sub(r"\bone(s?)\b", r"1\1", normalized)).split())


def digits_together(normalized: str) -> str:
    """A text of such a normaliser with neighbouring numbers as one: what is right however it is written is the same.

    Unlike `by_digits`, it keeps a number whole: "channel 2" is not in "channel 21".

    >>> digits_together("call 5 5 2 one"), digits_together("call 5521")
    ('call 5521', 'call 5521')
    """
    ones = re.sub(r"(?<!\S)one(?!\S)", "1", normalized)
    return re.sub(r"(?<!\S)\d+(?: \d+)+(?!\S)", lambda found: found[0].replace(" ", ""), ones)


def unjoined(text: str, normalized: str, normalize: Callable[[str], str]) -> str:
    """A text normalised by such a normaliser with each word for itself, so that as many are left as were written.

    >>> unjoined("turn it on five five five", "turn it on 555", normalizer("whisper-english"))
    'turn it on 5 5 5'

    Args:
        text, normalized: as it is, and as a whole; where that has no digit nothing was joined.
    """
    if not re.search(r"\d", normalized):
        return normalized
    words = re.split(r"[\s\-]|,(?!\d{3})", without_asides(text))
    return " ".join(made for word in words if (made := normalize(word)))


def without_asides(text: str) -> str:
    """A text without what stands in brackets: to such a normaliser no words, which it can only see in a whole text.

    >>> without_asides("turn [coughs loudly] it (quietly) on")
    'turn  it  on'
    """
    return re.sub(r"\(([^)]+?)\)", "", re.sub(r"[<\[][^>\]]*[>\]]", "", text))


def pieces(words: Sequence[str], normalize: Callable[[str], str]) -> list[tuple[list[str], list[str]]] | None:
    """The words of a text in the shortest stretches that are normalised for themselves, with what they become.

    >>> pieces("It costs twenty dollars".split(), normalizer("whisper-english"))
    [(['It'], ['it']), (['costs'], ['costs']), (['twenty', 'dollars'], ['$20'])]

    Returns:
        None where more than `LONGEST_JOINED` words would belong together.
    """
    whole, found = normalize(" ".join(words)).split(), []
    first = place = 0
    while first < len(words):
        for last in range(first + 1, min(first + LONGEST_JOINED, len(words)) + 1):
            made = normalize(" ".join(words[first:last])).split()
            if made == whole[place : place + len(made)]:
                break
        else:
            return None
        found.append((list(words[first:last]), made))
        first, place = last, place + len(made)
    return found if place == len(whole) else None


def join_texts(parts: Iterable[str], language: str) -> str:
    """Texts of neighbouring pieces as one, with a space between them where the language writes spaces; empty ones drop.

    Args:
        language: Whisper's code; empty if unknown.
    """
    return ("" if language in SPACELESS else " ").join(part for part in parts if part)


def language_code(language: str) -> str:
    """Whisper's code of a language by its name or another code, region or not: "en" of "English" and "eng-GB"."""
    from transformers.models.whisper.tokenization_whisper import TO_LANGUAGE_CODE

    first = language.strip().lower().replace("_", "-").partition("-")[0]
    return WHISPER_CODES.get(first) or TO_LANGUAGE_CODE.get(first, first)


def knows_language(language: str) -> bool:
    """Whether Whisper has a token for a language, given as for `language_code`; older models lack the newest one."""
    from transformers.models.whisper.tokenization_whisper import LANGUAGES

    return language_code(language) in LANGUAGES


def language_name(code: str) -> str:
    """The English name of a language by Whisper's code, in small letters: "english" of "en"; empty if unknown."""
    from transformers.models.whisper.tokenization_whisper import LANGUAGES

    return str(LANGUAGES.get(code, code))


def describe(name: str) -> str:
    """Name, version and the library behind it, for a result: "whisper-english/1 (whisper-normalizer 0.1.15)"."""
    normalizer(name)
    library = "" if name == "none" else f" ({LIBRARY} {importlib.metadata.version(LIBRARY)})"
    return f"{name}/{VERSIONS[name]}{library}"


def name_of(described: str) -> str:
    """A normaliser's name, from that or from what `describe` says of it."""
    return described.partition("/")[0]


def _stripped(normalize: Callable[[str], str]) -> Callable[[str], str]:
    """The library's normalisers leave a space where punctuation stood at an end."""
    return lambda text: normalize(text).strip()
