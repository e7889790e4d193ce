"""Under a limit on memory (`ulimit -v`) a command runs in a process of its own, and this one says why it ended.

OpenMP, OpenBLAS and the C library end a process that has no memory for a thread or a lock, without an exception that
anybody could turn into a sentence.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys

from speechft.interruption import SIGNALS

SUPERVISED = "SPEECHFT_SUPERVISED"  # in the child's environment: its parent, and where it tells that it ended by itself


def memory_limit() -> int | None:
    """Bytes of address space this process may have; None without a limit, or where its parent supervises it."""
    parent = os.environ.get(SUPERVISED, "").partition(":")[0]
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return None if soft == resource.RLIM_INFINITY or parent == str(os.getppid()) else soft


def supervised() -> int | None:
    """Run this very command again as a child; its signals are passed on.

    Returns:
        its exit code; None if it ended without coming to its own end.
    """
    ends, end = os.pipe()
    environment = {**os.environ, SUPERVISED: f"{os.getpid()}:{end}"}
    child = subprocess.Popen([sys.executable, *sys.orig_argv[1:]], env=environment, pass_fds=[end])  # noqa: S603
    os.close(end)
    for number in SIGNALS:
        signal.signal(number, lambda number, frame: child.send_signal(number))
    code = child.wait()
    with os.fdopen(ends, "rb") as told:
        os.set_blocking(ends, False)  # a process of the child's that lives on holds the other side open
        return code if told.read(1) else None


def ended_by_itself() -> None:
    """Tell the parent, if it supervises, that what follows is the command's own exit code."""
    parent, _, end = os.environ.get(SUPERVISED, "").partition(":")
    if parent == str(os.getppid()):
        os.write(int(end), b".")
