"""The report says what happened, loads nothing, and lets no transcript become markup."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from five_sentences import TIMES, TIMES_A, TIMES_B, one
from hypothesis import given, settings
from hypothesis import strategies as st

from speechft.errors import SpeechftError
from speechft.manifest import Manifest, Utterance
from speechft.paired import compare, compare_all
from speechft.report import plain, remarks, summary_rows, write_report
from speechft.report_answer import answer
from speechft.report_charts import Mark, averaged, curve, scale_end, track
from speechft.report_data import addresses, confusions, embedded, recordings
from speechft.scoring import Scores, score
from speechft.trained_on import read_first

SENTENCES = (
    "please put the kettle on",
    "my sister comes on tuesday",
    "turn the radio down a little",
    "where did i leave my glasses",
    "the soup needs more salt",
    "call the doctor in the morning",
)
NASTY = '</script><script>alert(1)</script> <img src=x onerror=alert(2)> "quoted" & {{data}} | `x`\u2028'
VOID = {"meta", "link", "input", "line", "circle", "rect", "br", "polyline", "polygon"}


def corpus(speakers: int = 6, first: str = "s") -> list[Utterance]:
    """Every speaker says every sentence."""
    return [
        Utterance(Path(f"/c/{s}-{i}.wav"), text, f"{first}{s}-{i}", f"{first}{s}", severity=("mild", "severe")[s % 2])
        for s in range(speakers)
        for i, text in enumerate(SENTENCES)
    ]


def heard(utterances: list[Utterance], wrong: int) -> list[str]:
    """Transcripts whose first `wrong` words are replaced."""
    return [" ".join(["well"] * wrong + u.text.split()[wrong:]) for u in utterances]


@pytest.fixture
def before() -> Scores:
    return score(corpus(), heard(corpus(), 3))


@pytest.fixture
def after() -> Scores:
    return score(corpus(), heard(corpus(), 1))


class Page(HTMLParser):
    """What a browser would make of the page: elements, their nesting, and text outside scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.scripts: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        (self.scripts if self.open and self.open[-1] == "script" else self.text).append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def written(out: Path, *args: Any, **more: Any) -> tuple[Page, dict[str, Any]]:
    """The page of a report and the data embedded in it."""
    html = write_report(out, *args, **more).read_text("utf-8")
    page = Page(html)
    assert page.open == []
    return page, json.loads(page.scripts[0])


def test_three_files_and_the_answer_first(tmp_path: Path, before: Scores, after: Scores) -> None:
    result = {
        "evaluated_on": {"split": "test"},
        "leakage": [between("dev", speakers=["a", "b"]), between("test")],
    }
    page, _ = written(tmp_path, result, before, after, title="A run", notes=["simulated voice"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.md", "result.json"]
    said = re.search(r"Words wrong fell from .*? never trained on\.", page.words)
    assert said
    assert said[0].startswith("Words wrong fell from 54.5% to 18.2%: 36.4 points fewer (p = 0.031)")
    assert said[0].endswith("on 36 recordings by 6 speakers never trained on.")
    assert page.words.index("simulated voice") < said.start()
    markdown = (tmp_path / "report.md").read_text("utf-8")
    assert markdown.startswith("# A run\n\n> **simulated voice**\n\nWords wrong fell from 54.5% to 18.2%")
    assert json.loads((tmp_path / "result.json").read_text("utf-8")) == result


def test_every_report_says_what_is_shared_and_how_long_it_took(tmp_path: Path, before: Scores, after: Scores) -> None:
    pair = {"first": "train", "second": "test", "rows": 36, "speakers": ["s1", "s2"], "sessions": [], "prompts": 3,
            "texts": 4, "text_rows": 9, "audio": ["u1"]}  # fmt: skip
    result = {
        "leakage": [pair],
        "base": {"real_time_factor": 0.31},
        "adapted": {"real_time_factor": 0.125},
    }
    page, _ = written(tmp_path, result, before, after)
    shown = "train and test Speakers 2 Sessions 0 Prompts 3 Sentences 4 Recordings 1 Clips of the second"
    assert shown in page.words
    assert "took 0.12 s for each second of sound (real-time factor; before: 0.31 s)." in page.words
    markdown = (tmp_path / "report.md").read_text("utf-8")
    assert "| In both | train and test |" in markdown
    assert "| Clips of the second whose sentence is in the first | 9 of 36 |" in markdown
    page, _ = written(tmp_path, {"real_time_factor": 0.2}, None, after)
    assert "took 0.20 s for each second of sound (real-time factor)." in page.words
    assert "What training and test share" not in page.words


def test_no_transcript_name_or_setting_becomes_markup(tmp_path: Path) -> None:
    rows = [
        Utterance(Path("/c.wav"), f"{NASTY} {i}", f"{NASTY}{i}", f"{NASTY}{i % 2}", extra={NASTY: i % 2})
        for i in range(4)
    ]
    one, two = (score(rows, [f"{NASTY} {word}"] * 4, "none") for word in ("x", "y <b>z</b>"))
    result = {NASTY: NASTY, "recipe": {NASTY: [NASTY]}, "left_out": [{"where": NASTY, "reason": NASTY}]}
    metrics = [{"step": 1, "wer": 0.5, "cer": 0.1, "model": NASTY}]
    page, data = written(tmp_path, result, one, two, title=NASTY, notes=[NASTY], metrics=metrics)
    assert len(page.all("script")) == 2
    assert not page.all("img")
    assert not page.all("b")
    assert NASTY in "".join(page.text)
    assert data["rows"][0]["w"][0] == f"{NASTY} 0"
    rule = page.all("meta")[-1]["content"] or ""
    digest = base64.b64encode(hashlib.sha256("".join(page.scripts[1:]).encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in rule  # so even injected markup would not run
    markdown = (tmp_path / "report.md").read_text("utf-8")
    assert "<script" not in markdown.replace("\\<", "")


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=30))
def test_embedded_json_cannot_end_its_element(text: str) -> None:
    inside = embedded({text: [text]})
    assert not set("<>&\u2028\u2029") & set(inside)
    assert json.loads(inside) == {text: [text]}


def test_nothing_is_loaded_from_anywhere(tmp_path: Path, before: Scores, after: Scores) -> None:
    page, _ = written(tmp_path, {}, before, after)
    for _, attributes in page.elements:
        for name in ("src", "href", "srcset", "data", "action"):
            assert (attributes.get(name) or "#").startswith("#")
    html = (tmp_path / "report.html").read_text("utf-8")
    assert not re.search(r"url\(|@import|https?://", html)
    assert "default-src 'none'" in html


def test_tables_headings_and_controls_can_be_used_without_eyes(tmp_path: Path, before: Scores, after: Scores) -> None:
    metrics = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}, {"step": 2, "wer": 0.3, "cer": 0.2}]
    page, _ = written(tmp_path, {"recipe": {"seed": 0}}, before, after, metrics=metrics)
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(attributes.get("scope") in ("row", "col") for attributes in page.all("th"))
    assert all("aria-hidden" in svg or "aria-label" in svg for svg in page.all("svg") if "viewbox" not in svg)
    names = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(names) == len(set(names))
    assert page.all("html")[0]["lang"] == "en"
    skip = page.all("a")[0]
    assert (skip["href"] or "").removeprefix("#") in names
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(deeper - level <= 1 for level, deeper in pairwise(levels))


