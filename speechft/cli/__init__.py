"""The command line: one verb, one short function; the verbs stand by what they work on.

Exit codes: 0 done, 2 what the user gave was wrong, 1 anything else.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import sys

import typer
from rich.markup import escape

from speechft.cli import (  # noqa: F401 - each adds its verbs to the app
    adapters,
    augmentation,
    data,
    evaluation,
    serving,
    splits,
    training,
    tuning,
)
from speechft.cli.common import Stopped, app, err
from speechft.errors import SpeechftError
from speechft.interruption import Interrupted, raise_on_terminate

FILE_FAULTS = {
    errno.ENOSPC: "Free some space",
    errno.EDQUOT: "Free some space, or ask for more",
    errno.EFBIG: "Choose a file system without that limit",
    errno.EROFS: "Choose a folder that can be written to",
    errno.EACCES: "Choose a folder that you may read and write",
    errno.EPERM: "Choose a folder that you may read and write",
    errno.ENAMETOOLONG: "Choose a shorter name",
    errno.EIO: "The disk may be failing: copy what matters to another one",
}


def file_fault(error: Exception) -> str | None:
    """The sentence for a disk that is full, read-only or broken, or a name no file can have; None for other errors."""
    told = re.search(r"os error (\d+)", str(error))  # safetensors has an error of its own
    number = error.errno if isinstance(error, OSError) else int(told[1]) if told else None
    if isinstance(error, ValueError) and "null byte" in str(error):
        return "A name of a file holds a null byte. Check how the name was made."
    if number not in FILE_FAULTS:
        return None
    where = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
    advice = f"{FILE_FAULTS[number]}, then run the same command again: it goes on where it was."
    return f"{where}{os.strerror(number).lower()}. {advice}"


def memory_fault(error: Exception) -> str | None:
    """The sentence for memory that ran out; None for other errors."""
    from speechft.memory import ran_out

    if not ran_out(error):
        return None
    advice = "Free some, lower batch_size, or take a smaller model; then run the same command again: it goes on."
    return f"There is not enough memory. {advice}"


def main() -> None:
    """Entry point: runs the app and turns errors into a sentence and an exit code."""
    raise_on_terminate()
    try:
        code = app(standalone_mode=False)  # an Exit comes back as its code
    except SpeechftError as error:
        err.print(f"[bold red]Error:[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(2)
    except (Stopped, KeyboardInterrupt, typer.Abort) as stop:
        interrupt = stop.interrupt if isinstance(stop, Stopped) else stop
        said, number = "Stopped.", int(signal.SIGINT)
        if isinstance(interrupt, Interrupted):
            said, number = str(interrupt), interrupt.signal
        err.print(f"{escape(said)} Run the same command again to go on.", soft_wrap=True)
        sys.exit(128 + number)
    except Exception as error:
        if hasattr(error, "show"):  # a usage error of click's
            error.show()
        elif sentence := file_fault(error) or memory_fault(error):
            err.print(f"[bold red]Error:[/] {escape(sentence)}", soft_wrap=True)
        else:
            raise
        sys.exit(2)
    sys.exit(code or 0)
