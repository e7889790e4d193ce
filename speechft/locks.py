"""One run to a folder: a lock that goes with the process that holds it, however it ends."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from speechft.errors import SpeechftError
from speechft.files import refuse_existing, refuse_special, safe_name

RUN = ".lock"  # of a training run, a study or a fleet; where it is left, `own_results` takes the folder for theirs
RESULTS = ".results.lock"  # of whoever writes result.json and the report
DATA = ".data.lock"  # of whoever writes a manifest and recordings
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)  # of some network and user-space file systems
# Seconds: who only looks whether a lock is held has a share of it for an instant, longer on a busy machine.
PATIENCE = 1.0


class AnotherRun(SpeechftError):
    """A folder that another process holds."""


def is_locked(folder: Path, name: str = RUN) -> bool:
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
def locked(folder: Path, name: str = RUN, keep: bool = True, what: Path | None = None) -> Iterator[TextIO]:
    """Hold a folder for one run; the lock goes with the process, however it ends.

    Args:
        folder: made when missing.
        name: of the lock's file; locks with other names are independent.
        keep: leave the file there; else it is deleted, and with it folders that were made for it and are empty.
        what: is held, for the message; the folder unless given.

    Yields:
        the lock's file; a process that inherits it open holds the folder until it ends.

    Raises:
        AnotherRun: another run has it, which may be this process.
        SpeechftError: it cannot be written to.
    """
    what = what or folder
    made: list[Path] = []
    with _taken(folder, name, what, made) as file:
        try:
            yield file
        finally:
            if not keep:  # while it is held: who opens it from now on sees that it is gone, and makes another
                with contextlib.suppress(OSError):  # Windows deletes no open file
                    (folder / name).unlink()
                    for empty in made:
                        empty.rmdir()


@contextlib.contextmanager
def locked_beside(path: Path) -> Iterator[TextIO]:
    """Hold a file or folder that is to be written, by a file beside it that is gone afterwards; raises as `locked`."""
    path = path.resolve()
    with locked(path.parent, f".{safe_name(path.name)}.lock", keep=False, what=path) as file:
        yield file


@contextlib.contextmanager
def new_place(out: Path) -> Iterator[None]:
    """Hold a folder that is to be made, which nobody else has made until then; raises also as `refuse_existing`."""
    with locked_beside(out):
        refuse_existing(out)
        yield


def _taken(folder: Path, name: str, what: Path, made: list[Path]) -> TextIO:
    """The lock's file, locked; `made` collects the folders that had to be made for it, the deepest first."""
    deadline = time.monotonic() + PATIENCE
    while True:
        made += [path for path in (folder, *folder.parents) if not path.exists() and path not in made]
        file = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = refuse_special(folder / name).open("a")
        except FileNotFoundError:  # whoever had made the folder deleted it again
            pass
        except OSError as error:
            raise SpeechftError(
                f"cannot be written to ({error.strerror})", where=what, fix="Choose another folder."
            ) from None
        if file and _lock(file, folder / name):
            return file
        if time.monotonic() > deadline:
            raise AnotherRun("another run is writing here", where=what, fix="Wait for it, or choose another folder.")
        time.sleep(PATIENCE / 50)


def _lock(file: TextIO, path: Path) -> bool:
    """Lock an open file; close it if another has it, or if it was deleted before it was locked."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return True
    except ImportError:  # Windows has no flock; two runs in one folder stay the user's care there
        return True
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError as error:
        if error.errno in NO_LOCKS:  # as on Windows
            return True
        file.close()
        raise
    file.close()
    return False
