"""Verbs on recordings and manifests: prepare, check, card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from speechft import left_out
from speechft.cli.common import (
    AsJson,
    ManifestPath,
    Model,
    Outside,
    app,
    err,
    print_json,
)
from speechft.corpora import CORPORA


@app.command()
def prepare(
    corpus: Annotated[str, typer.Argument(help=f"{', '.join(CORPORA)}.", show_default=False)],
    source: Annotated[str, typer.Argument(help="Folder, table, or dataset name.", show_default=False)],
    out: Annotated[Path, typer.Argument(help="Folder for manifest.jsonl.", show_default=False)],
    split: Annotated[str | None, typer.Option(help="For hub: take only this split.")] = None,
    copy: Annotated[bool, typer.Option("--copy/--no-copy", help="Copy recordings beside the manifest.")] = True,
    allow_outside: Outside = False,
    as_json: AsJson = False,
) -> None:
    """Turn your own recordings and texts, or a corpus as it is distributed, into a manifest.

    Example: `speechft prepare folder ~/recordings ~/corpus`
    """
    from speechft.corpora import prepare as run

    prepared = run(corpus, source, out, split=split, copy=copy, allow_outside=allow_outside)
    manifest = prepared.manifest
    if as_json:
        print_json(
            {
                "manifest": str(manifest.path),
                "utterances": len(manifest),
                "minutes": round(manifest.seconds / 60, 2),
                "left_out": left_out.listed(prepared.left_out),
            }
        )
        return
    for where, reason in prepared.left_out:
        err.marked(left_out.line(where, reason))
    typer.echo(
        f"{manifest.path}: {len(manifest)} utterances, {manifest.seconds / 60:.1f} minutes, "
        f"{len(manifest.speakers)} speaker(s); {len(prepared.left_out)} left out"
    )


@app.command()
def check(
    manifest: ManifestPath,
    model: Model = None,
    language: Annotated[
        str | None, typer.Option(help="Language that the model will be told to hear, for rows that name none.")
    ] = None,
    allow_outside: Outside = False,
    as_json: AsJson = False,
) -> None:
    """Check every recording and text of a manifest, and what its splits share.

    Exits with code 2 if any row cannot be used. Example: `speechft check corpus/manifest.jsonl`
    """
    from speechft.check import examine
    from speechft.terminal import leakage_lines, problem_lines
    from speechft.watcher import Watcher

    tokenizer, english = None, "bundled:tiny.en (the default)"  # known without loading it
    if model:
        from speechft.evaluate import told
        from speechft.whisper import load_whisper

        whisper = load_whisper(model, language=language)
        tokenizer, english = whisper.label_ids, "" if whisper.is_multilingual else model
        language = told(whisper)
    with Watcher(quiet=as_json) as watch:

        def progress(_: int, total: int) -> None:
            watch({"event": "checked", "of": total})

        found = examine(manifest, allow_outside, tokenizer, progress, english, language)
    rows, problems, shared = found.manifest, found.problems, found.shared
    said = str(shared) if rows.splits else "no splits yet"
    if as_json:
        listed = [
            {"severity": p.severity, "kind": p.kind, "where": p.where, "what": p.what, "fix": p.fix} for p in problems
        ]
        counted = {"utterances": len(rows), "minutes": rows.seconds / 60}
        print_json({**counted, "overlap": said, "leakage": shared.to_dict(), "problems": listed})
    else:
        for line in problem_lines(problems):
            err.marked(line)
        for line in leakage_lines(shared.to_dict(named=True)):
            typer.echo(line)
        typer.echo(f"{len(rows)} utterances read; {'' if rows.splits else f'{said}; '}{len(problems)} problem(s)")
    if any(p.severity == "error" for p in problems):
        raise typer.Exit(2)


@app.command()
def card(
    manifest: ManifestPath,
    out: Annotated[Path, typer.Argument(help="The card to write, such as me/card.md.", show_default=False)],
    facts: Annotated[Path | None, typer.Option(help="Card to take facts from, such as data_cards/torgo.md.")] = None,
    group: Annotated[
        list[str] | None,
        typer.Option(
            help="Field to break down in a table; repeatable.", show_default="severity, aetiology, gender, language"
        ),
    ] = None,
    allow_outside: Outside = False,
    as_json: AsJson = False,
) -> None:
    """Write a data card with the statistics of your corpus; what it cannot know is left for you to fill in, then kept.

    Example: `speechft card me/manifest.jsonl me/card.md`
    """
    from speechft.card import NOT_GIVEN, TABLES
    from speechft.card import card as run
    from speechft.manifest import Manifest

    front = run(Manifest.load(manifest, allow_outside), out, facts, tuple(group or TABLES))
    if as_json:
        print_json(front)
        return
    missing = [name for name, value in front.items() if value == NOT_GIVEN]
    typer.echo(f"{out}: {front['utterances']} utterances, {front['minutes']} minutes, {front['speakers']} speaker(s)")
    if missing:
        typer.echo(f"To be filled in by you: {', '.join(missing)}")
