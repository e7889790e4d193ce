"""Hyper-parameters by search: Optuna proposes, training answers, dev decides; test is looked at once, at the end.

A trial is an ordinary run (`speechft.train.fit`, or the task's own for text) that is stopped early where its course on
dev is worse than others' at the same point. The study is a file, and the same command goes on with it.
"""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path
from typing import Any

from speechft.cluster import cluster, reason
from speechft.config import SpeechRecipe
from speechft.errors import SpeechftError, disk_error, missing_extra
from speechft.events import Event, OnEvent
from speechft.files import write_json, write_text
from speechft.locks import locked
from speechft.marks import FILE, marked, with_absolute_paths, without
from speechft.own_results import refuse_foreign_results
from speechft.pipeline import train
from speechft.recipes import RECIPES, Recipe
from speechft.text.config import DATA
from speechft.tune_report import markdown, refuse_foreign_study, row, search_result
from speechft.tune_space import Space, default_space
from speechft.tune_study import Pruning, came_to_an_end, cut_off_again, draw_by, has_ended, open_study
from speechft.tune_task import Task, speech_task, text_task
from speechft.validation import validated

TEXT_EVALUATIONS = 4  # of a trial of text, at even distances: where it can be stopped
DEV_UTTERANCES = 100  # a trial is judged on; the best recipe's own run is judged on all


def tune(
    recipe: Recipe,
    *,
    trials: int = 30,
    minutes: float | None = None,
    storage: Path | None = None,
    pruning: Pruning = "halving",
    dev_utterances: int = DEV_UTTERANCES,
    search_only: bool = False,
    workers: int = 1,
    address: str | None = None,
    on_event: OnEvent = lambda event: None,
) -> dict[str, Any]:
    """Search for a better recipe, then train it and report test.

    The first trial is the recipe as it is. A trial that was cut off with its process is tried again.

    Args:
        recipe: of speech or text; its `search` is the space, `default_space` where it is empty. Its
            `output_dir` gets best.yaml, trials.json, trials.md, importance.svg, and best/, the run of the best recipe.
        trials: of the whole study, those of earlier calls included.
        minutes: of this call's search; the trial that is under way then is its last.
        storage: the study's journal; study.journal in the output folder unless given.
        pruning: `halving` (Li et al., 2018, arXiv 1810.05934), `median`, or `none`.
        dev_utterances: of speech, that trials are judged on, drawn from dev.
        search_only: leave the best recipe's run, and with it test, to a later call.
        workers: that try recipes at the same time, on Ray where there are several; they may end with a trial more each.
        address: of a Ray cluster, see `cluster.cluster`.
        on_event: called with `{"event": "trial", ...}` after each, and with the events of the best recipe's run.

    Returns:
        what trials.json holds.

    Raises:
        SpeechftError: recipe, search or data are wrong, the storage holds another study, the folder something that is
            not of one, or no trial came to its end.
    """
    out = Path(recipe.output_dir)
    space_of(recipe)  # its mistakes are named before there is a folder
    refuse_foreign_results(out, recipe.adapter.saved_as)  # the lock that is left here says that they are ours
    refuse_foreign_study(out)
    with locked(out):
        mine = Worker(recipe, trials, minutes, storage or out / "study.journal", pruning, dev_utterances)
        space, task, study = mine.space, mine.task, mine.study
        done = cut_off_again(study, space)
        if not study.trials:
            study.enqueue_trial(space.own)
        if trials > done and (workers > 1 or address):
            mine.on_ray(workers, address, on_event)
        elif trials > done:
            mine.go(on_event)
        shutil.rmtree(out / "trials", ignore_errors=True)
        result = {"notice": task.notice, **search_result(study, space, task.metric, out)}
        if task.shared:
            result |= {"overlap": str(task.shared), "leakage": task.shared.to_dict()}
        if not search_only:
            tested = study.user_attrs.get("tested", [])
            if result["best"]["number"] not in tested:
                if tested:  # an earlier best run, perhaps cut off: none to go on with
                    refuse_foreign_results(out / "best")
                    shutil.rmtree(out / "best", ignore_errors=True)
                study.set_user_attr("tested", [*tested, result["best"]["number"]])
            best = space.at(study.best_trial.params).model_copy(update={"output_dir": out / "best"})
            result["best_run"] = _train_best(best, on_event)
            if result["best_run"]["evaluated_on"]["split"] != "test":  # it looked at dev again
                study.set_user_attr("tested", [number for number in tested if number != result["best"]["number"]])
        result["test_looked_at"] = len(study.user_attrs.get("tested", []))
        write_json(out / "trials.json", result)
        write_text(out / "trials.md", markdown(result))
    return result


