"""Code that runs before all else in a process of a command: clocks that jump, and a kill amid its work.

A `sitecustomize` in a folder of its own on PYTHONPATH, which Python imports when it starts.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

# Counts every change to files below a folder that Python is about to make (opening to write, renaming, removing, making
# folders), and at the one of a given number, or a moment later, kills the process. Only that which the script itself
# started, not those that it starts in turn. What a run does while its modules are loaded changes none of these files.
KILLING = """
import os, sys, threading, time

def watch():
    below, counted = os.environ["KILL_BELOW"] + os.sep, os.open(os.environ["KILL_COUNTED"], os.O_WRONLY | os.O_APPEND)
    at, late = int(os.environ["KILL_AT"]), float(os.environ["KILL_LATE"])
    changing = {"os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link", "os.symlink", "os.truncate"}
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
    seen = 0

    def die():
        time.sleep(late)
        os.kill(os.getpid(), int(os.environ["KILL_SIGNAL"]))

    def inside(path):
        return isinstance(path, (str, bytes, os.PathLike)) and os.path.abspath(os.fsdecode(path)).startswith(below)

    def hook(event, arguments):
        nonlocal seen
        if event == "open":
            path, _, flags = arguments
            changes = isinstance(flags, int) and flags & writing and inside(path)
        else:
            # names that are relative to an open folder are those of a tree that is being removed
            of_tree = event in ("os.remove", "os.rmdir") and arguments[-1] >= 0
            changes = event in changing and (of_tree or any(map(inside, arguments)))
        if changes:
            seen += 1
            os.write(counted, b".")
            if seen == at:
                threading.Thread(target=die).start() if late else die()

    sys.addaudithook(hook)

if os.getppid() == int(os.environ["KILL_PARENT"]):
    watch()
"""

# Every look at the clock finds it somewhere within twenty years. What measures how long something takes, time.monotonic
# and time.perf_counter, goes on as it does on a machine whose clock is set.
JUMPING = """
import datetime, random, time
now, rng = time.time, random.Random(0)
time.time = lambda: now() + rng.uniform(-10, 10) * 365 * 86400
time.time_ns = lambda: int(time.time() * 1e9)

class Any(type):  # what C makes is one, too
    def __instancecheck__(cls, one):
        return isinstance(one, real)

real = datetime.datetime

class Jumping(real, metaclass=Any):
    @classmethod
    def now(cls, tz=None):
        return real.fromtimestamp(time.time(), tz)

    @classmethod
    def utcnow(cls):
        return real.fromtimestamp(time.time(), datetime.UTC).replace(tzinfo=None)

    @classmethod
    def today(cls):
        return cls.now()

datetime.datetime = Jumping
"""


def hooked(folder: Path, code: str, **settings: object) -> dict[str, str]:
    """The environment of a command before which some code runs.

    Args:
        folder: gets the code; others with other code need another.
        settings: further variables.
    """
    folder.mkdir(exist_ok=True)
    (folder / "sitecustomize.py").write_text(code)
    path = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
    return os.environ | {"PYTHONPATH": path} | {name: str(value) for name, value in settings.items()}


def killing(folder: Path, at: int, late: float = 0.0, number: int = signal.SIGKILL) -> dict[str, str]:
    """The environment of a command, started by this very process, that is killed at a change to files in a folder.

    Args:
        at: the number of the change; 0 kills nothing, so that `changes` can be asked for how many there are.
        late: seconds from there.
        number: of the signal.
    """
    counted = folder / "hook" / "counted"
    counted.parent.mkdir(exist_ok=True)
    counted.write_bytes(b"")
    settings = {
        "KILL_BELOW": folder,
        "KILL_COUNTED": counted,
        "KILL_AT": at,
        "KILL_LATE": late,
        "KILL_SIGNAL": int(number),
    }
    return hooked(counted.parent, KILLING, KILL_PARENT=os.getpid(), **settings)


def changes(folder: Path) -> int:
    """How many changes the last command in an environment of `killing` made, or began."""
    return (folder / "hook" / "counted").stat().st_size
