"""Training as a job of its own process: it survives a closed page and a restarted server, and goes on after a kill.

    python -m speechft.app.training VOICE_FOLDER MODEL

The process inherits a lock on the voice's `training/` folder, holds it as long as it lives, and writes what it does to
`progress.json` there; the page reads that. When it is done, `training/` becomes `run/`, adapter and report in it.

Where voices are encrypted, the process gets the key through a pipe and works in a `memory_folder`; only what it found
is written to disk, encrypted. If it is killed, the next one begins anew.
"""

from __future__ import annotations

import contextlib
import errno
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
from speechft.app.store import Store, Take, VoiceFolder, forget_reports, now
from speechft.app.vault import Vault, memory_folder
from speechft.audio import Seconds
from speechft.cache import FOLDER as CACHE
from speechft.config import SpeechRecipe
from speechft.errors import SpeechftError
from speechft.events import Event
from speechft.files import replace_folder
from speechft.locks import AnotherRun, is_locked, locked
from speechft.manifest import Manifest
from speechft.schedule import planned_steps

LEAST_TAKES = 10  # of which a few are kept aside: with fewer there is nothing to learn from, nothing to test on
REPORT_MB = 50.0  # of recordings inside the report: the page may load nothing beside it
PROGRESS = "progress.json"
REQUEST = "request.json"
MANIFEST = "training.jsonl"
JOB = ".job"  # held by the process as long as it lives
PROCESS = "process.json"
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
        if _is_unfinished(voice) and not is_running(voice):
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
        shutil.rmtree(voice.path / CACHE, ignore_errors=True)  # numbers computed from recordings


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
        `phase` (starting, listening, learning, testing, failed), `share` done from 0 to 1, `seconds_left`, and for a
        failed one the `reason`.
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


def _pid(voice: VoiceFolder) -> int | None:
    """The job that holds the lock, or held it last."""
    return read_json(voice.training / PROCESS, Process, {}).get("pid")


def _is_unfinished(voice: VoiceFolder) -> bool:
    """Whether a training was asked for that is neither done nor failed."""
    state = status(voice)
    return state is not None and state["phase"] != "failed"


def _spawn(store: Store, voice: VoiceFolder) -> None:
    command = [sys.executable, "-m", "speechft.app.training", str(store.folder), voice.id]
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
    """The job's lock; retried briefly, as a process that only looks whether it is held has a share of it."""
    deadline = time.monotonic() + 1
    with contextlib.ExitStack() as held:
        while True:
            try:
                lock = held.enter_context(locked(voice.training, JOB))
                break
            except AnotherRun:
                if time.monotonic() > deadline:
                    raise SpeechftError("this voice is being trained already", fix="Wait until it is done.") from None
                time.sleep(0.02)
        yield lock


class _Progress:
    """Turns the events of a run into what the page shows, twice a second at most."""

    def __init__(self, path: Path, expected: Seconds) -> None:
        self.path, self.expected, self.began, self.written = path, expected, time.monotonic(), 0.0
        self.phase, self.share = "listening", 0.02

    def __call__(self, event: Event) -> None:
        name = event.get("event")
        if name == "final evaluation":
            self.phase, self.share = "testing", 0.92
        elif "loss" in event:
            self.phase, self.share = "learning", 0.1 + 0.8 * event["step"] / event["steps"]
        self.write()

    def write(self) -> None:
        now_s = time.monotonic()
        if now_s - self.written < 0.5:
            return
        self.written, spent = now_s, now_s - self.began
        # by what was expected at first, by what was done later on
        by_share = spent * (1 - self.share) / max(self.share, 0.02)
        left = (1 - self.share) * max(0.0, self.expected - spent) + self.share * by_share
        write_json(self.path, {"phase": self.phase, "share": round(self.share, 3), "seconds_left": round(left)})


