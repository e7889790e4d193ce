"""A study: it tries the recipe itself first, goes on after a kill, ends with the best recipe and one look at test."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.storages.journal import JournalFileBackend

from speechft.config import AdapterSettings, SpeechRecipe
from speechft.errors import SpeechftError
from speechft.interruption import Interrupted
from speechft.manifest import Manifest
from speechft.marks import with_absolute_paths
from speechft.recipes import load_recipe
from speechft.text.config import FeedbackRecipe, PolicyRecipe, SftRecipe
from speechft.tune import Worker, _objective, tune
from speechft.tune_report import _importance, search_result
from speechft.tune_space import SPEECH_SPACE, TEXT_SPACE, Space, default_space, fingerprint, with_values
from speechft.tune_study import cut_off_again, open_study
from speechft.tune_task import Task, rungs

SEARCH = {
    "learning_rate": {"low": 5e-4, "high": 5e-3, "log": True},
    "adapter.rank": [2, 4],
    "augment": [None, {"share": 1.0}],
}


def recipe_for(voice: Manifest, out: Path, **settings) -> SpeechRecipe:
    small = {"batch_size": 4, "max_steps": 2, "min_steps": 0, "evaluations": 1, "average": False, "search": SEARCH}
    small |= {"adapter": {"rank": 2, "placement": "decoder"}}
    return SpeechRecipe(manifest=voice.path, output_dir=out, **(small | settings))


class Ask:
    """What Optuna is asked, answered with the last choice or the high end."""

    def suggest_categorical(self, key: str, choices: list) -> object:
        return choices[-1]

    def suggest_int(self, key: str, low: int, high: int, log: bool) -> int:
        assert isinstance(low, int)
        return high

    def suggest_float(self, key: str, low: float, high: float, log: bool) -> float:
        return high


@pytest.mark.parametrize("half", ['{"op_code":', '{"op_code":8,"worker_id":"a{"op_code":9}\n'])
def test_half_a_line_of_the_journal_costs_that_line_alone(tmp_path: Path, half: str) -> None:
    space = Space(SpeechRecipe(manifest=Path("m"), output_dir=tmp_path), {"adapter.rank": [2, 4]})

    def opened() -> Any:
        return open_study(tmp_path / "study.journal", space, Task("dev WER", (), lambda *_: 0.5), "none")

    (tmp_path / "study.journal").write_text(half)
    if half.endswith("\n"):
        with pytest.raises(SpeechftError, match="is not a study"):
            opened()
        (tmp_path / "study.journal").unlink()
    opened().set_user_attr("tested", [1])
    with (tmp_path / "study.journal").open("a") as file:
        file.write(half)
    opened().set_user_attr("after", 2)
    assert opened().user_attrs["tested"] == [1]
    assert opened().user_attrs["after"] == 2


def test_a_trial_that_was_interrupted_is_tried_again(tmp_path: Path) -> None:
    import optuna

    recipe = SpeechRecipe(manifest=Path("m"), output_dir=tmp_path)
    space = Space(recipe, {"adapter.rank": [2, 4]})
    study = optuna.create_study()
    seen: list[int] = []

    def run(recipe: SpeechRecipe, follow: object) -> float:
        seen.append(recipe.adapter.rank)
        if len(seen) == 1:
            raise Interrupted(signal.SIGTERM)
        return 0.5

    def objective(trial: optuna.Trial) -> float:
        return _objective(trial, space, Task("dev WER", (), run), tmp_path / "trials")

    with pytest.raises(Interrupted):
        study.optimize(objective, n_trials=1)
    assert cut_off_again(study, space) == 0  # none came to its end
    study.optimize(objective, n_trials=1)
    assert seen[0] == seen[1]
    assert study.best_value == 0.5
    assert cut_off_again(study, space) == 1


class Killed(BaseException):
    """Nobody can catch a kill, and Optuna does not catch this."""


@pytest.mark.parametrize("pruning", ["halving", "median"])
def test_a_study_that_is_cut_off_again_and_again_ends_as_if_it_had_not_been(
    voice: Manifest, tmp_path: Path, pruning: str
) -> None:
    def study_of(folder: Path, kills: set[int]) -> tuple[list[Any], int]:
        """Its trials that came to an end, and how often it was started; `kills` are evaluations."""
        evaluations = 0
        full = SpeechftError("the cache cannot be written")
        full.__context__ = OSError(errno.ENOSPC, "no space")
        full_too = RuntimeError("I/O error: No space left on device (os error 28)")  # as safetensors says it
        faults = itertools.cycle(
            [Killed(), OSError(errno.ENOSPC, "no space"), Interrupted(signal.SIGTERM), full, full_too]
        )

        def run(recipe: SpeechRecipe, follow: Callable[[dict], None]) -> float:
            nonlocal evaluations
            best = float("inf")
            for step in (1, 3, 9):
                evaluations += 1
                best = min(best, abs(recipe.learning_rate - 0.002) * recipe.adapter.rank / step)
                follow({"model": "trained", "wer": best, "step": step, "steps": 9, "rung": step})
                if evaluations in kills:
                    raise next(faults)
            return best

        for starts in range(1, 10):  # noqa: B007
            worker = Worker(recipe_for(voice, folder), 14, None, folder / "study.journal", pruning, 2)
            worker.task = replace(worker.task, run=run)
            cut_off_again(worker.study, worker.space)
            if not worker.study.trials:
                worker.study.enqueue_trial(worker.space.own)
            with contextlib.suppress(Killed, OSError, Interrupted):
                worker.go()
                break
        ended = [t for t in worker.study.trials if t.state.name != "FAIL"]
        return [(t.state, t.params, t.values, t.intermediate_values) for t in ended], starts

    undisturbed, _ = study_of(tmp_path / "undisturbed", set())
    disturbed, starts = study_of(tmp_path / "disturbed", {1, 2, 5, 9, 12, 17, 20})
    assert starts > 6
    assert len(undisturbed) == 14
    assert {state.name for state, *_ in undisturbed} == {"COMPLETE", "PRUNED"}
    assert disturbed == undisturbed


@pytest.mark.parametrize(
    ("recipe", "search"),
    [
        (SpeechRecipe(manifest=Path("m"), output_dir=Path("o")), SPEECH_SPACE),
        (SftRecipe(data="d.jsonl", output_dir=Path("o")), TEXT_SPACE),
        (SpeechRecipe(manifest=Path("m"), output_dir=Path("o"), batch_size=7, learning_rate=0.1), SPEECH_SPACE),
    ],
)
def test_the_recipe_itself_is_in_its_space(recipe: SpeechRecipe, search: dict) -> None:
    space = Space(recipe, search)
    assert space.at(space.own) == recipe
    assert space.at(space.ask(Ask())) != recipe


def test_what_changes_nothing_is_not_searched() -> None:
    recipe = SpeechRecipe(manifest=Path("m.jsonl"), output_dir=Path("out"), adapter={"method": "norms"})
    assert "adapter.rank" not in default_space(recipe)
    assert "adapter.rank" in default_space(recipe.model_copy(update={"adapter": AdapterSettings()}))


def test_learning_rates_are_searched_about_the_method_s_own() -> None:
    recipe = SpeechRecipe(manifest=Path("m"), output_dir=Path("o"), adapter={"method": "full"})
    rates = default_space(recipe)["learning_rate"]
    assert (rates.low, rates.high) == pytest.approx((4e-6, 1.6e-4))
    assert rates.low < recipe.learning_rate < rates.high
    text = SftRecipe(data="d.jsonl", output_dir=Path("o"))
    assert default_space(text) == TEXT_SPACE


def test_a_space_in_a_recipe_file(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(
        "manifest: m.jsonl\noutput_dir: out\nsearch:\n  adapter.rank: {low: 4, high: 64, log: true}\n"
        "  augment: [null, {share: 1.0}]\n  batch_size: [4, 16]\n"
    )
    recipe = load_recipe(path)
    found = Space(recipe, recipe.search).ask(Ask())
    assert found == {"adapter.rank": 64, "augment": '{"share": 1.0}', "batch_size": 16}
    assert Space(recipe, recipe.search).at(found).augment.share == 1.0


@pytest.mark.parametrize(
    ("search", "complaint"),
    [
        ({"adapter.rnk": [1, 2]}, "did you mean 'rank'"),
        ({"batch_size": [0, 2]}, "batch_size=0"),
        ({"batch_size.what": [1]}, "not a group"),
        ({"language": {"low": 1, "high": 2}}, "language=1"),
        ({"max_steps": {"low": 1, "high": 2}}, "a range needs a number"),
        ({"search.learning_rate.x": [1]}, "search"),
        ({"weight_decay": {"low": 1e-5, "high": 0.1, "log": True}}, "log: true does not allow"),
        ({"adapter.method": ["lora", "vera"]}, "Search learning_rate with them"),
    ],
)
def test_mistakes_in_the_space_are_named_before_the_first_trial(search: dict, complaint: str, tmp_path: Path) -> None:
    recipe = SpeechRecipe(manifest=tmp_path / "m", output_dir=tmp_path / "o", search=search)
    with pytest.raises(SpeechftError, match=complaint):
        tune(recipe)
    assert not (tmp_path / "o").exists()


def test_paths_of_a_recipe_are_whole_and_names_stay_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rm").mkdir()
    root = tmp_path.resolve()
    speech = with_absolute_paths(SpeechRecipe(manifest="m.jsonl", split_file="s.json", output_dir="o", model="rm"))
    assert (speech.manifest, speech.split_file) == (root / "m.jsonl", root / "s.json")
    assert (speech.output_dir, speech.model) == (root / "o", f"{root}/rm")
    assert with_absolute_paths(SpeechRecipe(manifest="m", output_dir="o")).model == "bundled:tiny.en"
    given = {"data": "hub:a/b", "output_dir": "o"}
    policy = with_absolute_paths(PolicyRecipe(reward="rm", other_domain="d.txt", **given))
    assert (policy.data, policy.reward, policy.other_domain) == ("hub:a/b", f"{root}/rm", f"{root}/d.txt")
    assert with_absolute_paths(PolicyRecipe(reward="f1", **given)).reward == "f1"
    for judge, meant in (("reward:rm", f"reward:{root}/rm"), ("url:http://h/v1 m", "url:http://h/v1 m")):
        assert with_absolute_paths(FeedbackRecipe(judge=judge, **given)).judge == meant


def test_the_best_recipe_of_a_study_has_its_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rm").mkdir()
    recipe = FeedbackRecipe(data="d", output_dir="runs/out", judge="reward:rm")
    study = optuna.create_study()
    study.add_trial(optuna.trial.create_trial(value=1.0, user_attrs={"seconds": 1.0}))
    (tmp_path / "runs/out").mkdir(parents=True)
    search_result(study, Space(recipe, {}), "dev loss", recipe.output_dir)
    assert load_recipe(recipe.output_dir / "best.yaml").judge == f"reward:{tmp_path.resolve()}/rm"


def test_a_trial_that_was_killed_at_its_very_end_is_none_to_report(tmp_path: Path) -> None:
    study = optuna.create_study()
    study.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.FAIL, user_attrs={"seconds": 1.0}))
    study.add_trial(optuna.trial.create_trial(value=1.0, user_attrs={"seconds": 1.0}))
    recipe = SpeechRecipe(manifest=tmp_path / "m.jsonl", output_dir=tmp_path)
    found = search_result(study, Space(recipe, {}), "dev WER", tmp_path)
    assert [trial["number"] for trial in found["trials"]] == [1]
    assert "The best of 1 trials" in (tmp_path / "best.yaml").read_text()


def test_a_study_is_told_by_what_its_results_depend_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rm").mkdir()

    def study(**settings) -> str:
        recipe = PolicyRecipe(**{"data": "d", "output_dir": "o", "reward": "f1"} | settings)
        return fingerprint(Space(recipe, {"learning_rate": [1e-4]}), ("of the rows",))

    assert study() == study(data="e", output_dir="p", test=False)
    assert study() != study(reward="chrf")
    monkeypatch.chdir(tmp_path)
    assert study(reward="rm") == study(reward=f"{tmp_path}/rm")


def test_a_range_the_wrong_way_round_is_refused() -> None:
    with pytest.raises(SpeechftError, match="low must be below high"):
        load_recipe(None, ["manifest=m", "output_dir=o", "search={learning_rate: {low: 2, high: 1}}"])


def test_a_study_improves_resumes_and_reports(voice: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[dict] = []
    first = tune(recipe_for(voice, tmp_path), trials=2, dev_utterances=2, search_only=True, on_event=told.append)
    assert first["test_looked_at"] == 0
    assert not (tmp_path / "best").exists()
    trials = [event for event in told if event.get("event") == "trial"]
    assert [trial["number"] for trial in trials] == [0, 1]
    assert trials[0]["params"]["learning_rate"] == 5e-4  # the recipe itself
    assert first["recipe_itself"] == trials[0]["value"]
    again = tune(recipe_for(voice, tmp_path), trials=3, dev_utterances=2)
    assert len(again["trials"]) == 3
    assert again["best"]["value"] <= first["best"]["value"]
    assert len({row["params"]["learning_rate"] for row in again["trials"]}) == 3  # no random draw came twice

    best = load_recipe(tmp_path / "best.yaml")
    wanted = with_values(recipe_for(voice, tmp_path / "best", search={}), {"adapter.rank": best.adapter.rank})
    assert best.adapter.placement == wanted.adapter.placement
    assert best.learning_rate == again["best"]["params"]["learning_rate"]
    assert best.evaluations == 1
    assert best.output_dir == tmp_path / "best"
    assert json.loads((tmp_path / "trials.json").read_text()) == again
    assert again["leakage"][0]["first"] == "train"
    assert again["leakage"][0]["rows"] > 0
    table = (tmp_path / "trials.md").read_text().replace("\\", "")
    assert again["overlap"] in table
    assert all(key in table for key in SEARCH)
    assert "simulated" in again["notice"]
    assert table.index(again["notice"]) < table.index("Best dev WER"), "before every number"
    assert again["best_run"]["notice"] == again["notice"]
    assert again["importance"] == {}, "three trials say nothing of it"
    assert not (tmp_path / "importance.svg").exists()
    result = json.loads((tmp_path / "best" / "result.json").read_text())
    assert result["evaluated_on"]["split"] == "test"
    assert again["best_run"]["adapted"]["wer"] == result["adapted"]["wer"]
    assert again["test_looked_at"] == 1
    assert not (tmp_path / "trials").exists()

    monkeypatch.chdir(voice.path.parent)  # the same study, written down elsewhere
    here = recipe_for(voice, Path(os.path.relpath(tmp_path))).model_copy(update={"manifest": Path(voice.path.name)})
    assert tune(here, trials=3, dev_utterances=2) == again
    assert json.loads((tmp_path / "best" / "result.json").read_text()) == result, "test is not looked at twice"

    with pytest.raises(SpeechftError, match="another recipe"):
        tune(recipe_for(voice, tmp_path, seed=5), trials=5, dev_utterances=2)


def test_a_study_without_test_says_that_its_clips_were_optimised(voice: Manifest, tmp_path: Path) -> None:
    found = tune(recipe_for(voice, tmp_path, test=False), trials=1, dev_utterances=2)
    assert found["best_run"]["evaluated_on"]["split"] == "dev"
    assert found["test_looked_at"] == 0
    table = (tmp_path / "trials.md").read_text()
    assert "These clips were optimised" in table
    journal = optuna.load_study(
        study_name="speechft",
        storage=optuna.storages.JournalStorage(JournalFileBackend(str(tmp_path / "study.journal"))),
    )
    journal.set_user_attr("tested", [0])  # as a kill in the best recipe's run leaves it
    assert tune(recipe_for(voice, tmp_path, test=False), trials=1, dev_utterances=2)["test_looked_at"] == 0
    found = tune(recipe_for(voice, tmp_path), trials=1, dev_utterances=2)
    assert found["test_looked_at"] == 1
    assert "These clips were optimised" not in (tmp_path / "trials.md").read_text()


@pytest.mark.slow
def test_several_workers_share_a_study(voice: Manifest, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    told: list[dict] = []
    recipe = recipe_for(voice, tmp_path)
    found = tune(recipe, trials=4, dev_utterances=2, search_only=True, workers=2, on_event=told.append)
    assert 4 <= len(found["trials"]) <= 5
    assert {row["state"] for row in found["trials"]} <= {"complete", "pruned"}
    assert sorted(event["number"] for event in told) == [row["number"] for row in found["trials"]]
    assert len({row["params"]["learning_rate"] for row in found["trials"]}) == len(found["trials"])
    again = tune(recipe, trials=4, dev_utterances=2, search_only=True, workers=2)
    assert again["trials"] == found["trials"], "nothing is tried again"


@pytest.mark.parametrize("trials", [7, 20])
def test_which_settings_matter_is_said_of_enough_trials(trials: int, tmp_path: Path) -> None:
    import optuna

    def objective(trial: optuna.Trial) -> float:
        value = trial.suggest_float("x", 0, 1) + 0.01 * trial.suggest_float("y", 0, 1)
        trial.report(value, 1)
        if trial.number > 2:  # as most are
            raise optuna.TrialPruned
        return 0.5

    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(objective, trials)
    found = _importance(study, tmp_path)
    assert (set(found) == {"x", "y"}) == (trials >= 8) == (tmp_path / "importance.svg").exists()
    if found:
        assert found["x"] > 0.9
        assert ElementTree.parse(tmp_path / "importance.svg").getroot().tag.endswith("svg")


def test_a_study_where_every_trial_fails_says_why(voice: Manifest, tmp_path: Path) -> None:
    recipe = recipe_for(voice, tmp_path, search={"seed": [0, 1]}, cache="on", adapter={"rank": 2})
    with pytest.raises(SpeechftError, match="nothing can be cached"):
        tune(recipe, trials=2, dev_utterances=2)


def test_a_storage_that_is_no_study(voice: Manifest, tmp_path: Path) -> None:
    wrong = tmp_path / "notes.txt"
    wrong.write_text("not a journal\n")
    with pytest.raises(SpeechftError, match="is not a study"):
        tune(recipe_for(voice, tmp_path / "out"), trials=1, storage=wrong)
    assert wrong.read_text() == "not a journal\n"


@pytest.mark.slow
def test_a_killed_study_tries_the_cut_off_trial_again(voice: Manifest, tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        f"manifest: {voice.path}\noutput_dir: out\nbatch_size: 4\nmax_steps: 12\nmin_steps: 0\naverage: false\n"
        "adapter: {rank: 2}\nsearch:\n  learning_rate: {low: 0.0005, high: 0.005, log: true}\n"
    )
    words = ["tune", str(recipe), "--trials", "3", "--dev-utterances", "2", "--pruning", "none", "--json"]
    command = [sys.executable, "-m", "speechft.cli", *words]
    killed = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    metrics = tmp_path / "out" / "trials" / "1" / "metrics.jsonl"
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and (not metrics.exists() or '"loss"' not in metrics.read_text()):
        time.sleep(0.05)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    trials = json.loads(done.stdout)["trials"]
    assert len(trials) == 3
    assert [row["state"] for row in trials] == ["complete"] * 3
    assert [row["number"] for row in trials] == [0, 2, 3]  # 1 was cut off, 2 is the same again


def test_trials_are_compared_at_the_same_part_of_their_runs(tmp_path: Path) -> None:
    recipe = SpeechRecipe(manifest=tmp_path / "m", output_dir=tmp_path)
    assert rungs(recipe, 160) == {10: 1, 40: 2, 160: 3}
    assert rungs(recipe, 320) == {20: 1, 80: 2, 320: 3}
    assert rungs(recipe, 3) == {1: 2, 3: 3}
    assert rungs(recipe, 1) == {1: 3}
    assert rungs(recipe.model_copy(update={"evaluations": 4}), 90) == {23: 1, 46: 2, 69: 3}


def test_a_trial_that_falls_behind_is_given_up_at_a_rung(voice: Manifest, tmp_path: Path) -> None:
    search = {"learning_rate": [1e-3, 1e-7]}
    recipe = recipe_for(voice, tmp_path, max_steps=18, evaluations=None, search=search, learning_rate=1e-3)
    found = tune(recipe, trials=6, dev_utterances=4, search_only=True)["trials"]
    assert found[0]["state"] == "complete"
    assert len(found[0]["course"]) == 3  # after 1, 4 and all of its 18 steps
    slow = [one for one in found if one["params"]["learning_rate"] == 1e-7]
    assert slow, "six draws of two"
    assert {(one["state"], len(one["course"]) <= 2) for one in slow} == {("pruned", True)}, found
