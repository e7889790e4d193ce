"""One run to a folder: a lock that goes with the process that holds it, however it ends."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from speechft.errors import SpeechftError
from speechft.files import refuse_special


class AnotherRun(SpeechftError):
    """A folder that another process holds."""


def is_locked(folder: Path, name: str = ".lock") -> bool:
    """Whether a run holds a folder; looks only, and makes nothing. Arguments as of `locked`."""
    try:
        import fcntl

        with refuse_special(folder / name).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two who look do not take each other for a run
    except BlockingIOError:
        return True
    except (ImportError, OSError):
        return False
    return False


@contextlib.contextmanager
def locked(folder: Path, name: str = ".lock") -> Iterator[TextIO]:
    """Hold a folder for one run; the lock goes with the process, however it ends.

    Args:
        folder: made when missing.
        name: of the lock's file; locks with other names are independent.

    Yields:
        the lock's file; a process that inherits it open holds the folder until it ends.

    Raises:
        AnotherRun: another run has it.
        SpeechftError: it cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = refuse_special(folder / name).open("a")
    except OSError as error:
        raise SpeechftError(
            f"cannot be written to ({error.strerror})", where=folder, fix="Choose another output_dir."
        ) from None
    with file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # Windows has no flock; two runs in one folder stay the user's care there
            pass
        except BlockingIOError:
            raise AnotherRun(
                "another run is writing here", where=folder, fix="Wait for it, or choose another output_dir."
            ) from None
        yield file
