"""How a program of ours ends: a sentence on stderr and an exit code, not a traceback, for what its user can mend.

Exit codes: 0 done, 2 what the user gave was wrong, 128 + the signal when stopped, 1 anything else.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import re
import sys
from collections.abc import Callable
from typing import NoReturn

from speechft.errors import SpeechftError, error_number
from speechft.interruption import raise_on_terminate, signal_of
from speechft.plain_text import Terminal, escape, shortened, visible
from speechft.supervision import ended_by_itself, memory_limit, supervised

FILE_FAULTS = {
    errno.ENOSPC: "Free some space",
    errno.EDQUOT: "Free some space, or ask for more",
    errno.EFBIG: "Choose a file system without that limit",
    errno.EROFS: "Choose a folder that can be written to",
    errno.EACCES: "Choose a folder that you may read and write",
    errno.EPERM: "Choose a folder that you may read and write",
    errno.ENAMETOOLONG: "Choose a shorter name",
    errno.EISDIR: "Choose a name that is not a folder's",
    errno.EEXIST: "Choose a name that is not a file's",
    errno.ENOTDIR: "Choose a folder that is not below a file",
    errno.ELOOP: "Remove the links that form a circle",
    errno.EIO: "The disk may be failing: copy what matters to another one",
}

CLOSED_PIPE = 141  # 128 + SIGPIPE, which Windows has not
LONGEST_MESSAGE = 5000  # characters; Rich takes minutes for a megabyte
MORE_MEMORY = "Free some, lower batch_size, or use a smaller model; then run the same command again to resume."


def null_byte(error: Exception) -> SpeechftError | None:
    """The error for a name with a null byte, looked for in the command, as Python does not name it; None for others."""
    if not re.search("null (byte|character)", str(error)):  # Python 3.13 says character
        return None
    name = next((word for word in sys.argv if "\0" in word), "")
    what = f"the file name '{shortened(name, 80)}' contains a null byte" if name else "a file name contains a null byte"
    return SpeechftError(what, fix="Check how the name was made.")


def file_fault(error: Exception) -> str | None:
    """The sentence for a disk that is full, read-only or broken, or a name no file can have; None for other errors."""
    if circle := re.match("Symlink loop from '(.*)'", str(error)):  # Path.resolve's own, before Python 3.13
        error = OSError(errno.ELOOP, "", circle[1])
    number = error_number(error)
    if isinstance(error, UnicodeEncodeError) and error.reason == "surrogates not allowed":
        found = visible(error.object[max(0, error.start - 40) : error.end + 40])
        return f"A file or folder has a name that is not UTF-8 ('{found}'). Rename it."
    if isinstance(error, ValueError) and (null := null_byte(error)):
        return str(null)
    if number not in FILE_FAULTS:
        return None
    where = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
    advice = f"{FILE_FAULTS[number]}, then run the same command again: it resumes where it stopped."
    return f"{where}{os.strerror(number).lower()}. {advice}"


def memory_fault(error: Exception) -> str | None:
    """The sentence for memory that ran out; None for other errors."""
    from speechft.memory import ran_out

    if not ran_out(error):
        return None
    return f"There is not enough memory. {MORE_MEMORY}"


def run(command: Callable[[], object]) -> NoReturn:
    """Call it and leave the process.

    Args:
        command: its return value is the exit code if it is a number.
    """
    if limit := memory_limit():
        ended = supervised()
        if ended is None:
            found = f"Ended without a message: most likely memory ran out under a limit of {limit / 1e6:.0f} MB."
            stop(f"[bold red]Error:[/] {found} {MORE_MEMORY}", 2)
        sys.exit(ended)
    raise_on_terminate()
    atexit.register(ended_by_itself)
    try:
        code = command()
        sys.stdout.flush()  # here, where an error can still be told
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):  # Typer and Rich end with 1
            closed_pipe()
        raise
    except BrokenPipeError:
        closed_pipe()
    except SpeechftError as error:
        stop(f"[bold red]Error:[/] {escape(shortened(str(error), LONGEST_MESSAGE))}", 2)
    except KeyboardInterrupt as interrupt:
        said = str(interrupt) or "Stopped."
        Terminal(stderr=True).marked(f"{escape(said)} Run the same command again to resume.")
        leave(128 + signal_of(interrupt))
    except Exception as error:
        if sentence := file_fault(error) or memory_fault(error):
            stop(f"[bold red]Error:[/] {escape(sentence)}", 2)
        raise
    sys.exit(code if isinstance(code, int) else 0)


def closed_pipe() -> NoReturn:
    """End as programs do whose reader has gone, as `head` does when it has enough: without a word."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):  # else what is still buffered is one more error when Python ends
        with contextlib.suppress(OSError, ValueError):
            os.dup2(nowhere, stream.fileno())
    sys.exit(CLOSED_PIPE)


def leave(code: int) -> NoReturn:
    """End after an interrupt. Ray's threads, broken off at their work, may crash in what Python does at its own end."""
    if "ray" in sys.modules:
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)
    sys.exit(code)


def stop(said: str, code: int) -> NoReturn:
    Terminal(stderr=True).marked(said)
    sys.exit(code)