def test_every_sentence_is_there_with_its_difference(tmp_path: Path, before: Scores, after: Scores) -> None:
    _, data = written(tmp_path, {}, before, after)
    assert data["systems"] == ["Before", "After"]
    assert len(data["rows"]) == 36
    first = data["rows"][0]
    assert (first["i"], first["s"], first["g"]["severity"], first["n"], first["e"]) == ("s0-0", "s0", "mild", 5, [3, 1])
    assert first["d"][1] == [["please", "well"], "put", "the", "kettle", "on"]
    assert first["w"] == ["please put the kettle on", "well well well kettle on", "well put the kettle on"]


@pytest.mark.parametrize("which", ["base is kept", "only adapted", "only base"])
def test_one_system(tmp_path: Path, before: Scores, which: str) -> None:
    base, adapted = {"base is kept": (before, before), "only adapted": (None, before), "only base": (before, None)}[
        which
    ]
    page, data = written(tmp_path, {}, base, adapted)
    assert re.search(r"54\.5% of the words are wrong, on 36 recordings by 6 speakers\.", page.words)  # none varies
    assert data["systems"] == ["Heard"]


def test_nothing_scored_and_nothing_to_score(tmp_path: Path) -> None:
    page, data = written(tmp_path / "a", {"task": "text"}, None, None)
    assert "Nothing was scored." in page.words
    assert data["rows"] == []
    empty, _ = written(tmp_path / "b", {}, score([], []), None)
    assert "Nothing was scored: 0 recordings." in empty.words
    one, _ = written(tmp_path / "c", {}, score(corpus(1)[:1], [""]), score(corpus(1)[:1], [SENTENCES[0]]))
    assert "Words wrong went from 100.0% to 0.0%, on 1 recording by 1 speaker; too few recordings to tell." in one.words
    assert not [line for line in one.all("line") if "nan" in str(line)]  # one recording has no interval to draw


def test_words_invented_where_nobody_spoke_are_counted_and_no_share(tmp_path: Path) -> None:
    rows = [replace(u, text="") for u in corpus(2)[:3]]
    some, none = score(rows, ["thank you", "", "well"]), score(rows, [""] * 3)
    page, _ = written(tmp_path, {}, some, None)
    assert "3 words were written where there was none to write, on 3 recordings." in page.words
    assert said(some, none).startswith("Words written where there was none to write went from 3 to 0, on 3")
    assert "300.0%" not in page.words
    assert "Words wrong (WER)" not in [row[0] for row in summary_rows(some)]


def test_a_gap_is_in_points_and_what_is_off_the_scale_is_marked(tmp_path: Path, before: Scores, after: Scores) -> None:
    page, _ = written(tmp_path, {}, before, after)
    assert re.search(r"Gap between best and worst: [\d.]+ → [\d.]+ points\.", page.words)
    assert "off" in track([Mark("after", 2.6, (1.2, 4.0))], 1.5)
    assert "off" not in track([Mark("after", 0.6, (0.2, 1.0))], 1.5)


def test_charts_have_room_for_the_intervals(tmp_path: Path) -> None:
    rows = corpus(4)
    found = score(rows, [u.text if i % 6 else "well well well well well well well" for i, u in enumerate(rows)])
    page, _ = written(tmp_path, {}, found, None)
    mild = found.per_group["severity"]["mild"]
    assert mild["wer"] < 0.5 < mild["wer_ci95"][1] < 0.7
    assert "Chart 0% 35% 70%" in page.words.partition("severity")[2].partition("Gap")[0]


def test_scores_of_different_utterances_are_refused(tmp_path: Path, before: Scores) -> None:
    with pytest.raises(SpeechftError, match="cannot be paired"):
        write_report(tmp_path, {}, before, score(corpus(first="t"), heard(corpus(), 1)))
    assert not list(tmp_path.iterdir())


def between(second: str, **shared: Any) -> dict[str, Any]:
    """What train and another part share, as `Overlap.to_dict` has it."""
    nothing = {"speakers": [], "sessions": [], "prompts": 0, "texts": 0, "text_rows": 0, "audio": [], "alike": []}
    return {"first": "train", "second": second, "rows": 36, **nothing, "nameless": [0, 0], **shared}


