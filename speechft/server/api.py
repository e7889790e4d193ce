"""The HTTP interface: `/v1/audio/transcriptions` and `/v1/models` as OpenAI's clients call them, health and metrics.

Requests and answers follow OpenAI's API reference, "Create transcription" (2025). Beyond it, words and segments carry a
`confidence`; `prompt` and a `temperature` other than 0 are refused rather than ignored.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException as AnyHTTPException

from speechft.audio import SAMPLE_RATE
from speechft.errors import SpeechftError
from speechft.formats import render
from speechft.normalize import language_code
from speechft.recording import Recording, Segment
from speechft.server.engine import Busy, Engine
from speechft.server.guard import failed_file, failure, public_message
from speechft.server.media import MediaReader, Unusable, WorkerDied
from speechft.server.metrics import Metrics
from speechft.server.voices import BadVoice, UnknownVoice, Voices
from speechft.transcript import compression_ratio

FORMATS = ("json", "text", "srt", "verbose_json", "vtt")
FIELDS = 30  # of a form, at most
KNOWN = {
    "file", "model", "response_format", "stream", "prompt", "temperature", "language", "timestamp_granularities",
    "timestamp_granularities[]",
}  # fmt: skip
FIELD_BYTES = 64 * 1024


def transcription_app(voices: Voices, engine: Engine, media: MediaReader, metrics: Metrics) -> FastAPI:
    """The application; `speechft.server.run.guarded` puts before it what it needs."""
    app = FastAPI(title="speechft", docs_url=None, redoc_url=None, openapi_url=None)  # its pages load scripts from afar

    @app.exception_handler(SpeechftError)
    async def wrong(request: Request, error: SpeechftError) -> Response:
        status = {UnknownVoice: 404, BadVoice: 503, WorkerDied: 503}.get(type(error), 400)
        return failure(status, public_message(error), code="unusable" if isinstance(error, Unusable) else None)

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
                raise SpeechftError("there is no recording", fix="Send it as the form's field 'file'.")
            data = await upload.read()
        samples = await asyncio.to_thread(media.read, data)
        metrics.sound.inc(len(samples) / SAMPLE_RATE)
        if wanted.stream:
            return await streamed(engine, samples, wanted)
        # in a thread: a new voice waits for the batch at work
        future = await asyncio.to_thread(
            engine.submit, wanted.voice, samples, language=wanted.language, words=wanted.words
        )
        recording = await waited(future, request)
        return answer(recording, wanted)

    return app


class Wanted:
    """What a request asks for, checked.

    Raises:
        SpeechftError: a field is missing, unknown or not supported.
    """

    def __init__(self, form: FormData, voices: Voices) -> None:
        def text(name: str, default: str = "") -> str:
            value = form.get(name, default)
            if not isinstance(value, str):
                raise SpeechftError(f"'{name}' is a file, not a text", fix="Send it as a plain field.")
            return value.strip()

        if foreign := sorted(set(form) - KNOWN):
            raise SpeechftError(f"'{foreign[0][:40]}' is not supported", fix="Leave it out.")
        self.voice = voices.named(text("model", voices.base_id))
        self.format = text("response_format", "json")
        if self.format not in FORMATS:
            raise SpeechftError(
                f"unknown response_format '{self.format[:40]}'", fix=f"Use one of {', '.join(FORMATS)}."
            )
        stream = text("stream", "false").lower()
        if stream not in ("true", "1", "false", "0", ""):
            raise SpeechftError("'stream' is neither true nor false", fix="Send true or false.")
        self.stream = stream in ("true", "1")
        if self.stream and self.format != "json":
            raise SpeechftError(f"{self.format} is not streamed", fix="Leave out stream, or response_format.")
        if text("prompt"):
            raise SpeechftError("'prompt' is not supported", fix="Leave it out.")
        try:
            temperature = float(text("temperature", "0") or 0)
        except ValueError:
            raise SpeechftError("'temperature' is not a number", fix="Send 0, or leave it out.") from None
        if temperature != 0:
            raise SpeechftError("only temperature 0 is supported", fix="Leave it out: doubtful stretches are retried.")
        self.language = text("language") or None
        if self.language:
            check_language(self.language, voices)
        kinds = [*form.getlist("timestamp_granularities[]"), *form.getlist("timestamp_granularities")]
        if unknown := [kind for kind in kinds if kind not in ("word", "segment")]:
            raise SpeechftError(f"unknown timestamp granularity '{str(unknown[0])[:40]}'", fix="Use word or segment.")
        if kinds and self.format != "verbose_json":
            what = "timestamp_granularities need response_format verbose_json"
            raise SpeechftError(what, fix="Ask for that format, or leave them out.")
        self.show_words = "word" in kinds
        self.words = self.format in ("srt", "vtt") or (self.format == "verbose_json" and self.show_words)


def check_language(language: str, voices: Voices) -> None:
    """Refuse a language that the base model does not know, before anything is queued."""
    base = voices.bank.whisper
    if base.is_multilingual:
        try:
            base.language_id(language)
        except SpeechftError as error:
            raise SpeechftError(f"'{voices.base_id}' {error.what}", fix=error.fix) from None
    elif language_code(language) != "en":
        what = f"'{voices.base_id}' knows English only, not '{language[:40]}'"
        raise SpeechftError(what, fix="Leave language out.")


async def form_of(request: Request) -> Any:
    """The multipart form of a request."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise HTTPException(400, "send a form with the recording in it (multipart/form-data)")
    return request.form(max_files=1, max_fields=FIELDS, max_part_size=FIELD_BYTES)


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


