"""The report in a real browser: desktop, phone, dark and print; by keyboard; without a complaint of axe-core."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from speechft.calibration import Judged, calibration
from speechft.manifest import Utterance
from speechft.paired import compare_all, compare_pairs
from speechft.report import write_report
from speechft.scoring import score

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
SENTENCES = (
    "please put the kettle on",
    "my sister comes on tuesday",
    "turn the radio down a little",
    "where did i leave my glasses",
    "the soup needs more salt",
    "call the doctor in the morning",
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with everything in it: groups, curves, confidences, several adapters, recordings."""
    out = tmp_path_factory.mktemp("report")
    rng = np.random.default_rng(0)
    (out / "clips").mkdir()
    soundfile.write(out / "clips" / "a.wav", 0.1 * rng.standard_normal(16_000), 16_000)
    clip, severities = out / "clips" / "a.wav", ("mild", "severe")
    rows = [
        Utterance(clip, text, f"s{s}-{i}", f"speaker {s}", duration_s=3.0, severity=severities[s % 2])
        for s in range(8)
        for i, text in enumerate(SENTENCES)
    ]
    rows.append(Utterance(clip, "", "silence", "speaker 0", duration_s=5.0))

    def noisy(share: float) -> list[str]:
        heard = [" ".join("well" if rng.random() < share else word for word in u.text.split()) for u in rows]
        return [*heard[:-1], "thank you for watching"]

    before, after, other = (score(rows, noisy(share)) for share in (0.5, 0.2, 0.3))
    words = [Judged(float(p), bool(rng.random() < p)) for p in rng.beta(4, 2, 500)]
    differences = compare_all(before, {"a": after, "b": other})
    scores: Any = {"a": after, "b": other}
    entries = {name: {**scores[name].to_dict(), "difference": differences[name], "forgetting": None} for name in "ab"}
    kept = {key: after.to_dict()[key] for key in ("wer", "wer_ci95", "cer")}
    result = {
        "evaluated_on": {"split": "test"},
        "overlap": "train and test share 1 sentence (2 of 49 rows of test)",
        "leakage": [
            {
                "first": "train",
                "second": "test",
                "rows": 49,
                "speakers": [],
                "sessions": [],
                "prompts": 0,
                "texts": 1,
                "text_rows": 2,
                "audio": [],
                "alike": [],
                "nameless": [0, 0],
            }
        ],
        "base": {**before.to_dict(), "calibration": calibration(words)},
        "adapted": {**after.to_dict(), "calibration": calibration(words)},
        "adapters": entries,
        "pairs": compare_pairs(scores),
        "adapter": "a",
        "forgetting": {
            "clips": 9,
            "speakers": 3,
            "base": kept,
            "adapted": kept,
            "difference": differences["a"],
            "left_out": [],
            "caveats": [],
        },
        "semantic": {"semscore": None, "phonetic": 0.9, "phonetic_by_word": 0.7, "note": "no SemScore: no models"},
        "dose_curve": [{"minutes": m, "wer": 0.5 / m, "wer_ci95": [0.4 / m, 0.6 / m]} for m in (1, 2, 5)],
        "left_out": [{"where": "manifest.jsonl:9", "reason": "audio is empty"}],
    }
    metrics = [{"step": s, "loss": 3 / s} for s in range(1, 60)]
    metrics += [{"step": s, "wer": 0.6 / s, "cer": 0.3 / s, "model": "trained"} for s in (1, 20, 40)]
    audio = {u.id: u.audio for u in rows}
    notes = ["simulated voice, not evidence about real speech"]
    return write_report(out, result, before, after, audio=audio, metrics=metrics, title="A run", notes=notes)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


WIDTHS = {"desktop": {"width": 1280, "height": 900}, "phone": {"width": 360, "height": 740}}


@pytest.fixture(params=[("desktop", "light"), ("desktop", "dark"), ("phone", "light"), ("phone", "dark")])
def page(request: pytest.FixtureRequest, browser: Any, report: Path) -> Iterator[Any]:
    width, scheme = request.param
    context = browser.new_context(viewport=WIDTHS[width], color_scheme=scheme)
    opened = context.new_page()
    opened.complaints = []
    opened.on("console", lambda message: opened.complaints.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: opened.complaints.append(str(error)))
    opened.on("request", lambda asked: opened.complaints.append(asked.url) if "file:" not in asked.url else None)
    opened.goto(report.as_uri())
    yield opened
    context.close()