def said(one: Scores, two: Scores, result: dict[str, Any] | None = None) -> str:
    return answer([one.to_dict(), two.to_dict()], compare(one, two), result or {})


@pytest.mark.parametrize("speakers", [2, 3, 4])
def test_the_answer_claims_nothing_beyond_few_speakers(tmp_path: Path, speakers: int) -> None:
    one, two = (score(corpus(speakers), heard(corpus(speakers), wrong)) for wrong in (3, 1))
    sentence = (
        f"Words wrong went from 54.5% to 18.2%, on {6 * speakers} recordings by {speakers} speakers; "
        "too few speakers to say whether it holds for others."
    )
    assert said(one, two) == sentence
    page, _ = written(tmp_path, {}, one, two)
    assert sentence in page.words
    assert sentence in (tmp_path / "report.md").read_text("utf-8")
    alone = answer([one.to_dict()], None, {})
    assert alone.startswith("54.5% of the words are wrong, on")
    assert alone.endswith("; too few speakers to say how it is for others.")


@pytest.mark.parametrize("name", ["me", ""])
@pytest.mark.parametrize("clips", [2, 3, 5])
def test_the_answer_claims_nothing_from_few_recordings_of_one_voice(name: str, clips: int) -> None:
    """One word wrong in each before and none after: by the sign test p is 0.5 with two, 0.0625 with five."""
    rows = [replace(u, speaker=name) for u in corpus(1)[:clips]]
    texts = [u.text for u in rows]
    answered = said(score(rows, heard(rows, 1)), score(rows, texts))
    assert answered.endswith("; too few recordings to tell.")
    assert answered.startswith("Words wrong went from ")
    assert "interval" not in answered
    alone = answer([score(rows, heard(rows, 1)).to_dict()], None, {})
    assert alone.endswith("; too few recordings to say how sure that is.")


def uneven(utterances: list[Utterance], wrong: int) -> list[str]:
    """As `heard`, with one error more in every other recording."""
    return [" ".join(["well"] * (wrong + i % 2) + u.text.split()[wrong + i % 2 :]) for i, u in enumerate(utterances)]


def test_the_answer_needs_the_p_value_too() -> None:
    rows = [replace(u, id=f"{i}", speaker="me") for i, u in enumerate(corpus(2)[:8])]
    base, better = score(rows, uneven(rows, 3)), score(rows, heard(rows, 1))
    assert re.search(
        r"Words wrong fell from .* points fewer \(95% interval [\d.]+ to [\d.]+\), on 8", said(base, better)
    )
    some = [u.text for u in rows]
    some[:4] = heard(rows[:4], 4)  # 4 of 8 got worse by much, none better: p is 2 ** -3
    texts = [u.text for u in rows]
    found = compare(score(rows, texts), score(rows, some))
    assert (found["p_speakers"], found["wer_ci95"][0] > 0) == (0.125, True)
    answered = said(score(rows, texts), score(rows, some))
    assert re.search(
        r"went from 0.0% to [\d.]+%, which chance could do too \(95% interval .* points; p = 0.125\), on 8", answered
    )
    assert "too small a difference to tell from chance, on 8" in said(base, base)
    five = corpus(5)  # p cannot be below 2 ** -4
    assert "which chance could do too (p = 0.062)" in said(score(five, heard(five, 3)), score(five, heard(five, 1)))


def test_characters_are_not_called_words(tmp_path: Path) -> None:
    rows = [replace(u, text=text, language="zh") for u, text in zip(corpus(6), ["今天天气很好"] * 36, strict=True)]
    one, two = score(rows, ["今天天汽不好"] * 36), score(rows, ["今天天汽很好"] * 36)
    assert said(one, two).startswith("Characters wrong fell from 33.3% to 16.7%")
    assert answer([one.to_dict()], None, {}).startswith("33.3% of the characters are wrong, on 36")
    page, _ = written(tmp_path, {}, one, two)
    assert "Characters in the sentence" in page.words
    assert not re.search(r"\b[Ww]ords (wrong|misheard|in the)", page.words)
    assert {row[0]: row[1] for row in summary_rows(one)}["Characters wrong (WER)"] == "33.3%"


def test_the_worst_clips_are_counted() -> None:
    assert "WER without the worst clip" in dict(summary_rows(score(corpus(1)[:2], heard(corpus(1)[:2], 1))))
    many = [replace(u, id=f"{u.id}-{i}") for i in range(6) for u in corpus()]
    assert "WER without the worst 2 clips" in dict(summary_rows(score(many, heard(many, 1))))


@pytest.mark.parametrize(
    ("speakers", "asked"),
    [
        (1, "'recordings' asks whether it holds for other recordings like these, 'segments'"),
        (3, "'recordings' asks whether it holds for other recordings like these, 'segments'"),
        (6, "'speakers' asks whether it holds for other people, 'segments'"),
    ],
)
def test_the_tables_of_several_say_whom_they_speak_of(tmp_path: Path, speakers: int, asked: str) -> None:
    rows = corpus(speakers)
    base, better = score(rows, uneven(rows, 3)), score(rows, heard(rows, 1))
    page, _ = written(tmp_path, several(base, {"a": better, "b": base}), base, better)
    assert asked in page.words
    assert ("p, recordings" in page.words) == (speakers < 5)
    assert asked.replace("'", "'") in (tmp_path / "report.md").read_text("utf-8")


def test_a_gap_never_seen_by_chance_is_not_said_to_be_impossible(tmp_path: Path) -> None:
    rows = corpus(40)
    found = score(rows, [t if u.severity == "mild" else "" for u, t in zip(rows, heard(rows, 0), strict=True)])
    page, _ = written(tmp_path, {}, found, None)
    assert "a gap as wide appears under 0.1% of the time" in page.words


