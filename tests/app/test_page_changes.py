"""The page when voice, place or recording change while something is under way: all goes where it belongs."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from app.conftest import CHROMIUM, Microphone
from app.test_app import wav
from app.test_page import speak

from speechft.app.store import Store, VoiceFolder

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
NewPage = Callable[..., Any]


@pytest.fixture
def ben(store: Store) -> VoiceFolder:
    return store.create("Ben", "I agree")


def use(page: Any, name: str) -> None:
    page.click("nav >> text=Voices")
    page.click(f"button[aria-label='Use this voice: {name}']")


def sound(name: str) -> dict[str, Any]:
    return {"name": name, "mimeType": "audio/wav", "buffer": wav()}


def fulfil(answer: dict[str, Any], route: Any) -> None:
    route.fulfill(**answer)


def held(page: Any, address: str) -> Callable[[], Any]:
    """The first request to an address will wait; what this returns waits for it, and returns it."""
    caught: list[Any] = []

    def catch(route: Any) -> None:
        if caught:
            route.fallback()
        else:
            caught.append(route)

    def first() -> Any:
        for _ in range(600):
            if caught:
                return caught[0]
            page.wait_for_timeout(100)
        raise AssertionError("nothing was asked for")

    page.route(address, catch)
    return first


def test_who_presses_record_first_gets_there(url: str, ben: VoiceFolder, new_page: NewPage) -> None:
    page = new_page()
    page.goto(url)
    page.wait_for_selector("#voice-list li")
    page.click("nav >> text=Record")
    page.wait_for_selector("#status:has-text('Choose or make a voice first')")
    page.click("button[aria-label='Use this voice: Ben']")
    page.wait_for_selector("#view-record", state="visible")
    page.click("nav >> text=Voices")
    page.wait_for_selector("#view-voices", state="visible")
    page.focus(".skip")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    page.wait_for_timeout(300)
    assert page.is_visible("#view-voices")


def test_a_recording_is_given_up_only_where_nothing_can_save_it(page: Any, microphone: Microphone) -> None:
    for code, label in ((400, "Try to save again"), ("unusable", "Start recording")):
        answer = {"status": 400, "body": json.dumps({"error": {"message": "that did not work", "code": code}})}
        page.route("**/recordings", partial(fulfil, answer))
        if code == 400:
            speak(page, microphone, lambda: page.click("#rec"))
        else:
            page.click("#rec")  # once more
        page.wait_for_selector("#alert:has-text('That did not work')")
        page.wait_for_selector(f"#rec-label:text-is('{label}')")
        page.unroute("**/recordings")


def test_what_is_kept_does_not_outlive_a_change_of_voice(
    page: Any, microphone: Microphone, anna: VoiceFolder, ben: VoiceFolder
) -> None:
    page.route("**/recordings", lambda route: route.abort())
    speak(page, microphone, lambda: page.click("#rec"))
    page.wait_for_selector("#rec-label:text-is('Try to save again')")
    page.unroute("**/recordings")
    use(page, "Ben")
    page.click("#confirm-no")
    assert page.inner_text("#who") == "Anna"
    use(page, "Ben")
    page.click("#confirm-yes")
    page.wait_for_selector("#who:text-is('Ben')")
    page.wait_for_selector("#rec-label:text-is('Start recording')")
    assert anna.takes() == ben.takes() == []


def test_uploads_go_into_the_voice_they_were_chosen_for(page: Any, anna: VoiceFolder, ben: VoiceFolder) -> None:
    page.click("text=Use recordings you have")
    page.set_input_files("#upload-files", [sound("a.wav"), sound("b.wav")])
    page.fill("#said-0", "one")
    page.fill("#said-1", "two")
    first = held(page, "**/recordings")
    page.click("text=Add them")
    sent = first()
    use(page, "Ben")
    page.wait_for_selector("#who:text-is('Ben')")
    sent.continue_()
    page.wait_for_selector("#status:has-text('2 recordings added'), #alert:has-text('2 recordings added')")
    assert sorted(take.text for take in anna.takes()) == ["one", "two"]
    assert ben.takes() == []
    page.set_input_files("#upload-files", [sound("c.wav")])
    page.wait_for_selector("#said-0")
    use(page, "Anna")
    page.wait_for_selector("#said-0", state="detached")


def test_a_correction_is_of_what_is_shown_and_added_once(url: str, new_page: NewPage, anna: VoiceFolder) -> None:
    page = new_page()
    found = {"start": 0.0, "end": 1.0, "text": "gut", "problem": None, "words": []}
    lines = [{"which": which, "segment": found} for which in ("personal", "base")]
    body = "".join(json.dumps(line) + "\n" for line in lines)
    page.route("**/api/transcribe", lambda route: route.fulfill(body=body))
    page.route("**/api/alternatives", lambda route: route.fulfill(body='["good"]'))
    page.route("**/v1/models", lambda route: route.fulfill(body='{"data": [{"id": "tiny.en"}]}'))
    page.goto(f"{url}/#transcribe")
    page.click("text=A recording from a file")
    page.set_input_files("#file", sound("a.wav"))
    page.click("#file-go")
    page.click("button[aria-label='What else it could be: Standard']")
    page.click("button[aria-label='This is it: good']")
    page.click("#correct-add")
    page.wait_for_selector("#status:has-text('Added')")
    page.click("button[aria-label='This is it: good']")
    page.wait_for_selector("#alert:has-text('was added already')")
    page.click("nav >> text=Train")
    page.click("nav >> text=Transcribe")
    assert not page.is_visible("#correct")
    page.click("button[aria-label='Subtitles: Your voice']")
    page.wait_for_selector("#alert:has-text('is gone')")
    page.unroute("**/api/transcribe")
    first = held(page, "**/api/transcribe")
    page.click("#file-go")
    sent = first()
    assert not page.is_visible("#correct")  # what is written there would be of the recording before
    sent.fulfill(body=body)
    page.wait_for_selector("#correct", state="visible")
    assert [take.text for take in anna.takes()] == ["good"]


def test_no_button_ends_the_recording_of_the_other(page: Any, microphone: Microphone, anna: VoiceFolder) -> None:
    def stop() -> None:  # and press the other one before it has stopped
        page.evaluate("for (const id of ['rec', 'talk']) document.getElementById(id).click()")

    presses = [lambda: page.click("#rec"), stop]
    speak(page, microphone, lambda: presses.pop(0)())
    page.wait_for_selector("#progress-text:has-text('1 recording')")
    assert len(anna.takes()) == 1
    assert "live" not in (page.get_attribute("#talk", "class") or "")
    page.click("#rec")
    page.wait_for_selector("#rec.live")
    page.click("text=All recordings")
    page.click("#takes button.danger")
    page.wait_for_selector("#alert:has-text('Press Stop first')")
    page.wait_for_timeout(700)
    page.click("#rec")
    page.wait_for_selector("#rec-label:text-is('Start recording')")
    assert not page.is_visible("#confirm")


def test_a_training_that_did_not_help_says_that_the_earlier_one_is_kept(
    url: str, new_page: NewPage, anna: VoiceFolder
) -> None:
    page = new_page()
    numbers = {"before": 5, "after": 5, "low": None, "high": None, "sentences": 9, "words": 50, "more": 20}
    about = {"id": anna.id, "name": "Anna", "recordings": 12, "minutes": 1.0, "trained": True, "estimate_s": 60}
    about |= {"training": None, "report": False, "result": {**numbers, "verdict": "not yet", "kept": True}}
    page.route(f"**/api/voices/{anna.id}", partial(fulfil, {"body": json.dumps(about)}))
    page.goto(f"{url}/#train")
    page.wait_for_selector("#result-verdict:has-text('What was learnt before is kept')")
    assert not page.is_visible("#report")


def test_the_frame_of_one_switch_stays_on_the_page(url: str, new_page: NewPage) -> None:
    page = new_page()
    page.goto(f"{url}/#voices")
    page.click("text=Bring a voice from another computer")
    page.evaluate("""() => {
        window.seen = [];
        new MutationObserver(() => window.seen.push(document.querySelector(".scanned")?.id))
            .observe(document.body, { attributeFilter: ["class"], subtree: true });
    }""")
    page.click("#settings summary")
    page.fill("#scan-speed", "0.5")
    page.check("#scan-on")
    page.wait_for_selector("#import.scanned", timeout=120_000)
    assert "import-file" not in page.evaluate("window.seen")


def test_a_long_message_leaves_the_page_free(page: Any) -> None:
    page.evaluate("document.getElementById('alert').textContent = 'word '.repeat(3000)")
    assert page.evaluate("document.getElementById('alert').offsetHeight / innerHeight") < 0.31