def train(store: Store, voice: VoiceFolder) -> None:
    """Train a voice that was asked for; what the job's process does."""
    from speechft.pipeline import train as run

    request = read_json(voice.training / REQUEST, Request)
    if request is None:
        return
    progress = _Progress(voice.training / PROGRESS, request["expected_s"])
    began = time.monotonic()
    resumed = (voice.training / "checkpoints").exists()
    with memory_folder() if voice.vault.key else contextlib.nullcontext() as work:
        if work:
            out, manifest = work / "run", work / MANIFEST
            voice.manifest(manifest)
        else:
            out, manifest = voice.training, voice.path / MANIFEST
            frozen, before = snapshot.freeze(voice), manifest.read_bytes() if manifest.exists() else b""
            snapshot.forget_deleted(voice)
            voice.manifest(manifest, frozen)
            if resumed and manifest.read_bytes() != before:
                shutil.rmtree(out / "checkpoints")  # a recording was deleted: go on without it, from the start
        recipe = SpeechRecipe(model=request["model"], manifest=manifest, output_dir=out)
        try:
            run(recipe, on_event=progress, title=str(voice.about["name"]), embed_audio_mb=REPORT_MB)
        except SpeechftError as error:
            _fail(voice, f"{_sentence(error.what)} {error.fix}".strip())
            return
        if not resumed:
            ratio = pace(store) * (time.monotonic() - began) / max(1.0, request["expected_s"])
            write_json(store.folder / "pace.json", {"pace": round(ratio, 3)})
        if {u.id for u in Manifest.load(manifest)} - {take.id for take in voice.takes()}:  # deleted meanwhile
            forget_reports(out)
            shutil.rmtree(voice.path / CACHE, ignore_errors=True)
        if work:
            _bring_home(out, voice)
            return
    _keep_earlier_adapter(out, voice)
    for name in (PROGRESS, PROCESS):
        (out / name).unlink(missing_ok=True)
    snapshot.forget(out)
    manifest.unlink(missing_ok=True)  # from the next line on another training may begin, which writes its own
    (voice.run / REQUEST).unlink(missing_ok=True)  # of a run that was killed below: as `training/` it would go on
    replace_folder(out, voice.run)  # with its request: a run that is killed here is resumed by it
    os.replace(voice.run / REQUEST, voice.run / "asked.json")


def _keep_earlier_adapter(run: Path, voice: VoiceFolder) -> None:
    """Put the adapter of the last run into one that brought none: what helped until now goes on helping."""
    if voice.adapter and not (run / "adapter").exists():
        half = run / ".adapter"
        shutil.rmtree(half, ignore_errors=True)
        shutil.copytree(voice.adapter, half)
        os.replace(half, run / "adapter")


def _fail(voice: VoiceFolder, reason: str) -> None:
    snapshot.forget(voice.training)
    write_json(voice.training / PROGRESS, {"phase": "failed", "share": 0.0, "reason": reason})


def _reason(error: Exception) -> str:
    """Why a training failed, for the person who waits for it."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "There is no room left on the disk. Make room, and train again."
    if isinstance(error, MemoryError):
        return "This computer has too little memory free. Close other programs, and train again."
    return (
        f"Something went wrong that should not ({type(error).__name__}). Train again; if that does not help, tell "
        "whoever looks after the app."
    )


def _sentence(clause: str) -> str:
    return f"{clause[:1].upper()}{clause[1:]}."


def _bring_home(run: Path, voice: VoiceFolder) -> None:
    """Encrypt a finished run into the voice's folder."""
    sealed = voice.training / "run"
    shutil.rmtree(sealed, ignore_errors=True)
    for path in sorted(run.rglob("*")):
        if path.is_file() and "checkpoints" not in path.relative_to(run).parts:
            voice.vault.write(sealed / path.relative_to(run), path.read_bytes())
    _keep_earlier_adapter(sealed, voice)
    replace_folder(sealed, voice.run)
    shutil.rmtree(voice.training)


def main(folder: str, identity: str) -> None:
    """The job's process."""
    os.umask(0o077)
    key = sys.stdin.buffer.read()
    store = Store(Path(folder), Vault(key or None))
    voice = store.voice(identity)
    try:
        train(store, voice)
    except Exception as error:
        _fail(voice, _reason(error))
        raise  # into log.txt


if __name__ == "__main__":
    main(*sys.argv[1:])
