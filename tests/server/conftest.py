"""A server that runs, with the bundled model and two voices on it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import openai
import pytest
import torch
import uvicorn

from speechft import adapters
from speechft.manifest import Manifest
from speechft.server.api import transcription_app
from speechft.server.engine import Engine
from speechft.server.guard import Guard
from speechft.server.media import MediaReader
from speechft.server.metrics import Measured, Metrics
from speechft.server.run import Patient
from speechft.server.voices import Voices, adapters_in
from speechft.sources import resolve
from speechft.whisper import load_whisper

BASE = "bundled:tiny.en"


@dataclass
class Running:
    """A server and what it is made of."""

    url: str
    voices: Voices
    engine: Engine

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60)


def make_voice(folder: Path, seed: int, strength: float) -> Path:
    """An adapter with random weights: what it says differs from the base model, and from the other's."""
    whisper = load_whisper(BASE, device="cpu")
    adapted = adapters.attach(whisper.model, rank=4, placement="decoder")
    generator = torch.Generator().manual_seed(seed)
    for _, parameter in adapters.trainable(adapted):
        parameter.data = strength * torch.randn(parameter.shape, generator=generator)
    base = resolve(BASE)
    card = {"model": BASE, "context": "clip", "base_sha256": adapters.base_hash(base)}
    return adapters.save(adapted, folder, card, BASE, base)


@pytest.fixture(scope="session")
def voice_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("voices")
    make_voice(folder / "anna", 1, 0.045)
    make_voice(folder / "ben", 2, 0.045)
    return folder


@pytest.fixture(scope="session")
def running(voice_folder: Path) -> Iterator[Running]:
    voices = Voices(BASE, lambda: adapters_in(voice_folder))
    metrics = Metrics()
    engine = Engine(voices, on_batch=metrics.on_batch)
    media = MediaReader(processes=1, longest=120.0, patience=20.0)
    guard = Guard(transcription_app(voices, engine, media, metrics), most_bytes=20_000_000, patience=3.0)
    app = Measured(guard, metrics)
    with served(app) as url:
        yield Running(url, voices, engine)
    engine.close()
    media.close()


@pytest.fixture(scope="module")
def clips(voice: Manifest) -> list[Path]:
    return [u.audio for u in list(voice)[:6]]


@pytest.fixture
def client(running: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0)


class served:
    """An ASGI application on a free port of this machine, for a while."""

    def __init__(self, app: object) -> None:
        self.app = app

    def __enter__(self) -> str:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        config = uvicorn.Config(self.app, host="127.0.0.1", port=port, http=Patient, ws="none", log_level="warning")  # type: ignore[arg-type]
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        deadline = time.monotonic() + 20
        while not self.server.started:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return f"http://127.0.0.1:{port}"

    def __exit__(self, *error: object) -> None:
        self.server.should_exit = True
        self.thread.join(timeout=20)
