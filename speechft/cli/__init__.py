"""The command line: one verb, one short function; the verbs stand by what they work on."""

from __future__ import annotations

import io
import sys

from speechft.interruption import not_begun

with not_begun():  # imports take half a second, or many under load
    import typer

    from speechft.cli import (  # noqa: F401 - each adds its verbs to the app
        adapters,
        augmentation,
        data,
        evaluation,
        serving,
        splits,
        training,
        tuning,
    )
    from speechft.cli.common import Stopped, app
    from speechft.exits import null_byte, run


def main() -> None:
    """Entry point: runs the app and turns errors into a sentence and an exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files need not be UTF-8; JSON has the same escapes
        sys.stdout.reconfigure(errors="backslashreplace")
    run(verbs)


def verbs() -> int:
    try:
        return app(standalone_mode=False) or 0  # an Exit comes back as its code
    except Stopped as stopped:
        raise stopped.interrupt from None
    except typer.Abort:
        raise KeyboardInterrupt from None
    except Exception as error:
        if not hasattr(error, "show"):  # a usage error of click's, which typer keeps in a place of its own
            raise
        if null := null_byte(error):
            raise null from None
        error.show()
        return 2
