"""The command line: one verb, one short function; the verbs stand by what they work on.

Exit codes: 0 done, 2 what the user gave was wrong, 1 anything else.
"""

from __future__ import annotations

import sys

import typer
from rich.markup import escape

from speechft.cli import adapters, augmentation, data, evaluation, splits, training  # noqa: F401 - each adds verbs
from speechft.cli.common import app, err
from speechft.errors import SpeechftError


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