def complaints_of_axe(page: Any) -> list[str]:
    """All violations, also those that axe-core calls minor."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    found = axe.Axe().run(page, options={"resultTypes": ["violations"]}).response["violations"]
    return [f"{v['id']}: {v['nodes'][0]['html'][:120]} {v['nodes'][0].get('failureSummary', '')[:200]}" for v in found]


def test_axe_finds_nothing(page: Any) -> None:
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert complaints_of_axe(page) == []
    assert page.complaints == []


def test_nothing_is_wider_than_the_screen(page: Any) -> None:
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_a_phone_shows_every_number_without_scrolling_sideways(browser: Any, report: Path) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.goto(report.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    wide = "[...document.querySelectorAll('.wide')].filter((box) => box.scrollWidth > box.clientWidth)"
    assert page.evaluate(f"{wide}.map((box) => box.innerText)") == []
    cell = page.get_by_role("table", name="Each against base").get_by_role("row").nth(2).get_by_role("cell").last
    assert page.evaluate("(cell) => getComputedStyle(cell, '::before').content", cell.element_handle()).startswith(
        '"p, segments"'
    )
    assert cell.bounding_box()["x"] + cell.bounding_box()["width"] <= 390
    assert page.get_by_role("columnheader", name="p, segments").count() == 2  # a table to a screen reader
    page.close()


def test_what_was_said_comes_before_what_was_heard_wrongly(browser: Any, report: Path) -> None:
    page = browser.new_page(viewport=WIDTHS["desktop"])
    page.goto(report.as_uri())
    for media in ("screen", "print"):
        page.emulate_media(media=media, color_scheme="dark")
        pair = page.locator("#list .sub").first
        assert re.fullmatch(r"said \w+, heard \S well", " ".join(pair.text_content().split()))
        colour = "(element) => getComputedStyle(element).color"
        said, wrong, missed = (page.locator(f"{place}").first for place in ("#list .sub", "#list .wrong", ".how del"))
        assert said.evaluate(colour) == page.locator("#list dd").first.evaluate(colour)
        assert wrong.evaluate(colour) == missed.evaluate(colour) != said.evaluate(colour)
        assert wrong.evaluate("(element) => getComputedStyle(element).textDecorationLine") == "underline"
        assert page.locator(".how").is_visible()
    assert page.locator("#list .arrow").first.get_attribute("aria-hidden") == "true"
    page.close()


def test_from_right_to_left_the_arrow_leads_to_what_was_heard_too(browser: Any, tmp_path: Path) -> None:
    rows = [Utterance(Path("/a.wav"), "שלום לך", "a", "s")]
    page = browser.new_page(viewport=WIDTHS["desktop"])
    page.goto(write_report(tmp_path, {}, score(rows, ["חלום לך"], "none"), None).as_uri())
    heard = page.locator("#list .said dd").nth(1)
    assert heard.evaluate("(element) => getComputedStyle(element).direction") == "rtl"
    arrow, wrong = (page.locator(f"#list {place}").bounding_box()["x"] for place in (".arrow", ".wrong"))
    assert wrong < arrow
    assert page.locator("#list .arrow").evaluate("(e) => getComputedStyle(e).transform") == "matrix(-1, 0, 0, 1, 0, 0)"
    page.close()


def test_search_and_filter_by_keyboard(browser: Any, report: Path) -> None:
    page = browser.new_page(viewport=WIDTHS["desktop"])
    page.goto(report.as_uri())
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the sentences"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "find"
    page.keyboard.type("kettle")
    assert page.locator("#list > li").count() == 8
    page.keyboard.press("Tab")
    page.keyboard.type("wholly")  # choosing an option by its first letters
    assert page.evaluate("document.getElementById('show').value") == "wholly right"
    assert all("0 words wrong" in text for text in page.locator("#list > li .who b").all_inner_texts())
    page.close()


def test_worst_first_and_paging(browser: Any, report: Path) -> None:
    page = browser.new_page(viewport=WIDTHS["phone"])
    page.goto(report.as_uri())
    counts = [int(text.split(" ")[-3]) for text in page.locator("#list > li .who b").all_inner_texts()]
    assert len(counts) == 20
    assert counts == sorted(counts, reverse=True)
    page.locator(".forth").first.click()
    assert page.locator(".where").first.inner_text() == "21–40 of 49"
    assert page.locator("audio").count() == 20
    page.close()


def test_paper_has_no_controls(browser: Any, report: Path, tmp_path: Path) -> None:
    page = browser.new_page(viewport=WIDTHS["desktop"])
    page.goto(report.as_uri())
    page.emulate_media(media="print")
    assert not page.locator("audio").first.is_visible()
    assert not page.locator("#find").is_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.pdf(path=tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").stat().st_size > 20_000
    page.close()


def test_paper_holds_what_is_folded_and_up_to_300_sentences(browser: Any, tmp_path: Path) -> None:
    words = [f"word{i:03}" for i in range(320)]
    rows = [Utterance(Path("/a.wav"), f"{word} here", f"u{i}", f"speaker {i % 50}") for i, word in enumerate(words)]
    heard = ["here" if i % 2 else f"well {u.text}" for i, u in enumerate(rows)]
    page = browser.new_page(viewport=WIDTHS["desktop"])
    page.goto(write_report(tmp_path, {"recipe": {"seed": 0}}, score(rows, heard), None).as_uri())
    shown = page.locator("#list > li").count(), page.locator("details[open]").count()
    speakers = page.get_by_role("group", name="Words wrong of all 50 speakers, most first")
    assert speakers.bounding_box()["height"] <= 512
    speakers.focus()
    page.keyboard.press("End")
    page.wait_for_function("(box) => box.scrollTop > 0", arg=speakers.element_handle())
    assert complaints_of_axe(page) == []
    page.emulate_media(media="print")
    assert speakers.evaluate("(box) => box.clientHeight >= box.querySelector('table').offsetHeight")
    assert page.get_by_text("speaker 49", exact=True).first.is_visible()  # by style alone
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.locator("#list > li").count() == 300
    assert page.locator("#printed").is_visible()
    assert page.locator("#printed").inner_text() == (
        "300 of 320 sentences are printed, in this order: most words wrong."
    )
    assert page.locator("details:not([open])").count() == 0
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert (page.locator("#list > li").count(), page.locator("details[open]").count()) == shown
    page.emulate_media(media="screen")
    assert not page.locator("#printed").is_visible()
    page.close()


def test_the_page_of_variations_too(browser: Any, tmp_path: Path) -> None:
    from speechft.augmented import listen
    from speechft.manifest import Manifest

    times = np.arange(16_000) / 16_000
    soundfile.write(tmp_path / "a.wav", 0.2 * np.sin(800 * times), 16_000)
    index = listen(Manifest([Utterance(tmp_path / "a.wav", "tea & toast", "a", "s")]), tmp_path / "out", ["tempo"])
    page = browser.new_page(viewport=WIDTHS["phone"])
    page.goto(index.as_uri())
    assert complaints_of_axe(page) == []
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    page.close()
