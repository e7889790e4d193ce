"""The whole story in a real browser, by mouse and by keyboard alone: record, train, come back, transcribe, delete."""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from app.conftest import CHROMIUM, App, Microphone

from speechft.app.job import PLACE
from speechft.audio import SAMPLE_RATE
from speechft.error_rate import word_errors

TRAINED = 1_800_000  # milliseconds that a training may take: a busy machine is ten times slower than a quiet one
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]
KEPT_ASIDE = (
    "The clock in the hallway is ten minutes slow.",
    "Would you help me with these buttons?",
    "There are clean sheets in the cupboard.",
    "Nora swept the kitchen floor this morning.",
    "Put the blue blanket on my bed.",
    "My sister is coming to visit on Sunday.",
    "I would like to turn the radio down.",
    "Please close the window before you go.",
    "We need bread and milk from the shop.",
    "The doctor will call us in the morning.",
    "My hands are cold, bring me the gloves.",
    "Could you lower the bed a little more?",
)
Say = Callable[[str], np.ndarray]
NewPage = Callable[..., Any]


def test_the_whole_story(app: App, new_page: NewPage, microphone: Microphone, say: Say, tmp_path: Path) -> None:
    page = new_page()
    complaints = watch(page)
    page.goto(app.url)
    page.fill("#new-name", "Anna")
    page.check("#new-agreed")
    page.click("text=Make this voice")
    for number in range(30):
        record(page, microphone, say)
        assert len(list(app.data.rglob("recordings/*.json"))) == number + 1  # on disk before the page says so

    page.click("nav >> text=Train")
    page.click("#train")
    page.wait_for_selector("#training-text:has-text('Learning your voice')", timeout=TRAINED)
    page.close()
    app.kill()  # a power cut in mid-training: the job itself goes on, or is gone on with
    app.start()
    page = new_page()
    complaints += watch(page)
    page.goto(f"{app.url}/#train")
    page.wait_for_selector("#result:not([hidden])", timeout=TRAINED)
    assert page.inner_text("#result-verdict")
    assert "of 10 words understood" in page.inner_text("#after-text")

    page.click("nav >> text=Transcribe")
    hears_better(lambda sentence: transcribe(page, microphone, say, sentence))

    page.fill("#correct-text", KEPT_ASIDE[-1])
    page.click("text=Add this to my recordings")
    page.wait_for_selector("#status:has-text('Added')")
    assert len(list(app.data.rglob("recordings/*.wav"))) == 31

    files = [path for path in app.data.rglob("*") if path.is_file()]
    assert [path for path in files if path.stat().st_mode & 0o077] == []  # its owner's alone

    page.click("nav >> text=Voices")
    with page.expect_download() as download:
        page.click("text='Export'")
    exported = tmp_path / "voice.zip"
    download.value.save_as(exported)
    delete(page)
    left = [path for path in app.data.rglob("*") if path.is_file() and path.name not in ("pace.json", PLACE)]
    assert left == []

    page.click("text=Bring a voice from another computer")
    page.set_input_files("#import-file", exported)
    page.click("#import")
    page.wait_for_selector("#voice-list h2:has-text('Anna')")
    page.click("nav >> text=Transcribe")
    again = transcribe(page, microphone, say, KEPT_ASIDE[0])
    assert len(again) == 2  # the personal voice is back, beside the standard one
    assert complaints == []


def test_the_story_by_keyboard_alone(app: App, new_page: NewPage, microphone: Microphone, say: Say) -> None:
    page = new_page()
    complaints = watch(page)
    page.goto(app.url)
    page.wait_for_selector("#new-name")
    reach(page, "#new-name")
    page.keyboard.type("Ben")
    reach(page, "#new-agreed")
    page.keyboard.press("Space")
    page.keyboard.press("Enter")
    page.wait_for_selector("#view-record:not([hidden])")
    for number in range(30):  # from wherever the focus is: the heading at first, then nothing else moved it
        record(page, microphone, say, lambda _: page.keyboard.press("Space"))
        assert len(list(app.data.rglob("recordings/*.json"))) == number + 1
    assert page.inner_text("#progress-text").startswith("30 recordings")
    reach(page, "nav a[href='#train']", backwards=True)
    page.keyboard.press("Enter")
    reach(page, "#train")
    page.keyboard.press("Enter")
    page.wait_for_selector("#training-text:has-text('Learning your voice')", timeout=TRAINED)
    page.close()
    app.kill()
    app.start()
    page = new_page()
    complaints += watch(page)
    page.goto(f"{app.url}/#train")
    page.wait_for_selector("#result:not([hidden])", timeout=TRAINED)
    reach(page, "nav a[href='#transcribe']", backwards=True)
    page.keyboard.press("Enter")
    page.wait_for_selector("#view-transcribe:not([hidden])")
    hears_better(lambda sentence: transcribe(page, microphone, say, sentence, lambda _: page.keyboard.press("Space")))
    reach(page, "button:text-is('What else it could be')")
    page.keyboard.press("Enter")
    page.wait_for_selector("#texts li")
    reach(page, "#correct-add")
    page.keyboard.press("Enter")
    page.wait_for_selector("#status:has-text('Added')")
    reach(page, "nav a[href='#voices']", backwards=True)
    page.keyboard.press("Enter")
    reach(page, "button:text-is('Export with recordings')")
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    with zipfile.ZipFile(download.value.path()) as exported:
        assert sum(name.endswith(".wav") for name in exported.namelist()) == 31
    reach(page, "button:text-is('Delete')")
    page.keyboard.press("Enter")
    page.wait_for_selector("#confirm[open]")
    reach(page, "#confirm-yes")
    page.keyboard.press("Enter")
    page.wait_for_selector("#no-voices:not([hidden])")
    assert list((app.data / "voices").iterdir()) == []
    assert complaints == []


