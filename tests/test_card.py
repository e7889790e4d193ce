"""A card counts what is there, invents nothing, names nobody, and keeps what people wrote into it."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from speechft.card import HUB_FIELDS, NOT_GIVEN, OUR_FIELDS, card, card_problems, read_card
from speechft.card_charts import bars, histogram
from speechft.cli import app
from speechft.errors import SpeechftError
from speechft.manifest import Manifest, Utterance
from speechft.split_files import write_split

KNOWN = {"language", "task_categories", "size_categories", "speakers", "hours", "manifest_sha256"}


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """Two voices, five clips of 1 to 3 s with sound and known counts."""
    rows = []
    table = [
        ("wilhelmina", "tea please", 1.0, "train", "mild"), ("wilhelmina", "more tea", 2.0, "train", "mild"),
        ("bartholomew", "stop", 3.0, "train", "severe"), ("bartholomew", "Tea, please!", 1.0, "test", "severe"),
        ("bartholomew", "open the window", 2.0, "test", "severe"),
    ]  # fmt: skip
    for i, (speaker, text, seconds, split, severity) in enumerate(table):
        soundfile.write(tmp_path / f"{i}.wav", 0.1 * np.sin(np.arange(int(16_000 * seconds)) / (9 + i)), 16_000)
        more: dict[str, Any] = {"severity": severity, "language": "en", "extra": {"carer": "Rumpelstilzchen"}}
        rows.append(Utterance(tmp_path / f"{i}.wav", text, f"u{i}", speaker, split, **more))
    return Manifest(rows, tmp_path / "manifest.jsonl").save(tmp_path / "manifest.jsonl")


def test_it_counts_and_leaves_the_rest_open(manifest: Manifest, tmp_path: Path) -> None:
    front = card(manifest, tmp_path / "card.md")
    fields, body = read_card(tmp_path / "card.md")
    assert fields == front
    assert (fields["utterances"], fields["speakers"], fields["minutes"], fields["hours"]) == (5, 2, 0.1, 0.0)
    assert math.isclose(manifest.seconds, 9.0)
    assert fields["manifest_sha256"] == manifest.sha256
    assert fields["language"] == ["en"]
    unknown = {*HUB_FIELDS, *OUR_FIELDS} - KNOWN - {"must_not_be_used_for"}
    assert all(fields[name] == NOT_GIVEN for name in unknown)
    assert not card_problems(fields, body)
    for line in (
        "| seconds per utterance: shortest, median, longest | 1.0, 2.0, 3.0 |",
        "| words: total, different | 10, 7 |",
        "| different sentences | 4 |",
        "| severe | 3 | 0.1 | 1 |",
        "| train | 3 | 0.1 | 2 |",
        "- train and test share 1 speaker, 1 sentence (1 of 2 rows of test)",
    ):
        assert line in body


def test_it_names_nobody_and_quotes_nothing(manifest: Manifest, tmp_path: Path) -> None:
    card(manifest, tmp_path / "card.md")
    written = "".join(path.read_text() for path in tmp_path.iterdir() if path.suffix in (".md", ".svg")).casefold()
    for word in ("wilhelmina", "bartholomew", "rumpelstilzchen", "window", str(tmp_path).casefold()):
        assert word not in written
    other = replace(manifest[4], speaker="Wilhelmina", prompt_id="Open the Window")
    rows = [replace(manifest[0], prompt_id="open the window"), *manifest[1:4], other]
    alike = Manifest(rows, tmp_path / "alike.jsonl").save(tmp_path / "alike.jsonl")
    card(alike, tmp_path / "card.md")
    write_split(alike, tmp_path / "alike.split.json", "official")
    for name in ("card.md", "alike.split.json"):
        written = (tmp_path / name).read_text()
        assert "and perhaps 1 speaker and 1 prompt, but for case or spaces" in written
        assert "window" not in written.casefold()
    assert "wilhelmina" not in (tmp_path / "card.md").read_text().casefold()
    card(manifest, tmp_path / "card.md", groups=["carer"])  # asked for
    assert "Rumpelstilzchen" in (tmp_path / "card.md").read_text()


@pytest.mark.parametrize(("languages", "units", "count"), [(["zh"] * 5, "characters", 28), (["zh", "en"], "words", 28)])
def test_scripts_without_spaces_are_counted_by_characters(
    manifest: Manifest, tmp_path: Path, languages: list[str], units: str, count: int
) -> None:
    texts = ["请打开灯。", "今天 天气很好", "我想喝水，谢谢", "关上门", "二十五度请开灯吧你"]
    rows = Manifest(
        replace(u, text=t, language=languages[i % len(languages)])
        for i, (u, t) in enumerate(zip(manifest, texts, strict=True))
    )
    card(rows, tmp_path / "card.md")
    body = read_card(tmp_path / "card.md")[1]
    assert f"| {units}: total, different | {count}, " in body
    assert f"| {units} per utterance: fewest, median, most | 3, 6, 9 |" in body
    assert f"![{units} of an utterance](card-words.svg)" in body


@pytest.mark.parametrize(
    ("texts", "language", "expected"),
    [
        (["请 打开 客厅 的 灯", "关 上 门"], None, ("characters", 10)),
        (["请 打开 客厅 的 灯", "关 上 门"], "cmn", ("characters", 10)),
        (["请 打开 客厅 的 灯", "关 上 门"], "wuu", ("characters", 10)),
        (["打开 WiFi please", "open it"], None, ("words", 6)),
        (["打开 3 号灯", ""], None, ("characters", 5)),
        (["tea please", "stop"], None, ("words", 3)),
    ],
)
def test_letters_tell_what_no_language_tells(
    manifest: Manifest, tmp_path: Path, texts: list[str], language: str | None, expected: tuple[str, int]
) -> None:
    rows = Manifest(replace(manifest[i], text=text, language=language) for i, text in enumerate(texts))
    card(rows, tmp_path / "c.md")
    assert "| {}: total, different | {}, ".format(*expected) in read_card(tmp_path / "c.md")[1]


def test_the_median_of_an_even_number_is_between_the_two_in_the_middle(manifest: Manifest, tmp_path: Path) -> None:
    card(manifest[:2], tmp_path / "c.md")
    assert "shortest, median, longest | 1.0, 1.5, 2.0 |" in read_card(tmp_path / "c.md")[1]


def test_silence_is_no_sentence(manifest: Manifest, tmp_path: Path) -> None:
    card(Manifest([manifest[0], replace(manifest[1], text="")]), tmp_path / "c.md")
    assert "| different sentences | 1 |" in read_card(tmp_path / "c.md")[1]


def test_a_group_that_is_named_twice_has_one_table(manifest: Manifest, tmp_path: Path) -> None:
    card(manifest, tmp_path / "card.md", groups=("split", "severity", "severity"))
    body = read_card(tmp_path / "card.md")[1]
    assert [body.count(f"### By {name}") for name in ("split", "severity")] == [1, 1]


def test_pictures_are_there_and_whole(manifest: Manifest, tmp_path: Path) -> None:
    card(manifest, tmp_path / "card.md")
    named = re.findall(r"!\[[^]]+\]\(([^)]+)\)", (tmp_path / "card.md").read_text())
    assert named == ["card-lengths.svg", "card-words.svg", "card-speakers.svg"]
    for name in named:
        ElementTree.parse(tmp_path / name)


def test_what_people_wrote_stays_and_counts_are_renewed(manifest: Manifest, tmp_path: Path) -> None:
    out = tmp_path / "card.md"
    card(manifest, out)
    text = out.read_text().replace(f"disorder: '{NOT_GIVEN}'", "disorder: dysarthria after a stroke")
    assert "dysarthria" in text
    out.write_text(text.replace(f"this corpus: {NOT_GIVEN}.", "this corpus: the kettle is on every tape."))
    front = card(manifest.split("train"), out)
    assert front["disorder"] == "dysarthria after a stroke"
    assert front["consent"] == NOT_GIVEN
    assert front["utterances"] == 3
    body = out.read_text()
    assert "the kettle is on every tape" in body
    assert body.count("## In numbers") == 1
    assert card(manifest.split("train"), out) == front
    assert out.read_text() == body


def test_facts_come_from_another_card_but_not_its_counts(manifest: Manifest, tmp_path: Path) -> None:
    facts = Path(__file__).parents[1] / "data_cards" / "simulated.md"
    front = card(manifest, tmp_path / "card.md", facts)
    assert front["corpus"] == "simulated"
    assert (front["utterances"], front["manifest_sha256"]) == (5, manifest.sha256)


def test_facts_fill_a_card_that_is_there_already_and_nothing_that_people_wrote(
    manifest: Manifest, tmp_path: Path
) -> None:
    facts, out = Path(__file__).parents[1] / "data_cards" / "torgo.md", tmp_path / "card.md"
    wanted = read_card(facts)[0]["must_not_be_used_for"]
    card(manifest, out)
    assert card(manifest, out, facts)["must_not_be_used_for"] == wanted
    out.write_text(out.read_text().replace(wanted[0], "hiring"))
    assert card(manifest, out, facts)["must_not_be_used_for"] == ["hiring", *wanted[1:]]


@pytest.mark.parametrize(
    ("out", "text", "message"),
    [("card.txt", None, "Markdown"), ("card.md", "hello", "not a data card"), ("card.md", "---\na: b\n---\n", "line")],
)
def test_mistakes_are_refused(manifest: Manifest, tmp_path: Path, out: str, text: str | None, message: str) -> None:
    if text:
        (tmp_path / out).write_text(text)
    with pytest.raises(SpeechftError, match=message):
        card(manifest, tmp_path / out)
    with pytest.raises(SpeechftError, match="no utterances"):
        card(Manifest([]), tmp_path / "b.md")


def test_the_verb(manifest: Manifest, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["card", str(manifest.path), str(tmp_path / "card.md")])
    assert done.exit_code == 0, done.output
    assert "5 utterances" in done.output
    assert "To be filled in by you: pretty_name, license" in done.output


@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=80))
def test_charts_of_any_numbers(values: list[float]) -> None:
    heights: Callable[[str], list[float]] = lambda svg: [  # noqa: E731
        float(r.get("height", "0")) for r in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}rect")
    ]
    drawn = heights(histogram(values, "seconds"))
    assert drawn
    assert max(drawn) == pytest.approx(156)
    assert all(0 <= height <= 156.1 for height in heights(bars(values, "minutes")))
