"""Keeping a process small: what freed memory costs, and how much was used."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from functools import lru_cache
from typing import Any

# oneDNN keeps a compiled kernel and its scratch memory for each of the last 1024 shapes; clips come in many lengths.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")


def release() -> None:
    """Give freed memory back to the system: batches of many lengths leave the heap full of holes (glibc only)."""
    if (trim := _malloc_trim()) is not None:
        trim(0)


@lru_cache(maxsize=1)
def _malloc_trim() -> Any:
    try:
        return ctypes.CDLL("libc.so.6").malloc_trim
    except (OSError, AttributeError):
        return None


def peak_mb() -> float:
    """The most memory this process has held at once, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1e6 if sys.platform == "darwin" else 1e3), 1)
