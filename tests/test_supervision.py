"""A command under a limit on memory: whatever ends it, there is a sentence, and its own exit code is passed on."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import time

import pytest

SCRIPT = """
import ctypes, os, sys, time
from speechft import exits
from speechft.errors import SpeechftError

def command():
    {}

exits.run(command)
"""
LIMIT = 4_000_000_000


def limited(body: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(body)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (LIMIT, LIMIT)),
    )


@pytest.mark.parametrize("body", ["ctypes.CDLL(None).exit(1)", "os.abort()", "os.kill(os.getpid(), 9)"])
def test_an_end_without_a_word_is_given_one(body: str) -> None:
    process = limited(body)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "most likely memory ran out under a limit of 4000 MB" in said


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ("print(os.getppid())", 0, ""),
        ("return 1", 1, ""),
        ("raise SpeechftError('bad row')", 2, "Error: bad row"),
        ("raise MemoryError", 2, "There is not enough memory."),
        ("raise KeyError('a bug')", 1, "KeyError: 'a bug'"),
    ],
)
def test_what_a_command_says_itself_is_passed_on(body: str, code: int, said: str) -> None:
    process = limited(body)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert said in err
    assert "most likely" not in err
    if "getppid" in body:
        assert out.strip() == str(process.pid)


def test_a_signal_reaches_the_command() -> None:
    process = limited("print('on', flush=True); time.sleep(60)")
    assert process.stdout is not None
    process.stdout.readline()
    started = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert "Run the same command again" in err
    assert time.monotonic() - started < 30
