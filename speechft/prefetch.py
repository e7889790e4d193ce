"""One thread that prepares what comes next while a GPU works on what is here.

On a CPU nothing is prepared ahead: the model uses all cores, and each of its small parallel products waits for the one
that a second thread has taken. There, work of 13 ms a step cost 70 (docs/performance.md).
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch

T = TypeVar("T")


def prefetch(items: Iterable[T], device: torch.device, depth: int = 3) -> Iterator[T]:
    """Make the next few items in a thread while the current one is used; errors surface where they are consumed.

    Args:
        device: what uses them; for a CPU, each item is made when its turn comes.
    """
    if device.type == "cpu":
        yield from items
        return
    ready: queue.Queue = queue.Queue(maxsize=depth)
    stop, started = threading.Event(), threading.Event()
    done, threads = object(), torch.get_num_threads()

    def put(item: object) -> bool:
        while not stop.is_set():
            try:
                ready.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        torch.set_num_threads(1)  # of this thread, but also of those that come later, so it is set back below
        started.set()
        try:
            for item in items:
                if not put((item, None)):
                    return
            put((done, None))
        except BaseException as error:
            put((done, error))

    thread = threading.Thread(target=work, name="speechft-prefetch", daemon=True)
    thread.start()
    started.wait()
    torch.set_num_threads(threads)
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is done:
                return
            yield item
    finally:
        stop.set()
        thread.join(timeout=10)
