"""The command line: one verb, one short function.

Exit codes: 0 done, 2 what the user gave was wrong, 1 anything else.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from speechft.errors import SpeechftError

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    rich_markup_mode="markdown",
    help="Adapt speech recognition to the voices it fails. Start with `speechft quickstart`.",
    add_completion=False,
)
err = Console(stderr=True)

ManifestPath = Annotated[Path, typer.Argument(help="JSONL, one utterance a line.", show_default=False)]
Outside = Annotated[bool, typer.Option("--allow-outside", help="Let audio lie outside the manifest's folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the machine-readable result alone on stdout.")]
Model = Annotated[
    str | None,
    typer.Option(
        help="bundled:tiny.en, bundled:base, a folder, or a hub id.",
        show_default="the adapter's, else bundled:tiny.en",
    ),
]
AdapterPath = Annotated[Path | None, typer.Option(help="Folder of a trained adapter.")]
Language = Annotated[str | None, typer.Option(help="Code such as en or de; detected unless given.")]


def main() -> None:
    """Entry point: runs the app and turns errors into a sentence and an exit code."""
    try:
        code = app(standalone_mode=False)  # an Exit comes back as its code
    except SpeechftError as error:
        err.print(f"[bold red]Error:[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        err.print("Stopped. Training goes on from its last checkpoint when the same command is run again.")
        sys.exit(130)
    except Exception as error:
        if hasattr(error, "show"):  # a usage error of click's
            error.show()
            sys.exit(2)
        raise
    sys.exit(code or 0)


@app.command()
def quickstart(
    out: Annotated[Path, typer.Option(help="Folder for the voice, the adapter and the report.")] = Path("quickstart"),
    as_json: AsJson = False,
) -> None:
    """Adapt the bundled model to a simulated voice, end to end, in a few minutes and without a network.

    Example: `speechft quickstart --out quickstart`
    """
    from speechft.quickstart import run
    from speechft.terminal import Watcher, before_after

    with Watcher(quiet=as_json) as watch:
        result = run(out, on_event=watch)
    if as_json:
        _print_json(result)
    else:
        before_after(result, out)


@app.command()
def prepare(
    corpus: Annotated[str, typer.Argument(help="folder, csv, hub or simulated.", show_default=False)],
    source: Annotated[str, typer.Argument(help="Folder, table, or dataset name.", show_default=False)],
    out: Annotated[Path, typer.Argument(help="Folder for manifest.jsonl.", show_default=False)],
    split: Annotated[str | None, typer.Option(help="hub: only this split.")] = None,
    copy: Annotated[bool, typer.Option("--copy/--no-copy", help="Copy recordings beside the manifest.")] = True,
    allow_outside: Outside = False,
    as_json: AsJson = False,
) -> None:
    """Turn recordings and texts as you have them into a manifest.

    Example: `speechft prepare folder ~/recordings ~/corpus`
    """
    from speechft.corpora import prepare as run

    prepared = run(corpus, source, out, split=split, copy=copy, allow_outside=allow_outside)
    manifest = prepared.manifest
    if as_json:
        _print_json(
            {
                "manifest": str(manifest.path),
                "utterances": len(manifest),
                "minutes": round(manifest.seconds / 60, 2),
                "left_out": [{"where": where, "reason": reason} for where, reason in prepared.left_out],
            }
        )
        return
    for where, reason in prepared.left_out:
        err.print(f"[yellow]left out[/] {escape(where)}: {escape(reason)}", soft_wrap=True)
    typer.echo(
        f"{manifest.path}: {len(manifest)} utterances, {manifest.seconds / 60:.1f} minutes, "
        f"{len(manifest.speakers)} speaker(s); {len(prepared.left_out)} left out"
    )


@app.command()
def check(
    manifest: ManifestPath,
    model: Model = None,
    allow_outside: Outside = False,
    as_json: AsJson = False,
) -> None:
    """Look at every recording and text of a manifest, and at what its splits share.

    Exits with 2 if any row cannot be used. Example: `speechft check corpus/manifest.jsonl`
    """
    from speechft.check import check as run
    from speechft.manifest import Manifest
    from speechft.split import overlap
    from speechft.terminal import Watcher, problem_lines

    tokenizer = None
    if model:
        from speechft.whisper import load_whisper

        tokenizer = load_whisper(model).label_ids
    with Watcher(quiet=as_json) as watch:
        rows, _ = Manifest.read(manifest, allow_outside)
        problems = run(manifest, allow_outside, tokenizer, lambda _, total: watch({"event": "checked", "of": total}))
    shared = str(overlap(rows)) if rows.splits else "no splits yet"
    if as_json:
        found = [
            {"severity": p.severity, "kind": p.kind, "where": p.where, "what": p.what, "fix": p.fix} for p in problems
        ]
        _print_json({"utterances": len(rows), "minutes": rows.seconds / 60, "overlap": shared, "problems": found})
    else:
        for line in problem_lines(problems):
            err.print(line, soft_wrap=True)
        typer.echo(f"{len(rows)} utterances read; {shared}; {len(problems)} problem(s)")
    if any(p.severity == "error" for p in problems):
        raise typer.Exit(2)


@app.command()
def train(
    recipe: Annotated[
        Path | None,
        typer.Argument(help="YAML; leave out to start from the defaults.", show_default=False),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="key=value, dotted for groups: adapter.rank=16", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Train an adapter, compare it with the base model on clips never trained on, and write a report.

    Run the same command again to go on after an interruption.
    Example: `speechft train recipes/personal_voice.yaml manifest=me/manifest.jsonl output_dir=runs/me`
    """
    from speechft.config import load_recipe
    from speechft.pipeline import train as run
    from speechft.terminal import Watcher, before_after

    overrides = overrides or []
    if recipe is not None and "=" in str(recipe) and not recipe.exists():
        overrides, recipe = [str(recipe), *overrides], None
    settings = load_recipe(recipe, overrides)
    with Watcher(quiet=as_json) as watch:
        result = run(settings, on_event=watch)
    if as_json:
        _print_json(result)
    else:
        before_after(result, settings.output_dir)