def simulated_answers(speakers: int, systems: int, runs: int = 60) -> float:
    """How often the answer says that words wrong fell, where systems only differ from the base by chance."""
    rng = np.random.default_rng(0)
    rows = [
        Utterance(Path("/a.wav"), "one two three four five six seven eight nine ten", f"{s}-{i}", f"s{s}")
        for s in range(speakers)
        for i in range(4)
    ]
    fell = 0
    for _ in range(runs):
        shares = rng.beta(2, 6, (systems + 1, speakers)).repeat(4, axis=1)
        texts = [
            [" ".join("x" if rng.random() < p else w for w in u.text.split()) for u, p in zip(rows, share, strict=True)]
            for share in shares
        ]
        base, *others = (score(rows, heard, "none") for heard in texts)
        named = {f"a{i}": scores for i, scores in enumerate(others)}
        entries = {n: {**named[n].to_dict(), "difference": d} for n, d in compare_all(base, named).items()}
        best = min(named, key=lambda name: named[name].wer)
        result = {"base": base.to_dict(), "adapters": entries}
        fell += " wrong fell" in answer([base.to_dict(), entries[best]], compare(base, named[best]), result)
    return fell / runs


@pytest.mark.slow
def test_the_best_of_several_falls_by_chance_no_more_often_than_stated() -> None:
    assert simulated_answers(8, 8) <= 0.08


def several(base: Scores, others: dict[str, Scores]) -> dict[str, Any]:
    found = compare_all(base, others)
    entries = {name: {**scores.to_dict(), "difference": found[name]} for name, scores in others.items()}
    return {"base": base.to_dict(), "adapters": entries}


def test_the_best_of_several_is_said_to_be_chosen(tmp_path: Path) -> None:
    rows = corpus(12)
    base, better = score(rows, heard(rows, 3)), score(rows, heard(rows, 1))
    both = several(base, {"a": better, "b": base})
    sentence = said(base, better, both)
    assert sentence.startswith("The best of 2 adapters on these same recordings, 'a': words wrong fell from 54.5% to")
    assert "36.4 points fewer (p < 0.001, corrected for 2), on 72 recordings" in sentence
    page, _ = written(tmp_path, both, base, better)
    assert sentence in page.words
    assert "both p are corrected for their number (Holm)" in page.words
    few = corpus(6)  # p cannot be below 2 ** -5, so not below 0.05 for two
    base, better = score(few, heard(few, 3)), score(few, heard(few, 1))
    sentence = said(base, better, several(base, {"a": better, "b": base}))
    assert "words wrong went from 54.5% to 18.2%, which the best of 2 could reach by chance (p = 0.062" in sentence
    assert "fell" not in sentence
    study = several(base, {"2 min": better, "5 min": base})
    study = {"reference": "none", "arms": {"none": study["base"], **study["adapters"]}}
    assert said(base, better, study).startswith("The best of 2 conditions on these same recordings, '2 min': words")


def test_only_what_makes_numbers_worthless_stands_before_the_answer(
    tmp_path: Path, before: Scores, after: Scores
) -> None:
    leak = between("test", audio=["a", "b"]) | {"first": "training of the adapter", "rows": 36}
    first = read_first({"notice": "simulated voice", "leakage": [leak]})
    assert first[1:] == ["2 of these 36 recordings were trained on: the numbers say little about new ones."]
    others = ["Overlap between splits: much.", "3 recordings last over 30 s."]
    page, _ = written(tmp_path, {"leakage": [leak]}, before, after, notes=first, caveats=[first[1], *others])
    for text in (page.words, (tmp_path / "report.md").read_text()):
        places = [text.index(part) for part in (*first, "Words wrong fell from", *others)]
        assert places == sorted(places)
        assert text.count(first[1]) == 1


def test_the_answer_says_how_many_sentences_were_trained_on(before: Scores, after: Scores) -> None:
    about = {"evaluated_on": {"split": "test"}, "leakage": [between("test", texts=4, text_rows=9)]}
    assert said(before, after, about).endswith("by 6 speakers, 9 of them of sentences that were trained on.")
    evaluated = {"leakage": [between("test", texts=4, text_rows=9) | {"first": "training of the adapter"}]}
    assert said(before, after, evaluated).endswith("by 6 speakers, 9 of them of sentences that were trained on.")


def test_answer_does_not_call_chance_a_change(before: Scores, after: Scores) -> None:
    mixed = heard(corpus(), 3)
    mixed[0], mixed[7] = "well " * 5, corpus()[7].text
    assert "too small a difference to tell from chance" in said(before, score(corpus(), mixed))
    assert said(after, before).startswith("Words wrong rose from 18.2% to 54.5%: 36.4 points more")


@pytest.mark.parametrize(
    ("second", "shared", "ending"),
    [
        ("test", {}, "by 6 speakers never trained on."),
        ("test", {"nameless": [2, 0]}, "by 6 speakers, none of the recordings trained on."),
        ("test", {"alike": ["speaker 'Ann'"]}, "by 6 speakers."),
        ("test", {"speakers": ["a"]}, "by 6 speakers, in sentences never trained on."),
        ("test", {"speakers": ["a"], "sessions": ["a/1"]}, "by 6 speakers, in sentences never trained on."),
        ("test", {"speakers": ["a"], "prompts": 1}, "by 6 speakers."),
        ("dev", {}, "by 6 speakers."),
    ],
)
def test_answer_claims_no_more_than_the_splits_allow(
    before: Scores, after: Scores, second: str, shared: dict[str, Any], ending: str
) -> None:
    about = {"evaluated_on": {"split": "test"}, "leakage": [between(second, **shared)]}
    assert said(before, after, about).endswith(ending)
    assert said(before, after, {"evaluated_on": {"split": "test"}}).endswith("by 6 speakers.")