def test_one_switch_steps_through_the_buttons_and_presses(
    app: App, new_page: NewPage, microphone: Microphone, say: Say
) -> None:
    page = new_page()
    page.goto(app.url)
    page.fill("#new-name", "Cara")
    page.check("#new-agreed")
    page.click("text=Make this voice")
    page.wait_for_selector("#view-record:not([hidden])")
    page.click("#settings summary")
    page.fill("#scan-speed", "1")  # a busy machine may take half a second from seeing the frame to pressing
    page.check("#scan-on")
    seconds = microphone.hear(say(page.inner_text("#prompt")))
    switch(page, "#rec")
    page.wait_for_selector("#rec.live.scanned")
    page.wait_for_timeout(1000 * seconds)
    page.keyboard.press("Space")
    page.wait_for_selector("#progress-text:has-text('1 recording')")
    for place in ("train", "transcribe"):  # and on, never touching anything else
        switch(page, f"nav a[href='#{place}']")
        page.wait_for_selector(f"#view-{place}:not([hidden])")
    seconds = microphone.hear(say(KEPT_ASIDE[0]))
    switch(page, "#talk")
    page.wait_for_selector("#talk.live.scanned")
    page.wait_for_timeout(1000 * seconds)
    page.keyboard.press("Space")
    page.wait_for_selector("#correct:not([hidden])")
    switch(page, "nav a[href='#voices']")
    page.wait_for_selector("#view-voices:not([hidden])")
    switch(page, "#text-size")
    assert page.input_value("#text-size") == "1.25"
    switch(page, "button:text-is('Delete')")
    page.wait_for_selector("#confirm[open]")
    switch(page, "#confirm-yes")
    page.wait_for_selector("#no-voices:not([hidden])")


def switch(page: Any, selector: str) -> None:
    """Wait until the frame is there, and press the switch."""
    page.wait_for_selector(f"{selector}.scanned")
    page.keyboard.press("Space")


@pytest.mark.parametrize(
    "look",
    [{"color_scheme": "light"}, {"color_scheme": "dark"}, {"forced_colors": "active"}, {"contrast": "more"}],
    ids=["light", "dark", "forced", "contrast"],
)
def test_axe_finds_nothing_in_any_place(app: App, new_page: NewPage, say: Say, look: dict[str, str]) -> None:
    # 640 and 320 px are a window of 1280 px at 200 and 400 % zoom (WCAG 2.2, 1.4.4 and 1.4.10)
    for width, height in ((1280, 900), (640, 450), (320, 640)):
        page = new_page(viewport={"width": width, "height": height}, bypass_csp=True, **look)
        page.goto(app.url)
        if width == 1280:
            page.wait_for_selector("#new-name")  # nothing is there until the page has asked for the voices
            check(page, "empty", width)
            page.fill("#new-name", "Dora")
            page.check("#new-agreed")
            page.click("text=Make this voice")
            page.wait_for_selector("#view-record:not([hidden])")
        for place in ("voices", "record", "train", "transcribe"):
            page.click(f"nav >> text={place.capitalize()}")
            page.wait_for_selector(f"#view-{place}:not([hidden])")
            for summary in page.query_selector_all("details:not([open]) > summary"):
                if summary.is_visible():
                    summary.click()
            if place == "transcribe":
                page.set_input_files(
                    "#file", {"name": "a.wav", "mimeType": "audio/wav", "buffer": wav(say("Good morning."))}
                )
                page.click("#file-go")
                page.wait_for_selector("#correct:not([hidden])")
            check(page, place, width)
        page.click("nav >> text=Voices")
        page.click("button:text-is('Delete')")
        page.wait_for_selector("#confirm[open]")
        check(page, "dialog", width)
        page.close()


