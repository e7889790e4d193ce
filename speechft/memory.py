"""Keeping a process small: what freed memory costs, how much was used, and what to do when there is none left."""

from __future__ import annotations

import ctypes
import gc
import logging
import os
import resource
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import torch

LOG = logging.getLogger(__name__)
T = TypeVar("T")
R = TypeVar("R")

# oneDNN keeps a compiled kernel and its scratch memory for each of the last 1024 shapes; clips come in many lengths.
# A run has some 300 shapes: what is not kept is compiled again, a millisecond or two each time.
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "512")


def on_device(sizes: Mapping[str, int], device: torch.device) -> int:
    """The size that suits a kind of device; one unknown is like a GPU."""
    return sizes.get(device.type, sizes["cuda"])


def release() -> None:
    """Give freed memory back to the system: batches of many lengths leave the heap full of holes (glibc only)."""
    if libc := _glibc():
        libc.malloc_trim(0)


_ONEDNN = "could not create a primitive"
# Memory that ran out, in the words of those that do not raise MemoryError: C++, oneDNN, cuBLAS, threads, the loader.
_RAN_OUT = (
    _ONEDNN, "bad_alloc", "could not create a memory", "CUBLAS_STATUS_ALLOC_FAILED",
    "can't start new thread", "cannot allocate memory", "can't allocate memory", "failed to map segment",
)  # fmt: skip


def ran_out(error: BaseException) -> bool:
    """Whether an error means that memory ran out, in Python, numpy, torch or a library of theirs."""
    from accelerate.utils.memory import should_reduce_batch_size

    if isinstance(error, MemoryError) or (isinstance(error, Exception) and should_reduce_batch_size(error)):
        return True
    known = isinstance(error, RuntimeError | OSError | ImportError)
    return known and any(words.lower() in str(error).lower() for words in _RAN_OUT)


def recover(error: BaseException) -> bool:
    """After memory ran out: let go of what only the failed work held, on the device too.

    Args:
        error: without its traceback, whose frames hold on to that.

    Returns:
        whether the same work, as large as it was, deserves another try.
    """
    from accelerate.utils.memory import clear_device_cache

    gc.collect()
    clear_device_cache()
    release()
    return _without_onednn(str(error))


def _without_onednn(said: str) -> bool:
    """oneDNN that once had no memory for a kernel makes none in this thread any more: go on without it, if slower."""
    import torch

    if _ONEDNN not in said or not torch.backends.mkldnn.is_available():
        return False
    (was_on, *_) = torch.backends.mkldnn.set_flags(_enabled=False)
    if was_on:
        LOG.warning("oneDNN ran out of memory: continuing without it, which is slower")
    return bool(was_on)


class Parts:
    """Work on lists in parts that fit into memory: what does not fit is halved, and what follows stays so small.

    Attributes:
        most: items at once; None while memory never ran out.
    """

    def __init__(self) -> None:
        self.most: int | None = None

    def __call__(self, items: Sequence[T], work: Callable[[Sequence[T]], R]) -> Iterator[tuple[Sequence[T], R]]:
        """(part, what `work` made of it) in order; a single item that does not fit raises what `work` raises."""
        first = 0
        while first < len(items):
            part = items[first:] if self.most is None else items[first : first + self.most]
            try:
                made = work(part)
            except (MemoryError, RuntimeError) as error:
                if not ran_out(error):
                    raise
                failure = error.with_traceback(None)
            else:
                yield part, made
                first += len(part)
                continue
            if recover(failure):
                continue
            if len(part) == 1:
                raise failure
            self.most = len(part) // 2
            LOG.warning("memory ran out on %d clips at once: continuing with %d", len(part), self.most)


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
