"""Text of others for the terminal: no markup, and nothing that a terminal would obey."""

from __future__ import annotations

import re

from rich import markup

# Control characters but tab and newline: escape sequences set titles, move the cursor, hide what was written.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def escape(text: str) -> str:
    """As `rich.markup.escape`, with control characters made visible: names and texts come from files.

    >>> escape("ann\\x1b]0;title\\x07")
    'ann�]0;title�'
    """
    return markup.escape(CONTROL.sub("\N{REPLACEMENT CHARACTER}", text))
