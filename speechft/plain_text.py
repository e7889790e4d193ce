"""Text of others for the terminal: no markup, and nothing that a terminal would obey."""

from __future__ import annotations

import re

from rich import markup

# Control characters but tab and newline: escape sequences set titles, move the cursor, hide what was written.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
LONGEST = 300  # characters of a name or a text in a message


def escape(text: str) -> str:
    """As `rich.markup.escape`, with control characters made visible: names and texts come from files.

    >>> escape("ann\\x1b]0;title\\x07")
    'ann�]0;title�'
    """
    return markup.escape(CONTROL.sub("\N{REPLACEMENT CHARACTER}", text))


def encodable(text: str) -> str:
    """As any file and stream takes it: bytes of a name that are not UTF-8 as escapes, and not endless.

    >>> encodable("caf\udce9.wav")
    'caf\\udce9.wav'
    """
    return shortened(text, LONGEST).encode("utf-8", "backslashreplace").decode()


def shortened(text: str, most: int) -> str:
    """The first `most` characters: a damaged file's are sometimes all in one name."""
    return text if len(text) <= most else f"{text[:most]}..."
