"""The pictures of docs/app.md, from the app as it is: a simulated voice records, trains and transcribes in Chromium.

    python benchmarks/pictures.py [--out docs/pictures] [--sentences 40]

Writes each place at desktop and at phone width, and needs `pip install playwright` and a Chromium. Takes some minutes.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import soundfile
from server import free_port

from speechft import exits
from speechft.audio import SAMPLE_RATE
from speechft.corpora.simulated import Voice, speak
from speechft.impair import Impairment

WIDTHS = {"": (1100, 800), "-phone": (390, 844)}
NEW = "Could you please open the window a little?"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/pictures"))
    parser.add_argument("--sentences", type=int, default=40)
    a = parser.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        command = [sys.executable, "-m", "speechft.cli", "demo", "--data", folder, "--port", str(port)]
        app = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            take(f"http://localhost:{port}", a.out, a.sentences)
        finally:
            app.terminate()
            app.wait()


def take(url: str, out: Path, sentences: int) -> None:
    from playwright.sync_api import sync_playwright

    voice = Voice()

    def said(text: str) -> bytes:
        file = io.BytesIO()
        samples = speak(voice, voice.phonemes(text), Impairment(), np.random.default_rng(len(text)))
        soundfile.write(file, samples, SAMPLE_RATE, format="WAV", subtype="PCM_16")
        return file.getvalue()

    client = httpx.Client(base_url=url, timeout=120)
    while True:
        try:
            client.get("/health")
            break
        except httpx.HTTPError:
            time.sleep(0.3)
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        shoot(browser, url, out, "voices")
        made = client.post("/api/voices", json={"name": "Anna", "agreed": True}).json()
        address = f"/api/voices/{made['id']}"
        for prompt in client.get(f"{address}/prompts").json()[:sentences]:
            wav = {"file": ("r.wav", said(prompt["text"]))}
            client.post(f"{address}/recordings", files=wav, data={"text": prompt["text"]}).raise_for_status()
        shoot(browser, url, out, "record")
        client.post(f"{address}/training").raise_for_status()
        while (state := client.get(address).json())["training"]:
            time.sleep(2)
        print(state["result"])
        shoot(browser, url, out, "train")
        with tempfile.TemporaryDirectory() as folder:
            new = Path(folder) / "new.wav"
            new.write_bytes(said(NEW))
            shoot(browser, url, out, "transcribe", lambda page: transcribe(page, new))
        browser.close()


def transcribe(page: Any, recording: Path) -> None:
    page.click("text=A recording from a file")
    page.set_input_files("#file", recording)
    page.click("#file-go")
    page.wait_for_selector("#correct:not([hidden])", timeout=60_000)
    page.click("text=A recording from a file")


def shoot(browser: Any, url: str, out: Path, place: str, act: Any = lambda page: None) -> None:
    """The place at each width, as it looks when nothing is being said at the bottom."""
    for name, (width, height) in WIDTHS.items():
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme="light")
        page.goto(f"{url}/#{place}")
        page.wait_for_selector(f"#view-{place}:not([hidden])")
        act(page)
        page.wait_for_timeout(9000 if place == "transcribe" else 1000)
        page.screenshot(path=out / f"{place}{name}.png")
        page.close()


if __name__ == "__main__":
    exits.run(main)
