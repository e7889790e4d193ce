"""What long-running functions tell: one dictionary an event, the same for a terminal, a notebook and a server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Event = dict[str, Any]
OnEvent = Callable[[Event], None]
