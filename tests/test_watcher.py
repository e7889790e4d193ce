"""What a person sees while it runs: every event as it is, once, and no bar that has nothing to say."""

from __future__ import annotations

from typing import Any

import pytest

from speechft.watcher import Watcher

NAME = "[/b]x[red]:smile:[bold"


@pytest.mark.parametrize(
    "event",
    [
        {"event": "splits", NAME: 4, "overlap": NAME},
        {"event": "left out", "where": NAME, "reason": NAME},
        {"event": "skipped step", "step": 1, "reason": NAME, "rows": [NAME]},
        {"event": "evaluating", "adapter": NAME},
        {"event": "final evaluation", "split": NAME},
        {"event": NAME, NAME: NAME},
    ],
)
def test_names_in_events_are_shown_as_they_are(capsys: pytest.CaptureFixture[str], event: dict[str, Any]) -> None:
    with Watcher() as watch:
        watch(event)
    assert NAME in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["clips", "rows"])
def test_what_fits_into_memory_is_counted_in_words_of_the_task(capsys: pytest.CaptureFixture[str], kind: str) -> None:
    with Watcher() as watch:
        watch({"event": "less memory", "step": 1, kind: 2, "of": 4})
    assert f"continuing with 2 {kind} at once instead of 4" in " ".join(capsys.readouterr().err.split())


def test_a_row_that_several_evaluations_leave_out_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    with Watcher() as watch:
        for reason in ("cannot be decoded", "cannot be decoded", "is not there"):
            watch({"event": "left out", "where": "m.jsonl:4", "reason": reason})
    assert capsys.readouterr().err.count("m.jsonl:4") == 2


def test_training_has_no_bar_once_it_is_compared() -> None:
    with Watcher() as watch:
        watch({"step": 60, "steps": 150, "loss": 1.0})
        watch({"event": "final evaluation", "split": "test"})
        assert watch.training is None


def test_a_step_that_reports_no_loss_shows_its_reward() -> None:
    with Watcher(quiet=True) as watch:
        watch({"step": 1, "steps": 2, "reward": 0.25})
        assert watch.bars.tasks[0].fields["extra"] == "reward 0.25"
        watch({"step": 2, "steps": 2, "loss": 1.5, "reward": 0.5})
        assert not watch.bars.tasks
