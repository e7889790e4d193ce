"""The verb on splits: split."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from speechft.cli.common import AsJson, ManifestPath, Outside, app, print_json


@app.command()
def split(
    manifest: ManifestPath,
    protocol: Annotated[str, typer.Argument(help="torgo, uaspeech, official, speaker-disjoint, prompt-disjoint, ...")],
    out: Annotated[
        Path, typer.Argument(help="The split file to write, such as torgo-F01.split.json.", show_default=False)
    ],
    speaker: Annotated[
        str | None, typer.Option(help="Speaker to test (torgo, leave-one-speaker-out, uaspeech).")
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="Minutes of training data to keep (low-resource).")] = None,
    unseen_prompts: Annotated[
        bool,
        typer.Option(
            "--unseen-prompts", help="Test only on sentences that are not in training (the corpora's own rule)."
        ),
    ] = False,
    dev: Annotated[float | None, typer.Option(help="Share of dev.", show_default="the protocol's")] = None,
    test: Annotated[float | None, typer.Option(help="Share of test.", show_default="the protocol's")] = None,
    seed: Annotated[int | None, typer.Option(help="Another seed gives another split.", show_default="0")] = None,
    base: Annotated[Path | None, typer.Option("--from", help="Split file to start from (low-resource).")] = None,
    allow_outside: Outside = False,
    as_json: AsJson = False,
) -> None:
    """Split a manifest by a named protocol, print what the parts share, and write a file to cite and to train with.

    Example: `speechft split torgo/manifest.jsonl torgo torgo-F01.split.json --speaker F01`
    """
    from speechft.manifest import Manifest
    from speechft.split_files import write_split
    from speechft.terminal import leakage_lines

    given: dict[str, Any] = {"speaker": speaker, "minutes": minutes, "dev": dev, "test": test, "seed": seed}
    given = {name: value for name, value in given.items() if value is not None}
    given |= {"unseen_prompts": True} if unseen_prompts else {}
    content = write_split(Manifest.load(manifest, allow_outside), out, protocol, base, **given)
    if as_json:
        print_json({key: value for key, value in content.items() if key not in ("splits", "rows")})
        return
    for name, part in content["parts"].items():
        typer.echo(f"{name}: {part['rows']} rows, {part['minutes']:.1f} minutes")
    typer.echo("\n".join(leakage_lines(content["leakage"])))
    typer.echo(f"{out}: {content['sha256']}")