def test_a_token_is_asked_for_in_the_browser(app: App, new_page: NewPage, monkeypatch: pytest.MonkeyPatch) -> None:
    app.kill()
    monkeypatch.setenv("SPEECHFT_TOKEN", "a-long-enough-token")
    app.options = ("--host", "0.0.0.0")
    app.start()
    page = new_page(bypass_csp=True)
    complaints = watch(page)
    page.goto(f"{app.url}/#record")
    page.wait_for_selector("#token")
    assert not page.is_visible("#wrong")
    check(page, "login", 1280)
    page.fill("#token", "not this one at all")
    page.keyboard.press("Enter")
    page.wait_for_selector("#wrong")
    check(page, "wrong token", 1280)
    page.fill("#token", "a-long-enough-token")
    page.keyboard.press("Enter")
    page.wait_for_selector("#new-name")
    page.reload()
    page.wait_for_selector("#new-name")  # it is remembered
    assert complaints == []


def check(page: Any, place: str, width: int) -> None:
    """Nothing that axe objects to, nothing to scroll sideways for, nothing too small to hit."""
    from axe_playwright_python.sync_playwright import Axe

    mismatch = {"rules": {"label-content-name-mismatch": {"enabled": True}}}  # off unless asked for
    found = Axe().run(page, options=mismatch).response["violations"]
    assert [(v["id"], v["impact"], v["nodes"][0]["html"]) for v in found] == [], (place, width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width, place
    small = page.evaluate(
        "[...document.querySelectorAll('button, nav a, a.button, summary, select, label.check')]"
        ".filter(e => e.checkVisibility()).map(e => [e, e.getBoundingClientRect()])"
        ".filter(([e, box]) => Math.min(box.height, box.width) < 44).map(([e]) => e.outerHTML)"
    )
    assert small == [], (place, width)


def wav(samples: np.ndarray) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, SAMPLE_RATE, format="WAV", subtype="PCM_16")
    return file.getvalue()


def watch(page: Any) -> list[str]:
    """Collects errors of the page, and requests that go anywhere else."""
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on(
        "request",
        lambda request: (
            None if request.url.startswith(("http://localhost:", "blob:", "data:")) else complaints.append(request.url)
        ),
    )
    return complaints


def hears_better(heard: Callable[[str], list[str]]) -> None:
    """The personal voice understands more of what was kept aside than the standard model."""
    personal = base = None
    for sentence in KEPT_ASIDE:
        mine, theirs = (word_errors(sentence.lower(), text.lower()) for text in heard(sentence))
        personal, base = (mine, theirs) if personal is None else (personal + mine, base + theirs)
    assert personal.rate < base.rate  # type: ignore[union-attr]


def record(page: Any, microphone: Microphone, say: Say, press: Callable[[str], None] | None = None) -> None:
    """Record the sentence on the page; `press` presses a button, with the mouse unless told."""
    press = press or page.click
    page.wait_for_selector("#rec-label:text-is('Start recording')")
    seconds = microphone.hear(say(page.inner_text("#prompt")))
    press("#rec")
    page.wait_for_selector("#rec.live")
    page.wait_for_timeout(1000 * seconds)
    press("#rec")
    page.wait_for_selector("#rec-label:text-is('Start recording')")
    assert page.inner_text("#status").startswith("Saved."), page.inner_text("#alert")


def transcribe(
    page: Any, microphone: Microphone, say: Say, sentence: str, press: Callable[[str], None] | None = None
) -> list[str]:
    """What the page shows: by the personal voice, where there is one, and by the standard model."""
    press = press or page.click
    seconds = microphone.hear(say(sentence))
    press("#talk")
    page.wait_for_selector("#talk.live")
    page.wait_for_timeout(1000 * seconds)
    press("#talk")
    page.wait_for_selector("#talk-label:text-is('Start speaking')")
    for doubt in page.query_selector_all(".unsure .unseen"):
        assert doubt.text_content() == " (not sure)"  # said to a screen reader too
    return [
        " ".join(element.inner_text().replace("(not sure)", "").split())
        for element in page.query_selector_all("#texts .text")
    ]


def delete(page: Any) -> None:
    page.click("button:text-is('Delete')")
    page.click("#confirm-yes")
    page.wait_for_selector("#no-voices:not([hidden])")


def reach(page: Any, selector: str, backwards: bool = False) -> None:
    """Press Tab until the focus is there."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        wanted = page.query_selector(selector)
        if wanted and page.evaluate("e => document.activeElement === e", wanted):
            return
        page.keyboard.press("Shift+Tab" if backwards else "Tab")
    raise AssertionError(f"{selector} cannot be reached by Tab")
