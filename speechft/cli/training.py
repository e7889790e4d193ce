"""Verbs that train: quickstart, train."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from speechft.cli.common import AsJson, app, err, print_json, recipe_and_overrides
from speechft.errors import SpeechftError

if TYPE_CHECKING:
    from speechft.recipes import Recipe

SCHEDULE_TITLE = "Learning rate, "


@app.command()
def quickstart(
    out: Annotated[Path, typer.Option(help="Folder for the voice, the adapter and the report.")] = Path("quickstart"),
    as_json: AsJson = False,
) -> None:
    """Adapt the bundled model to a simulated voice, end to end, in a few minutes and without a network.

    Example: `speechft quickstart --out quickstart`
    """
    from speechft.quickstart import run
    from speechft.terminal import before_after
    from speechft.watcher import Watcher

    with Watcher(quiet=as_json) as watch:
        result = run(out, on_event=watch)
    if as_json:
        print_json(result)
    else:
        before_after(result, out)


def schedule_chart(recipe: Recipe, steps: int) -> str:
    """The learning rate of a recipe over so many optimiser steps, as an SVG that stands alone."""
    from speechft.report_charts import curve, standalone
    from speechft.schedule import rate_factor

    points = [(float(step), recipe.learning_rate * rate_factor(recipe, step, steps)) for step in range(steps)]
    title = f"{SCHEDULE_TITLE}{recipe.schedule}"
    return standalone(curve(points, title=title, across="optimiser steps", percent=False, dots=False), title)


def training_examples(recipe: Recipe) -> tuple[int, float]:
    """How many a run of this recipe would train on, and how many seconds of speech they are."""
    from speechft.config import SpeechRecipe

    if isinstance(recipe, SpeechRecipe):
        from speechft.pipeline import prepared

        train = prepared(recipe)[0].split("train")
        return len(train), train.seconds
    from speechft.text.pipeline import corpus_of

    packed = recipe.task == "pretrain" or getattr(recipe, "packing", False)
    if packed and not recipe.max_steps:
        raise SpeechftError("how many sequences packing makes is known only in training", fix="Give max_steps.")
    examples = corpus_of(recipe).train
    if getattr(recipe, "loss", "") == "kto":  # a pair becomes two rows
        return sum(1 if example.rejected is None else 2 for example in examples), 0.0
    return len(examples), 0.0


@app.command()
def train(
    recipe: Annotated[
        Path | None,
        typer.Argument(help="YAML file; leave out to start from the defaults.", show_default=False),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="key=value, with dots for groups: adapter.rank=16.", show_default=False),
    ] = None,
    plot_schedule: Annotated[
        Path | None,
        typer.Option(help="Draw the learning rate over the run's steps as this SVG file, and train nothing."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train an adapter, compare it with the base model on clips never trained on, and write a report.

    Run the same command again to resume after an interruption.
    Example: `speechft train recipes/personal_voice.yaml manifest=me/manifest.jsonl output_dir=runs/me`
    """
    from speechft.distributed import is_first
    from speechft.pipeline import train as run
    from speechft.recipes import load_recipe
    from speechft.terminal import before_after
    from speechft.watcher import Watcher

    settings = load_recipe(*recipe_and_overrides(recipe, overrides))
    if plot_schedule:
        from speechft.files import write_text
        from speechft.own_results import refuse_foreign_file
        from speechft.schedule import planned_steps

        refuse_foreign_file(plot_schedule, f"<title>{SCHEDULE_TITLE}")
        steps = planned_steps(settings, *training_examples(settings))
        err.print(f"{steps} optimiser steps: {write_text(plot_schedule, schedule_chart(settings, steps))}")
        return
    if settings.task != "speech":
        from speechft.cli.text import train_text

        train_text(settings, as_json)
        return
    with Watcher(quiet=as_json or not is_first()) as watch:
        result = run(settings, on_event=watch)
    if not is_first():
        return
    if as_json:
        print_json(result)
    else:
        before_after(result, settings.output_dir)
