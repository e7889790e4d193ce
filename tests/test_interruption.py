"""Ctrl-C and SIGTERM: what is done is saved, and the next run goes on to the same result."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from speechft.interruption import Interrupted, deferred, own_signals, raise_on_terminate, signal_of
from speechft.manifest import Manifest


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_noted_and_the_handlers_come_back(number: int) -> None:
    before = signal.getsignal(number)
    with deferred() as asked:
        assert asked() == 0
        signal.raise_signal(number)
        assert asked() == number
        signal.raise_signal(number)  # a launcher passes a terminal's Ctrl-C on
    assert signal.getsignal(number) == before


def test_a_signal_is_not_lost_on_who_leaves_without_asking() -> None:
    """As a trial of a study that is given up at the moment of Ctrl-C."""

    class GivenUp(Exception):
        pass

    def leave(stopped: bool) -> None:
        with deferred():
            if stopped:
                signal.raise_signal(signal.SIGINT)
            raise GivenUp

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            leave(stopped=True)
        with pytest.raises(GivenUp):
            leave(stopped=False)
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.fixture
def _ctrl_c() -> Iterator[None]:
    """Python's own handler, which processes that were started in the background do not have."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_ctrl_c")
def test_a_second_ctrl_c_acts_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("speechft.interruption.TWICE_S", 0.0)
    with deferred() as asked:
        signal.raise_signal(signal.SIGINT)
        assert asked() == signal.SIGINT
        time.sleep(0.01)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_threads_that_may_not_handle_signals_are_left_alone() -> None:
    said: list[int] = []

    def work() -> None:
        with deferred() as asked:
            said.append(asked())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert said == [0]


def test_a_library_that_leaves_at_a_sigterm_does_it_our_way() -> None:
    before = signal.getsignal(signal.SIGTERM)

    def library() -> None:
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(number))
        signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted) as stop, own_signals():
        library()
    assert stop.value.signal == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is before
    with pytest.raises(SystemExit, match="7"), own_signals():
        sys.exit(7)


def test_an_interrupt_of_somebody_else_s_is_by_the_signal_that_came(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("speechft.interruption._raised", [])
    before = signal.getsignal(signal.SIGTERM)
    assert signal_of(KeyboardInterrupt()) == signal.SIGINT
    raise_on_terminate()
    try:
        with pytest.raises(Interrupted) as stop:
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert signal_of(stop.value) == signal_of(KeyboardInterrupt()) == signal.SIGTERM


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_amid_ray_s_work_ends_it_without_a_crash(number: int) -> None:
    pytest.importorskip("ray")
    script = """
import signal, sys, time
from speechft import exits
from speechft.cluster import cluster

def work():
    with cluster(None) as ray:
        print("working", flush=True)
        ray.wait([ray.remote(time.sleep).remote(600)])

signal.signal(signal.SIGINT, signal.default_int_handler)
exits.run(work)
"""
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", script], stdout=pipe, stderr=pipe, text=True)
    assert process.stdout
    assert process.stdout.readline() == "working\n"
    process.send_signal(number)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 128 + number, said
    assert " ".join(said.split()) == "Stopped. Run the same command again to resume."


def test_it_is_a_keyboard_interrupt() -> None:
    assert issubclass(Interrupted, KeyboardInterrupt)  # so that `except Exception` of a library lets it through


@pytest.mark.parametrize(
    ("number", "code"), [pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow), (signal.SIGTERM, 143)]
)
def test_a_stopped_run_says_how_to_go_on_and_ends_in_the_same_bits(
    voice: Manifest, tmp_path: Path, number: int, code: int
) -> None:
    def command(out: Path) -> list[str]:
        return [
            *(sys.executable, "-m", "speechft.cli", "train", f"manifest={voice.path}", f"output_dir={out}"),
            *("batch_size=2", "max_steps=12", "min_steps=0", "dev_clips=1", "adapter.rank=2", "test=false"),
            *("evaluations=1", "augment=null"),
        ]

    cut = tmp_path / "cut"
    process = subprocess.Popen(command(cut), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    metrics = cut / "metrics.jsonl"
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline and not (metrics.exists() and '"loss"' in metrics.read_text()):
        time.sleep(0.01)
    os.kill(process.pid, number)
    _, said = process.communicate(timeout=600)
    assert process.returncode == code, said
    assert "Traceback" not in said
    assert "Run the same command again to resume" in said
    assert (cut / "checkpoints" / "latest").is_dir()  # long before checkpoint_every
    again = subprocess.run(command(cut), capture_output=True, text=True, timeout=600)
    assert again.returncode == 0, again.stderr
    assert "resuming from step" in again.stderr
    if number == signal.SIGTERM:
        subprocess.run(command(tmp_path / "whole"), check=True, capture_output=True, timeout=600)
        whole, resumed = (
            load_file(run / "checkpoints" / "latest" / "state.safetensors") for run in (tmp_path / "whole", cut)
        )
        assert all(torch.equal(whole[name], resumed[name]) for name in whole)


STARTING = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
"""
CONTEXT = """
from typer.core import TyperGroup
TyperGroup.make_context = lambda *given, **options: signal.raise_signal({number})
"""
IMPORTS = """
class Finder:
    def find_spec(name, path=None, target=None):
        if name == "typer":
            signal.raise_signal({number})
sys.meta_path.insert(0, Finder)
"""


@pytest.mark.parametrize(
    ("moment", "number", "code"),
    [
        (CONTEXT, signal.SIGINT, 130),
        (CONTEXT, signal.SIGTERM, 143),
        (IMPORTS, signal.SIGINT, -signal.SIGINT),
        (IMPORTS, signal.SIGTERM, -signal.SIGTERM),
    ],
)
def test_a_signal_while_a_command_starts_ends_it_without_a_traceback(moment: str, number: int, code: int) -> None:
    """With a sentence as soon as there is a command line; before that, as the system ends any process."""
    script = f"{STARTING}{moment.format(number=int(number))}\nfrom speechft.cli import main\nmain()"
    done = subprocess.run([sys.executable, "-c", script, "check", "m.jsonl"], capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert done.stderr.split("\n") == (["Stopped. Run the same command again to resume.", ""] if code > 0 else [""])
