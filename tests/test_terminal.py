"""What a terminal says beside the numbers: on how many speakers they rest, and no more than is known of the clips."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from speechft.manifest import Utterance
from speechft.paired import compare, compare_all, compare_pairs
from speechft.scoring import score
from speechft.terminal import before_after, comparison_table, scores_table

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
    assert "4 clips, 16 words, 2 speaker(s)" in said
    first = "Words wrong went from 56.2% to 18.8%, on 4 recordings by 2 speakers; too few speakers to say whether it"
    assert said.startswith(first)
    assert "never trained on" not in said  # 'evaluate' may be asked for the clips of training
    assert "WER, worst speaker │ 100.0% (s1) │ 37.5% (s1)" in said
    assert "2 speakers: the interval says nothing about other people." in said


def test_one_system(capsys: pytest.CaptureFixture[str]) -> None:
    scores_table({**BETTER.to_dict(), "model": "tiny", "real_time_factor": 0.1}, None)
    said = words(capsys)
    assert said.startswith("18.8% of the words are wrong, on 4 recordings by 2 speakers; too few speakers to say how")
    assert "2 speakers: mean WER 18.8%, worst 37.5% (s1)" in said
    assert "2 speakers: the interval says nothing about other people." in said


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
    assert "2 speakers: no p value over speakers can be below 0.5." in said
    assert "b against a" in said
