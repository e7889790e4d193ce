"""Which files and folders are ours to replace: what somebody else wrote there, or has corrected, is not."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from speechft.adapter_files import CARD
from speechft.errors import SpeechftError
from speechft.files import read_text, write_text
from speechft.locks import RESULTS, RUN, locked

P = ParamSpec("P")
R = TypeVar("R")
TRANSCRIPTS = ".transcripts.made"  # hashes of what `write_transcript` wrote into a folder, a line each
WITH_A_RESULT = ("report.html", "report.md", "metrics.jsonl")


def refuse_foreign_results(out: str | Path, trained: str | None = None) -> None:
    """Raise, before any work, where a folder holds results that speechft did not write.

    Ours is a result.json that says of which speechft it is, what lies beside such a one, and what lies beside the lock
    that every run leaves.

    Args:
        trained: the folder in `out` that a run would replace with what it trains, or delete where that is no better.

    Raises:
        SpeechftError: a file would be replaced that is not.
    """
    out = Path(out)
    there = next((place for place in (out, *out.parents) if os.path.lexists(place)), None)
    if there and not there.is_dir():  # a file, a device, or a link to nothing
        raise SpeechftError("is not a folder, so no results can be written there", where=there, fix="Name another one.")
    result = out / "result.json"
    mine = result.is_file() and _is_ours(result)
    foreign = [result] if result.exists() and not mine else []
    if not mine and not (out / RUN).is_file():
        foreign += [out / name for name in WITH_A_RESULT if (out / name).exists()]
        if trained and (out / trained / CARD).is_file():  # of what has none, `adapters.refuse_foreign` says more
            raise SpeechftError(
                "is not of a run in this folder, which would replace or delete it", where=out / trained,
                fix="Choose another folder, or move it away.",
            )  # fmt: skip
    if foreign:
        raise SpeechftError(
            "was not made by speechft, which would overwrite it", where=foreign[0],
            fix="Choose another folder, or move it away.",
        )  # fmt: skip


@contextlib.contextmanager
def results_folder(out: str | Path | None, trained: str | None = None) -> Iterator[None]:
    """Hold a folder that results are written into, where there is one; arguments as of `refuse_foreign_results`.

    Raises:
        AnotherRun: another run is writing there.
        SpeechftError: see `refuse_foreign_results`.
    """
    if not out:
        yield
        return
    refuse_foreign_results(out, trained)
    with locked(Path(out), RESULTS, keep=False):
        yield


def writes_results(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function hold the folder that its keyword `out` names, for as long as it takes; see `results_folder`."""

    @functools.wraps(function)
    def held(*args: P.args, **kwargs: P.kwargs) -> R:
        out: Any = kwargs.get("out")
        with results_folder(out):
            return function(*args, **kwargs)

    return held


def refuse_foreign_file(path: Path, mark: str, at_start: bool = False) -> None:
    """Raises SpeechftError where a file would be replaced that lacks the text by which ours is known."""
    if not path.is_file():
        return
    text = read_text(path, errors="replace")
    if not (text.startswith(mark) if at_start else mark in text):
        raise SpeechftError(
            "was not made by this command, which would overwrite it", where=path,
            fix="Name another file, or move it away.",
        )  # fmt: skip


def refuse_foreign_transcript(path: Path) -> None:
    """Raises SpeechftError where a transcript would replace a file that `write_transcript` did not leave like that."""
    if not path.is_file():
        return
    if hashlib.sha256(path.read_bytes()).hexdigest() not in _made_in(path.parent):
        raise SpeechftError(
            "exists already, and was not written by 'speechft transcribe' or was changed since", where=path,
            fix="Move it away, or give another folder by --out.",
        )  # fmt: skip


def write_transcript(path: Path, text: str) -> None:
    """Write a transcript, which the next run may replace as long as nobody corrects it; raises as above."""
    refuse_foreign_transcript(path)
    known = _made_in(path.parent)
    made = hashlib.sha256(text.encode()).hexdigest()
    if made not in known:  # first: whenever the process ends, what lies there is known
        write_text(path.parent / TRANSCRIPTS, "".join(f"{line}\n" for line in [*known, made]))
    write_text(path, text)


def _made_in(folder: Path) -> list[str]:
    record = folder / TRANSCRIPTS
    return read_text(record).split() if record.is_file() else []


def _is_ours(result: Path) -> bool:
    try:
        return "speechft" in json.loads(result.read_text(encoding="utf-8"))["environment"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False
