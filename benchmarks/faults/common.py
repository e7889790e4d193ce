"""What scripts on reliability share: a command that runs in a process of its own, and the count at the end."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePath

from tally import Tally

from speechft.plain_text import visible

PATIENCE = 30  # seconds for what should be refused at once, or be done in one
ADVICE = re.compile(r"[.?!] ['\"(]?\w.*[.!?]\W*$")  # a second sentence
OVER = "over before it was disturbed"  # what is wrong with a case that never came to be one


HOSTILE_PATHS = (
    "../../../etc/passwd", "/etc/passwd", "~/secret.wav", "//host/share/a.wav", "http://example.org/a.wav", "/dev/zero",
    "a\0.wav", "x" * 5000, "d/" * 3000 + "a.wav", "loop.wav", "loop.wav/a.wav", "", ".", "..",
    "clips", "CON", "a.wav/../../b.wav", "\u202eexe.wav", "link.wav",
)  # fmt: skip


class Late(BaseException):
    """No reader of damaged files takes this for a fault of theirs."""


def counted(tally: Tally, what: str, wrong: str | None) -> bool:
    """Count a case, and whether it was one: not where all was over before."""
    if wrong == OVER:
        print(f"not counted {what}: {OVER}", flush=True)
        return False
    tally.count(what, wrong)
    return True


def until(wanted: int, attempt: Callable[[int], bool]) -> None:
    """Attempts, by their number, until as many as wanted were cases; at most five times as many."""
    cases = 0
    for number in range(5 * wanted):
        if cases < wanted:
            cases += attempt(number)


def speechft(*words: object, timeout: float = 600, **more: object) -> subprocess.CompletedProcess[str]:
    """Run a command as a user does."""
    command = [sys.executable, "-m", "speechft.cli", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, **more)  # type: ignore[call-overload]


def complaint(done: subprocess.CompletedProcess[str], codes: Iterable[int] = (2,), place: bool = True) -> str | None:
    """What is wrong with how a command refused: a traceback, another exit code, or no help; None if nothing is.

    Args:
        place: it must say where; memory and disks that are full are everywhere.
    """
    if "Traceback" in done.stderr:
        return "traceback: " + done.stderr.strip().splitlines()[-1][:200]
    if done.returncode not in codes:
        return f"exit code {done.returncode}: {done.stderr.strip()[-200:]}"
    return None if done.returncode == 0 else unhelpful(done.stderr, done.args[3:], place)


def unhelpful(said: str, words: Sequence[str], place: bool = True) -> str | None:
    """What a refusal lacks: where it is, by something that was in the command, or what to do, a sentence after the
    one that says what is wrong.

    Args:
        said: on stderr.
        words: of the command.
        place: it must say where.
    """
    text = " ".join(said.split())
    if not text:
        return "no message"
    _, usage, told = text.rpartition("Error: ") if text.startswith("Usage: ") else ("", "", text)
    if place and not any(name in told for name in _named(words)):
        return f"does not say where: {told[-300:]}"
    return None if usage or ADVICE.search(told) else f"no advice: {told[-300:]}"


def _named(words: Sequence[str]) -> Iterator[str]:
    """What a message can name of a command: its options, settings, paths and names of files, as a terminal shows
    their beginning."""
    for word in words[1:]:
        setting, _, value = word.partition("=")
        parts = setting.partition(".")[0], value.partition(":")[2], PurePath(value or word).name
        for name in (word, setting, value, *parts):
            shown = " ".join(visible(name)[:20].split())
            if len(shown) > 2:
                yield shown
            elif shown:  # else anything would have it
                yield from (f"{shown}: ", f"'{shown}'")
        if not word or word.endswith("="):  # an empty path is the folder that one is in
            yield from ("empty", ".: ")
        with contextlib.suppress(OSError, ValueError, RuntimeError):
            path = Path(value or word)
            if path.exists():  # written out, or a file in it
                yield str(path.resolve())
                yield from (found.name for found in path.iterdir())


def in_process(words: list[str], codes: Iterable[int] = (2,)) -> str | None:
    """As `complaint`, without a process for each: for cases by the hundred."""
    import io

    from speechft.cli import main

    before, said = sys.argv, io.StringIO()
    sys.argv = ["speechft", *words]
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
            main()
        code: object = 0
    except SystemExit as stop:
        code = stop.code
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    finally:
        sys.argv = before
    if code not in codes:
        return f"exit code {code}: {said.getvalue().strip()[-200:]}"
    return None if code == 0 else unhelpful(said.getvalue(), words)


@contextlib.contextmanager
def patience() -> Iterator[None]:
    """Raises Late in what takes more than `PATIENCE` seconds."""

    def late(*_: object) -> None:
        raise Late(f"took more than {PATIENCE} s")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)


def timely(words: list[str], codes: Iterable[int] = (2,)) -> str | None:
    """As `in_process`, at most `PATIENCE` seconds."""
    with patience():
        return in_process(words, codes)


def ended_well(call: Callable[[], object]) -> str | None:
    """What is wrong with how a function of ours ended: with no sentence with advice, or late; None if nothing."""
    import io

    from speechft.errors import SpeechftError

    try:
        with patience(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            call()
    except SpeechftError as error:
        return None if error.what and error.fix else f"no advice: {error}"
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return f"{type(error).__name__}: {str(error)[:200]}"
    return None


def run(
    script: Callable[[argparse.Namespace], Tally],
    description: str | None,
    count: int,
    options: Callable[[argparse.ArgumentParser], object] = lambda parser: None,
) -> None:
    """The main function of each script: runs it, prints its tally, and ends with 1 if anything was lost.

    Args:
        options: adds the script's own.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    options(parser)
    parser.add_argument("--count", type=int, default=count, help="how many, where it is a matter of chance")
    parser.add_argument("--out", type=Path, help="folder for the tally as JSON")
    a = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    tally = script(a)
    tally.save(a.out)
    sys.exit(bool(tally.lost))
