"""Counters for Prometheus; nothing in them tells who said what."""

from __future__ import annotations

import logging
import time
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from speechft.audio import Seconds

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")  # others may be any word, and would never end
log = logging.getLogger("speechft.server")


class Metrics:
    """The server's counters, in a registry of their own."""

    def __init__(self) -> None:
        own = CollectorRegistry()
        self.registry = own
        self.requests = Counter("speechft_requests", "Requests", ["method", "path", "status"], registry=own)
        self.latency = Histogram(
            "speechft_request_duration_seconds", "Time to the answer's start", ["method", "path"], registry=own
        )
        self.sound = Counter("speechft_sound_seconds", "Seconds of sound received", registry=own)
        self.decoded = Counter("speechft_decoded_seconds", "Seconds of sound decoded", registry=own)
        self.busy = Counter("speechft_decoding_seconds", "Seconds spent decoding", registry=own)
        self.batch = Histogram(
            "speechft_batch_pieces", "Pieces decoded together", buckets=(1, 2, 4, 8, 16, 32, 64), registry=own
        )
        self.waiting = Gauge("speechft_waiting_seconds", "Seconds of sound that wait", registry=own)

    def on_batch(self, pieces: int, sound: Seconds, took: Seconds) -> None:
        """Count a batch; what `Engine` calls."""
        self.batch.observe(pieces)
        self.decoded.inc(sound)
        self.busy.inc(took)

    def text(self) -> bytes:
        """All of them in Prometheus' text format."""
        return generate_latest(self.registry)


class Measured:
    """ASGI middleware that counts, times and logs requests by the pattern of their path, never by what it held.

    It stands outside the `Guard`, whose refusals are answers too. A request that no route has seen is of the path
    `other`, one whose client left before the answer of the status `none`.
    """

    def __init__(self, app: Any, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status, answered = time.perf_counter(), "none", None

        async def reply(message: dict[str, Any]) -> None:
            nonlocal status, answered
            if message["type"] == "http.response.start":
                status, answered = str(message["status"]), time.perf_counter()
            await send(message)

        try:
            await self.app(scope, receive, reply)
        finally:
            method = scope["method"] if scope["method"] in METHODS else "other"
            path = getattr(scope.get("route"), "path", "other")
            took = (answered or time.perf_counter()) - started
            self.metrics.requests.labels(method, path, status).inc()
            self.metrics.latency.labels(method, path).observe(took)
            log.info("%s %s %s %.2f s", method, path, status, took)
