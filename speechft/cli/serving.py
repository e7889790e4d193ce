"""Verbs that serve: serve, demo."""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from speechft.cli.common import Language, app, err
from speechft.errors import SpeechftError, missing_extra
from speechft.plain_text import escape

Host = Annotated[str, typer.Option(help="Address to listen on; any but this machine's own needs a token.")]
Token = Annotated[
    str | None,
    typer.Option(
        envvar="SPEECHFT_TOKEN",
        help="Token that every request must carry; made and printed if one is needed.",
    ),
]
Longest = Annotated[float, typer.Option(min=1, help="Longest recording, in minutes.")]
Upload = Annotated[int, typer.Option(min=1, help="Largest request, in MB.")]
Queue = Annotated[float, typer.Option(min=1, help="Minutes of sound that may wait in the queue.")]


@app.command()
def serve(
    voices: Annotated[
        Path | None, typer.Argument(help="Folder of adapters or output folders, one per voice.", show_default=False)
    ] = None,
    model: Annotated[str, typer.Option(help="Base model of all voices.")] = "bundled:tiny.en",
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    token: Token = None,
    language: Language = None,
    longest: Longest = 60.0,
    upload: Upload = 200,
    queue: Queue = 30.0,
) -> None:
    """Transcribe for other programs, through OpenAI's transcription API.

    `model` in a request is the base, such as `tiny.en`, or `tiny.en:NAME` for the voice in the folder NAME.
    Example: `speechft serve runs --port 8000`
    """
    needs("serve")
    from speechft.server.api import transcription_app
    from speechft.server.run import address, guarded, token_for
    from speechft.server.run import serve as run
    from speechft.server.voices import adapters_in, unnamed_in

    if voices and not voices.is_dir():
        raise SpeechftError(
            "is not a folder", where=voices, fix="Give a folder that holds one folder for each adapter."
        )
    secret = token_for(host, token)
    for name in unnamed_in(voices) if voices else ():
        err.marked(f"[yellow]left out[/] {escape(repr(name))}: no request can name it; rename the folder")
    with parts(model, lambda: adapters_in(voices) if voices else {}, language, longest, queue) as work:
        api = guarded(transcription_app(*work), work[3], host, secret, upload * 1_000_000)
        names = ", ".join(work[0].ids())
        run(api, host, port, lambda: listening(f"{address(host, port)}/v1; models: {names}", secret, token))


@app.command()
def demo(
    data: Annotated[
        Path | None, typer.Option(help="Folder of the voices.", show_default="your user data folder")
    ] = None,
    model: Annotated[str, typer.Option(help="Base model of all voices.")] = "bundled:tiny.en",
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 7860,
    token: Token = None,
    encrypt: Annotated[
        bool, typer.Option("--encrypt", help="Encrypt all voices on disk from now on; asks for a passphrase.")
    ] = False,
    language: Language = None,
    longest: Longest = 60.0,
    upload: Upload = 200,
    queue: Queue = 30.0,
) -> None:
    """Open the app in a browser: record, train, transcribe. Everything stays on this machine.

    Encrypted voices need their passphrase at each start: it is asked for, or taken from SPEECHFT_PASSPHRASE.
    Example: `speechft demo`, then open the address it prints.
    """
    needs("demo")
    from speechft.app.api import demo_app
    from speechft.app.opening import damaged, opened
    from speechft.app.store import default_folder
    from speechft.app.training import resume_all
    from speechft.server.run import address, guarded, token_for
    from speechft.server.run import serve as run

    os.umask(0o077)  # voices are health data: all that is written from here on is its owner's alone
    secret = token_for(host, token)
    with opened(data or default_folder(), passphrase, encrypt) as store:
        if store.vault.work:
            tempfile.tempdir = str(store.vault.work)  # an upload of over 1 MB is in a temporary file while it arrives
        store.finish_deletions()
        for fault in damaged(store):
            err.marked(f"[yellow]Note:[/] {escape(str(fault))}")
        if resumed := resume_all(store):  # how many: a voice's id begins with a name
            err.print(f"resuming {len(resumed)} training{'s' * (len(resumed) > 1)}")
        with parts(model, store.adapters, language, longest, queue) as work:
            page = guarded(demo_app(store, *work, host=host), work[3], host, secret, upload * 1_000_000, login="/login")
            where = f"{address(host, port)}; voices are in {store.folder}"
            run(page, host, port, lambda: listening(where, secret, token))


def passphrase(new: bool) -> str:
    """The passphrase of encrypted voices."""
    given = os.environ.pop("SPEECHFT_PASSPHRASE", None)  # other processes of ours need not inherit it
    if given is not None:
        return given
    if new:
        err.print("Choose a passphrase. It is not stored anywhere: without it, all voices here are lost.")
    return typer.prompt("Passphrase", hide_input=True, confirmation_prompt=new, err=True)


def needs(extra: str) -> None:
    """Say which extra is missing, before anything else."""
    try:
        import fastapi  # noqa: F401
        import multipart  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
    except ModuleNotFoundError as error:
        raise missing_extra(str(error.name), extra) from None


@contextlib.contextmanager
def parts(model: str, find: Any, language: str | None, longest: float, queue: float) -> Iterator[tuple[Any, ...]]:
    """What both servers are made of: voices, engine, decoders of files, metrics; closed in the end."""
    from speechft.server.engine import Engine
    from speechft.server.media import MediaReader
    from speechft.server.metrics import Metrics
    from speechft.server.voices import Voices

    voices, metrics = Voices(model, find, language), Metrics()
    engine = Engine(voices, most_waiting=queue * 60, on_batch=metrics.on_batch)
    media = MediaReader(longest=longest * 60)
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)
    try:
        yield voices, engine, media, metrics
    finally:
        engine.close()
        media.close()


def listening(where: str, secret: str | None, given: str | None) -> None:
    """Say that the server is there."""
    err.print(f"Listening on {where}. Press Ctrl-C to stop.")
    if secret and not given:
        err.marked(f"Others can reach this address, so every request needs this token: [bold]{escape(secret)}[/]")
