"""The page while something is at work, when it is over, and when the app is gone: what it says, where the focus is."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from app.conftest import CHROMIUM, Microphone
from app.test_app import wav
from app.test_page import speak
from app.test_page_changes import fulfil, held, sound, use

from speechft.app.store import Store, VoiceFolder
from speechft.audio import load_audio

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
NewPage = Callable[..., Any]
FOCUS = "document.activeElement.id"


def until(page: Any, expression: str) -> None:
    """Wait until it is true in the page, whose policy keeps Playwright from waiting for it there."""
    for _ in range(600):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(100)
    raise AssertionError(expression)


def test_a_place_that_cannot_be_shown_offers_to_try_again(url: str, new_page: NewPage, anna: VoiceFolder) -> None:
    page = new_page()
    page.route("**/api/**", lambda route: route.abort())
    page.goto(f"{url}/#record")
    page.wait_for_selector("#unreached-why:has-text('does not answer')")
    assert not page.is_visible("#rec")
    page.keyboard.press("Space")  # records nothing
    page.unroute("**/api/**")
    page.click("#try-again")
    page.wait_for_selector("#prompt:not(:empty)")
    assert page.evaluate(FOCUS) == "h-record"
    page.route("**/prompts", lambda route: route.abort())
    page.click("nav >> text=Voices")
    page.click("nav >> text=Record")
    page.wait_for_selector("#unreached-why:has-text('does not answer')")
    assert not page.is_visible("#rec")


def test_nothing_is_recorded_before_there_is_a_sentence(page: Any, store: Store) -> None:
    store.create("Ben", "I agree")
    first = held(page, "**/prompts")
    use(page, "Ben")
    first()
    assert page.inner_text("#prompt", timeout=1000) == "" or not page.is_visible("#prompt")
    assert page.is_disabled("#rec")


def test_a_recording_saved_after_another_place_was_looked_at_is_not_asked_for_again(
    page: Any, microphone: Microphone, anna: VoiceFolder
) -> None:
    text = page.inner_text("#prompt")
    page.route("**/recordings", lambda route: route.abort() if route.request.method == "POST" else route.fallback())
    speak(page, microphone, lambda: page.click("#rec"))
    page.wait_for_selector("#rec-label:text-is('Try to save again')")
    page.unroute("**/recordings")
    page.click("nav >> text=Train")
    page.wait_for_selector("#view-train", state="visible")
    page.click("nav >> text=Record")
    page.wait_for_selector("#view-record", state="visible")
    page.click("#rec")
    page.wait_for_selector("#rec-label:text-is('Start recording')")
    assert [take.text for take in anna.takes()] == [text]
    assert page.inner_text("#prompt") != text
    assert page.inner_text("#prompt-place").startswith("Sentence 2 ")


def test_a_note_about_one_voice_is_not_shown_on_another(page: Any, microphone: Microphone, store: Store) -> None:
    store.create("Ben", "I agree")
    microphone.hear(0.001 * load_audio(io.BytesIO(wav(2.0))))
    page.click("#rec")
    page.wait_for_selector("#rec.live")
    page.wait_for_timeout(1500)
    page.click("#rec")
    page.wait_for_selector("#kind:not([hidden]), #alert:not(:empty)")
    page.evaluate("document.getElementById('kind').hidden = false")
    use(page, "Ben")
    page.wait_for_selector("#prompt-place:has-text('Sentence 1')")
    assert not page.is_visible("#kind")


def test_what_is_heard_ends_with_a_second_press_and_with_a_recording(
    page: Any, microphone: Microphone, anna: VoiceFolder
) -> None:
    anna.add(wav(30.0), "a long one", "free", 30.0)
    page.add_init_script("""
        window.played = [];
        const real = HTMLMediaElement.prototype.play;
        HTMLMediaElement.prototype.play = function () { window.played.push(this); return real.call(this); };
    """)
    page.reload()
    page.click("text=All recordings")
    page.click("button[aria-label='Listen: a long one']")
    until(page, "played.length === 1 && !played[0].paused")
    page.click("button[aria-label='Listen: a long one']")
    until(page, "played.every((one) => one.paused)")
    page.click("button[aria-label='Listen: a long one']")
    until(page, "played.length === 2 && !played[1].paused")
    page.click("#rec")
    page.wait_for_selector("#rec.live")
    assert page.evaluate("played.every((one) => one.paused)")
    page.wait_for_timeout(700)
    page.click("#rec")
    page.wait_for_selector("#rec-label:text-is('Start recording')")
    page.route("**/recordings/*", lambda route: route.abort())
    page.click("button[aria-label='Listen: a long one']")
    page.wait_for_selector("#alert:has-text('does not answer')")


def test_the_focus_stays_when_a_training_ends_and_its_end_is_said_everywhere(
    url: str, new_page: NewPage, anna: VoiceFolder
) -> None:
    page = new_page()
    running = {"phase": "learning", "share": 0.5, "expected_s": 60.0, "running": True}
    about: dict[str, Any] = {"id": anna.id, "name": "Anna", "recordings": 12, "minutes": 1.0, "trained": False}
    about |= {"estimate_s": 60, "report": False, "result": None, "training": running, "left": 3}
    result = {"before": 5, "after": 6, "low": None, "high": None, "sentences": 9, "words": 50, "more": 100}
    page.route(f"**/api/voices/{anna.id}", lambda route: route.fulfill(body=json.dumps(about)))
    page.goto(f"{url}/#train")
    page.wait_for_selector("#stop-training", state="visible")  # what is hidden takes no focus
    page.focus("#stop-training")
    about |= {"training": None, "result": {**result, "verdict": "unsure", "kept": False}}
    page.wait_for_selector("#status:has-text('Training is done')")
    assert page.evaluate(FOCUS) == "h-result"
    assert "Record 3 more sentences" in page.inner_text("#result-verdict")  # there are no more
    about["left"] = 0
    page.reload()
    page.wait_for_selector("#result-verdict:has-text('sentences of your own')")

    about |= {"training": running, "result": None}
    page.reload()
    page.wait_for_selector("#training-bar", state="visible")
    page.click("nav >> text=Record")
    page.wait_for_selector("#view-record", state="visible")
    about["training"] = {"phase": "failed", "share": 0.0, "reason": "There is no room left.", "expected_s": 60.0}
    page.wait_for_selector("#status:has-text('Training did not work')")
    page.click("nav >> text=Train")
    page.wait_for_selector("#training-text:has-text('There is no room left')")
    assert not page.is_visible("#training-bar")
    assert not page.is_visible("text=You may close this page")


def test_a_message_hides_nothing_and_can_be_closed(url: str, new_page: NewPage) -> None:
    page = new_page(viewport={"width": 640, "height": 450})
    page.route(
        "**/api/voices/import",
        lambda route: route.fulfill(status=400, body='{"error": {"message": "' + 60 * "long " + '"}}'),
    )
    page.goto(f"{url}/#voices")
    page.click("text=Bring a voice from another computer")
    page.set_input_files("#import-file", {"name": "a.zip", "mimeType": "application/zip", "buffer": b"x"})
    page.click("#import")
    page.wait_for_selector("#alert:not(:empty)")
    covered = """() => {
        const bar = document.getElementById("bar").getBoundingClientRect();
        return document.activeElement.getBoundingClientRect().bottom > bar.top + 1;
    }"""
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.getElementById('bar').contains(document.activeElement)"):
            break
        assert not page.evaluate(covered), page.evaluate("document.activeElement.outerHTML")
    page.keyboard.press("Escape")
    page.wait_for_selector("#alert:empty", state="attached")
    page.click("#import")
    page.click("#close-message")
    assert page.inner_text("#alert") == ""
    assert not page.is_visible("#close-message")


def test_what_is_at_work_is_said_until_it_is_done(page: Any, store: Store) -> None:
    page.click("text=Use recordings you have")
    files = [sound("a.wav"), {"name": "a.txt", "mimeType": "text/plain", "buffer": b"hello\nthere\n"}]
    page.set_input_files("#upload-files", files)
    until(page, "document.getElementById('said-0')?.value === 'hello there'")
    first = held(page, "**/recordings")
    page.click("text=Add them")
    sent = first()
    page.wait_for_timeout(8500)
    assert page.inner_text("#status") == "Adding recording 1 of 1…"
    sent.continue_()
    page.wait_for_selector("#status:has-text('1 recording added'), #alert:has-text('1 recording added')")


def test_the_original_sentences_come_back_and_own_sets_go(page: Any, anna: VoiceFolder) -> None:
    page.click("text=Choose and write your own sentences")
    page.fill("#set-0", "")
    page.fill("#new-set", "Mine")
    page.click("#add-set")
    page.keyboard.type("My own.")
    page.click("text=Save the sentences")
    page.wait_for_selector("#status:has-text('saved')")
    assert anna.phrases()["sets"] == {"Everyday": [], "Mine": ["My own."]}
    page.click("button[aria-label='Put the original sentences back: Everyday']")
    page.click("button[aria-label='Remove this set: Mine']")
    page.click("text=Save the sentences")
    page.wait_for_selector("#status:has-text('are saved')")
    assert anna.phrases()["sets"] == {}


def test_the_last_sentence_skipped_comes_back_alone(page: Any, anna: VoiceFolder) -> None:
    texts = []
    for _ in range(2):
        texts.append(page.inner_text("#prompt"))
        page.click("#skip")
        page.wait_for_selector(f"#prompt:not(:text-is('{texts[-1]}'))")
    page.click("#undo-skip")
    page.wait_for_selector(f"#prompt:text-is('{texts[1]}')")
    assert anna.phrases()["skipped"] == texts[:1]


def test_after_the_last_sentence_the_focus_is_on_what_is_said(
    page: Any, microphone: Microphone, anna: VoiceFolder
) -> None:
    anna.save_phrases({"Everyday": ["One."], "At home": [], "Care": []}, [])
    page.reload()
    page.wait_for_selector("#prompt:text-is('One.')")
    page.focus("#rec")
    speak(page, microphone, lambda: page.keyboard.press("Space"))
    page.wait_for_selector("#prompt:has-text('That was the last sentence')")
    assert page.evaluate(FOCUS) == "prompt"


def test_a_text_grows_under_the_focus_and_breaks_off_in_plain_words(
    url: str, new_page: NewPage, anna: VoiceFolder
) -> None:
    page = new_page()
    page.add_init_script("""
        const real = window.fetch;
        window.fetch = (path, options) => {
            if (path !== "/api/transcribe") return real(path, options);
            return Promise.resolve(new Response(new ReadableStream({ start(made) { window.stream = made; } })));
        };
        window.tell = (line) => window.stream.enqueue(new TextEncoder().encode(JSON.stringify(line) + "\\n"));
    """)
    page.goto(f"{url}/#transcribe")
    page.click("text=A recording from a file")
    page.set_input_files("#file", sound("a.wav"))
    page.click("#file-go")
    until(page, "Boolean(window.stream)")
    segment = {"start": 0.0, "end": 1.0, "text": "cup of", "problem": None}
    words = [{"text": "cup", "sure": 0.2}, {"text": "of", "sure": 0.9}]
    page.evaluate("tell", {"which": "base", "segment": {**segment, "words": words}})
    page.focus("button[aria-label='Copy: Standard']")
    page.evaluate("tell", {"which": "base", "segment": {**segment, "text": "tea", "words": []}})
    page.wait_for_selector("#text-base:has-text('tea')")
    assert page.evaluate("document.activeElement.textContent") == "Copy"
    selected = page.evaluate(
        "getSelection().selectAllChildren(document.getElementById('text-base')) ?? getSelection() + ''"
    )
    assert selected.split() == ["cup", "of", "tea"]
    page.evaluate("stream.error(new TypeError('network error'))")
    page.wait_for_selector("#alert:has-text('stopped answering in the middle')")


def test_an_export_says_that_the_app_is_gone_or_gives_the_file(page: Any) -> None:
    page.click("nav >> text=Voices")
    page.route("**/export*", lambda route: route.abort())
    page.click("button:text-is('Export with recordings')")
    page.wait_for_selector("#alert:has-text('does not answer')")
    page.route("**/export*", partial(fulfil, {"status": 400, "body": '{"error": {"message": "it is gone"}}'}))
    page.click("button:text-is('Export with recordings')")
    page.wait_for_selector("#alert:has-text('It is gone')")
    page.unroute("**/export*")
    with page.expect_download() as download:
        page.click("button:text-is('Export with recordings')")
    assert download.value.suggested_filename.endswith(".zip")


def test_why_there_is_no_microphone_is_one_cause(page: Any) -> None:
    page.evaluate("""() => {
        navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException("no", "NotAllowedError"));
    }""")
    page.click("#rec")
    page.wait_for_selector("#alert:has-text('told not to let this page use the microphone')")
    assert "There is no microphone" not in page.inner_text("#alert")


def test_the_microphone_is_remembered(page: Any, microphone: Microphone) -> None:
    speak(page, microphone, lambda: page.click("#rec"))
    page.wait_for_selector("#progress-text:has-text('1 recording')")
    page.click("#settings summary")
    until(page, "document.getElementById('microphone').length > 1")
    page.select_option("#microphone", index=1)
    chosen = page.input_value("#microphone")
    page.reload()
    until(page, "document.getElementById('microphone').length > 1")
    assert page.input_value("#microphone") == chosen
