"""The HTTP interface: `/v1/audio/transcriptions` and `/v1/models` as OpenAI's clients call them, health and metrics.

Beyond OpenAI's answers, words and segments carry a `confidence`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import StreamingResponse
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException as AnyHTTPException

from speechft.audio import SAMPLE_RATE
from speechft.errors import SpeechftError
from speechft.normalize import join_texts
from speechft.recording import Recording, Segment
from speechft.server.answers import STREAMED, answer, event, logprobs
from speechft.server.engine import Busy, Engine
from speechft.server.guard import failed_file, failure, public_message
from speechft.server.media import MediaReader, Unusable, WorkerDied
from speechft.server.metrics import Metrics
from speechft.server.voices import BadVoice, UnknownVoice, Voices
from speechft.server.wanted import BadField, Wanted
from speechft.whisper import Whisper

MOST_FIELDS = 30  # of a form
FIELD_BYTES = 64 * 1024


def transcription_app(voices: Voices, engine: Engine, media: MediaReader, metrics: Metrics) -> FastAPI:
    """The application; `speechft.server.run.guarded` puts before it what it needs."""
    app = FastAPI(title="speechft", docs_url=None, redoc_url=None, openapi_url=None)  # its pages load scripts from afar

    @app.exception_handler(SpeechftError)
    async def wrong(request: Request, error: SpeechftError) -> Response:
        status = {UnknownVoice: 404, BadVoice: 503, WorkerDied: 503}.get(type(error), 400)
        code = {UnknownVoice: "model_not_found", Unusable: "unusable"}.get(type(error))
        param = {UnknownVoice: "model", Unusable: "file"}.get(type(error))
        param = error.param if isinstance(error, BadField) else param
        return failure(status, public_message(error), code=code, param=param)

    @app.exception_handler(Busy)
    async def busy(request: Request, error: Busy) -> Response:
        return failure(429, public_message(error), {"retry-after": str(math.ceil(error.retry_after))})

    @app.exception_handler(OSError)
    async def no_file(request: Request, error: OSError) -> Response:
        return failed_file(error)

    @app.exception_handler(AnyHTTPException)
    async def refused(request: Request, error: AnyHTTPException) -> Response:
        if isinstance(error.__cause__, OSError):  # FastAPI's 400 for a form that no temporary file had room for
            return failed_file(error.__cause__)
        return failure(error.status_code, str(error.detail), error.headers or {})

    @app.exception_handler(Exception)
    async def bug(request: Request, error: Exception) -> Response:  # the `Guard` logs it
        return failure(500, public_message(error))

    @app.get("/health")
    async def health() -> dict[str, Any]:
        return {"status": "ok", "waiting_s": round(engine.waiting, 1)}

    @app.get("/metrics")
    async def prometheus() -> Response:
        metrics.waiting.set(engine.waiting)
        return Response(metrics.text(), media_type="text/plain; version=0.0.4")

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [model_entry(name) for name in voices.ids()]}

    @app.get("/v1/models/{model:path}")
    async def model(model: str) -> dict[str, Any]:
        voices.named(model)
        return model_entry(model)

    @app.post("/v1/audio/transcriptions")
    async def transcriptions(request: Request) -> Response:
        async with await form_of(request) as form:
            wanted = Wanted(form, voices)
            upload = form.get("file")
            if not isinstance(upload, UploadFile):
                raise BadField("file", "there is no recording", fix="Send it as the form's field 'file'.")
            data = await upload.read()
        samples = await asyncio.to_thread(media.read, data)
        metrics.sound.inc(len(samples) / SAMPLE_RATE)
        if wanted.stream:
            return await streamed(engine, samples, wanted, voices.bank.whisper)
        # in a thread: a new voice waits for the batch at work
        future = await asyncio.to_thread(
            engine.submit, wanted.voice, samples, language=wanted.language, words=wanted.words
        )
        recording = await waited(future, request)
        return answer(recording, wanted, voices.bank.whisper)

    return app


async def form_of(request: Request) -> Any:
    """The multipart form of a request."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise HTTPException(400, "send a form with the recording in it (multipart/form-data)")
    return request.form(max_files=1, max_fields=MOST_FIELDS, max_part_size=FIELD_BYTES)


async def waited(future: Any, request: Request) -> Recording:
    """The result of a job; given up where the client has left."""
    result = asyncio.wrap_future(future)
    while True:
        done, _ = await asyncio.wait([result], timeout=1.0)
        if done:
            return result.result()
        if await request.is_disconnected():
            result.cancel()
            future.cancel()
            raise HTTPException(499, "the client has left")


async def streamed(engine: Engine, samples: Any, wanted: Wanted, whisper: Whisper) -> Response:
    """Server-sent events as segments are ready: `transcript.text.delta` for each, `transcript.text.done` at the end."""
    loop, ready = asyncio.get_running_loop(), asyncio.Queue[Segment | None]()

    def tell(item: Segment | None) -> None:
        loop.call_soon_threadsafe(ready.put_nowait, item)

    future = await asyncio.to_thread(
        engine.submit, wanted.voice, samples, language=wanted.language, words=wanted.words, on_segment=tell
    )
    future.add_done_callback(lambda _: tell(None))

    async def events() -> AsyncIterator[str]:
        said, segments = "", list[Segment]()
        try:
            while (found := await ready.get()) is not None:
                segments.append(found)
                if found.text:
                    longer = join_texts((said, found.text), segments[0].transcript.language)
                    more = {"logprobs": logprobs([found], whisper)} if wanted.logprobs else {}
                    yield event({"type": "transcript.text.delta", "delta": longer[len(said) :], **more})
                    said = longer
            if error := future.exception():
                yield event({"type": "error", "error": {"message": public_message(error)}})
            else:
                more = {"logprobs": logprobs(segments, whisper)} if wanted.logprobs else {}
                yield event({"type": "transcript.text.done", "text": said, **more})
        finally:
            future.cancel()  # the client may have left before the end

    return StreamingResponse(events(), media_type="text/event-stream", headers=STREAMED)


def model_entry(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "speechft"}
