"""Every schedule: between 0 and 1, rising in the warm-up, ending as its documentation says."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechft.cli.training import schedule_chart
from speechft.config import SpeechRecipe
from speechft.manifest import Manifest
from speechft.schedule import Schedule, learning_rate_factor, planned_steps

KINDS = get_args(Schedule)
kinds = st.sampled_from(KINDS)
totals = st.integers(1, 3000)
shares = st.floats(0, 1)


@given(kinds, totals, shares, shares, st.integers(1, 9), st.data())
def test_a_factor_is_between_0_and_1(
    kind: str, total: int, warmup: float, decay: float, cycles: int, data: st.DataObject
) -> None:
    step = data.draw(st.integers(0, total + 5))
    assert 0.0 <= learning_rate_factor(step, total, kind, warmup, decay, cycles) <= 1.0


@given(kinds, totals, shares)
def test_the_warm_up_rises_to_the_highest_rate(kind: str, total: int, warmup: float) -> None:
    rising = min(total, max(1, round(warmup * total))) if warmup else 0
    course = [learning_rate_factor(step, total, kind, warmup) for step in range(rising)]
    assert course == sorted(set(course))
    assert not course or (course[0] > 0 and course[-1] == 1.0)


@given(kinds, totals, st.floats(0, 0.5), st.floats(0.01, 0.5))
def test_each_ends_as_documented(kind: str, total: int, warmup: float, decay: float) -> None:
    end = learning_rate_factor(total, total, kind, warmup, decay)
    rising = max(1, round(warmup * total)) if warmup else 1
    wanted = {"constant": 1.0, "inverse-sqrt": math.sqrt(min(rising, total) / (total + 1))}.get(kind, 0.0)
    assert end == pytest.approx(wanted, abs=1e-12)


@given(st.sampled_from([k for k in KINDS if k != "cosine-restarts"]), totals, shares, shares)
def test_after_the_warm_up_it_only_falls(kind: str, total: int, warmup: float, decay: float) -> None:
    rising = min(total, max(1, round(warmup * total))) if warmup else 0
    course = [learning_rate_factor(step, total, kind, warmup, decay) for step in range(rising, total)]
    assert all(later <= earlier for earlier, later in itertools.pairwise(course))


def test_known_values() -> None:
    assert learning_rate_factor(50, 100, "linear", 0) == 0.5
    assert learning_rate_factor(50, 100, "cosine", 0) == pytest.approx(0.5)
    assert learning_rate_factor(39, 1000, "inverse-sqrt", 0.01) == pytest.approx(0.5)
    stable = [learning_rate_factor(step, 100, "warmup-stable-decay", 0.1, 0.2) for step in range(100)]
    assert stable[10:81] == [1.0] * 71
    assert stable[90] == pytest.approx(0.5)
    restarts = [learning_rate_factor(step, 100, "cosine-restarts", 0, cycles=4) for step in range(100)]
    assert [i for i in range(1, 100) if restarts[i] > restarts[i - 1]] == [25, 50, 75]
    assert restarts[25] == 1.0
    with pytest.raises(ValueError, match="unknown"):
        learning_rate_factor(1, 2, "square", 0)


def test_steps_of_a_run() -> None:
    recipe = SpeechRecipe(manifest=Path("m.jsonl"), output_dir=Path("out"), batch_size=8, epochs=1, min_steps=150)
    assert planned_steps(recipe, 1300) == 163
    assert planned_steps(recipe, 80) == 150
    assert planned_steps(recipe.model_copy(update={"max_steps": 40}), 1300) == 40


@pytest.mark.parametrize("kind", KINDS)
def test_a_plot_is_an_svg_file_that_says_what_it_shows(kind: str) -> None:
    recipe = SpeechRecipe(manifest=Path("m.jsonl"), output_dir=Path("out"), schedule=kind)
    root = ElementTree.fromstring(schedule_chart(recipe, 163))
    space = "{http://www.w3.org/2000/svg}"
    assert root.tag == f"{space}svg"
    assert kind in root.findtext(f"{space}title", "")
    line = next(root.iter(f"{space}polyline")).get("points", "").split()
    assert len(line) == 163
    heights = [float(point.split(",")[1]) for point in line]
    assert heights[0] > min(heights)  # down the page is a lower rate: the warm-up starts low


def test_the_command_draws_and_trains_nothing(voice: Manifest, tmp_path: Path) -> None:
    out, svg = tmp_path / "run", tmp_path / "plots" / "rate.svg"
    words = ["train", f"manifest={voice.path}", f"output_dir={out}", "schedule=cosine-restarts", "batch_size=4"]
    done = subprocess.run(
        [sys.executable, "-m", "speechft.cli", *words, "--plot-schedule", str(svg)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "150 optimiser steps" in done.stderr
    assert ElementTree.parse(svg).getroot().tag.endswith("svg")
    assert not out.exists()
