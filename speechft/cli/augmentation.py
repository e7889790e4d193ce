"""Verbs on variations of recordings: augment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from speechft.cli.common import AsJson, ManifestPath, Outside, app, print_json
from speechft.errors import SpeechftError
from speechft.left_out import listed


@app.command()
def augment(
    manifest: ManifestPath,
    listen: Annotated[Path | None, typer.Option(help="Folder for a few examples and a page to play them.")] = None,
    out: Annotated[Path | None, typer.Option(help="Manifest to write, with the originals and the copies.")] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            help="speed, tempo, pitch, vocal_tract, formants, noise, reverberation, specaugment or "
            "impairment; repeatable."
        ),
    ] = None,
    amount: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND=VALUE", help="Fixed amount instead of a random one, e.g. noise=10 (dB); repeatable."
        ),
    ] = None,
    copies: Annotated[int, typer.Option(min=1, help="Copies of each clip with each effect.")] = 1,
    together: Annotated[bool, typer.Option("--together", help="Put all effects into one copy.")] = False,
    split: Annotated[str, typer.Option(help="Split whose clips are varied.")] = "train",
    seed: Annotated[int, typer.Option(min=0, help="Another seed gives other variations.")] = 0,
    allow_outside: Outside = False,
    as_json: AsJson = False,
) -> None:
    """Make varied copies of recordings, marked synthetic; listen to some before training on them.

    Example: `speechft augment me/manifest.jsonl --listen variations`
    """
    from speechft.augmented import augment_manifest
    from speechft.augmented import listen as write_examples
    from speechft.watcher import Watcher

    if listen is None and out is None:
        raise SpeechftError("nothing to write", fix="Give --listen FOLDER, --out MANIFEST, or both.")
    kinds, found = tuple(kind or ()), dict[str, Any]()
    left_out: list[tuple[str, str]] = []
    shared: dict[str, Any] = {"seed": seed, "amounts": _amounts(amount or []), "allow_outside": allow_outside}
    with Watcher(quiet=as_json) as watch:

        def left(event: dict[str, Any]) -> None:
            left_out.append((event["where"], event["reason"]))
            watch(event)

        if listen:
            found["listen"] = str(write_examples(manifest, listen, kinds, **shared))
        if out:
            made = augment_manifest(
                manifest, out, kinds, copies=copies, together=together, split=split, **shared,
                progress=lambda _, of: watch({"event": "checked", "of": of}), on_event=left,
            )  # fmt: skip
            count = sum(u.is_synthetic for u in made)
            found |= {"manifest": str(out), "utterances": str(len(made)), "synthetic": str(count)}
    if as_json:
        print_json(found | {"left_out": listed(left_out)})
    else:
        typer.echo("\n".join(f"{name}: {value}" for name, value in found.items()))


def _amounts(given: list[str]) -> dict[str, float]:
    amounts = {}
    for words in given:
        kind, _, value = words.partition("=")
        try:
            amounts[kind] = float(value)
        except ValueError:
            raise SpeechftError(f"'{words}' is not an amount", fix="Write KIND=VALUE, such as noise=10.") from None
    return amounts