def test_few_speakers_are_said_to_be_few(tmp_path: Path) -> None:
    two = [score(corpus(2), heard(corpus(2), wrong)) for wrong in (3, 1)]
    text = " ".join(remarks([("Before", two[0]), ("After", two[1])], compare(*two)))
    assert "2 speakers: the interval is over recordings, not about other people" in text
    assert "2 speakers: interval and p value are over their recordings, not about other people" in text
    assert "Intervals come from resampling sentences (bootstrap)" in text
    assert "Does it hold for these 2 people? If before and after were swapped at random, sentence by sentence" in text
    five = [score(corpus(5), heard(corpus(5), wrong)) for wrong in (3, 1)]
    text = " ".join(remarks([("Before", five[0]), ("After", five[1])], compare(*five)))
    assert "Intervals come from resampling speakers (bootstrap)" in text
    assert "Does it hold for other people too? If before and after were swapped at random, speaker by speaker" in text


def test_the_published_p_over_segments_is_beside_the_one_to_go_by() -> None:
    rows = [one(0, TIMES)]
    systems = [(name, score(rows, [heard])) for name, heard in (("Before", TIMES_A), ("After", TIMES_B))]
    text = " ".join(remarks(systems, compare(systems[0][1], systems[1][1])))
    assert "4 segments (MAPSSWE, sign flips): p = 1.000 (as published, for many segments: z = 0.33, p = 0.739)." in text


def test_speakers_without_a_name_are_not_called_one(tmp_path: Path) -> None:
    rows = [replace(u, speaker="") for u in corpus(3)]
    one, two = score(rows, heard(rows, 3)), score(rows, heard(rows, 1))
    page, _ = written(tmp_path, {}, one, two)
    assert (
        "on 18 recordings whose speakers are not named; if they are several people, the interval is too narrow."
    ) in page.words
    assert "Speakers are not named: the interval is over recordings only" in page.words
    same = [replace(u, text=SENTENCES[0]) for u in rows]  # what does not vary has no interval
    one, two = score(same, heard(same, 3)), score(same, heard(same, 1))
    assert said(one, two).endswith("whose speakers are not named; if they are several people, p is too low.")
    assert answer([one.to_dict()], None, {}).endswith("on 18 recordings whose speakers are not named.")
    assert said(one, one).endswith("on 18 recordings whose speakers are not named.")
    assert "Does it hold for recordings like these?" in page.words
    assert "1 speaker" not in page.words
    assert "this voice" not in page.words
    for text in (page.words, (tmp_path / "report.md").read_text("utf-8")):
        assert "not named" in text.partition("Speakers")[2]
    some = [replace(u, speaker="" if u.speaker == "s0" else u.speaker) for u in corpus()]
    found = dict(summary_rows(score(some, ["" if not u.speaker else u.text for u in some])))
    assert found["WER of the worst speaker"] == "100.0% (not named)"


def test_one_speaker_has_a_row_too(tmp_path: Path) -> None:
    page, _ = written(tmp_path, {}, score(corpus(1), heard(corpus(1), 1)), None)
    assert "Words wrong of every speaker" in page.words
    assert "s0" in page.words.partition("Words wrong of every speaker")[2].partition("By length")[0]


def test_groups_of_one_speaker_and_gaps_are_said_to_have_no_interval(tmp_path: Path) -> None:
    rows = [replace(u, severity="severe" if u.speaker == "s0" else "mild") for u in corpus()]
    page, _ = written(tmp_path, {}, score(rows, heard(rows, 1)), None)
    assert "Groups of fewer than 5 speakers say little about other people, and have no interval" in page.words
    assert "points. It has no interval, because the best and worst groups were picked" in page.words
    assert "If speakers are shuffled among the groups, a gap as wide appears " in page.words
    of_one = [replace(u, severity=("mild", "severe")[i % 2] if u.speaker == "s0" else None) for i, u in enumerate(rows)]
    page, _ = written(tmp_path, {}, score(of_one, uneven(of_one, 1)), None)
    assert "If recordings are shuffled among the groups, a gap as wide appears " in page.words


def test_summary_rows_for_a_terminal(before: Scores, after: Scores) -> None:
    rows = summary_rows(before, after)
    assert rows[0] == ("Words wrong (WER)", "54.5%", "18.2%")
    assert {len(row) for row in rows} == {3}
    assert not [row for row in rows if "verbatim" in row[0]]  # nobody has such a text
    alone = summary_rows(score(corpus(1), heard(corpus(1), 1)))
    assert not [row for row in alone if "speaker" in row[0]]


def test_json_has_a_word_for_everything(tmp_path: Path, before: Scores) -> None:
    result = {"rate": float("inf"), "nan": [float("nan")], "where": Path("a/b"), "deep": {"x": (1, True, None)}}
    write_report(tmp_path, result, before, None)
    found = json.loads((tmp_path / "result.json").read_text("utf-8"))
    assert found == {"rate": None, "nan": [None], "where": str(Path("a/b")), "deep": {"x": [1, True, None]}}
    assert plain(found) == found


def test_half_a_character_does_not_stop_the_report(tmp_path: Path) -> None:
    page, _ = written(tmp_path, {}, score(corpus(1)[:2], ["\ud800 tea", "\udfff"]), None, title="\ud800")
    assert page.words


def test_recordings_are_linked_from_where_the_page_is(tmp_path: Path, after: Scores) -> None:
    clips = {u.id: tmp_path / "clips" / f"a #{i}.wav" for i, u in enumerate(corpus()[:3])}
    (tmp_path / "clips").mkdir()
    for path in list(clips.values())[:2]:
        path.write_bytes(b"RIFF" + bytes(96))
    _, data = written(tmp_path / "out", {}, after, None, audio=clips)
    assert [row["a"] for row in data["rows"][:3]] == ["../clips/a%20%230.wav", "../clips/a%20%231.wav", None]
    assert str(tmp_path) not in (tmp_path / "out" / "report.html").read_text("utf-8")


