"""Ctrl-C and a scheduler's SIGTERM: a run saves what it has before it goes."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from speechft.errors import SpeechftError

SIGNALS = (signal.SIGINT, signal.SIGTERM)
TWICE_S = 1.0  # launchers pass a terminal's Ctrl-C on, so one press can come twice
_raised: list[int] = []  # signals that were raised as `Interrupted`
NOTICE = b"\nStopping: saving what is done so far. Press Ctrl-C again to stop at once.\n"


class Interrupted(KeyboardInterrupt):
    """The process was asked to end.

    Attributes:
        signal: that asked for it.
    """

    def __init__(self, number: int, said: str = "Stopped.") -> None:
        super().__init__(said)
        self.signal = number


def raise_on_terminate() -> None:
    """SIGTERM ends this process as Ctrl-C does: with files closed and children ended."""
    if _in_main_thread():
        signal.signal(signal.SIGTERM, _raise)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _raise(number: int, frame: FrameType | None) -> None:
    _raised.append(number)
    raise Interrupted(number)


def signal_of(interrupt: KeyboardInterrupt) -> int:
    """The signal that is behind an interrupt; Ray raises one of its own where ours reaches it."""
    if isinstance(interrupt, Interrupted):
        return interrupt.signal
    return _raised[-1] if _raised else signal.SIGINT


@contextlib.contextmanager
def not_begun() -> Iterator[None]:
    """Within, Ctrl-C ends the process at once and without a word: there is nothing yet to save or to resume."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler or not _in_main_thread():
        yield  # somebody else's handler, or none, as in the background
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextlib.contextmanager
def own_signals() -> Iterator[None]:
    """What is called within may put its own handler of SIGTERM in place of ours, which leaves the process at once."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    except SystemExit as left:
        if left.code != signal.SIGTERM:
            raise
        raise Interrupted(signal.SIGTERM) from None
    finally:
        if _in_main_thread():
            signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def deferred() -> Iterator[Callable[[], int]]:
    """Within, a first SIGINT or SIGTERM is only noted; a second one acts at once.

    Yields:
        a function that gives the signal's number, or 0 while there was none. Outside of the main thread, which alone
        may handle signals, it stays 0.
    """
    noted: list[int] = []
    if not _in_main_thread():
        yield lambda: 0
        return
    before: dict[signal.Signals, Any] = {each: signal.getsignal(each) for each in SIGNALS}
    last = 0.0

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal last
        now = time.monotonic()
        if noted and now - last > TWICE_S:
            signal.signal(number, before[signal.Signals(number)])
            signal.raise_signal(number)
            return
        if not noted:
            noted.append(number)
            os.write(2, NOTICE)  # a console may be in the middle of a line; this is safe in a handler
        last = now

    for each in SIGNALS:
        signal.signal(each, note)
    try:
        yield lambda: noted[0] if noted else 0
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
        left = sys.exc_info()[1]
        if noted and left is not None and not isinstance(left, KeyboardInterrupt | SpeechftError):
            signal.raise_signal(noted[0])  # a trial that is given up did not ask, and the study would go on
