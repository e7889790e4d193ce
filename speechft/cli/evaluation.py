"""Verbs that use a model: evaluate, transcribe."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from speechft.cli.common import (
    AdapterPath,
    AsJson,
    Language,
    Model,
    Outside,
    app,
    err,
    print_json,
    refuse_given,
)
from speechft.cli.text import evaluate_text, is_text
from speechft.errors import SpeechftError
from speechft.own_results import refuse_foreign_transcript, write_transcript
from speechft.plain_text import escape

if TYPE_CHECKING:
    from speechft.corrector import Card, Corrector

TEXT_OPTIONS = {"manifest", "split", "model", "adapter", "out", "task", "as_json", "settings"}
OWN_OPTIONS = {"data": "--manifest", "model": "--model", "output_dir": "--out", "task": "--task"}


@app.command()
def evaluate(
    ctx: typer.Context,
    manifest: Annotated[Path, typer.Option(help="JSONL file, one utterance per line.", show_default=False)],
    split: Annotated[str | None, typer.Option(help="Split to score.", show_default="test, else dev, else all")] = None,
    split_file: Annotated[Path | None, typer.Option(help="A split file made by `speechft split`.")] = None,
    model: Model = None,
    adapter: Annotated[
        list[Path] | None, typer.Option(help="Folder of a trained adapter; several are compared in one table.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for result.json and the report.")] = None,
    normalizer: Annotated[
        str, typer.Option(help="auto (by language), whisper-english, basic, characters, mixed, whisper-basic or none.")
    ] = "auto",
    context: Annotated[
        str | None, typer.Option(help="Context instead of the model's own: clip, clip+10s or full.")
    ] = None,
    language: Language = None,
    beams: Annotated[int, typer.Option(min=1, max=20, help="Hypotheses kept in beam search; 1 is greedy.")] = 1,
    against_base: Annotated[
        bool, typer.Option("--against-base/--alone", help="Evaluate an adapter's base model too.")
    ] = True,
    typical: Annotated[
        Path | None, typer.Option(help="Manifest of typical speech, to measure what the adapter costs there.")
    ] = None,
    nli: Annotated[Path | None, typer.Option(help="Folder of an NLI model, for SemScore.")] = None,
    bert: Annotated[Path | None, typer.Option(help="Folder of roberta-large, for SemScore.")] = None,
    embed_audio: Annotated[
        float,
        typer.Option(
            min=0, metavar="MB", help="Embed up to this many MB of recordings in the page, most errors first."
        ),
    ] = 0,
    task: Annotated[str | None, typer.Option(help="Text task, such as sft; by default the adapter's own.")] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="key=value", help="A text recipe's key, such as reader=samsum; repeatable."),
    ] = None,
    allow_outside: Outside = False,
    as_json: AsJson = False,
) -> None:
    """Measure error rates of a model or of adapters, with intervals, per speaker and per group.

    Example: `speechft evaluate --manifest me/manifest.jsonl --adapter runs/me/adapter`
    """
    from speechft.comparison import evaluate_adapters
    from speechft.pipeline import evaluate as run
    from speechft.terminal import before_after, comparison_table, scores_table
    from speechft.watcher import Watcher

    shared: dict[str, Any] = {
        "split": split, "split_file": split_file, "model": model, "out": out, "normalizer": normalizer,
        "context": context, "language": language, "beams": beams, "typical": typical, "allow_outside": allow_outside,
        "embed_audio_mb": embed_audio,
    }  # fmt: skip
    adapters = adapter or []
    if is_text(task, adapters):
        refuse_given(ctx, TEXT_OPTIONS, "text")
        if len(adapters) > 1:
            raise SpeechftError("text adapters are not compared in one call", fix="Evaluate them one at a time.")
        only = next(iter(adapters), None)
        told = text_settings(settings or [])
        evaluate_text(manifest, task, as_json, split=split, model=model, adapter=only, out=out, settings=told)
        return
    if settings:
        raise SpeechftError("--set does not apply to speech", fix="Leave it out, or name a text task with --task.")
    with Watcher(quiet=as_json) as watch:
        if len(adapters) > 1:
            if nli or bert or not against_base:
                raise SpeechftError("--nli, --bert and --alone work with one adapter only", fix="Leave them out.")
            result = evaluate_adapters(manifest, adapters, **shared, on_event=watch)
        else:
            only = adapters[0] if adapters else None
            more: dict[str, Any] = {"against_base": against_base, "nli": nli, "bert": bert}
            result = run(manifest, adapter=only, **more, **shared, on_event=watch)
    if as_json:
        print_json(result)
        return
    if "adapters" in result:
        comparison_table(result, out)
    elif result["base"]:
        before_after({**result, "adapted": result}, out)
    else:
        scores_table(result, out)


def text_settings(overrides: Sequence[str]) -> dict[str, Any]:
    """What `--set` says.

    Raises:
        SpeechftError: it is not key=value, or has an option of its own.
    """
    from speechft.recipes import override

    found: dict[str, Any] = {}
    override(found, overrides)
    if own := next(iter(OWN_OPTIONS.keys() & found.keys()), None):
        raise SpeechftError(f"--set {own}=... has an option of its own", fix=f"Use {OWN_OPTIONS[own]}.")
    return found


@app.command()
def transcribe(
    audio: Annotated[list[Path], typer.Argument(help="Recordings, in any container.", show_default=False)],
    model: Model = None,
    adapter: AdapterPath = None,
    kind: Annotated[str, typer.Option("--format", help="txt, json, srt or vtt.")] = "txt",
    out: Annotated[Path | None, typer.Option(help="Folder for one file per recording; else stdout.")] = None,
    language: Language = None,
    beams: Annotated[
        int | None,
        typer.Option(
            min=1, max=20, help="Hypotheses kept in beam search; 1 is greedy.", show_default="1, or the corrector's"
        ),
    ] = None,
    corrector: Annotated[
        Path | None,
        typer.Option(
            help="Folder of a corrector of recipes/text_correct.py: shows its correction beside what was heard."
        ),
    ] = None,
) -> None:
    """Transcribe recordings of any length.

    Example: `speechft transcribe new.m4a --adapter runs/me/adapter --format srt`
    """
    from speechft.cut_off import CUT_ADVICE, cut_off
    from speechft.formats import FORMATS, render
    from speechft.recogniser import load
    from speechft.transcript import DecodeOptions

    if kind not in FORMATS:
        raise SpeechftError(f"unknown format '{kind}'", fix=f"Use one of {', '.join(FORMATS)}.")
    if out:
        check_names(audio, out, kind)
    corrected = loaded_corrector(corrector, kind) if corrector else None
    recogniser = load(model, adapter, language=language)
    for note in recogniser.notes:
        err.print(note)
    if corrected:
        corrected.refuse_other(recogniser)
        tell_of(corrected.card, adapter)
    options = DecodeOptions(beams=beams or (corrected.card.beams if corrected else 1))
    failed = False
    for path in audio:
        try:
            found = recogniser.transcribe(path, words=kind != "txt", options=options)
        except SpeechftError as error:  # one bad file does not take the others with it
            err.marked(f"[bold red]Error:[/] {escape(str(error))}")
            failed = True
            continue
        if cut := cut_off(path):
            err.marked(f"[yellow]Warning:[/] {escape(str(path))}: {escape(cut)}. {CUT_ADVICE}")
        text = corrected.beside(recogniser, found, kind) if corrected else render(found, kind)
        if out:
            write_transcript(out / f"{path.stem}.{kind}", text)
        elif kind == "txt" and len(audio) > 1:
            sys.stdout.write("".join(f"{path}\t{line}" for line in text.splitlines(keepends=True)))
        else:
            sys.stdout.write(text)
    if failed:
        raise typer.Exit(2)


def loaded_corrector(folder: Path, kind: str) -> Corrector:
    """The corrector for transcripts in a format; SpeechftError where the format cannot hold its texts."""
    from speechft.corrector import FORMATS, load_corrector

    if kind not in FORMATS:
        raise SpeechftError(
            f"--corrector does not go with {kind}: corrected words have no times", fix=f"Use {' or '.join(FORMATS)}."
        )
    return load_corrector(folder)


def tell_of(card: Card, adapter: Path | None) -> None:
    """Says what a corrector does not do, or was not made for."""
    if card.level == 0:
        err.print("Correction is off (level 0): on dev nothing that the corrector changed made fewer errors.")
    if card.recogniser_adapted != (adapter is not None):
        was = "with an adapter" if card.recogniser_adapted else "without an adapter"
        err.marked(f"[yellow]Note:[/] the corrector was made for transcripts of {escape(card.recogniser)} {was}.")


def check_names(audio: Sequence[Path], out: Path, kind: str) -> None:
    """Raises SpeechftError where a transcript would replace another one, or what somebody wrote."""
    written: dict[str, Path] = {}
    for path in audio:
        other = written.setdefault(path.stem, path)
        if other != path:
            raise SpeechftError(f"its transcript would replace that of {other}", where=path, fix="Rename one of them.")
        refuse_foreign_transcript(out / f"{path.stem}.{kind}")
