"""What `train` and `evaluate` do for a text recipe, and the verbs that only text has."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from speechft import left_out
from speechft.cli.common import AdapterPath, AsJson, app, err, print_json
from speechft.errors import SpeechftError
from speechft.plain_text import Terminal, escape

if TYPE_CHECKING:
    from speechft.text.config import TextRecipe

NAMED = 10  # items in the training data that the terminal names


def train_text(recipe: TextRecipe, as_json: bool) -> None:
    """`speechft train` with a recipe of a text task."""
    from speechft.text.pipeline import train
    from speechft.watcher import Watcher

    with Watcher(quiet=as_json) as watch:
        result = train(recipe, on_event=lambda event: watch(display_event(event)))
    if as_json:
        print_json(result)
        return
    scores_table(result, f"{result['evaluated_on']['examples']} examples never trained on")
    console = Terminal()
    training = result["training"]
    console.print(f"{training['steps']} steps in {training['seconds']:.0f} s; best at {training['best_step']}")
    if result["adapter"] is None:
        console.marked("[yellow]No trained state beat the base model on dev, so the base model is kept.[/]")
    else:
        console.print(f"Adapter:  {recipe.output_dir / result['adapter']}")


def is_text(task: str | None, adapters: list[Path]) -> bool:
    """Whether an evaluation is one of text: by the task given, or the one an adapter was trained for.

    Raises:
        SpeechftError: it is to be of speech, with an adapter of text.
    """
    from speechft.adapters import task_of
    from speechft.sources import resolve_adapter

    trained = task_of(resolve_adapter(adapters[0])) if adapters else "speech"
    if task == "speech" and trained != "speech":
        raise SpeechftError(f"was trained for {trained}, not for speech", where=adapters[0], fix="Leave --task out.")
    return (task or trained) != "speech"


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


@app.command()
def benchmark(
    tasks: Annotated[list[str], typer.Argument(help="mmlu, glue, gsm8k, ..., or any task of lm-eval.")],
    model: Annotated[
        str | None,
        typer.Option(help="Bundled name, folder or hub id.", show_default="the adapter's, else bundled:smollm2"),
    ] = None,
    adapter: AdapterPath = None,
    task_folder: Annotated[
        Path | None, typer.Option(help="Folder of lm-eval task files; then nothing is fetched.")
    ] = None,
    shots: Annotated[int | None, typer.Option(help="Examples in the prompt.", show_default="the task's own")] = None,
    limit: Annotated[int | None, typer.Option(help="Items of each task to score, for a first look.")] = None,
    chat: Annotated[bool, typer.Option(help="Use the model's chat template.")] = False,
    allow_code: Annotated[bool, typer.Option(help="Run code that the model writes. Use only in a container.")] = False,
    training: Annotated[str | None, typer.Option(help="Training data to search for the items.")] = None,
    reader: Annotated[
        str | None, typer.Option(help="Layout of that data if it is a known corpus, such as samsum.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for result.json.")] = None,
    as_json: AsJson = False,
) -> None:
    """Score a text model on public benchmarks, through lm-evaluation-harness.

    Example: `speechft benchmark hellaswag --adapter runs/text/sft/adapter --limit 100`
    """
    from speechft.text.benchmarks import run

    if reader and not training:
        raise SpeechftError("--reader needs --training", fix="Give --training too, or leave --reader out.")
    result = run(
        model, tasks, adapter=adapter, task_folder=task_folder, shots=shots, limit=limit, chat=chat,
        allow_code=allow_code, training=training, reader=reader, out=out,
    )  # fmt: skip
    if as_json:
        print_json(result)
        return
    table = Table(title=escape(result["model"] + (f", first {limit} items: not the benchmark" if limit else "")))
    for column in ("task", "metric", "score", "standard error", "shots", "items"):
        table.add_column(column, justify="left" if column in ("task", "metric") else "right")
    for name, scores in result["tasks"].items():
        for metric, numbers in scores["metrics"].items():
            cells = [name, metric, numbers.get("value"), numbers.get("stderr"), scores["shots"], scores["items"]]
            table.add_row(*("" if cell is None else escape(str(cell)) for cell in cells))
    Terminal().print(table)
    err.print(result["remark"])
    if "contamination" in result:
        copies = result["contamination"]
        err.print(f"{len(copies)} items share words in a row with the training data{':' if copies else '.'}")
        for hit in copies[:NAMED]:
            err.print(f'  {hit["task"]} {hit["item"]}: {hit["share"]:.0%}, "{hit["found"]}"')
        if len(copies) > NAMED:
            err.print(f"  and {len(copies) - NAMED} more; --json and --out list them all.")


@app.command("judge")
def measure_judge(
    data: Annotated[str, typer.Argument(help="Pairs of a chosen and a rejected answer, as in a text recipe's data.")],
    judge: Annotated[str, typer.Option(help="model:NAME, reward:NAME or 'url:https://host/v1 MODEL'.")],
    rubric: Annotated[str | None, typer.Option(help="What the judge is told to look for.")] = None,
    label: Annotated[
        str | None, typer.Option(help="Of a classifier as reward:NAME, the label of a better answer; -LABEL, a worse.")
    ] = None,
    scores: Annotated[
        bool, typer.Option("--scores", help="One answer at a time, scored 1 to 10; needs no pairs.")
    ] = False,
    reader: Annotated[str | None, typer.Option(help="Layout of a known corpus, such as ms_marco.")] = None,
    split: Annotated[
        str | None, typer.Option(help="train, dev or test.", show_default="test, else dev, else all")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Examples at most, drawn by chance.")] = 200,
    out: Annotated[Path | None, typer.Option(help="Folder for result.json.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measure a judge before it teaches: its biases, and its agreement with the people who chose.

    Example: `speechft judge pairs.jsonl --judge model:bundled:smollm2`
    """
    from speechft.text.audit import run

    result = run(
        data, judge, rubric=rubric, label=label, scores=scores, reader=reader, split=split, limit=limit, out=out
    )
    if as_json:
        print_json(result)
        return
    table = Table(title=escape(f"{judge}, {result['examples']} examples of {result['split']}"))
    for column in ("measure", "value", "n"):
        table.add_column(column, justify="left" if column == "measure" else "right")
    for name, measure in result["measures"].items():
        table.add_row(escape(name.replace("_", " ")), _shown(measure), str(measure["n"]))
    Terminal().print(table)


