"""The process that trains a voice: waits for its turn, trains, and puts what came of it into the voice's folder.

    python -m speechft.app.job DATA_FOLDER VOICE

When it is done, `training/` becomes `run/`, adapter and report in it. Where voices are encrypted, it gets the key
through a pipe and works in a `memory_folder`; only what it found is written to disk, encrypted. If it is killed, the
next one begins anew.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from speechft.app import snapshot
from speechft.app.records import Request, read_json, write_json
from speechft.app.store import Store, VoiceFolder, forget_reports
from speechft.app.training import (
    JOB,
    MANIFEST,
    PROCESS,
    PROGRESS,
    REQUEST,
    ahead,
    forget_cache,
    keep_status_only,
    pace,
)
from speechft.app.vault import Vault, memory_folder
from speechft.audio import Seconds
from speechft.config import SpeechRecipe
from speechft.errors import NO_ROOM, SpeechftError, disk_error
from speechft.events import Event
from speechft.files import replace_folder
from speechft.locks import AnotherRun, locked
from speechft.manifest import Manifest

REPORT_MB = 50.0  # of recordings inside the report: the page may load nothing beside it
PLACE = ".training"  # the lock, in the data folder, of the one job at work
LOOK_SECONDS = 2.0  # after which a job that waits looks again


@contextlib.contextmanager
def turn(store: Store, voice: VoiceFolder) -> Iterator[None]:
    """Hold the only place for a training at work, once those that go before are done.

    Several at once would take longer for all of them, more memory than there may be, and teach a wrong `pace`.
    """
    with contextlib.ExitStack() as held:
        progress, waited = voice.training / PROGRESS, False
        while True:
            if not ahead(store, voice):
                with contextlib.suppress(AnotherRun):
                    held.enter_context(locked(store.folder, PLACE))
                    break
            if not waited:
                write_json(progress, {"phase": "waiting", "share": 0.0})
            waited = True
            time.sleep(LOOK_SECONDS)
        if waited:
            write_json(progress, {"phase": "starting", "share": 0.0})
        yield


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
            forget_cache(voice)
        if work:
            _bring_home(out, voice)
    _keep_earlier_adapter(voice)
    for name in (PROGRESS, PROCESS):
        (voice.training / name).unlink(missing_ok=True)
    snapshot.forget(voice.training)
    (voice.path / MANIFEST).unlink(missing_ok=True)  # once `training/` is gone another may begin, which writes its own
    (voice.run / REQUEST).unlink(missing_ok=True)  # of a run that was killed below: as `training/` it would go on
    replace_folder(voice.training, voice.run)  # with its request: a run that is killed here is resumed by it
    for name in (REQUEST, JOB):
        (voice.run / name).unlink(missing_ok=True)


def _keep_earlier_adapter(voice: VoiceFolder) -> None:
    """Put the adapter of the last run into one that brought none: what helped until now goes on helping."""
    if voice.adapter and not (voice.training / "adapter").exists():
        half = voice.training / ".adapter"
        shutil.rmtree(half, ignore_errors=True)
        shutil.copytree(voice.adapter, half)
        os.replace(half, voice.training / "adapter")


def _fail(voice: VoiceFolder, reason: str) -> None:
    snapshot.forget(voice.training)
    write_json(voice.training / PROGRESS, {"phase": "failed", "share": 0.0, "reason": reason})


def _reason(error: Exception) -> str:
    """Why a training failed, for the person who waits for it."""
    if (full := disk_error(error)) and full.errno in NO_ROOM:
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
    """Encrypt a finished run into `training/`."""
    keep_status_only(voice)  # one that was killed here may have left half of its own
    for path in sorted(run.rglob("*")):
        if path.is_file() and "checkpoints" not in path.relative_to(run).parts:
            voice.vault.write(voice.training / path.relative_to(run), path.read_bytes())


def main(folder: str, identity: str) -> None:
    """The job's process."""
    os.umask(0o077)
    key = sys.stdin.buffer.read()
    store = Store(Path(folder), Vault(key or None))
    voice = store.voice(identity)
    try:
        with turn(store, voice):
            train(store, voice)
    except Exception as error:
        _fail(voice, _reason(error))
        raise  # into log.txt


if __name__ == "__main__":
    main(*sys.argv[1:])