def test_recordings_can_be_put_into_the_page_up_to_a_size(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.wav").write_bytes(bytes(100))
    clips = {"x": tmp_path / "a.wav", "y": (tmp_path / "b.wav", 1.5, 2.0)}
    found = addresses(clips, tmp_path, 100)
    assert found["x"].startswith("data:audio/")
    assert base64.b64decode(found["x"].partition("base64,")[2]) == bytes(100)
    assert found["y"] == "b.wav#t=1.5,2"  # a stretch of a longer recording


def test_of_a_longer_recording_only_the_stretch_is_put_into_the_page(tmp_path: Path) -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal(16_000 * 20)
    soundfile.write(tmp_path / "long.wav", noise, 16_000)
    path = tmp_path / "long.wav"
    clips = {"a": (path, 1.5, 2.0), "b": (path, 18.0, None), "c": (path, 2.0, 2.5), "d": (path, 2.0, 2.2)}
    found = addresses(clips, tmp_path, 40_000)
    assert found["b"] == "long.wav#t=18"
    assert found["c"] == "data:audio/flac;base64," + found["c"].partition(",")[2]
    for name, (_, start, end) in clips.items():
        if found[name].startswith("data:"):
            samples, _ = soundfile.read(io.BytesIO(base64.b64decode(found[name].partition(",")[2])))
            assert len(samples) == round(16_000 * (end - start))
    assert sum(len(base64.b64decode(one.partition(",")[2])) for one in found.values() if "data" in one) < 40_000


def test_a_stretch_of_a_recording_plays_that_stretch(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    path.write_bytes(bytes(100))
    rows = [Utterance(path, "tea", "a", start_s=1.5, end_s=2.0), Utterance(path, "milk", "b", end_s=1.5)]
    found = addresses(recordings(Manifest([*rows, Utterance(path, "tea milk", "c")])), tmp_path)
    assert list(found.values()) == ["long.wav#t=1.5,2", "long.wav#t=0,1.5", "long.wav"]


def test_embedding_takes_the_worst_first(tmp_path: Path) -> None:
    rows = corpus(1)[:2]
    clips = {u.id: tmp_path / f"{u.id}.wav" for u in rows}
    for path in clips.values():
        path.write_bytes(bytes(600))
    found = score(rows, [rows[0].text, "well"])
    _, data = written(tmp_path, {}, found, None, audio=clips, embed_audio_mb=0.001)
    assert [str(row["a"])[:5] for row in data["rows"]] == ["s0-0.", "data:"]


def test_confusions_are_counted(after: Scores) -> None:
    assert confusions(after)["please", "well"] == 6
    missed = confusions(score(corpus(1)[:1], ["please put kettle on now"]))
    assert missed == {("the", ""): 1, ("", "now"): 1}


def test_curves_and_dose_are_drawn_when_measured(tmp_path: Path, before: Scores) -> None:
    metrics = [{"step": s, "loss": 2.0 / s} for s in range(1, 900)] + [{"step": 5, "wer": 0.4}, {"step": 9, "wer": 0.2}]
    dose = [{"minutes": m, "wer": 1 / m, "wer_ci95": [0.5 / m, 1.5 / m]} for m in (2, 5, 10)]
    page, _ = written(tmp_path / "a", {"dose_curve": dose}, before, None, metrics=metrics)
    labels = [svg["aria-label"] for svg in page.all("svg") if svg.get("aria-label")]
    assert labels[0] == "Training loss: from 1.22 to 0.00223 over step 0 to 899"
    assert labels[1] == "Words wrong on dev: from 40.0% to 20.0% over step 0 to 9"
    assert labels[2] == "Words wrong: from 50.0% to 10.0% over minutes 0 to 10"
    bare, _ = written(tmp_path / "b", {}, before, None)
    assert not [svg for svg in bare.all("svg") if svg.get("aria-label")]


def test_long_curves_are_averaged() -> None:
    assert averaged([(1, 1.0), (2, 3.0), (3, 5.0)], 2) == [(2, 2.0), (3, 5.0)]
    assert curve([], title="x", across="step", percent=False, dots=False) == ""
    assert "nan" not in curve([(0, 0.0)], title="x", across="step", percent=False, dots=True)


def test_tracks_clamp_what_lies_beyond() -> None:
    assert scale_end([0.31, None]) == 0.4
    assert scale_end([0.3]) == 0.3
    assert scale_end([]) == 0.1
    assert scale_end([7.0]) == 1.5
    assert 'cx="98.00%"' in track([Mark("after", 7.0)], 1.5)
    assert "circle" not in track([Mark("after", None)], 0.5)


def test_written_over_an_old_report(tmp_path: Path, before: Scores, after: Scores) -> None:
    write_report(tmp_path, {"old": 1}, before, None)
    write_report(tmp_path, {"new": 1}, before, after)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.md", "result.json"]
    assert json.loads((tmp_path / "result.json").read_text()) == {"new": 1}


def test_evidence_behind_the_numbers(tmp_path: Path, before: Scores, after: Scores) -> None:
    table = [{"low": 0.8, "high": 0.9, "words": 12, "confidence": 0.85, "right": 0.75}]
    sure = {"table": table, "ece": 0.1, "auroc": 0.8, "words": 12, "right": 0.75, "mean_confidence": 0.85}
    result = {"base": {"calibration": sure}, "adapted": {"calibration": sure}}
    page, _ = written(tmp_path / "a", result, before, after)
    assert "80% to 90%" in page.words
    assert "mean confidence" in page.words.partition("be believed?")[2]
    assert "After: words by their confidence, and the share of them that is right" in page.words
    marks = {shape["class"] for tag in ("line", "rect") for shape in page.all(tag) if "dot" in str(shape["class"])}
    assert marks == {"dot sure", "dot share"}  # not the circles of before and after
    assert "before: 10.0%, and 0.80; after: 10.0%, and 0.80. Missed words have no confidence." in page.words
    assert "No loops, and no clip with more errors than words. No clip without speech was tested" in page.words
    assert "confused inside misheard words" in page.words
    silence = [*corpus(1), Utterance(Path("/c/silence.wav"), "", "silence", "s0", duration_s=30.0)]
    page, _ = written(tmp_path / "b", {}, score(silence, [*heard(corpus(1), 1), "thank you"]), None)
    assert "words a minute of silence 4.0" in page.words
    assert "believed" not in page.words
    page, _ = written(tmp_path / "c", {"calibration": sure}, None, after)
    assert "Words by their confidence, and the share of them that is right" in page.words
    assert "): 10.0%, and 0.80. Missed" in page.words


def test_confusions_are_in_the_order_of_the_last_system(tmp_path: Path) -> None:
    rows = [Utterance(Path("/c.wav"), "tea milk", f"{i}", f"s{i}") for i in range(6)]
    one = score(rows, ["sea milk"] * 5 + ["tea silk"])
    two = score(rows, ["sea milk", *["tea silk"] * 2, "tea mill", "tea milk", "tea milk"])
    page, _ = written(tmp_path / "two", {}, one, two)
    found = page.words.partition("Words heard as other words, ordered by After: all 3")[2]
    assert found.startswith(" Said Heard Before After milk silk 1 2 tea sea 5 1 milk mill 0 1 ")
    sounds = page.words.partition("confused inside misheard words, ordered by After: all")[2]
    assert re.match(r" \d Said Heard Before After After, of this (sound|letter) m s 1 2 33\.3% ", sounds)
    page, _ = written(tmp_path / "one", {}, one, None)
    found = page.words.partition("Words heard as other words, most frequent first: all 2")[2]
    assert found.startswith(" Said Heard Times tea sea 5 milk silk 1 ")


def test_intervals_of_groups_are_named_and_in_numbers(tmp_path: Path) -> None:
    rows = corpus(10)
    found = score(rows, [u.text if u.speaker in ("s0", "s1") else t for u, t in zip(rows, heard(rows, 2), strict=True)])
    page, _ = written(tmp_path, {}, found, None)
    mild = found.per_group["severity"]["mild"]
    low, high = mild["wer_ci95"]
    shown = page.words.partition("severity Words wrong, with 95% intervals")[2].partition("Gap")[0]
    assert f"mild {mild['wer']:.1%} {low:.1%} to {high:.1%} 165 5" in shown


@pytest.mark.parametrize(("speakers", "boxes"), [(12, 0), (41, 2)])
def test_every_speaker_is_shown_with_all_that_were_compared(tmp_path: Path, speakers: int, boxes: int) -> None:
    rows = corpus(speakers)
    base, good = score(rows, heard(rows, 3)), score(rows, heard(rows, 1))
    bad = score(rows, ["" if u.speaker == "s3" else text for u, text in zip(rows, heard(rows, 2), strict=True)])
    page, _ = written(tmp_path, several(base, {"a": good, "b": bad}), base, good)
    every = "every speaker" if speakers == 12 else "all 41 speakers"
    found = page.words.partition(f"Words wrong of {every} by all compared, in the same order")[2]
    assert found.startswith(" Speaker base a b Words s0 54.5% 18.2% 36.4% 33 ")
    assert "s3 54.5% 18.2% 100.0% 33" in found
    scrolling = [box for box in page.all("div") if "tall" in str(box.get("class"))]
    assert len(scrolling) == boxes
    assert {(box["tabindex"], box["role"], bool(box["aria-label"])) for box in scrolling} <= {("0", "group", True)}
    html = (tmp_path / "report.html").read_text("utf-8")
    assert "<details" not in html.partition("<h2>Speakers</h2>")[2].partition("<h2>")[0]
    assert "| s3 | 54.5% | 18.2% | 100.0% | 33 |" in (tmp_path / "report.md").read_text("utf-8")


def test_stacked_tables_stay_tables_with_labelled_cells(tmp_path: Path, before: Scores, after: Scores) -> None:
    written(tmp_path, several(before, {"a": after, "b": before}), before, after)
    html = (tmp_path / "report.html").read_text("utf-8")
    found = html.partition("Each against base")[2].partition("</table>")[0]
    assert found.count('role="columnheader"') == 8
    assert found.count('role="rowheader"') == 3
    assert found.count('role="cell"') == 3 * 7
    assert '<td role="cell" data-label="p, speakers" class="n">' in found


def test_the_markdown_report_has_what_repeats_it(tmp_path: Path, before: Scores, after: Scores) -> None:
    settings = {"model_sha256": "ab12", "context": "clip+10s", "language": "en", "beams": 5, "manifest_sha256": "cd34"}
    bins = [{"low": 0.5, "high": 0.75, "confidence": 0.6, "right": 0.7, "words": 9}]
    sure = {"table": bins, "ece": 0.1, "auroc": 0.8}
    one = {**after.to_dict(), **settings, "split_file": {"sha256": "ef56"}, "calibration": sure}
    page, _ = written(tmp_path, one, after, None)
    markdown = (tmp_path / "report.md").read_text("utf-8")
    repeats = markdown.partition("## Settings")[2]
    for key, value in {"normalizer": after.normalizer, **settings, "split_file.sha256": "ef56"}.items():
        assert f"{key} | {value} |" in repeats.replace("\\", "")
        assert str(value) in page.words
    assert "| wer" not in repeats
    assert "| 50% to 75% | 60.0% | 70.0% | 9 |" in markdown
    assert "## Words in the sentence" in markdown
    (mild,) = re.findall(r"\| mild \| .*", markdown)
    assert mild.endswith(f" | {after.per_group['severity']['mild']['n_words']} | 3 |")
    some, more = (heard(corpus(12), wrong) for wrong in (1, 3))
    many = score(corpus(12), [more[i] if i // 6 % 3 else said for i, said in enumerate(some)])
    written(tmp_path, {}, many, None)
    assert re.search(
        r"\| mild \| [\d.]+% \([\d.]+% to [\d.]+%\) \| \d+ \| 6 \|", (tmp_path / "report.md").read_text("utf-8")
    )


def test_tables_say_characters_where_they_count_them(tmp_path: Path) -> None:
    rows = [
        replace(u, text=text, language="zh")
        for u, text in zip(corpus(), ["今天天气很好", "请打开灯"] * 18, strict=True)
    ]
    one = score(rows, ["今天天气很好"] * 36)
    written(tmp_path, several(one, {"a": one, "b": one}), one, one)
    markdown = (tmp_path / "report.md").read_text("utf-8")
    assert "| Speaker | base | a | b | Characters |" in markdown
    assert "Characters wrong |" in markdown
    assert not re.search(r"\bWords\b", markdown)


def test_confidence_is_of_characters_where_they_are_counted(tmp_path: Path) -> None:
    rows = [replace(u, text="今天天气很好", language="zh") for u in corpus()]
    one = score(rows, ["今天天气很好"] * 36)
    bins = [{"low": 0.5, "high": 0.75, "confidence": 0.6, "right": 0.7, "words": 9}]
    page, _ = written(tmp_path, {"calibration": {"table": bins, "ece": 0.1, "auroc": 0.8}}, None, one)
    assert "| Confidence | Mean confidence | Right | Characters |" in (tmp_path / "report.md").read_text("utf-8")
    assert "Characters by their confidence" in page.words
    assert "Right Characters" in page.words


def test_a_silent_room_is_no_speaker_in_markdown_either(tmp_path: Path) -> None:
    room = [*corpus(), Utterance(Path("/c/room.wav"), "", "room", "hallway", duration_s=3.0)]
    written(tmp_path, {}, score(room, [*heard(corpus(), 1), "thank you"]), None)
    assert "hallway" not in (tmp_path / "report.md").read_text("utf-8").partition("## Speakers")[2].partition("## ")[0]
    written(tmp_path, {}, score(room[-1:], ["thank you"]), None)
    silent = (tmp_path / "report.md").read_text("utf-8")
    assert "## Speakers" not in silent
    assert "Intervals come from" not in silent


def test_which_text_was_closer_is_said(tmp_path: Path) -> None:
    rows = [Utterance(Path("/a.wav"), "open it", "a", "s", text_verbatim="b b open it"), *corpus(1)]
    page, _ = written(tmp_path, {}, score(rows, ["b b open it", *heard(corpus(1), 1)]), None)
    assert "Verbatim text was the closer one 1 of 1" in page.words
    assert "Rates are against the text, unless they say otherwise; against the closer of text and" in page.words


def test_counts_digit_by_digit_are_called_so(tmp_path: Path) -> None:
    scores = score([one(0, "zero three five"), one(1, "open the door")], ["0, 3, 6, 5.", "open the door"])
    write_report(tmp_path, {**scores.to_dict(), "model": "x", "adapter": None}, None, scores)
    page = html.unescape((tmp_path / "report.html").read_text("utf-8"))
    assert "Words invented (numbers digit by digit), most frequent first" in page
    assert "no clip above one error a word" not in page
    assert "Words are counted here as they were written" in page
    assert "| Clips with more errors than words | 1 |" in (tmp_path / "report.md").read_text("utf-8")
    plain = score([one(0, "open the door")], ["open the floor"])
    write_report(tmp_path, {**plain.to_dict(), "model": "x", "adapter": None}, None, plain)
    assert "digit by digit" not in (tmp_path / "report.html").read_text("utf-8")


def test_a_result_of_silence_alone_says_nothing_of_rates_or_voices(tmp_path: Path) -> None:
    """Both systems may be right, and then there is nothing to compare."""
    rows = [Utterance(Path(f"/c/{i}.wav"), "", f"{i}", "room", duration_s=3.0) for i in range(6)]
    some, none = score(rows, ["thank you"] * 6), score(rows, [""] * 6)
    page, _ = written(tmp_path / "right", {}, none, none)
    assert none.to_dict()["wer_digits"] is None
    page, _ = written(tmp_path / "both", {}, none, score(rows, [""] * 6))
    assert "went from 0 to 0, on 6 recordings." in page.words
    page, _ = written(tmp_path / "fewer", {}, some, none)
    for said in (page.words, (tmp_path / "fewer" / "report.md").read_text("utf-8")):
        assert "Does it hold for recordings like these?" in said
        for wrong in ("for this voice", "(MER)", "(WIL)", "without the worst", "as written", "rates are"):
            assert wrong not in said
        assert "so there is no error rate" in said
    assert "Words in the sentence" not in (tmp_path / "fewer" / "report.md").read_text("utf-8")


@pytest.mark.parametrize("name", ["me", ""])
def test_silence_makes_a_few_recordings_no_more(name: str) -> None:
    silence = [Utterance(Path(f"/c/{i}.wav"), "", f"{i}", name) for i in range(4)]
    rows = [*(replace(u, speaker=name) for u in corpus(1)[:2]), *silence]
    one, two = (score(rows, [*heard(rows[:2], wrong), *[""] * 4]) for wrong in (2, 1))
    assert said(one, two).endswith("; too few recordings to tell.")
    assert answer([one.to_dict()], None, {}).endswith("; too few recordings to say how sure that is.")
    assert "2 recordings with a word: an interval over so few is far too narrow" in one.to_dict()["notes"]