@app.command("hosted")
def export_hosted(
    data: Annotated[str, typer.Argument(help="A file, a folder or hub:NAME, as in a text recipe's data.")],
    out: Annotated[
        Path | None, typer.Argument(help="Folder for train.jsonl and validation.jsonl.", show_default=False)
    ] = None,
    to: Annotated[
        str, typer.Option(help="openai, openai-preference, bedrock, bedrock-conversation or bedrock-claude.")
    ] = "openai",
    check: Annotated[
        bool,
        typer.Option("--check", help="DATA is a file in that format already: name its wrong lines, write nothing."),
    ] = False,
    reader: Annotated[str | None, typer.Option(help="Layout of a known corpus, such as samsum.")] = None,
    epochs: Annotated[int, typer.Option(min=1, help="Epochs you will request from the service.")] = 1,
    price: Annotated[float | None, typer.Option(help="Price of a million training tokens, for the estimate.")] = None,
) -> None:
    """Write text data in the format of hosted fine-tuning services, checked against its schema. Nothing is sent.

    Example: `speechft hosted mine.jsonl upload --to bedrock-conversation`
    """
    from speechft.text.corpora import CREDENTIALED
    from speechft.text.data import read
    from speechft.text.hosted import FILES, export, under_agreement

    if check:
        if out:
            raise SpeechftError("--check writes nothing", fix="Leave OUT out.")
        check_hosted(data, to)
        return
    if out is None:
        raise SpeechftError("a folder to write to is missing", fix="Give OUT, or --check.")
    if reader in CREDENTIALED:  # before they are read: they are documents, and would be refused for that
        raise under_agreement(data)
    if there := next((out / name for name in FILES if (out / name).exists()), None):
        raise SpeechftError("already exists and would be overwritten", where=there, fix="Name another folder.")
    needs = "preference" if to == "openai-preference" else "answer"
    made = export(read(data, reader=reader, needs=needs), out, to, epochs=epochs, price_per_million=price)
    for where, reason in made.left_out:
        err.marked(left_out.line(where, reason))
    for split, path in made.files.items():
        err.print(f"{path}: {made.examples[split]} examples")
    cost = f", about {made.cost} at that price" if made.cost is not None else ""
    err.print(f"About {made.tokens} training tokens{cost}.")
    err.marked(f"[bold yellow]{escape(made.warning)}[/]")


def check_hosted(path: str, to: str) -> None:
    """Names the lines of a file that do not fit a service's format, and exits with 2 where there are some."""
    from speechft.text.hosted import validate

    problems = validate(path, to)
    for line, reason in problems:
        err.print(f"{path}:{line}: {reason}")
    if problems:
        advice = "Correct them, or make the file anew: speechft hosted DATA OUT."
        err.print(f"{path}: {len(problems)} faults in all. {advice}")
        raise typer.Exit(2)
    err.print(f"{path}: every line fits {to}.")


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
            escape(name.replace("_", " ")), _shown(before), _shown(after),
            "" if size is None else f"{sign}{size:.3g} ({_span(change)})",
        )  # fmt: skip
    Terminal().print(table)


def _shown(measure: dict[str, Any] | None) -> str:
    if not measure or measure["value"] is None:
        return "-"
    return f"{measure['value']:.4g} ({_span(measure)})"


def _span(measure: dict[str, Any]) -> str:
    low, high = measure["ci95"]
    return f"{low:.3g} to {high:.3g}" if low is not None and high is not None else "no interval"


def display_event(event: dict[str, Any]) -> dict[str, Any]:
    """Dev lines and what was found of a judge as news; steps as they are, for the progress bar."""
    if event.get("event") == "judge":
        return {"event": "judge", **{name: measure["value"] for name, measure in event["measures"].items()}}
    if "dev" in event and "event" not in event:
        return {"event": f"step {event['step']}", "dev": f"{event['dev']:.4f}", "model": event["model"]}
    return event
