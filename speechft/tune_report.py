"""What a study found, as JSON, YAML, Markdown and a plot."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import yaml

from speechft.errors import SpeechftError
from speechft.files import write_text
from speechft.locks import RUN
from speechft.markdown import markdown_table
from speechft.marks import with_absolute_paths
from speechft.own_results import refuse_foreign_file
from speechft.tune_space import Space
from speechft.tune_study import has_ended

# What a study's files are known by
BEST = "# speechft train best.yaml\n"
TRIALS = '"recipe_itself":'
TITLE = "# Hyper-parameter search\n"
PICTURE = "<!-- importance -->"  # the name of its axis, which Matplotlib draws as shapes

ENOUGH = 8  # trials that can tell which settings matter


def row(trial: Any) -> dict[str, Any]:
    """A trial as JSON; `course` is the best value so far at each evaluation, so a pruned trial's is shorter."""
    course = [trial.intermediate_values[step] for step in sorted(trial.intermediate_values)]
    return {
        "number": trial.number,
        "state": trial.state.name.lower(),
        "value": trial.value if trial.state.name == "COMPLETE" else min(course, default=None),
        "course": course,
        "seconds": trial.user_attrs.get("seconds"),
        "error": trial.user_attrs.get("error"),
        "params": trial.params,
    }


def refuse_foreign_study(out: Path) -> None:
    """Raises SpeechftError, before any work, where a study would replace or delete what no study wrote."""
    refuse_foreign_file(out / "best.yaml", BEST, at_start=True)
    refuse_foreign_file(out / "trials.json", TRIALS)
    refuse_foreign_file(out / "trials.md", TITLE, at_start=True)
    # best.yaml is written just before it; without one, no mark makes the picture ours
    refuse_foreign_file(out / "importance.svg", PICTURE if (out / "best.yaml").is_file() else BEST)
    trials = out / "trials"  # which are deleted at the end
    theirs = trials.is_dir() and all(trial.name.isdecimal() for trial in trials.iterdir())
    if trials.exists() and not (theirs and (out / RUN).is_file()):
        raise SpeechftError("was not made by a study, which would delete it", where=trials,
                            fix="Choose another output_dir, or move it away.")  # fmt: skip


def search_result(study: Any, space: Space, metric: str, out: Path) -> dict[str, Any]:
    """Write best.yaml and importance.svg; returns what trials.json says of the search.

    Raises:
        SpeechftError: no trial came to its end.
    """
    rows = [row(trial) for trial in study.trials if has_ended(trial)]
    ended = [one for one in rows if one["state"] == "complete"]
    if not ended:
        reasons = sorted({one["error"] for one in rows if one["error"]})
        raise SpeechftError("no trial was completed", where=out, fix=" ".join(reasons))
    best = with_absolute_paths(space.at(study.best_trial.params))
    written = best.model_dump(mode="json", exclude_defaults=True)
    # the rate always: one that is left out becomes what suits the method
    written |= {"learning_rate": best.learning_rate, "task": best.task, "output_dir": "best"}
    head = f"{BEST}# The best of {len(rows)} trials by {metric}.\n"
    write_text(out / "best.yaml", head + yaml.safe_dump(written, sort_keys=False, allow_unicode=True))
    return {
        "format": 1,
        "metric": metric,
        "recipe_itself": next((one["value"] for one in ended if one["params"] == space.own), None),
        "best": row(study.best_trial),
        "importance": _importance(study, out),
        "trials": rows,
    }


def _importance(study: Any, out: Path) -> dict[str, float]:
    """How much each setting matters for being among the better trials, and its plot; empty with too few trials.

    By PED-ANOVA (Watanabe et al., 2023, arXiv 2304.10255), over what all trials were worth when they were first looked
    at: few come to their end, and these are much alike.
    """
    import optuna
    from matplotlib.figure import Figure

    looked_at = _first_looks(study)
    if len(looked_at.trials) < ENOUGH:
        return {}
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Target and region")  # too few trials to tell good from the rest
            found = optuna.importance.get_param_importances(looked_at, evaluator=evaluator)
    except (ValueError, RuntimeError, UserWarning):
        return {}
    figure = Figure(figsize=(7, 0.4 * len(found) + 1), layout="constrained")
    axes = figure.add_subplot(xlabel="importance", title="for dev at the first look")
    axes.barh(list(found)[::-1], list(found.values())[::-1])
    figure.savefig(out / "importance.svg", format="svg")
    return {key: round(value, 4) for key, value in found.items()}


def _first_looks(study: Any) -> Any:
    """A study of what the trials were worth at the first rung; at their end where nobody looked before."""
    import optuna

    found = optuna.create_study()
    for trial in filter(has_ended, study.trials):
        value = trial.intermediate_values.get(1, trial.value)
        if value is not None and math.isfinite(value):
            known = {"params": trial.params, "distributions": trial.distributions}
            found.add_trial(optuna.trial.create_trial(value=value, **known))
    return found


def markdown(result: dict[str, Any]) -> str:
    """trials.md."""
    keys = list(result["best"]["params"])

    def number(value: float | None) -> str:
        return "–" if value is None else f"{value:.4g}"

    rows = [
        [one["number"], one["state"], number(one["value"]), number(one["seconds"])]
        + [number(value) if isinstance(value, float) else value for value in map(one["params"].get, keys)]
        for one in sorted(result["trials"], key=_best_first)
    ]
    best, own = result["best"], number(result["recipe_itself"])
    notice = result["notice"]
    lines = [
        TITLE,
        *([f"**{notice}**\n"] if notice else []),
        f"Best {result['metric']} {number(best['value'])} in trial {best['number']}; the recipe as it was has {own}. A "
        "pruned trial's value is the best it had.\n",
        markdown_table(["trial", "state", result["metric"], "seconds", *keys], rows),
    ]
    if "overlap" in result:
        lines.append(f"Splits: {result['overlap']}.\n")
    if run := result.get("best_run"):
        scores = [
            [f"{name}, {run['evaluated_on']['split']}", _said(value), _said(run["adapted"][name])]
            for name, value in run["base"].items()
        ]
        lines.append("The best recipe, trained once more and judged on all of dev:\n")
        if run["notice"] and run["notice"] != notice:
            lines.append(f"**{run['notice']}**\n")
        lines.append(markdown_table(["on", "base", "adapted"], scores))
        if run["evaluated_on"]["split"] != "test":
            lines.append(
                "These clips were optimised: the study and the run chose by them, so the scores are better than "
                "those of new recordings. Test was not looked at.\n"
            )
        lines.append(f"Recipes of this study that have been evaluated on test so far: {result['test_looked_at']}.\n")
    if result["importance"]:
        lines.append(markdown_table(["setting", "importance at the first look"], list(result["importance"].items())))
    return "\n".join(lines)


def _best_first(one: dict[str, Any]) -> tuple[bool, float]:
    return one["state"] != "complete", math.inf if one["value"] is None else one["value"]


def _said(value: Any) -> str:
    """A score, an interval, or a score with its interval."""
    if isinstance(value, dict):
        return f"{_said(value.get('value'))} ({_said(value.get('ci95'))})"
    if isinstance(value, list | tuple):
        return " to ".join(map(_said, value))
    return "–" if value is None else f"{value:.4g}"
