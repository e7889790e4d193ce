"""Text normalisers, named and versioned: which words count as the same is part of an error rate."""

from __future__ import annotations

import difflib
import importlib.metadata
from collections.abc import Callable
from functools import cache

from speechft.errors import SpeechftError

# A name's version goes up when what it does changes; a result says both.
VERSIONS = {"whisper-english": 1, "basic": 1, "none": 1}


@cache
def normalizer(name: str) -> Callable[[str], str]:
    """The function from text to normalised text.

    Args:
        name: `whisper-english` (Radford et al., 2022, appendix C: case, punctuation, numbers, British spellings and
            hesitations such as "hmm" are evened out), `basic` (case and punctuation, any language), `none`.

    Raises:
        SpeechftError: unknown; the nearest name is given.
    """
    if name == "whisper-english":
        from whisper_normalizer.english import EnglishTextNormalizer

        return EnglishTextNormalizer()
    if name == "basic":
        from whisper_normalizer.basic import BasicTextNormalizer

        return BasicTextNormalizer()
    if name == "none":
        return str.strip
    near = difflib.get_close_matches(name, VERSIONS, n=1)
    hint = f"Did you mean '{near[0]}'?" if near else f"Use one of {', '.join(VERSIONS)}."
    raise SpeechftError(f"unknown normaliser '{name}'", fix=hint)


def describe(name: str) -> str:
    """Name, version and the library behind it, for a result."""
    normalizer(name)
    return f"{name}/{VERSIONS[name]} (whisper-normalizer {importlib.metadata.version('whisper-normalizer')})"
