"""Training of voices, as the app asks for it: begin, look, stop, and go on after a restart.

Each training is a process of its own (`speechft.app.job`), so it survives a closed page and a stopped server. It
inherits a lock on the voice's `training/` folder, holds it as long as it lives, and writes what it does to
`progress.json` there. One works at a time; the others wait in the order in which they were asked for.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from speechft.app import snapshot
from speechft.app.records import Pace, Process, Progress, Request, read_json, write_json
from speechft.app.store import Store, Take, VoiceFolder, now
from speechft.audio import Seconds
from speechft.config import SpeechRecipe
from speechft.errors import SpeechftError
from speechft.locks import AnotherRun, is_locked, locked
from speechft.schedule import planned_steps

LEAST_TAKES = 10  # of which a few are kept aside: with fewer there is nothing to learn from, nothing to test on
PROGRESS = "progress.json"
REQUEST = "request.json"
MANIFEST = "training.jsonl"
JOB = ".job"  # held by the process as long as it lives
PROCESS = "process.json"
AT_WORK = ("listening", "learning", "testing")  # phases
STATUS_FILES = (PROGRESS, REQUEST, JOB, PROCESS)  # they say how far a training is, and nothing of the voice
# What a run of the default recipe took on two cores of a laptop-class server; later runs correct it (`pace`).
START_SECONDS = 25.0
STEP_SECONDS = 0.02  # for each second of sound in a batch
CHECK_SECONDS = 0.35  # for each kept-aside recording, looked at about ten times
log = logging.getLogger("speechft.app")


def estimate(takes: list[Take], pace: float = 1.0) -> Seconds:
    """How long training will take, from what is recorded.

    Args:
        takes: the recordings.
        pace: what earlier trainings took on this machine, relative to this estimate.
    """
    defaults = SpeechRecipe(manifest=Path(), output_dir=Path())
    train = max(1, round(0.7 * len(takes)))
    mean = sum(take.seconds for take in takes) / max(1, len(takes))
    steps = planned_steps(defaults, train, train * mean)
    dev = min(defaults.dev_clips, round(0.3 * len(takes)))
    return pace * (START_SECONDS + steps * STEP_SECONDS * defaults.batch_size * mean + 10 * CHECK_SECONDS * dev)


def pace(store: Store) -> float:
    """Time that trainings on this machine took, as a multiple of the estimate."""
    return min(20.0, max(0.1, read_json(store.folder / "pace.json", Pace, {"pace": 1.0})["pace"]))


def start(store: Store, voice: VoiceFolder, model: str) -> None:
    """Begin to train a voice in the background, or go on where a training was interrupted.

    Raises:
        SpeechftError: too few recordings, or it is being trained already.
    """
    takes = voice.takes()
    if len(takes) < LEAST_TAKES:
        raise SpeechftError(
            f"there are {len(takes)} recordings, too few to learn from", fix=f"Record at least {LEAST_TAKES}."
        )
    if is_running(voice):
        raise SpeechftError("this voice is being trained already", fix="Wait until it is done.")
    if _is_unfinished(voice):
        _spawn(store, voice)
        return
    shutil.rmtree(voice.training, ignore_errors=True)  # of a failed one: what it learnt is of other recordings
    voice.training.mkdir(exist_ok=True, mode=0o700)
    expected = estimate(takes, pace(store))
    if not voice.vault.key:  # what is recorded from now on is for the next one
        snapshot.freeze(voice)
    request = {"model": model, "asked": now(), "takes": len(takes), "expected_s": expected}
    write_json(voice.training / PROGRESS, {"phase": "starting", "share": 0.0})
    write_json(voice.training / REQUEST, request)
    _spawn(store, voice)


def resume_all(store: Store) -> list[str]:
    """Go on with every training that was asked for, is not done, and has no process; returns their voices' ids.

    One that cannot be, such as where the disk is full, stays interrupted: the app has to start all the same.
    """
    found = []
    for voice in store.voices():
        _forget_leftover(voice)
    unfinished = [voice for voice in store.voices() if _is_unfinished(voice) and not is_running(voice)]
    for voice in sorted(unfinished, key=_place):
        try:
            _spawn(store, voice)
            found.append(voice.id)
        except OSError as error:
            log.warning("a training could not be resumed: %s", error.strerror)
    return found


def forget_deleted(voice: VoiceFolder) -> None:
    """Delete what an interrupted or finished training has of deleted recordings; one at work does so at its end."""
    if not is_running(voice):
        snapshot.forget_deleted(voice)
        forget_cache(voice)
        _forget_leftover(voice)


def forget_cache(voice: VoiceFolder) -> None:
    """Delete the numbers that were computed from recordings."""
    from speechft.cache import FOLDER  # with torch, whose memory a job that waits does not need

    shutil.rmtree(voice.path / FOLDER, ignore_errors=True)


def keep_status_only(voice: VoiceFolder) -> None:
    """Delete all of a training but how far it is."""
    for path in voice.training.iterdir():
        if path.name not in STATUS_FILES:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def _forget_leftover(voice: VoiceFolder) -> None:
    """Delete the run before the last, which lies in `training/` where a job was killed just after the exchange."""
    if voice.training.is_dir() and not (voice.training / REQUEST).exists() and not is_running(voice):
        shutil.rmtree(voice.training, ignore_errors=True)


def stop(voice: VoiceFolder) -> None:
    """End a training and forget it; the adapter of an earlier one stays."""
    deadline = time.monotonic() + 10
    while is_running(voice) and time.monotonic() < deadline:
        if pid := _pid(voice):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
    shutil.rmtree(voice.training, ignore_errors=True)
    (voice.path / MANIFEST).unlink(missing_ok=True)


def status(voice: VoiceFolder) -> dict[str, Any] | None:
    """What the training does; None if none was asked for since the last one was done.

    Returns:
        `phase` (starting, waiting, listening, learning, testing, failed), `share` done from 0 to 1, `seconds_left`,
        and for a failed one the `reason`.
    """
    if not (voice.training / REQUEST).exists():
        return None
    request = read_json(voice.training / REQUEST, Request)
    if request is None:
        return {"phase": "failed", "share": 0.0, "reason": f"Its {REQUEST} is damaged. Train again."}
    state = read_json(voice.training / PROGRESS, Progress, {"phase": "starting", "share": 0.0})
    return {**state, "takes": request["takes"], "expected_s": request["expected_s"], "asked": request["asked"]}


def is_running(voice: VoiceFolder) -> bool:
    """Whether a process trains this voice now."""
    return is_locked(voice.training, JOB)


def ahead(store: Store, voice: VoiceFolder) -> list[dict[str, Any]]:
    """The trainings that go before a voice's, each as by `status`: one at work, and those asked for earlier."""
    found = []
    for other in store.voices() if _is_unfinished(voice) else ():
        if other.id != voice.id and _is_unfinished(other) and is_running(other):
            state = status(other)
            if state and (state["phase"] in AT_WORK or _place(other) < _place(voice)):
                found.append(state)
    return found


