"""Verbs that train many times: tune, fleet."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markdown import Markdown

from speechft.cli.common import AsJson, app, err, print_json, recipe_and_overrides
from speechft.errors import SpeechftError, missing_extra
from speechft.files import read_text
from speechft.plain_text import Terminal, escape, visible

if TYPE_CHECKING:
    from speechft.recipes import Recipe

RecipePath = Annotated[Path | None, typer.Argument(help="YAML file; leave out to start from the defaults.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="key=value, with dots for groups: adapter.rank=16.")]


@app.command()
def tune(
    recipe: RecipePath = None,
    overrides: Overrides = None,
    trials: Annotated[int, typer.Option(min=1, help="Trials of the whole study.")] = 30,
    minutes: Annotated[float | None, typer.Option(min=0.0, help="Start no new trial after this many minutes.")] = None,
    storage: Annotated[
        Path | None, typer.Option(help="The study's file.", show_default="study.journal in output_dir")
    ] = None,
    pruning: Annotated[str, typer.Option(help="How to stop poor trials: halving, median or none.")] = "halving",
    dev_utterances: Annotated[int, typer.Option(min=1, help="Dev utterances that speech trials are judged on.")] = 100,
    search_only: Annotated[bool, typer.Option("--search-only", help="Leave the best recipe's run for later.")] = False,
    workers: Annotated[int, typer.Option(min=1, help="Number of recipes tried at the same time, on Ray.")] = 1,
    address: Annotated[
        str | None, typer.Option(help="Address of a Ray cluster: auto, ray://host:10001.", show_default="this machine")
    ] = None,
    find_lr: Annotated[bool, typer.Option("--find-lr", help="Only suggest a learning rate, by a range test.")] = False,
    as_json: AsJson = False,
) -> None:
    """Search for a better recipe on dev, train the best, and report test once.

    The recipe's `search:` says what is varied. Run the same command again to resume.
    Example: `speechft tune recipes/personal_voice.yaml manifest=me/manifest.jsonl output_dir=runs/study --minutes 15`
    """
    from speechft.recipes import load_recipe
    from speechft.watcher import Watcher

    settings = load_recipe(*recipe_and_overrides(recipe, overrides))
    if find_lr:
        _find_lr(settings, as_json)
        return
    if pruning not in ("halving", "median", "none"):
        raise SpeechftError(f"unknown pruning '{pruning}'", fix="Use halving, median or none.")
    from speechft.cli.text import display_event
    from speechft.tune import tune as run

    with Watcher(quiet=as_json) as watch:

        def told(event: dict[str, Any]) -> None:
            if event.get("event") == "trial":
                value = "" if event["value"] is None else f" {event['value']:.4g}"
                params = " ".join(f"{key}={value}" for key, value in event["params"].items())
                watch.say(f"trial {event['number'] + 1} of {event['of']}: {event['state']}{value}  {escape(params)}")
            else:
                watch(display_event(event))

        result = run(
            settings, trials=trials, minutes=minutes, storage=storage, pruning=pruning,  # type: ignore[arg-type]
            dev_utterances=dev_utterances, search_only=search_only, workers=workers, address=address, on_event=told,
        )  # fmt: skip
    if as_json:
        print_json(result)
    else:
        Terminal().print(Markdown(visible(read_text(settings.output_dir / "trials.md"))))
        err.print(f"Best recipe: {settings.output_dir / 'best.yaml'}")


def _find_lr(settings: Recipe, as_json: bool) -> None:
    from speechft.config import SpeechRecipe
    from speechft.lr_finder import CURVE, find_learning_rate, plot
    from speechft.own_results import refuse_foreign_file
    from speechft.pipeline import prepared
    from speechft.watcher import Watcher

    if not isinstance(settings, SpeechRecipe):
        raise SpeechftError("the range test is for speech recipes", fix="Leave --find-lr out: tune searches for it.")
    if importlib.util.find_spec("matplotlib") is None:  # now, not after all its steps
        raise missing_extra("matplotlib", "tune")
    picture = settings.output_dir / "learning_rate.svg"
    refuse_foreign_file(picture, CURVE)
    with Watcher(quiet=as_json) as watch:
        found = find_learning_rate(settings, prepared(settings)[0].split("train"), on_event=watch)
    plot(found, picture)
    if as_json:
        print_json({"suggestion": found.suggestion, "stopped": found.stopped, "rates": found.rates,
                    "losses": found.losses, "plot": str(picture)})  # fmt: skip
        return
    Terminal().print(f"learning_rate={found.suggestion:.2g}")
    if not found.stopped:
        err.print("The loss never grew in this range, so the highest useful rate may be above it.")
    err.print(f"Plot: {picture}")


@app.command()
def fleet(
    recipe: RecipePath = None,
    overrides: Overrides = None,
    speakers: Annotated[str | None, typer.Option(help="Names, separated by commas.", show_default="all")] = None,
    address: Annotated[
        str | None, typer.Option(help="Address of a Ray cluster: auto, ray://host:10001.", show_default="this machine")
    ] = None,
    cpus: Annotated[float, typer.Option(min=0.1, help="Cores for each speaker.")] = 1,
    gpus: Annotated[float, typer.Option(min=0.0, help="GPUs for each speaker; 0.25 runs four on one.")] = 0,
    retries: Annotated[int, typer.Option(min=0, help="How often to retry a run whose worker died.")] = 3,
    as_json: AsJson = False,
) -> None:
    """Train an adapter for each speaker of a manifest, many at a time, on Ray.

    Run the same command again to resume: speakers who are done are not trained again.
    Example: `speechft fleet recipes/personal_voice.yaml manifest=cohort/manifest.jsonl output_dir=runs/fleet`
    """
    from speechft.fleet import fleet as run
    from speechft.recipes import load_recipe

    settings = load_recipe(*recipe_and_overrides(recipe, overrides))

    def told(event: dict[str, Any]) -> None:
        said = event.get("error") or ("kept" if event["kept"] else f"trained in {event['seconds']:.0f} s")
        err.print(f"{event['speaker']}: {said}", highlight=False)

    names = [name.strip() for name in speakers.split(",")] if speakers else None
    with contextlib.redirect_stdout(sys.stderr):  # where Ray says that a worker died
        result = run(
            settings, speakers=names, address=address, cpus=cpus, gpus=gpus, retries=retries, on_event=told
        )  # fmt: skip
    if as_json:
        print_json(result)
    else:
        Terminal().print(Markdown(visible(read_text(settings.output_dir / "fleet.md"))))
    if failed := result["pooled"]["failed"]:
        err.print(f"{failed} of {len(result['speakers'])} speakers were not trained; their lines say why. "
                  "The same command again trains only them.", highlight=False)  # fmt: skip
        raise typer.Exit(1 if any(row.get("crashed") for row in result["speakers"]) else 2)