class Worker:
    """One process of a study: it tries recipes, and shares the journal with the others.

    Attributes:
        space, task, study: what is varied, what a trial does, and what is known so far.
    """

    def __init__(
        self, recipe: Recipe, trials: int, minutes: float | None, storage: Path, pruning: Pruning, dev_utterances: int,
        worker: int = 0,
    ) -> None:  # fmt: skip
        """Arguments as of `tune`; `worker` is its number."""
        try:
            import optuna
        except ImportError:
            raise missing_extra("optuna", "tune") from None
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        elsewhere = with_absolute_paths(recipe).model_dump(mode="json")
        self.given = (elsewhere, trials, minutes, str(storage.resolve()), pruning, dev_utterances)
        self.trials, self.minutes, self.out = trials, minutes, Path(recipe.output_dir)
        self.space = space_of(recipe)
        plain = self.space.recipe
        if isinstance(plain, SpeechRecipe):
            self.task = speech_task(plain, self.out, dev_utterances)
        else:
            self.task = text_task(plain)
        self.study, self.worker = open_study(storage, self.space, self.task, pruning), worker

    def go(self, on_event: OnEvent = lambda event: None) -> None:
        """Try one recipe after the other until the study has as many trials as it was asked for, or time is up."""

        def ended(study: Any, trial: Any) -> None:
            on_event({"event": "trial", "of": self.trials, **row(trial)})
            draw_by(self.space.recipe.seed, study, self.worker)
            if came_to_an_end(study) >= self.trials:
                study.stop()

        if came_to_an_end(self.study) >= self.trials:
            return
        draw_by(self.space.recipe.seed, self.study, self.worker)
        self.study.optimize(
            lambda trial: _objective(trial, self.space, self.task, self.out / "trials"),
            timeout=None if self.minutes is None else 60 * self.minutes,
            callbacks=[ended],
            catch=(SpeechftError,),
            gc_after_trial=True,
        )

    def on_ray(self, workers: int, address: str | None, on_event: OnEvent) -> None:
        """The same by several workers. One that dies is replaced, and its trial is lost.

        Raises:
            SpeechftError: a worker could not begin, or too many died.
        """
        told = {trial.number for trial in self.study.trials if has_ended(trial)}
        with cluster(address) as ray:
            task = ray.remote(_take_part).options(max_retries=3, retry_exceptions=False)
            waiting = [task.remote(*self.given, worker) for worker in range(1, workers + 1)]
            while waiting:
                ready, waiting = ray.wait(waiting, num_returns=1, timeout=1)
                for trial in self.study.trials:
                    if trial.state.is_finished() and has_ended(trial) and trial.number not in told:
                        told.add(trial.number)
                        on_event({"event": "trial", "of": self.trials, **row(trial)})
                try:
                    ray.get(ready)
                except ray.exceptions.RayError as error:
                    what = f"a worker of the study failed ({reason(error)})"
                    raise SpeechftError(what, where=self.out, fix="Run the same command again to resume.") from None


def space_of(recipe: Recipe) -> Space:
    """What a study of a recipe varies."""
    even = recipe.evaluations or (None if recipe.task == "speech" else TEXT_EVALUATIONS)
    plain = recipe.model_copy(update={"search": {}, "evaluations": even})
    return Space(plain, recipe.search or default_space(recipe))


def _take_part(recipe: dict, trials: int, minutes: float | None, storage: str, *others: Any) -> None:
    """What a worker of Ray's does."""
    settings = validated(RECIPES[recipe["task"]], recipe)
    Worker(settings, trials, minutes, Path(storage), *others).go()


def _objective(trial: Any, space: Space, task: Task, folder: Path) -> float:
    """One trial: what Optuna calls; lower is better."""
    import optuna

    values: list[float] = []
    started = time.perf_counter()
    out = folder / str(trial.number)

    def on_event(event: Event) -> None:
        value = event.get("wer", event.get("dev"))
        if value is None or event.get("model") == "base":
            return
        values.append(value)
        if rung := event.get("rung"):
            trial.report(min(values), rung)
            last = "steps" in event and event["step"] == event["steps"]
            if not last and trial.should_prune():
                raise optuna.TrialPruned

    def ended(error: Exception | None = None) -> None:
        trial.set_user_attr("seconds", round(time.perf_counter() - started, 1))
        if error:
            trial.set_user_attr("error", str(error))

    try:
        recipe = space.at(space.ask(trial))
        value = task.run(recipe.model_copy(update={"output_dir": out, "checkpoint_every": 10**9}), on_event)
    except optuna.TrialPruned:
        ended()
        raise
    except Exception as error:
        if full := disk_error(error):  # no fault of the recipe, which is tried again when the study goes on
            raise full from None
        ended(error)
        raise
    finally:
        shutil.rmtree(out, ignore_errors=True)
    ended()
    return value


def _train_best(best: Recipe, on_event: OnEvent) -> dict[str, Any]:
    """Train the best recipe on everything, judged on all of dev; its test scores are the study's result."""
    refuse_foreign_results(best.output_dir)
    paths = marked(type(best), FILE, DATA)  # they may be written otherwise; the study has the hash of the rows
    result_file = Path(best.output_dir) / "result.json"
    result: dict[str, Any] = json.loads(result_file.read_text(encoding="utf-8")) if result_file.is_file() else {}
    then = {key: value for key, value in result.get("recipe", {}).items() if key not in paths}
    if then != without(best, FILE, DATA):
        if result:
            shutil.rmtree(best.output_dir)  # an earlier best
        if (judged := Path(best.output_dir).parent / "judged").is_dir():  # by the trials: a judge is not asked again
            shutil.copytree(judged, Path(best.output_dir) / "judged", dirs_exist_ok=True)
        if isinstance(best, SpeechRecipe):
            train(best, on_event=on_event)
        else:
            from speechft.text.pipeline import train as train_text  # with what only text needs

            train_text(best, on_event=on_event)
        result = json.loads(result_file.read_text(encoding="utf-8"))
    keys = ("wer", "wer_ci95", "cer") if best.task == "speech" else tuple(result["adapted"])
    return {
        "notice": result["notice"],
        "evaluated_on": result["evaluated_on"],
        "dev_base": result["training"]["dev_base"],
        "dev_best": result["training"]["dev_best"],
        **{name: {key: result[name].get(key) for key in keys} for name in ("base", "adapted")},
        "difference": result["difference"],
    }
