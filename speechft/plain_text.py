"""Untrusted text for the terminal, without markup or control sequences."""

from __future__ import annotations

import re
from typing import Any

from rich import markup
from rich.console import Console

# Control characters but tab and newline: escape sequences set titles, move the cursor, hide what was written. And the
# half characters by which Python reads names of files that are not UTF-8, which no terminal takes.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
LONGEST = 300  # characters of a name or a text in a message


def escape(text: str) -> str:
    """As `rich.markup.escape`, with what no terminal should get made visible: names and texts come from files.

    >>> escape("ann\\x1b]0;title\\x07")
    'ann�]0;title�'
    """
    return markup.escape(visible(text))


def visible(text: str) -> str:
    """The text with a mark in place of each control character and each half of a character."""
    return CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def encodable(text: str) -> str:
    """As any file and stream takes it: bytes of a name that are not UTF-8 as escapes, and not endless.

    >>> encodable("caf\\udce9.wav")
    'caf\\\\udce9.wav'
    """
    return shortened(text, LONGEST).encode("utf-8", "backslashreplace").decode()


def shortened(text: str, most: int) -> str:
    """`most` characters of its beginning and its end, which has the advice: a damaged file's are sometimes all in one
    name."""
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[len(text) - most // 2 :]}"


class Terminal(Console):
    """A console whose `print` takes strings literally, as they hold names and paths; `marked` prints our own markup.

    A cell or a title of a table is markup always: `escape` what goes into it.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(emoji=False, **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """As a console does, but strings are no markup, and are not cut into lines."""
        if any(isinstance(shown, str) for shown in objects):
            options.setdefault("soft_wrap", True)
        super().print(*(escape(shown) if isinstance(shown, str) else shown for shown in objects), **options)

    def marked(self, text: str) -> None:
        """A line with markup, in which names, paths and texts are escaped."""
        super().print(text, soft_wrap=True, highlight=False)
