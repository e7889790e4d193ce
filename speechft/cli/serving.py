"""Verbs that serve: serve, demo."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from speechft.cli.common import Language, app, err
from speechft.errors import SpeechftError, missing_extra

Host = Annotated[str, typer.Option(help="Address to listen on; any but this machine's own needs a token.")]
Token = Annotated[
    str | None,
    typer.Option(envvar="SPEECHFT_TOKEN", help="What every request must show; made and printed where it is needed."),
]


@app.command()
def serve(
    voices: Annotated[
        Path | None, typer.Argument(help="Folder of adapters or of output folders, a voice each.", show_default=False)
    ] = None,
    model: Annotated[str, typer.Option(help="The base model of them all.")] = "bundled:tiny.en",
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8000,
    token: Token = None,
    language: Language = None,
    longest: Annotated[float, typer.Option(min=1, help="Minutes of a recording, at most.")] = 60.0,
    upload: Annotated[int, typer.Option(min=1, help="MB of a request, at most.")] = 200,
    queue: Annotated[float, typer.Option(min=1, help="Minutes of sound that may wait.")] = 30.0,
) -> None:
    """Transcribe for other programs, over the protocol of OpenAI's clients.

    `model` in a request is the base, such as `tiny.en`, or `tiny.en:NAME` for the voice in the folder NAME.
    Example: `speechft serve runs --port 8000`
    """
    try:
        from speechft.server.api import transcription_app
        from speechft.server.engine import Engine
        from speechft.server.media import MediaReader
        from speechft.server.metrics import Metrics
        from speechft.server.run import guarded, token_for
        from speechft.server.run import serve as run
        from speechft.server.voices import Voices, adapters_in
    except ModuleNotFoundError as error:
        raise missing_extra(str(error.name), "serve") from None
    if voices and not voices.is_dir():
        raise SpeechftError("is not a folder", where=voices, fix="Give a folder with an adapter in each of its own.")
    secret = token_for(host, token)
    known = Voices(model, lambda: adapters_in(voices) if voices else {}, language)
    known.get(None)  # a wrong model is said now, not at the first request
    metrics = Metrics()
    engine = Engine(known, most_waiting=queue * 60, on_batch=metrics.on_batch)
    media = MediaReader(longest=longest * 60)
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.WARNING)

    def started() -> None:
        err.print(f"Listening on http://{host}:{port}/v1; models: {', '.join(known.ids())}. Ctrl-C stops.")
        if secret and not token:
            err.print(f"Others can reach this address, so requests need this token: [bold]{secret}[/]")

    try:
        run(
            guarded(transcription_app(known, engine, media, metrics), host, secret, upload * 1_000_000),
            host,
            port,
            started,
        )
    finally:
        engine.close()
        media.close()
