"""Doses are nested and as long as they say; the study recipes run from a manifest to a report."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from speechft.errors import SpeechftError
from speechft.manifest import Manifest, Utterance
from speechft.overlap import overlap
from speechft.recipes import load_recipe
from speechft.scoring import score
from speechft.study import Arm, all_left_out, minutes_of, parts_apart, study_data, write_study
from speechft.utterance import SIMULATED_NOTICE

RECIPES = Path(__file__).parent.parent / "recipes"


def clips(n: int = 100, seconds: float = 6.0) -> Manifest:
    return Manifest(Utterance(Path(f"/{i}.wav"), f"text {i}", f"u{i}", "s", duration_s=seconds) for i in range(n))


def test_larger_doses_hold_the_smaller_ones() -> None:
    doses = [minutes_of(clips(), minutes, seed=1) for minutes in (0.5, 1, 5, 10)]
    assert [len(dose) for dose in doses] == [5, 10, 50, 100]
    for small, large in pairwise(doses):
        assert {u.id for u in small} < {u.id for u in large}
    assert {u.id for u in minutes_of(clips(), 1, seed=2)} != {u.id for u in doses[1]}


def test_more_than_there_is_is_refused() -> None:
    with pytest.raises(SpeechftError, match=r"holds 10\.0 minutes, not 11"):
        minutes_of(clips(), 11)


def test_half_of_dev_is_the_test_where_there_is_none() -> None:
    """No speaker is in both halves; of one speaker, no sentence. A test split that is there is left alone."""
    one = Manifest(replace(u, split="dev" if i % 3 else "train", text=f"t {i // 3}") for i, u in enumerate(clips(12)))
    parts = parts_apart(one)
    assert [len(part) for part in parts.values()] == [4, 4, 4]
    assert not {u.text for u in parts["dev"]} & {u.text for u in parts["test"]}
    assert {u.split for u in parts["test"]} == {"test"}
    many = Manifest(replace(u, speaker=f"s{i % 6}") for i, u in enumerate(one))
    parts = parts_apart(many, held_out=3)
    assert not {u.speaker for u in parts["dev"]} & {u.speaker for u in parts["test"]}
    assert (len(parts["dev"]), len(parts["test"])) == (3, 3)
    with_test = Manifest(replace(u, split="test") if i == 0 else u for i, u in enumerate(many))
    assert [len(part) for part in parts_apart(with_test).values()] == [3, 8, 1]
    with pytest.raises(SpeechftError, match="cannot be halved"):
        parts_apart(Manifest(u for u in one if u.text in ("t 0",)))


def test_a_dose_that_is_measured_again_is_no_surer() -> None:
    """Of one voice the sentences are drawn, and the same sentence heard again is no other one."""
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    rows = [replace(u, text=" ".join(words)) for u in clips(20)]
    scores = score(rows, [" ".join(words[: 4 + i % 7]) for i in range(20)])
    evaluation: Any = SimpleNamespace(scores=scores)
    point = runpy.run_path(str(RECIPES / "dose_curve.py"))["point"]
    arm = Arm(None, evaluation)
    once = point(1.0, [arm], arm)
    assert once["wer_ci95"] == list(scores.wer_ci95)
    for repeats in (2, 5):
        again = point(1.0, [arm] * repeats, arm)
        assert again["wer"] == pytest.approx(once["wer"])
        assert again["wer_ci95"] == pytest.approx(once["wer_ci95"])


def test_a_study_prints_what_must_be_read_before_its_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [replace(u, speaker=f"s{i % 6}", split="test" if i % 2 else "train") for i, u in enumerate(clips(12))]
    (tmp_path / "c.wav").write_bytes(bytes(100))
    same = {"text": "the same", "audio": tmp_path / "c.wav", "extra": {"simulated": True}}
    whole = Manifest(replace(u, **same) for u in rows)
    tested = whole.split("test")
    texts = [u.text for u in tested]
    arms = {"base": score(tested, ["well"] * len(tested)), "trained": score(tested, texts)}
    recipe = load_recipe(None, ["manifest=m.jsonl", "output_dir=out"])
    write_study(tmp_path, "A study", recipe, arms, "base", tested, whole, overlap(whole), {"m.jsonl:3": "is silent"})
    printed = capsys.readouterr().out
    assert printed.startswith(SIMULATED_NOTICE)
    assert printed.index("Overlap between splits: train and test share") < printed.index("| Model |")
    before, _, after = (tmp_path / "report.md").read_text().partition("Words wrong")
    assert "6 of these 6 recordings were trained on" in before
    assert "Overlap between splits" not in before
    assert "Overlap between splits" in after.partition("## All compared")[0]
    found = json.loads((tmp_path / "result.json").read_text())
    assert found["left_out"] == [{"where": "m.jsonl:3", "reason": "is silent"}]
    assert '"a":"c.wav"' in (tmp_path / "report.html").read_text()


def test_rows_left_out_of_an_arm_are_named_by_it() -> None:
    evaluation: Any = SimpleNamespace()
    arms = {"base": Arm(None, evaluation), "tempo": Arm(None, evaluation, {"m.jsonl:9": "it lasts 31.0 s"})}
    assert all_left_out({"m.jsonl:3": "is silent"}, arms) == {
        "m.jsonl:3": "is silent",
        "tempo: m.jsonl:9": "it lasts 31.0 s",
    }


def test_targets_choose_nothing_for_the_cohort() -> None:
    recipe = runpy.run_path(str(RECIPES / "cohort_then_speaker.py"))
    homes = [("ann", "train"), ("ben", "dev"), ("cem", "dev"), ("cem", "test"), ("dan", "test")]
    rows = [replace(u, speaker=homes[i % 5][0], split=homes[i % 5][1]) for i, u in enumerate(clips(50))]
    train, dev, targets, left_out = recipe["cohort_and_targets"](Manifest(rows), 2)
    assert (train.speakers, dev.speakers) == (("ann",), ("ben",))
    assert [target.speakers for target in targets] == [("cem",), ("dan",)]
    assert not left_out
    with pytest.raises(SpeechftError, match="every speaker of dev"):
        recipe["cohort_and_targets"](Manifest(u for u in rows if u.speaker != "ben"), 2)


def test_speakers_with_too_few_sentences_are_no_targets() -> None:
    recipe = runpy.run_path(str(RECIPES / "cohort_then_speaker.py"))
    homes = [("ann", "train"), ("ben", "dev"), ("cem", "test"), ("dan", "test"), ("eve", "test")]
    rows = [replace(u, speaker=homes[i % 5][0], split=homes[i % 5][1]) for i, u in enumerate(clips(50))]
    rows = [u for i, u in enumerate(rows) if u.speaker != "cem" or i < 10]  # two sentences are left of hers
    *_, targets, left_out = recipe["cohort_and_targets"](Manifest(rows), 2)
    assert [target.speakers for target in targets] == [("dan",), ("eve",)]
    assert list(left_out) == ["speaker cem"]
    assert "2 different sentences" in left_out["speaker cem"]
    with pytest.raises(SpeechftError, match=r"no speaker of test has enough sentences.*cem"):
        recipe["cohort_and_targets"](Manifest(u for u in rows if u.speaker not in ("dan", "eve")), 2)


def test_each_arm_of_a_speaker_starts_from_what_it_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    personal_arms = runpy.run_path(str(RECIPES / "cohort_then_speaker.py"))["personal_arms"]
    started: list[tuple[str, str, Arm]] = []
    averages: list[tuple[list[Path], list[float]]] = []

    def evaluated(what: object) -> Any:
        return SimpleNamespace(of=what)

    def trained_arm(recipe: Any, train: Manifest, dev: Manifest, test: Manifest, base: Arm) -> Arm:
        assert [{u.split for u in part} for part in (train, dev, test)] == [{"train"}, {"dev"}, {"test"}]
        started.append((recipe.model, str(recipe.output_dir.relative_to(tmp_path)), base))
        return Arm(recipe.output_dir / "adapter", evaluated(recipe.output_dir))

    def load(model: str, adapter: Path) -> Any:
        return SimpleNamespace(evaluate=lambda test, normalizer: evaluated(adapter))

    fakes = {
        "trained_arm": trained_arm,
        "base_arm": lambda recipe, train, test: Arm(None, evaluated(recipe.model)),
        "load": load,
        "average": lambda adapters, weights, out: averages.append((adapters, weights)),
    }
    for name, fake in fakes.items():
        monkeypatch.setitem(personal_arms.__globals__, name, fake)
    speaker = Manifest(replace(u, split=("train", "dev", "test")[i % 3]) for i, u in enumerate(clips(9)))
    recipe = load_recipe(None, ["manifest=m.jsonl", f"output_dir={tmp_path}"])
    cohort = Arm(tmp_path / "cohort" / "adapter", evaluated("everyone"))
    arms = personal_arms(recipe, speaker, tmp_path, 3, cohort, tmp_path / "cohort_model")
    assert list(arms) == ["base", "direct", "cohort", "then", "average"]
    assert started == [
        (recipe.model, "direct/s", arms["base"]),
        (str(tmp_path / "cohort_model"), "then/s", arms["cohort"]),
    ]
    assert arms["cohort"].evaluation.of == cohort.adapter
    assert averages == [([cohort.adapter, tmp_path / "direct" / "s" / "adapter"], [0.5, 0.5])]
    assert arms["average"].evaluation.of == tmp_path / "average" / "s"
    alone = personal_arms(recipe, speaker, tmp_path, 3, Arm(None, evaluated("everyone")), None)
    assert list(alone) == ["base", "direct", "cohort"]
    assert alone["cohort"] is alone["base"], "no cohort's adapter beat the base model"
    started.clear()
    outside = Manifest(replace(u, speaker="../../../esc") for u in speaker)
    average = personal_arms(recipe, outside, tmp_path, 3, cohort, tmp_path / "cohort_model")["average"].evaluation.of
    folders = [*(place for _, place, _ in started), average.relative_to(tmp_path).as_posix()]
    assert [folder.rpartition("/speaker-")[0] for folder in folders] == ["direct", "then", "average"]


def test_a_study_takes_the_rows_that_training_takes(voice: Manifest, tmp_path: Path) -> None:
    rows = [replace(u, speaker="ann" if i % 2 else "ben", split=None) for i, u in enumerate(voice[:20])]
    lines = [u.to_row() for u in rows] + [{"audio": "gone.wav", "text": "gone"}]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, lines)))
    given = ["allow_outside=true", "speakers=[ann]", f"manifest={tmp_path}/m.jsonl", f"output_dir={tmp_path}"]
    manifest, left_out = study_data(load_recipe(None, given))
    assert manifest.speakers == ("ann",)
    assert list(left_out) == ["m.jsonl:21"]


def test_minimum_wer_says_first_that_nobody_spoke() -> None:
    whole = Manifest(replace(u, split="test", extra={"simulated": True}) for u in clips(4))
    result = runpy.run_path(str(RECIPES / "min_wer.py"))["result"]([], whole, whole, overlap(whole), [])
    assert next(iter(result.items())) == ("notice", SIMULATED_NOTICE)
    assert result["arms"] == []


def run(recipe: str, *words: object) -> str:
    command = [sys.executable, str(RECIPES / recipe), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    "recipe",
    sorted(set(RECIPES.glob("*.py")) - {RECIPES / "text_examples.py", RECIPES / "text_ranking.py"}),  # no manifest
    ids=lambda p: p.stem,
)
def test_a_recipe_says_what_is_wrong_without_a_traceback(recipe: Path, tmp_path: Path) -> None:
    adapter = [tmp_path] if recipe.stem == "min_wer" else []
    command = [sys.executable, recipe, tmp_path / "none.jsonl", *adapter, tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.split() == f"Error: {tmp_path}/none.jsonl: the manifest does not exist. Check the path.".split()


@pytest.mark.slow
def test_dose_curve(voice: Manifest, tmp_path: Path) -> None:
    out = run("dose_curve.py", voice.path, tmp_path, "--minutes", 0.3, "--repeats", 1, "--set", "max_steps=4")
    assert "0.30 min" in out
    found = json.loads((tmp_path / "result.json").read_text())
    assert [point["minutes"] for point in found["dose_curve"]][:2] == [0.0, 0.3]
    assert next(iter(found)) == "notice"
    for name in ("report.html", "report.md"):
        assert "How much recording it takes" in (tmp_path / name).read_text()


@pytest.mark.slow
def test_augmentation_ablation(voice: Manifest, tmp_path: Path) -> None:
    out = run("augmentation_ablation.py", voice.path, tmp_path, "--kinds", "noise", "--set", "max_steps=4")
    assert "| noise |" in out
    found = json.loads((tmp_path / "result.json").read_text())
    assert list(found["arms"]) == ["base", "none", "frames", "noise"]
    assert {"p_speakers_holm"} <= found["arms"]["noise"]["difference"].keys()
    assert len(found["pairs"]) == 3


@pytest.mark.slow
def test_cohort_then_speaker(voice: Manifest, tmp_path: Path) -> None:
    """Five speakers made of one. Every text begins with words that nobody says, so that each adapter beats its base."""
    homes = ("train", "train", "train", "dev", "test")
    rows = [replace(u, text=f"well yes {u.text}", speaker=f"s{i % 5}", split=homes[i % 5]) for i, u in enumerate(voice)]
    path = voice.path.parent / "cohort.jsonl"  # type: ignore[union-attr]
    Manifest(rows, path).save(path)
    run("cohort_then_speaker.py", path, tmp_path, "--personal-steps", 20, "--set", "max_steps=20", "min_steps=20")
    found = json.loads((tmp_path / "result.json").read_text())
    arms = ["base", "direct", "cohort", "then", "average"]
    assert list(found["arms"]) == arms
    assert {arm["n_utterances"] for arm in found["arms"].values()} == {found["evaluated_on"]["clips"]}
    assert (
        [name for name, arm in found["arms"].items() if "difference" not in arm] == [found["reference"]] == ["direct"]
    )
    others = [name for name in arms if name != "direct"]
    assert [(pair["first"], pair["second"]) for pair in found["pairs"]] == list(combinations(others, 2))
    for kept in ("cohort", "direct/s4"):
        assert (tmp_path / kept / "adapter" / "adapter_config.json").is_file(), kept
    assert (tmp_path / "average" / "s4" / "adapter_config.json").is_file()
    assert (tmp_path / "cohort_model" / "model.safetensors").is_file()
    for name in ("report.html", "report.md"):
        text = (tmp_path / name).read_text()
        assert "Points against direct" in text
        assert [name for name in arms if name not in text] == []
