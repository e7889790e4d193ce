"""Verbs on trained adapters: export, average."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from speechft.cli.common import Model, app


@app.command()
def export(
    adapter: Annotated[Path, typer.Argument(help="Folder of a trained adapter.", show_default=False)],
    out: Annotated[Path, typer.Argument(help="A new folder.", show_default=False)],
    to: Annotated[
        str, typer.Option(help="huggingface, ctranslate2 for faster-whisper, ggml for whisper.cpp.")
    ] = "huggingface",
    model: Model = None,
    precision: Annotated[
        str, typer.Option(help="ctranslate2: float32, float16, bfloat16, int8 or int8_float16.")
    ] = "float16",
) -> None:
    """Merge an adapter into its base and write a model that other software runs.

    Example: `speechft export runs/me/adapter exported --to ctranslate2`
    """
    from speechft.export import export as run

    typer.echo(
        f"{run(adapter, out, to=to, model=model, precision=precision)}: other software pads clips to 30 s; "
        "'speechft evaluate --context full' on the adapter measures what it will get"
    )


@app.command()
def average(
    folders: Annotated[list[Path], typer.Argument(help="Adapters of one base model.", show_default=False)],
    out: Annotated[Path, typer.Option(help="A folder for the new adapter.", show_default=False)],
    weight: Annotated[
        list[float] | None, typer.Option(help="Of each adapter, in order.", show_default="equal, summing to 1")
    ] = None,
) -> None:
    """One adapter that adds the weighted sum of what several add; exact, with the ranks added up.

    Example: `speechft average cohort/adapter me/adapter --weight 0.5 --weight 0.5 --out both`
    """
    from speechft.adapter_arithmetic import average as run

    typer.echo(str(run(folders, weight, out)))
