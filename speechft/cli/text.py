"""What `train` and `evaluate` do for a text recipe, and the verbs that only text has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from speechft.cli.common import print_json


def train_text(recipe: Any, as_json: bool) -> None:
    """`speechft train` with a recipe of a text task."""
    from speechft.terminal import Watcher
    from speechft.text.pipeline import train

    with Watcher(quiet=as_json) as watch:
        result = train(recipe, on_event=lambda event: watch(_spoken(event)))
    if as_json:
        print_json(result)
        return
    scores_table(result, f"{result['evaluated_on']['examples']} examples never trained on")
    console = Console()
    training = result["training"]
    console.print(f"{training['steps']} steps in {training['seconds']:.0f} s; best at {training['best_step']}")
    if result["adapter"] is None:
        console.print("[yellow]Nothing trained did better than the base model on dev, so the base model is kept.[/]")
    else:
        console.print(f"Adapter:  {recipe.output_dir / result['adapter']}")


def is_text(task: str | None, adapters: list[Path]) -> bool:
    """Whether an evaluation is one of text: by the task given, or the one an adapter was trained for."""
    if task or not adapters:
        return task not in (None, "speech")
    from speechft.adapters import read_card

    return read_card(adapters[0]).get("task", "speech") != "speech"


def evaluate_text(data: Path, task: str | None, as_json: bool, **settings: Any) -> None:
    """`speechft evaluate` where the task, or the adapter's, is one of text."""
    from speechft.text.pipeline import evaluate

    result = evaluate(str(data), task=task, **settings)
    if as_json:
        print_json(result)
        return
    own = {name: value for name, value in result.items() if isinstance(value, dict) and "ci95" in value}
    columns = {**result, "base": result["base"] or own, "adapted": own}
    scores_table(columns, f"{result['model']}, {result['examples']} examples of {result['split']}")


def scores_table(result: dict[str, Any], title: str) -> None:
    """Each measure before and after, with intervals."""
    table = Table(title=escape(title))
    for column in ("", "before", "after", "change"):
        table.add_column(column, justify="left" if not column else "right")
    for name, after in result["adapted"].items():
        before, change = result["base"].get(name), (result.get("difference") or {}).get(name, {})
        size = change.get("difference", change.get("ratio"))
        sign = "x" if "ratio" in change else ""
        table.add_row(
            name.replace("_", " "), _shown(before), _shown(after),
            "" if size is None else f"{sign}{size:.3g} ({_span(change)})",
        )  # fmt: skip
    Console().print(table)


def _shown(measure: dict[str, Any] | None) -> str:
    if not measure or measure["value"] is None:
        return "-"
    return f"{measure['value']:.4g} ({_span(measure)})"


def _span(measure: dict[str, Any]) -> str:
    low, high = measure["ci95"]
    return f"{low:.3g} to {high:.3g}" if low is not None and high is not None else "no interval"


def _spoken(event: dict[str, Any]) -> dict[str, Any]:
    """Dev lines of a text run as news; steps as they are, for the progress bar."""
    if "dev" in event and "event" not in event:
        return {"event": f"step {event['step']}", "dev": f"{event['dev']:.4f}", "model": event["model"]}
    return event