async def streamed(engine: Engine, samples: Any, wanted: Wanted) -> Response:
    """Server-sent events as segments are ready: `transcript.text.delta` for each, `transcript.text.done` at the end."""
    loop, ready = asyncio.get_running_loop(), asyncio.Queue[Segment | None]()

    def tell(item: Segment | None) -> None:
        loop.call_soon_threadsafe(ready.put_nowait, item)

    future = await asyncio.to_thread(
        engine.submit, wanted.voice, samples, language=wanted.language, words=wanted.words, on_segment=tell
    )
    future.add_done_callback(lambda _: tell(None))

    async def events() -> AsyncIterator[str]:
        said = ""
        try:
            while (found := await ready.get()) is not None:
                if found.text:
                    delta = f" {found.text}" if said else found.text
                    said += delta
                    yield event({"type": "transcript.text.delta", "delta": delta})
            if error := future.exception():
                yield event({"type": "error", "error": {"message": public_message(error)}})
            else:
                yield event({"type": "transcript.text.done", "text": said})
        finally:
            future.cancel()  # the client may have left before the end

    return StreamingResponse(events(), media_type="text/event-stream")


def event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


def answer(recording: Recording, wanted: Wanted) -> Response:
    """The recording in the format asked for."""
    if wanted.format == "json":
        return JSONResponse({"text": recording.text})
    if wanted.format == "verbose_json":
        return JSONResponse(verbose(recording, wanted.show_words))
    return PlainTextResponse(render(recording, "txt" if wanted.format == "text" else wanted.format))


def verbose(recording: Recording, words: bool) -> dict[str, Any]:
    """OpenAI's verbose_json, with a `confidence` from 0 to 1 besides."""
    result: dict[str, Any] = {
        "task": "transcribe",
        "language": recording.language,
        "duration": recording.duration_s,
        "text": recording.text,
        "segments": [
            {
                "id": number,
                "seek": round(found.start_s * 100),
                "start": found.start_s,
                "end": found.end_s,
                "text": found.text,
                "tokens": list(found.transcript.tokens),
                "temperature": found.transcript.temperature,
                "avg_logprob": round(found.transcript.mean_logprob, 4),
                "compression_ratio": round(compression_ratio(found.text), 4),
                "no_speech_prob": round(found.transcript.no_speech, 4),
                "confidence": round(found.transcript.confidence, 4),
            }
            for number, found in enumerate(recording.segments)
        ],
    }
    if words:
        result["words"] = [
            {"word": w.text, "start": w.start_s, "end": w.end_s, "confidence": w.confidence}
            for found in recording.segments
            for w in found.words
        ]
    return result


def model_entry(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "speechft"}
