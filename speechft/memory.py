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
    if libc := _glibc():
        libc.malloc_trim(0)


def keep_heap() -> None:
    """Serve large arrays from the heap: mapping each anew costs a page fault per 4 KiB, every step (glibc only)."""
    if libc := _glibc():
        libc.mallopt(_MMAP_THRESHOLD, 1 << 30)
        libc.mallopt(_TRIM_THRESHOLD, 1 << 30)


_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h


@lru_cache(maxsize=1)
def _glibc() -> Any:
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:
        return None
    return libc if hasattr(libc, "malloc_trim") and hasattr(libc, "mallopt") else None


def peak_mb() -> float:
    """The most memory this process has held at once, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1e6 if sys.platform == "darwin" else 1e3), 1)