@app.command()
def evaluate(
    manifest: Annotated[Path, typer.Option(help="JSONL, one utterance a line.", show_default=False)],
    split: Annotated[str | None, typer.Option(help="Of the manifest.", show_default="test, else dev, else all")] = None,
    model: Model = None,
    adapter: AdapterPath = None,
    out: Annotated[Path | None, typer.Option(help="Folder for result.json and the report.")] = None,
    normalizer: Annotated[
        str, typer.Option(help="whisper-english, basic, characters, whisper-basic or none.")
    ] = "whisper-english",
    context: Annotated[str | None, typer.Option(help="Override: clip, clip+10s, full.")] = None,
    language: Language = None,
    beams: Annotated[int, typer.Option(min=1, max=20, help="1 is greedy.")] = 1,
    against_base: Annotated[
        bool, typer.Option("--against-base/--alone", help="With an adapter: evaluate its base too.")
    ] = True,
    allow_outside: Outside = False,
    as_json: AsJson = False,
) -> None:
    """Error rates of a model or an adapter, with intervals, per speaker and per group.

    Example: `speechft evaluate --manifest me/manifest.jsonl --adapter runs/me/adapter`
    """
    from speechft.pipeline import evaluate as run
    from speechft.terminal import Watcher, before_after, scores_table

    with Watcher(quiet=as_json) as watch:
        result = run(
            manifest, split=split, model=model, adapter=adapter, out=out, normalizer=normalizer, context=context,
            language=language, beams=beams, against_base=against_base, allow_outside=allow_outside, on_event=watch,
        )  # fmt: skip
    if as_json:
        _print_json(result)
    elif result["base"]:
        before_after({**result, "adapted": result}, out)
    else:
        scores_table(result, out)


@app.command()
def transcribe(
    audio: Annotated[list[Path], typer.Argument(help="Recordings, in any container.", show_default=False)],
    model: Model = None,
    adapter: AdapterPath = None,
    kind: Annotated[str, typer.Option("--format", help="txt, json, srt or vtt.")] = "txt",
    out: Annotated[Path | None, typer.Option(help="Folder for one file a recording; else stdout.")] = None,
    language: Language = None,
    beams: Annotated[int, typer.Option(min=1, max=20, help="1 is greedy.")] = 1,
) -> None:
    """Transcribe recordings of any length.

    Example: `speechft transcribe new.m4a --adapter runs/me/adapter --format srt`
    """
    from speechft.decode import DecodeOptions
    from speechft.files import write_text
    from speechft.formats import FORMATS, render
    from speechft.recogniser import load

    if kind not in FORMATS:
        raise SpeechftError(f"unknown format '{kind}'", fix=f"Use one of {', '.join(FORMATS)}.")
    recogniser = load(model, adapter, language=language)
    failed = False
    for path in audio:
        try:
            found = recogniser.transcribe(path, words=kind != "txt", options=DecodeOptions(beams=beams))
        except SpeechftError as error:  # one bad file does not take the others with it
            err.print(f"[bold red]Error:[/] {escape(str(error))}", soft_wrap=True)
            failed = True
            continue
        text = render(found, kind)
        if out:
            write_text(out / f"{path.stem}.{kind}", text)
        elif kind == "txt" and len(audio) > 1:
            sys.stdout.write(f"{path}\t{text}")
        else:
            sys.stdout.write(text)
    if failed:
        raise typer.Exit(2)


def _print_json(result: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(result, ensure_ascii=False, indent=2, default=str) + "\n")


if __name__ == "__main__":
    main()
