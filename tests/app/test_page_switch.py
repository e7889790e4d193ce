"""One switch in a real browser: the frame, text fields that it goes into and leaves, and what must not be pressed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from app.conftest import CHROMIUM

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
NewPage = Callable[..., Any]


@pytest.fixture
def switched(url: str, new_page: NewPage) -> Any:
    """The place Voices, with the frame as quick as a busy machine can follow."""
    page = new_page()
    page.set_default_timeout(60_000)
    page.goto(f"{url}/#voices")
    page.wait_for_selector("#voice-list li")
    page.click("#settings summary")
    page.fill("#scan-speed", "1")
    page.check("#scan-on")
    return page


def press(page: Any, selector: str, key: str = "Space") -> None:
    page.wait_for_selector(f"{selector}.scanned")
    page.keyboard.press(key)


def test_who_writes_is_not_hurried_and_ends_it_with_enter(switched: Any) -> None:
    page = switched
    press(page, "#new-name")
    page.keyboard.type("Ben")
    page.wait_for_timeout(12_000)  # longer than the frame waits where nothing is written
    page.keyboard.type(" B")
    assert page.input_value("#new-name") == "Ben B"
    assert page.query_selector("#new-name.scanned")
    page.wait_for_timeout(400)
    page.keyboard.press("Enter")  # sends no form that is half filled in
    page.wait_for_selector("#new-by.scanned")
    assert page.is_visible("#view-voices")
    assert page.input_value("#new-name") == "Ben B"


def test_a_field_that_was_pressed_by_accident_is_left_by_a_press_or_by_waiting(switched: Any) -> None:
    page = switched
    press(page, "#new-name")
    page.wait_for_timeout(400)
    page.keyboard.press("Space")
    page.wait_for_selector("#new-by.scanned")
    assert page.input_value("#new-name") == ""
    page.keyboard.press("Space")
    page.wait_for_selector("#new-agreed.scanned", timeout=14_000)
    page.select_option("#scan-wait", "")
    press(page, "#new-name")
    page.wait_for_timeout(12_000)
    assert page.query_selector("#new-name.scanned")


def test_letters_that_go_astray_agree_to_nothing(switched: Any) -> None:
    page = switched
    page.wait_for_selector("#new-agreed.scanned")
    page.keyboard.type("a ")
    page.wait_for_selector("#status:has-text('Nothing is pressed so soon after letters')")
    assert not page.is_checked("#new-agreed")


def test_one_switch_agrees_only_when_asked_again(switched: Any) -> None:
    page = switched
    press(page, "#new-agreed")
    press(page, "#confirm-no")
    page.wait_for_selector("#confirm", state="hidden")
    assert not page.is_checked("#new-agreed")
    press(page, "#new-agreed")
    press(page, "#confirm-yes")
    page.wait_for_selector("#new-agreed:checked")


def test_an_empty_line_ends_what_has_several(switched: Any) -> None:
    page = switched
    page.uncheck("#scan-on")
    page.click("nav >> text=Record")
    page.click("text=Choose and write your own sentences")
    page.check("#scan-on")
    press(page, "#names")
    page.keyboard.type("Mira")
    page.wait_for_timeout(400)
    page.keyboard.press("Enter")
    page.keyboard.type("Tom")
    page.wait_for_timeout(1500)
    assert page.query_selector("#names.scanned")
    page.keyboard.press("Enter")
    page.wait_for_timeout(400)
    page.keyboard.press("Enter")
    page.wait_for_selector("#names-form button.scanned")
    assert page.input_value("#names").split() == ["Mira", "Tom"]
