"""What a terminal says beside the numbers: on how many speakers they rest, and no more than is known of the clips."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import speechft
from speechft.export_check import _compared, _summary
from speechft.manifest import Utterance
from speechft.paired import compare, compare_all, compare_pairs
from speechft.plain_text import Terminal
from speechft.report import write_report
from speechft.report_comparison import comparison, pairs
from speechft.report_limits import limits
from speechft.scoring import score
from speechft.terminal import before_after, comparison_table, export_table, scores_table
from speechft.utterance import SIMULATED_NOTICE

ROWS = [Utterance(Path(f"/c/{i}.wav"), "put the kettle on", f"u{i}", f"s{i % 2}") for i in range(4)]
WORSE = score(ROWS, ["put kettle on", "well", "put the kettle on", "well well"])
BETTER = score(ROWS, ["put the kettle on", "kettle on", "put the kettle on", "put the kettle"])


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")


def words(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.split())


def test_before_and_after(capsys: pytest.CaptureFixture[str]) -> None:
    result: dict[str, Any] = {"base": WORSE.to_dict(), "adapted": BETTER.to_dict(), "adapter": "adapter"}
    before_after({**result, "difference": compare(WORSE, BETTER)}, None)
    said = words(capsys)
    assert "4 clips, 16 words, 2 speakers" in said
    first = "Words wrong went from 56.2% to 18.8%, on 4 recordings by 2 speakers; too few speakers to say whether it"
    assert said.startswith(first)
    assert "never trained on" not in said  # 'evaluate' may be asked for the clips of training
    assert "WER, worst speaker │ 100.0% (s1) │ 37.5% (s1)" in said
    assert "2 speakers: the interval is over recordings, not about other people." in said


def test_one_system(capsys: pytest.CaptureFixture[str]) -> None:
    scores_table({**BETTER.to_dict(), "model": "tiny", "real_time_factor": 0.1}, None)
    said = words(capsys)
    assert said.startswith("18.8% of the words are wrong, on 4 recordings by 2 speakers; too few speakers to say how")
    assert "2 speakers: mean WER 18.8%, worst 37.5% (s1)" in said
    assert "2 speakers: the interval is over recordings, not about other people." in said


def test_rates_against_the_closer_of_two_texts(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [replace(u, text_verbatim="put the the kettle on", text="tea") for u in ROWS]
    worse, better = (score(rows, [said] * 4) for said in ("put the the kettle", "put the the kettle on"))
    shown: dict[str, Any] = {"model": "tiny", "real_time_factor": 0.1}
    scores_table({**better.to_dict(), **shown}, None)
    said = words(capsys)
    assert "500.0%" in said
    assert "of two texts" not in said.lower()
    assert "Rates are against the text, unless they say otherwise; against the closer of text and verbatim text" in said
    assert "0.0% of words are wrong, 0.0% with each clip at most 100%." in said
    result = {"base": worse.to_dict(), "adapted": better.to_dict(), "adapter": "adapter"}
    before_after({**result, "difference": compare(worse, better)}, None)
    assert "WER, closer of text and verbatim text │ 20.0% │ 0.0%" in words(capsys)
    entries = {
        name: {**better.to_dict(), "difference": difference, "forgetting": None}
        for name, difference in compare_all(worse, {"a": better, "b": better}).items()
    }
    several = {"base": worse.to_dict(), "adapters": entries, "pairs": [], "best": "a", "clips": 4, "speakers": 2}
    headings, base, best, _ = comparison(several)
    place = headings.index("Closer text")
    assert (base[place], best[place]) == ("20.0%", "0.0%")
    comparison_table(several, None)
    assert "Rates are against the text, unless they say otherwise." in words(capsys)


NAME = "[/b]x[red]:smile:[bold"


def test_names_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    Terminal().print(f"Report:  {NAME}/report.html")
    Terminal().print(f"\x1b[2J{'long ' * 100}\udcff")
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"Report:  {NAME}/report.html"
    assert second == f"\N{REPLACEMENT CHARACTER}[2J{'long ' * 100}\N{REPLACEMENT CHARACTER}"


def test_a_folder_called_like_markup_is_shown_where_results_are(capsys: pytest.CaptureFixture[str]) -> None:
    out = Path(NAME)
    result: dict[str, Any] = {"base": WORSE.to_dict(), "adapted": BETTER.to_dict(), "adapter": "adapter"}
    training = {"steps": 1, "seconds": 1.0, "peak_memory_mb": 1.0, "trainable": 1, "parameters": 2}
    before_after({**result, "training": training, "difference": compare(WORSE, BETTER)}, out)
    scores_table({**BETTER.to_dict(), "model": NAME, "real_time_factor": 0.1}, out)
    said = words(capsys)
    assert f"--adapter {NAME}/adapter Report: {NAME}/report.html" in said
    assert f"{NAME}: 4 clips" in said
    assert said.endswith(f"Report: {NAME}/report.html")


def test_nothing_prints_past_the_one_console_that_escapes() -> None:
    source = Path(speechft.__file__).parent
    using = {path.name for path in source.rglob("*.py") if "rich.console" in path.read_text(encoding="utf-8")}
    assert using == {"plain_text.py"}


def test_several_adapters(capsys: pytest.CaptureFixture[str]) -> None:
    both = {"a": BETTER, "b": BETTER}
    entries = {
        name: {**BETTER.to_dict(), "difference": difference, "forgetting": None}
        for name, difference in compare_all(WORSE, both).items()
    }
    result = {"base": WORSE.to_dict(), "adapters": entries, "pairs": compare_pairs(both), "best": "a"}
    comparison_table({**result, "clips": 4, "speakers": 2}, None)
    said = words(capsys)
    assert said.startswith("The best of 2 adapters on these same recordings, 'a': words wrong went from 56.2% to 18.8%")
    assert "2 speakers: interval and p value are over their recordings, not about other people." in said
    assert "b against a" in said
    assert "speaker base a b words" in said
    assert "s1 100.0% 37.5% 37.5% 8" in said


@pytest.mark.parametrize("width", [80, 100, 160])
def test_no_word_of_a_comparison_is_broken(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    both = {"a": BETTER, "b": BETTER}
    kept = {"wer": 0.5, "wer_ci95": [-1.25, 1.75]}
    entries = {
        name: {**BETTER.to_dict(), "difference": difference | kept, "forgetting": {"base": BETTER.to_dict()}}
        for name, difference in compare_all(WORSE, both).items()
    }
    result = {"base": WORSE.to_dict(), "adapters": entries, "pairs": compare_pairs(both), "best": "a", "clips": 4}
    comparison_table({**result, "speakers": 2}, None)
    printed = capsys.readouterr().out.split()
    headings = [*comparison(result)[0], *pairs(result)[0]]
    assert {word for heading in headings for word in heading.split()} <= set(printed)
    assert {"+175.0", "−125.0", "100.0%"} <= set(printed)


@pytest.mark.parametrize("speakers", [1, 2])
def test_what_limits_the_numbers_stands_once_below_each_table_as_in_the_report(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, speakers: int
) -> None:
    chose = "4 of these 4 recordings also chose the adapter's best state, which flatters the numbers a little."
    rows = [replace(u, speaker=f"s{i % speakers}") for i, u in enumerate(ROWS)]
    worse, better = (score(rows, [row.hypothesis for row in one.rows]) for one in (WORSE, BETTER))
    entries = {
        name: {**better.to_dict(), "difference": difference, "forgetting": None}
        for name, difference in compare_all(worse, {"a": better, "b": better}).items()
    }
    difference = compare(worse, better)
    shared: dict[str, Any] = {"notice": SIMULATED_NOTICE, "caveats": [chose]}
    results = {
        comparison_table: {"base": worse.to_dict(), "adapters": entries, "pairs": [], "best": "a", "clips": 4},
        before_after: {"base": worse.to_dict(), "adapted": better.to_dict(), "adapter": "a", "difference": difference},
        scores_table: {**better.to_dict(), "model": "tiny", "real_time_factor": 0.1},
    }
    for show, result in results.items():
        alone = show is scores_table
        sentences = [chose, *limits(better.to_dict(), None if alone else difference)]
        few = "p value are over their recordings" if not alone else "the interval is over recordings"
        assert any((few if speakers > 1 else "4 recordings: an interval over so few") in text for text in sentences)
        show(result | shared, None)
        said = words(capsys)
        assert [said.count(sentence) for sentence in (SIMULATED_NOTICE, *sentences)] == [1] * (1 + len(sentences))
        assert min(map(said.index, sentences)) > said.index("WER")
        write_report(tmp_path, result | shared, None if alone else worse, better, notes=[chose])
        report = (tmp_path / "report.md").read_text()
        assert all(sentence in report for sentence in sentences)


def test_what_was_trained_on_stands_before_the_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    pair = {
        "first": "training of the adapter", "second": "test", "rows": 4, "speakers": [], "sessions": [], "prompts": 0,
        "texts": 0, "text_rows": 0, "audio": ["one"], "alike": [], "nameless": [0, 0],
    }  # fmt: skip
    trained_on = "1 of these 4 recordings was trained on: the numbers say little about new ones."
    told = {"notice": None, "leakage": [pair], "caveats": [trained_on, "Another."]}
    scores_table({**BETTER.to_dict(), "model": "tiny", "real_time_factor": 0.1, **told}, None)
    said = words(capsys)
    assert said.startswith(f"{trained_on} 18.8% of the words are wrong")
    assert (said.count(trained_on), said.count("Another.")) == (1, 1)


def test_a_run_without_a_test_split_says_that_its_clips_also_chose(capsys: pytest.CaptureFixture[str]) -> None:
    training = {"steps": 1, "seconds": 1.0, "peak_memory_mb": 1.0, "trainable": 1, "parameters": 2}
    result = {"base": WORSE.to_dict(), "adapted": BETTER.to_dict(), "adapter": "adapter", "training": training}
    for split in ("test", "dev"):
        before_after(result | {"difference": compare(WORSE, BETTER), "evaluated_on": {"split": split}}, None)
        assert words(capsys).count("There is no test split: these clips also chose the best state") == (split == "dev")


def test_every_speaker_up_to_twenty_and_the_worst_of_more(capsys: pytest.CaptureFixture[str]) -> None:
    for n in (20, 25):
        rows = [Utterance(Path("/c.wav"), "a b c d e", f"u{i}", f"voice{i:02}") for i in range(n)]
        heard = [" ".join("abcde"[: 5 - i % 5]).replace("a", "x" if i == 7 else "a") for i in range(n)]
        scores_table({**score(rows, heard, "none").to_dict(), "model": "tiny", "real_time_factor": 0.1}, None)
        said = words(capsys)
        shown = [name for name in (f"voice{i:02}" for i in range(n)) if f" {name} " in said]
        assert len(shown) == (20 if n == 20 else 10)
        if n > 20:
            assert "The worst 10 of 25 speakers" in said
            assert "15 more speakers are in the report" in said
            assert "voice04" in shown
            assert "voice00" not in shown


def test_there_are_no_rates_where_no_text_has_a_word(capsys: pytest.CaptureFixture[str]) -> None:
    """Three invented words are not 300% of the words wrong."""
    rows = [replace(u, text="") for u in ROWS]
    one, two = (score(rows, [text] * 4) for text in ("three words here", ""))
    difference = compare(one, two)
    result: dict[str, Any] = {"base": one.to_dict(), "adapted": two.to_dict(), "adapter": "adapter"}
    before_after({**result, "difference": difference}, None)
    scores_table({**one.to_dict(), "model": "tiny", "real_time_factor": 0.1}, None)
    entries = {"a": {**two.to_dict(), "difference": compare_all(one, {"a": two})["a"], "forgetting": None}}
    both = {"base": one.to_dict(), "adapters": entries, "pairs": [], "best": "a", "clips": 4, "speakers": 2}
    comparison_table(both, None)
    ours = {**_summary(one), "context": "full"}
    export = {"notice": None, "software": "other", "context": "full", "caveats": [], "overlap": "nothing"}
    export_table({**export, **_compared(two, one), "ours_at_its_context": ours}, Path("out"))
    said = words(capsys)
    assert "12" in said
    assert set(re.findall(r"[\d.]+%", said)) <= {"95%", "100.0%", "0.0%"}  # MER and WIL exist


def test_speakers_without_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [replace(u, speaker="") for u in ROWS]
    scores = [score(rows, [row.hypothesis for row in one.rows]) for one in (WORSE, BETTER)]
    result: dict[str, Any] = {"base": scores[0].to_dict(), "adapted": scores[1].to_dict(), "adapter": "adapter"}
    before_after({**result, "difference": compare(*scores)}, None)
    said = words(capsys)
    assert "16 words, speakers not named" in said
    assert "1 speaker" not in said


def test_an_early_end_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    training = {
        "steps": 60, "steps_planned": 150, "stopped": "no improvement on dev for 3 evaluations", "seconds": 1.0,
        "peak_memory_mb": 1.0, "trainable": 1, "parameters": 2,
    }  # fmt: skip
    result = {"base": WORSE.to_dict(), "adapted": BETTER.to_dict(), "adapter": "adapter", "training": training}
    before_after(result | {"difference": compare(WORSE, BETTER)}, None)
    assert "Stopped before step 150: no improvement on dev for 3 evaluations." in words(capsys)
