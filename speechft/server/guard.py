"""What stands before every request: who may ask, from where, how much and how slowly.

A server on loopback is open to whoever uses the machine, and to every web page in their browser: pages can post to
localhost, and with a name of their own that resolves to it (DNS rebinding) also read the answer. So the Host must be a
name we serve under, and a page may only call us if it came from us (Origin).
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import traceback
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from speechft.errors import NO_ROOM, SpeechftError

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
COOKIE = "speechft"
CODES = {401: "invalid_api_key", 429: "rate_limit_exceeded"}  # that OpenAI's API gives with a status
OPEN_PATHS = ("/health", "/login", "/style.css", "/icon.svg")  # without a token
HEADERS = {
    "content-security-policy": "default-src 'self'; media-src 'self' blob:; img-src 'self' data:; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",  # with no-referrer, browsers send forms with `Origin: null`
    "permissions-policy": "microphone=(self), camera=(), geolocation=()",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}

Message = MutableMapping[str, Any]
log = logging.getLogger("speechft.server")


class Refused(HTTPException):
    """A request that goes no further; the application answers it where the body was refused on its way in."""


class Guard:
    """ASGI middleware that refuses what it must, bounds what comes in, and adds the headers a browser should see.

    Args:
        app: the application behind it.
        hosts: names this server answers to, without port; any if empty (then a token is required).
        token: everybody must show it, as `Authorization: Bearer TOKEN` or as the cookie of the login page.
        most_bytes: of a request's body; four times as many are held for all requests together.
        patience: seconds a body may take to arrive, plus one for every 100 kB.
        login: page that browsers are sent to without the token; it shows its #wrong to those who had another one.
    """

    def __init__(
        self,
        app: Any,
        *,
        hosts: Iterable[str] = LOOPBACK,
        token: str | None = None,
        most_bytes: int = 200_000_000,
        patience: float = 30.0,
        login: str | None = None,
    ) -> None:
        self.app, self.token = app, token
        self.hosts = {host.lower() for host in hosts}
        self.most_bytes, self.patience, self.login = most_bytes, patience, login
        self.held = 0  # bytes of the bodies of requests that are not answered yet

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        started, body = False, _Body()

        async def reply(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                present = {name.lower() for name, _ in message["headers"]}
                extra = [(k.encode(), v.encode()) for k, v in HEADERS.items() if k.encode() not in present]
                message = {**message, "headers": [*message["headers"], *extra]}
            await send(message)

        try:
            headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
            self._admit(scope, headers)
            await self.app(scope, self._bounded(receive, body), reply)
        except Refused as refusal:
            if not started:
                headers = {"connection": "close", **(refusal.headers or {})}
                await failure(refusal.status_code, refusal.detail, headers)(scope, receive, reply)
        except Exception as error:  # its message and what a server logs of it may hold names and paths
            place = traceback.extract_tb(error.__traceback__)[-1]
            log.error("%s at line %s of %s", type(error).__name__, place.lineno, Path(place.filename).name)
            if not started:
                await failure(500, public_message(error))(scope, receive, reply)
        finally:
            self.held -= body.size

    def _admit(self, scope: Any, headers: dict[str, str]) -> None:
        host = headers.get("host", "")
        name = host.rsplit(":", 1)[0] if host.rpartition(":")[2].isdigit() else host
        if self.hosts and name.lower() not in self.hosts:
            raise Refused(421, "this server does not answer to that host name")
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2].lower() != host.lower():
            raise Refused(403, "pages of other sites may not use this server")
        if headers.get("sec-fetch-site") == "cross-site" and scope["method"] not in ("GET", "HEAD"):
            raise Refused(403, "pages of other sites may not use this server")
        if self.token and scope["path"] not in OPEN_PATHS and not self._knows_token(headers):
            if self.login and scope["method"] == "GET" and "text/html" in headers.get("accept", ""):
                wrong = "#wrong" if COOKIE in headers.get("cookie", "") else ""
                raise Refused(303, "log in first", {"location": self.login + wrong})
            raise Refused(401, "a token is needed: Authorization: Bearer TOKEN")
        length = headers.get("content-length", "0")
        if not length.isdigit():
            raise Refused(400, "the content length is not a number")
        if int(length) > self.most_bytes:
            raise Refused(413, f"at most {self.most_bytes // 1_000_000} MB are taken at once")

    def _knows_token(self, headers: dict[str, str]) -> bool:
        assert self.token
        kind, _, shown = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer":
            # one by one: of a header with a foreign cookie that is none by the rules, the library reads nothing
            pairs = (one.strip().partition("=") for one in headers.get("cookie", "").split(";"))
            shown = unquote(next((value for name, _, value in pairs if name == COOKIE), ""))  # as the login wrote it
        return hmac.compare_digest(shown.strip().encode(), self.token.encode())

    def _bounded(self, receive: Any, body: _Body) -> Any:
        """`receive` that stops a body which is too long, comes too slowly, or comes when too much is held already."""
        loop, begun = asyncio.get_running_loop(), asyncio.get_running_loop().time()
        complete = False

        async def bounded() -> Message:
            nonlocal complete
            if complete:  # after the body it waits for the client to leave, which may take as long as it likes
                return await receive()
            left = begun + self.patience + body.size / 100_000 - loop.time()
            try:
                message = await asyncio.wait_for(receive(), max(0.01, left))
            except TimeoutError:
                raise Refused(408, "the request came too slowly") from None
            size = len(message.get("body", b""))
            body.size, self.held = body.size + size, self.held + size
            complete = not message.get("more_body", False)
            if body.size > self.most_bytes:
                raise Refused(413, f"at most {self.most_bytes // 1_000_000} MB are taken at once")
            if self.held > 4 * self.most_bytes:
                raise Refused(429, "too many large requests at once; try again later", {"retry-after": "10"})
            return message

        return bounded


@dataclass
class _Body:
    """How much of a request's body has come."""

    size: int = 0


def public_message(error: BaseException) -> str:
    """What of an error may leave this machine: what is wrong and what to do, but not where, which is a path."""
    if isinstance(error, SpeechftError):
        return error.without_place
    return "something went wrong that should not"


def failed_file(error: OSError) -> JSONResponse:
    """What to say of a file that could not be read or written, without its path."""
    if error.errno in NO_ROOM:
        return failure(507, "There is no room left on the disk. Make room, then try again.")
    log.error("a file could not be read or written: %s", error.strerror)
    return failure(500, f"A file could not be read or written ({error.strerror}).")


def failure(
    status: int,
    message: str,
    headers: Mapping[str, str] | None = None,
    code: str | None = None,
    param: str | None = None,
) -> JSONResponse:
    """An error in the shape OpenAI's clients read.

    Args:
        status: of the answer.
        message: what is wrong, for people.
        headers: of the answer.
        code: what is wrong, for programs, where the status alone does not say it.
        param: the field of the request that is wrong.
    """
    kind = "invalid_request_error" if status < 500 else "server_error"
    kind = "rate_limit_error" if status == 429 else kind
    error = {"message": message, "type": kind, "param": param, "code": code or CODES.get(status)}
    return JSONResponse({"error": error}, status, headers)
