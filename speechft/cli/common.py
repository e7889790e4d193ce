"""What every verb shares: the app, its common options, and how a result is printed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from speechft.errors import SpeechftError
from speechft.plain_text import Terminal


class Stopped(Exception):
    """A KeyboardInterrupt on its way through Typer, which would make an exit code of it and lose what it says.

    Attributes:
        interrupt: the KeyboardInterrupt.
    """

    def __init__(self, interrupt: KeyboardInterrupt) -> None:
        super().__init__(str(interrupt))
        self.interrupt = interrupt


class Verbs(TyperGroup):
    def make_context(self, *given: Any, **options: Any) -> Any:
        try:
            return super().make_context(*given, **options)
        except KeyboardInterrupt as interrupt:
            raise Stopped(interrupt) from None

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as interrupt:
            raise Stopped(interrupt) from None


app = typer.Typer(
    cls=Verbs,
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    rich_markup_mode="markdown",
    help="Adapt speech recognition to the voices it fails. Start with `speechft quickstart`.",
    add_completion=False,
)
err = Terminal(stderr=True)

ManifestPath = Annotated[Path, typer.Argument(help="JSONL file, one utterance per line.", show_default=False)]
Outside = Annotated[bool, typer.Option("--allow-outside", help="Allow audio outside the manifest's or corpus' folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print only the machine-readable result on stdout.")]
Model = Annotated[
    str | None,
    typer.Option(
        help="bundled:tiny.en, bundled:base, a folder, or a hub id (@REVISION pins it).",
        show_default="the adapter's, else bundled:tiny.en",
    ),
]
AdapterPath = Annotated[
    Path | None, typer.Option(help="Folder of a trained adapter, or USER/NAME[@REVISION] on a hub.")
]
Language = Annotated[str | None, typer.Option(help="Language code, such as en or de; detected unless given.")]


def refuse_given(ctx: typer.Context, known: set[str], what: str) -> None:
    """Raises SpeechftError where an option was given that a verb has, but not for this.

    Args:
        known: the parameters that it has for this, by their names in Python.
        what: that this is, such as `a text adapter`.
    """
    for parameter in ctx.command.params:
        source = ctx.get_parameter_source(parameter.name or "")
        if parameter.name not in known and source is not None and source.name == "COMMANDLINE":
            option = "/".join([*parameter.opts, *parameter.secondary_opts])
            raise SpeechftError(f"{option} does not apply to {what}", fix="Leave it out.")


def print_json(result: dict[str, Any]) -> None:
    """The machine-readable result, alone on stdout."""
    sys.stdout.write(json.dumps(result, ensure_ascii=False, indent=2, default=str) + "\n")


def recipe_and_overrides(recipe: Path | None, overrides: list[str] | None) -> tuple[Path | None, list[str]]:
    """The two arguments of verbs that take a recipe, which may be left out before key=value."""
    overrides = overrides or []
    if recipe is not None and "=" in str(recipe) and not recipe.exists():
        return None, [str(recipe), *overrides]
    return recipe, overrides
