"""Verbs on trained adapters: export, average, scale, push."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from speechft.cli.common import AsJson, ManifestPath, Model, Outside, app, err, print_json, refuse_given

if TYPE_CHECKING:
    from speechft.evaluated_rows import Rows


@app.command()
def export(
    ctx: typer.Context,
    adapter: Annotated[Path, typer.Argument(help="Folder of a trained adapter.", show_default=False)],
    out: Annotated[Path, typer.Argument(help="New folder for the exported model.", show_default=False)],
    to: Annotated[
        str, typer.Option(help="huggingface, ctranslate2 for faster-whisper, ggml for whisper.cpp, onnx.")
    ] = "huggingface",
    model: Model = None,
    precision: Annotated[
        str | None,
        typer.Option(
            help="ctranslate2: float32, float16, bfloat16, int8, int8_float16; ggml: also int8; onnx: float32, int8.",
            show_default="float16 for ctranslate2 and ggml, else float32",
        ),
    ] = None,
    check: Annotated[
        Path | None, typer.Option(help="Manifest: transcribe its clips with that software and compare with ours.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Split of that manifest.", show_default="test, else dev, else all")
    ] = None,
    clips: Annotated[int, typer.Option(min=1, help="Clips of that split to transcribe, at most.")] = 100,
    language: Annotated[
        str | None,
        typer.Option(help="Language of those clips, such as de.", show_default="the adapter's, else the row's"),
    ] = None,
    allow_outside: Outside = False,
    as_json: AsJson = False,
) -> None:
    """Merge an adapter into its base and write a model that other software runs.

    Example: `speechft export runs/me/adapter exported --to ctranslate2 --precision int8 --check me/manifest.jsonl`
    """
    from speechft.adapters import task_of
    from speechft.export import export as run
    from speechft.sources import resolve_adapter

    text = task_of(resolve_adapter(adapter)) != "speech"
    if text:
        refuse_given(ctx, {"adapter", "out", "to", "model", "precision"}, "a text model")
    given = _rows_to_check(check, split, allow_outside, model, adapter) if check else None
    made = run(adapter, out, to=to, model=model, precision=precision)
    if given is None:
        if text:
            advice = "the whole model and its tokenizer, in the format that transformers and other converters read"
        elif to == "onnx":
            advice = "clips of any length up to 30 s, so the adapter's context can be kept (docs/export.md)"
        else:
            advice = "other software pads clips to 30 s; --check MANIFEST measures what that costs"
        typer.echo(f"{made}: {advice}")
        return
    from speechft.export_check import check_export
    from speechft.terminal import export_table
    from speechft.watcher import Watcher

    with Watcher(quiet=as_json) as watch:
        rows = given.chosen.spread(clips)
        result = check_export(
            made, to, adapter, rows, model=model, language=language, whole=given.whole, on_event=watch
        )
    if as_json:
        print_json(result)
    else:
        export_table(result, made)


def _rows_to_check(manifest: Path, split: str | None, allow_outside: bool, model: str | None, adapter: Path) -> Rows:
    from speechft.evaluated_rows import rows_to_evaluate
    from speechft.recogniser import cards_of
    from speechft.seen import Seen

    seen = {name: Seen.by([card]) for name, card in cards_of(model, adapter).items()}
    return rows_to_evaluate(manifest, split, allow_outside, lambda event: None, seen=seen)


@app.command()
def average(
    folders: Annotated[list[Path], typer.Argument(help="Adapters of the same base model.", show_default=False)],
    out: Annotated[Path, typer.Option(help="Folder for the new adapter.", show_default=False)],
    weight: Annotated[
        list[float] | None, typer.Option(help="Weight of each adapter, in order.", show_default="equal, summing to 1")
    ] = None,
) -> None:
    """Combine several adapters into one: exactly their weighted sum, with a rank that is the sum of their ranks.

    Example: `speechft average cohort/adapter me/adapter --weight 0.5 --weight 0.5 --out both`
    """
    from speechft.adapter_arithmetic import average as run

    typer.echo(str(run(folders, weight, out)))


@app.command()
def scale(
    adapter: Annotated[Path, typer.Argument(help="Folder of a trained adapter.", show_default=False)],
    manifest: ManifestPath,
    out: Annotated[Path, typer.Option(help="New folder for the scaled adapter.", show_default=False)],
    split: Annotated[str, typer.Option(help="Split whose clips choose the scale.")] = "dev",
    at: Annotated[
        list[float] | None, typer.Option(help="Scale to try; repeatable.", show_default="0, 0.25, 0.5, 0.75, 1")
    ] = None,
    model: Model = None,
    allow_outside: Outside = False,
) -> None:
    """Scale an adapter to the strength that does best on dev: 0 is the base model, 1 the adapter as trained.

    Example: `speechft scale runs/me/adapter me/manifest.jsonl --out runs/me/scaled`
    """
    from speechft.adapter_scale import SCALES, save_at_best_scale
    from speechft.recogniser import card_of
    from speechft.seen import Seen
    from speechft.watcher import Watcher

    given = _rows_to_check(manifest, split, allow_outside, model, adapter)
    rows = given.chosen
    if not len(rows) and split == "dev" and not given.whole.splits:  # its run split them in memory
        rows = Seen.by([card_of(model, adapter)]).chose(given.whole)
    for caveat in given.caveats if given.whole.splits else ():
        err.print(caveat)
    with Watcher() as watch:
        best, rates = save_at_best_scale(adapter, rows, out, model=model, scales=at or SCALES, on_event=watch)
    place = f"  <- {out if best else 'the base model'}"
    for value, wer in rates.items():
        typer.echo(f"{value:g}\t{wer:.1%}{place if value == best else ''}")
    if not best:
        err.print(f"No other scale is better than the base model, so {out} was not written.")


@app.command()
def push(
    adapter: Annotated[Path, typer.Argument(help="Folder of a trained adapter.", show_default=False)],
    repo: Annotated[str, typer.Argument(help="USER/NAME of the repository.", show_default=False)],
    public: Annotated[bool, typer.Option("--public", help="Make the repository public.")] = False,
    licence: Annotated[
        str | None, typer.Option(help="Licence, such as cc-by-nc-4.0.", show_default="the one it was trained with")
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="The base model's name on the hub, if yours was a local folder.")
    ] = None,
    result: Annotated[
        Path | None, typer.Option(help="The result.json to take its scores from.", show_default="its run's")
    ] = None,
    dry_run: Annotated[
        Path | None, typer.Option(help="Upload nothing; write what would be uploaded to this new folder.")
    ] = None,
) -> None:
    """Upload an adapter to the Hugging Face Hub with a model card, as a private repository. Run `hf auth login` first.

    The card holds scores and counts, but no names, paths or texts; --dry-run lets you look at it first.
    Example: `speechft push runs/me/adapter me/my-voice --dry-run look`
    """
    from speechft.hub import push as run

    if public:
        err.print("An adapter is personal data of everybody in its recordings. Have they all agreed?")
    typer.echo(run(adapter, repo, public=public, licence=licence, base=base, result=result, dry_run=dry_run))
