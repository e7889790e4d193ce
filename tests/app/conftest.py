"""A page in a real browser, whose microphone hears what the test plays to it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest
import soundfile
from server.conftest import served

from speechft.app.api import demo_app
from speechft.app.store import Store, VoiceFolder
from speechft.audio import SAMPLE_RATE
from speechft.corpora.simulated import Voice, speak
from speechft.impair import Impairment
from speechft.server.guard import Guard
from speechft.server.media import MediaReader
from speechft.server.metrics import Metrics

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "data")


@pytest.fixture(scope="session")
def say() -> Callable[[str], np.ndarray]:
    """The simulated voice reads a sentence, a little more slurred than in the quickstart: mono 16 kHz."""
    voice, cached = Voice(), {}

    def spoken(text: str) -> np.ndarray:
        if text not in cached:
            rng = np.random.default_rng(len(text))
            cached[text] = speak(voice, voice.phonemes(text), Impairment().at(1.3), rng)
        return cached[text]

    return spoken


@dataclass
class App:
    """A running app, as a user starts it."""

    data: Path
    port: int
    options: tuple[str, ...] = ()
    process: subprocess.Popen | None = None

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "speechft.cli", "demo", "--data", str(self.data), "--port", str(self.port)]
        command += self.options
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 300
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{self.url}/health").status_code == 200:
                    return
            except httpx.HTTPError:
                assert self.process.poll() is None, self.process.stderr and self.process.stderr.read().decode()
                time.sleep(0.2)
        raise AssertionError("the app did not start")

    def kill(self) -> None:
        """As a power cut would."""
        assert self.process
        self.process.kill()
        self.process.wait()


@pytest.fixture
def app(tmp_path: Path) -> Iterator[App]:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    running = App(tmp_path / "data", port)
    running.start()
    yield running
    running.kill()


class Microphone:
    """The file that Chromium's fake microphone plays each time a page opens it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.hear(np.zeros(SAMPLE_RATE, np.float32))

    def hear(self, samples: np.ndarray) -> float:
        """Put a sentence into the air; returns how many seconds to keep recording."""
        lead, rest = np.zeros(SAMPLE_RATE // 4, np.float32), np.zeros(8 * SAMPLE_RATE, np.float32)
        part = self.path.with_suffix(".part")
        soundfile.write(part, np.concatenate([lead, samples, rest]), SAMPLE_RATE, format="WAV", subtype="PCM_16")
        os.replace(part, self.path)
        return len(samples) / SAMPLE_RATE + 0.6


@pytest.fixture
def microphone(tmp_path: Path) -> Microphone:
    return Microphone(tmp_path / "heard.wav")


@pytest.fixture
def browser(microphone: Microphone) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[
                "--no-sandbox",
                "--use-fake-ui-for-media-stream",
                "--use-fake-device-for-media-stream",
                f"--use-file-for-fake-audio-capture={microphone.path}%noloop",
                "--autoplay-policy=no-user-gesture-required",
            ],
        )
        yield browser
        browser.close()


@pytest.fixture
def new_page(browser: Any) -> Callable[..., Any]:
    """Opens a page that waits as long as a busy machine needs."""

    def opened(**options: Any) -> Any:
        page = browser.new_page(**({"viewport": {"width": 1280, "height": 900}} | options))
        page.set_default_timeout(180_000)
        return page

    return opened


@pytest.fixture(scope="module")
def media() -> Iterator[MediaReader]:
    reader = MediaReader(processes=1, longest=60.0)
    yield reader
    reader.close()


@pytest.fixture
def anna(store: Store) -> VoiceFolder:
    return store.create("Anna", "I agree")


@pytest.fixture
def url(store: Store, anna: VoiceFolder, media: MediaReader) -> Iterator[str]:
    """The app with a voice, and without a model: nothing is transcribed here."""
    voices: Any = SimpleNamespace(base="bundled:tiny.en", forget=lambda voice: None)
    with served(Guard(demo_app(store, voices, None, media, Metrics()))) as address:  # type: ignore[arg-type]
        yield address.replace("127.0.0.1", "localhost")


@pytest.fixture
def page(url: str, new_page: Callable[..., Any]) -> Any:
    """The place Record, with the only voice chosen."""
    page = new_page()
    page.set_default_timeout(60_000)
    page.goto(f"{url}/#record")
    page.wait_for_selector("#prompt:not(:empty)")
    return page