def waits(store: Store, voice: VoiceFolder) -> dict[str, Any]:
    """How long a training that waits will: `others` that go before it, and `seconds_left` until it is done itself."""
    before = ahead(store, voice)
    left = sum(state.get("seconds_left", state["expected_s"]) for state in before)
    own = (status(voice) or {}).get("expected_s", 0.0)
    return {"others": max(1, len(before)), "seconds_left": round(left + own)}


def _place(voice: VoiceFolder) -> tuple[datetime.datetime, str]:
    """Of an unfinished training in the line: when it was asked for."""
    request = read_json(voice.training / REQUEST, Request)
    return (request["asked"] if request else datetime.datetime.now().astimezone()), voice.id


def _pid(voice: VoiceFolder) -> int | None:
    """The job that holds the lock, or held it last."""
    return read_json(voice.training / PROCESS, Process, {}).get("pid")


def _is_unfinished(voice: VoiceFolder) -> bool:
    """Whether a training was asked for that is neither done nor failed."""
    state = status(voice)
    return state is not None and state["phase"] != "failed"


def _spawn(store: Store, voice: VoiceFolder) -> None:
    command = [sys.executable, "-m", "speechft.app.job", str(store.folder), voice.id]
    # where the voice is encrypted, no trace of an error in plain text either
    path = Path(os.devnull) if store.vault.key else voice.training / "log.txt"
    with _only_job(voice) as lock, path.open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 - our own module
            command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True, pass_fds=[lock.fileno()]
        )
        try:
            write_json(voice.training / PROCESS, {"pid": process.pid})
        except BaseException:  # the disk is full: no job that nobody could stop
            process.kill()
            process.communicate()
            raise
    assert process.stdin
    with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
        pipe.write(store.vault.key or b"")


@contextlib.contextmanager
def _only_job(voice: VoiceFolder) -> Iterator[TextIO]:
    """The job's lock."""
    with contextlib.ExitStack() as held:
        try:
            lock = held.enter_context(locked(voice.training, JOB))
        except AnotherRun:
            raise SpeechftError("this voice is being trained already", fix="Wait until it is done.") from None
        yield lock
