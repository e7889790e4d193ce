"""Starting a server: where it listens, who may ask, and how it stops."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import secrets
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from speechft.errors import SpeechftError
from speechft.server.guard import LOOPBACK, Guard
from speechft.server.metrics import Measured, Metrics

HEAD_SECONDS = 15.0  # a connection that has not finished its request's head by then is closed
MOST_CONNECTIONS = 512


class Patient(H11Protocol):
    """Closes connections that send the head of a request too slowly: uvicorn itself would wait for ever."""

    _late: asyncio.TimerHandle | None = None  # while a head is awaited

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_watching()
        super().connection_lost(exc)

    @property
    def _at_a_head(self) -> bool:
        """No request is under way: what arrives is part of the next one's head."""
        return self.cycle is None or self.cycle.response_complete

    def _watch(self) -> None:
        if not self._at_a_head:
            self._stop_watching()
        elif self._late is None:
            self._late = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _stop_watching(self) -> None:
        if self._late:
            self._late.cancel()
            self._late = None

    def _give_up(self) -> None:
        self._late = None
        if self._at_a_head and not self.transport.is_closing():
            self.transport.close()


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def address(host: str, port: int) -> str:
    """Where a browser finds the server."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def token_for(host: str, token: str | None) -> str | None:
    """The token requests must show: the one given; a new one where others can reach the address; else none.

    Raises:
        SpeechftError: the token is too short to keep anybody out.
    """
    token = token.strip() if token is not None else None  # of a file a line's end comes along, which no header can hold
    if token is not None and len(token) < 16:
        raise SpeechftError("the token is shorter than 16 characters", fix="Leave it out and one is made.")
    return token or (None if is_loopback(host) else secrets.token_urlsafe(24))


def guarded(
    app: Any, metrics: Metrics, host: str, token: str | None, most_bytes: int, login: str | None = None
) -> Measured:
    """The application behind a `Guard` that fits the address, and all its answers counted."""
    hosts = (*LOOPBACK, host) if is_loopback(host) else ()
    return Measured(Guard(app, hosts=hosts, token=token, most_bytes=most_bytes, login=login), metrics)


def serve(app: Any, host: str, port: int, started: Any = lambda: None) -> None:
    """Serve until interrupted.

    Args:
        app: an ASGI application.
        host, port: where to listen.
        started: called once it listens.

    Raises:
        SpeechftError: the address cannot be had.
    """
    logging.getLogger("speechft.server").setLevel(logging.INFO)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=Patient,
        ws="none",
        access_log=False,  # its lines hold what people wrote into addresses
        log_level="warning",
        server_header=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=20,
    )
    server = uvicorn.Server(config)

    async def listen() -> None:
        with contextlib.suppress(SystemExit):  # uvicorn's way to say that it could not, after a line on why
            await server.serve()

    async def run() -> None:
        task = asyncio.create_task(listen())
        while not server.started and not task.done():
            await asyncio.sleep(0.05)
        if server.started:
            started()
        await task

    asyncio.run(run())
    if not server.started:
        raise SpeechftError(
            f"cannot listen on {host}:{port}",
            fix="Check --host; if something else listens there, choose another --port.",
        )
