"""The page when things do not go as they should: keys that are held, servers that are gone, presses that tremble."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from app.conftest import CHROMIUM, Microphone
from app.test_app import wav

from speechft.app.store import VoiceFolder
from speechft.audio import load_audio

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
NewPage = Callable[..., Any]


def speak(page: Any, microphone: Microphone, press: Callable[[], None]) -> None:
    """Record something that sounds like speech."""
    microphone.hear(load_audio(io.BytesIO(wav(2.0))))
    press()
    page.wait_for_selector("#rec.live")
    page.wait_for_timeout(1500)
    press()


def test_a_key_that_is_held_and_a_hand_that_trembles_press_once(page: Any, microphone: Microphone) -> None:
    page.focus("#rec")
    for key in ("Enter", "Space"):
        page.keyboard.down(key)
        for _ in range(3):
            page.keyboard.down(key)  # the key repeats
        page.keyboard.up(key)
        page.wait_for_selector("#rec.live")
        page.wait_for_timeout(700)
        assert "live" in page.get_attribute("#rec", "class")
        page.click("#rec")
        page.wait_for_selector("#rec-label:text-is('Start recording')")
    page.dblclick("#rec")
    page.wait_for_selector("#rec.live")
    page.wait_for_timeout(700)
    assert "live" in page.get_attribute("#rec", "class")


def test_a_switch_that_is_held_presses_once_and_stays_where_one_records(page: Any, microphone: Microphone) -> None:
    page.click("#settings summary")
    page.fill("#scan-speed", "1")
    page.check("#scan-on")

    def press() -> None:
        page.wait_for_selector("#rec.scanned")
        page.keyboard.down("Space")
        page.keyboard.down("Space")
        page.keyboard.up("Space")

    speak(page, microphone, press)
    page.wait_for_selector("#progress-text:has-text('1 recording')")
    page.wait_for_selector("#rec.scanned", timeout=2500)  # not after a way round the whole page
    assert "live" not in page.get_attribute("#rec", "class")


def test_what_could_not_be_saved_is_kept_and_saved_later(page: Any, microphone: Microphone, anna: VoiceFolder) -> None:
    page.route("**/recordings", lambda route: route.abort())
    speak(page, microphone, lambda: page.click("#rec"))
    page.wait_for_selector("#rec-label:text-is('Try to save again')")
    assert "does not answer" in page.inner_text("#alert")
    page.unroute("**/recordings")
    page.click("#skip")  # what comes next changes nothing about what was read
    page.click("#rec")
    page.wait_for_selector("#rec-label:text-is('Start recording')")
    assert page.inner_text("#alert") == ""
    assert [take.text for take in anna.takes()] == ["Good morning, did you sleep well?"]


def test_the_sentence_stays_while_it_is_recorded(page: Any, microphone: Microphone, anna: VoiceFolder) -> None:
    first = page.inner_text("#prompt")
    microphone.hear(load_audio(io.BytesIO(wav(2.0))))
    page.click("#rec")
    page.wait_for_selector("#rec.live")
    page.click("#skip")
    page.wait_for_selector("#alert:has-text('Press Stop first')")
    assert page.inner_text("#prompt") == first
    page.wait_for_timeout(1500)
    page.click("#rec")
    page.wait_for_selector("#progress-text:has-text('1 recording')")
    assert [take.text for take in anna.takes()] == [first]


def test_a_pause_says_saved_only_where_all_is(page: Any, microphone: Microphone) -> None:
    page.route("**/recordings", lambda route: route.abort())
    speak(page, microphone, lambda: page.click("#rec"))
    page.wait_for_selector("#rec-label:text-is('Try to save again')")
    page.click("#pause")
    page.wait_for_selector("#alert:has-text('not saved yet')")
    assert not page.is_visible("#paused")
    page.unroute("**/recordings")
    page.click("#rec")
    page.wait_for_selector("#rec-label:text-is('Start recording')")
    page.click("#pause")
    page.wait_for_selector("#paused", state="visible")


def test_a_hand_that_trembles_adds_a_file_once(page: Any, anna: VoiceFolder) -> None:
    page.eval_on_selector_all("details", "all => all.forEach((one) => { one.open = true; })")
    page.set_input_files("#upload-files", {"name": "one.wav", "mimeType": "audio/wav", "buffer": wav(2.0)})
    page.fill("#said-0", "hello there")
    page.dblclick("#upload-form button[type=submit], #upload-form button:not([type=button])")
    page.wait_for_selector("#status:has-text('1 recording added'), #alert:has-text('1 recording added')")
    page.wait_for_timeout(500)
    assert [take.text for take in anna.takes()] == ["hello there"]


def test_skipped_sentences_come_back(page: Any) -> None:
    first = page.inner_text("#prompt")
    assert not page.is_visible("#unskip")
    page.click("#skip")
    page.wait_for_selector(f"#prompt:not(:text-is('{first}'))")
    page.click("#unskip")
    page.wait_for_selector(f"#prompt:text-is('{first}')")
    assert not page.is_visible("#unskip")


def test_a_server_that_comes_back_gives_the_microphone_back(page: Any) -> None:
    page.evaluate("""() => {
        const real = AudioWorklet.prototype.addModule;
        AudioWorklet.prototype.addModule = () => {
            AudioWorklet.prototype.addModule = real;
            return Promise.reject(new Error("Unable to load a worklet's module."));
        };
    }""")
    page.click("#rec")
    page.wait_for_selector("#alert:has-text('does not answer')")
    page.click("#rec")
    page.wait_for_selector("#rec.live")


def test_own_sentences_that_are_not_saved_yet_stay(page: Any, anna: VoiceFolder) -> None:
    page.click("text=Choose and write your own sentences")
    page.fill("#set-0", "My very own sentence.")
    page.click("nav >> text=Voices")
    page.click("nav >> text=Record")
    page.fill("#names", "Mira")
    page.click("text=Add these names")
    page.wait_for_selector("#status:has-text('1 name added')")
    sets = anna.phrases()["sets"]
    assert sets["Everyday"] == ["My very own sentence."]
    assert len(sets["Names"]) == 5
    page.wait_for_selector("label:text-is('Names: one sentence on a line')", state="attached")


def test_one_bad_file_does_not_keep_the_others_out(page: Any, anna: VoiceFolder) -> None:
    page.click("text=Use recordings you have")
    files = [("good.wav", wav()), ("bad.wav", b"nothing"), ("also.wav", wav(3.0))]
    page.set_input_files("#upload-files", [{"name": n, "mimeType": "audio/wav", "buffer": data} for n, data in files])
    for number in range(3):
        page.fill(f"#said-{number}", f"sentence {number}")
    page.click("text=Add them")
    page.wait_for_selector("#alert:has-text('2 recordings added. bad.wav was not added.')")
    assert sorted(take.text for take in anna.takes()) == ["sentence 0", "sentence 2"]
    assert page.locator("#upload-texts input").count() == 1


def test_training_is_followed_through_a_restart_and_an_interruption(
    url: str, new_page: NewPage, anna: VoiceFolder
) -> None:
    page = new_page()
    state: dict[str, Any] = {"phase": "learning", "share": 0.5, "expected_s": 60.0, "running": True}
    gone = [False]

    def reply(route: Any) -> None:
        if gone[0]:
            route.abort()
            return
        about = {"id": anna.id, "name": "Anna", "recordings": 12, "minutes": 1.0, "trained": False, "result": None}
        route.fulfill(body=json.dumps({**about, "training": state, "estimate_s": 60}), content_type="application/json")

    page.route(f"**/api/voices/{anna.id}", reply)
    page.goto(f"{url}/#train")
    page.wait_for_selector("#training-text:has-text('Learning your voice')")
    gone[0] = True
    page.wait_for_selector("#alert:has-text('I keep looking for it')")
    gone[0] = False
    state["phase"] = "testing"
    page.wait_for_selector("#training-text:has-text('Trying it')")
    state["running"] = False
    page.wait_for_selector("#training-text:has-text('It was interrupted')")
    assert page.inner_text("#train") == "Go on training"


def test_an_alternative_is_a_correction_without_writing(url: str, new_page: NewPage, anna: VoiceFolder) -> None:
    page = new_page()
    word = {"text": "gut", "start": 0.0, "end": 1.0, "sure": 0.2}
    found = {"start": 0.0, "end": 1.0, "text": "gut", "problem": "uncertain", "words": [word]}
    lines = [{"which": "base", "segment": found}, {"which": "base", "done": True}]
    page.route("**/api/transcribe", lambda route: route.fulfill(body="\n".join(map(json.dumps, lines)) + "\n"))
    page.route("**/api/alternatives", lambda route: route.fulfill(body='["gut", "good"]'))
    page.goto(f"{url}/#transcribe")
    page.click("text=A recording from a file")
    page.set_input_files("#file", {"name": "a.wav", "mimeType": "audio/wav", "buffer": wav()})
    page.click("#file-go")
    page.wait_for_selector("#texts:has-text('It was hard to hear')")
    page.click("button:text-is('What else it could be')")
    page.click("button[aria-label='This is it: good']")
    assert anna.takes() == []  # not before it is asked for
    page.click("#correct-add")
    page.wait_for_selector("#status:has-text('Added')")
    assert [take.text for take in anna.takes()] == ["good"]
