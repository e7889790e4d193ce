"""One training at a time: who waits for whom, what the page is told of it, and what a kill leaves."""

from __future__ import annotations

import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from app.test_app import BASE, wav

from speechft.app import job, training
from speechft.app.api import summary
from speechft.app.opening import opened
from speechft.app.records import write_json
from speechft.app.store import Store, VoiceFolder
from speechft.files import _exchanged
from speechft.locks import locked


@pytest.fixture
def asked(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[VoiceFolder]:
    """Three voices whose trainings were asked for in this order, which is not that of their names."""
    monkeypatch.setattr(training, "_spawn", lambda *_: None)
    monkeypatch.setattr(job, "LOOK_SECONDS", 0.05)
    return [asked_for(store, name) for name in ("Cleo", "Ben", "Anna")]


def asked_for(store: Store, name: str) -> VoiceFolder:
    voice = store.create(name, "I agree")
    for n in range(10):
        voice.add(wav(), f"sentence {n}", f"p{n}", 2.0)
    training.start(store, voice, BASE)
    time.sleep(0.01)
    return voice


def in_line(store: Store, voice: VoiceFolder, at_work: Callable[[VoiceFolder], None]) -> threading.Thread:
    """A thread that does what the voice's process would."""

    def run() -> None:
        with locked(voice.training, training.JOB), job.turn(store, voice):
            at_work(voice)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def wait_until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def phase(voice: VoiceFolder) -> str:
    return (training.status(voice) or {})["phase"]


@pytest.fixture
def at_work(store: Store) -> Iterator[VoiceFolder]:
    """A voice that is being trained while the test lasts."""
    dora = store.create("Dora", "I agree")
    request = {"model": BASE, "asked": "2099-01-01T00:00:00+00:00", "takes": 10, "expected_s": 60.0}
    write_json(dora.training / "request.json", request)
    write_json(dora.training / "progress.json", {"phase": "learning", "share": 0.5, "seconds_left": 30})
    with locked(dora.training, training.JOB):
        yield dora


def test_trainings_work_one_after_the_other_as_they_were_asked_for(store: Store, asked: list[VoiceFolder]) -> None:
    began, busy = list[str](), threading.Lock()

    def work(voice: VoiceFolder) -> None:
        assert busy.acquire(blocking=False)  # alone
        began.append(voice.about["name"])
        time.sleep(0.2)
        busy.release()

    with locked(store.folder, job.PLACE):
        threads = [in_line(store, voice, work) for voice in reversed(asked)]
        wait_until(lambda: [phase(voice) for voice in asked] == ["waiting"] * 3)
    for thread in threads:
        thread.join(timeout=60)
    assert began == ["Cleo", "Ben", "Anna"]
    assert phase(asked[0]) == "starting"  # until it has something else to tell


def test_the_page_is_told_how_many_go_first(store: Store, asked: list[VoiceFolder], at_work: VoiceFolder) -> None:
    with locked(store.folder, job.PLACE):
        threads = [in_line(store, voice, lambda _: None) for voice in asked]
        wait_until(lambda: [phase(voice) for voice in asked] == ["waiting"] * 3)
        told = [summary(store, voice)["training"] for voice in asked]
        assert [state["others"] for state in told] == [1, 2, 3]
        each = told[0]["expected_s"]
        assert [state["seconds_left"] for state in told] == [round(30 + n * each) for n in (1, 2, 3)]
        assert all(state["running"] for state in told)
        write_json(at_work.training / "progress.json", {"phase": "failed", "share": 0.0, "reason": "It failed."})
    for thread in threads:
        thread.join(timeout=60)


def test_after_a_restart_they_go_on_in_the_same_order(
    store: Store, asked: list[VoiceFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    spawned: list[str] = []
    monkeypatch.setattr(training, "_spawn", lambda _, voice: spawned.append(voice.id))
    assert training.resume_all(store) == spawned == [voice.id for voice in asked]


def test_the_order_is_that_of_time_also_when_clocks_are_set_back(store: Store, asked: list[VoiceFolder]) -> None:
    for voice, moment in zip(asked, ("02:59:00+02:00", "02:01:00+01:00", "02:02:00+01:00"), strict=True):
        request = json.loads((voice.training / "request.json").read_text())
        write_json(voice.training / "request.json", {**request, "asked": f"2026-10-25T{moment}"})
    assert sorted(asked, key=training._place) == asked


def test_waiting_does_not_count_as_slowness(
    store: Store, asked: list[VoiceFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
    monkeypatch.setattr("speechft.pipeline.train", lambda *_, **__: None)
    first = asked[0]
    expected = (training.status(first) or {})["expected_s"]
    with locked(store.folder, job.PLACE):
        thread = threading.Thread(target=job.main, args=(str(store.folder), first.id))
        thread.start()
        wait_until(lambda: phase(first) == "waiting")
        time.sleep(0.1 * expected)
    thread.join(timeout=60)
    assert json.loads((store.folder / "pace.json").read_text())["pace"] < 0.09
    assert training.status(first) is None


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_run_that_a_kill_left_behind_goes_when_it_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encrypted: bool
) -> None:
    def exchanged_and_killed(new: Path, out: Path) -> None:
        assert _exchanged(new, out)
        raise SystemExit

    def run(recipe: Any, **_: Any) -> None:
        recipe.output_dir.mkdir(exist_ok=True)
        (recipe.output_dir / "result.json").write_text("new")

    monkeypatch.setattr(training, "_spawn", lambda *_: None)
    monkeypatch.setattr("speechft.pipeline.train", run)
    with opened(tmp_path, lambda new: "words in a row", encrypted) as store:
        anna = asked_for(store, "Anna")
        store.vault.write(anna.run / "report.html", b"with recordings")
        with monkeypatch.context() as patched:
            patched.setattr(job, "replace_folder", exchanged_and_killed)
            with pytest.raises(SystemExit):
                job.train(store, anna)
        assert store.vault.read(anna.run / "result.json") == b"new"
        assert training.status(anna) is None
        assert (anna.training / "report.html").exists()
        training.forget_deleted(anna)  # as when a recording is added or deleted
        assert not anna.training.exists()
        anna.training.mkdir()
        assert training.resume_all(store) == []
        assert not anna.training.exists()
        training.start(store, anna, BASE)  # what is in run/ does not make it look unfinished or done
        assert phase(anna) == "starting"
