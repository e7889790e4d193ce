"""A transcribed recording in the forms of OpenAI's transcription API."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from typing import Any

from fastapi import Response
from fastapi.responses import JSONResponse, PlainTextResponse

from speechft.formats import render
from speechft.normalize import language_name
from speechft.recording import Recording, Segment
from speechft.server.wanted import Wanted
from speechft.transcript import compression_ratio
from speechft.whisper import Whisper

STREAMED = {"x-accel-buffering": "no"}  # nginx would hold the pieces back until the last has come


def answer(recording: Recording, wanted: Wanted, whisper: Whisper) -> Response:
    """The recording in the format asked for; `whisper` is the base model, whose tokens the voices share."""
    usage = {"type": "duration", "seconds": math.ceil(recording.duration_s)}
    if wanted.format == "json":
        more = {"logprobs": logprobs(recording.segments, whisper)} if wanted.logprobs else {}
        return JSONResponse({"text": recording.text, **more, "usage": usage})
    if wanted.format == "verbose_json":
        return JSONResponse({**verbose(recording, wanted.show_words), "usage": usage})
    return PlainTextResponse(render(recording, "txt" if wanted.format == "text" else wanted.format))


def verbose(recording: Recording, words: bool) -> dict[str, Any]:
    """OpenAI's verbose_json, with a `confidence` from 0 to 1 besides."""
    result: dict[str, Any] = {
        "task": "transcribe",
        "language": language_name(recording.language),
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


def logprobs(segments: Iterable[Segment], whisper: Whisper) -> list[dict[str, Any]]:
    """Each token of the segments with its log-probability."""
    return [
        {"token": whisper.text([token]), "logprob": round(logprob, 4)}
        for found in segments
        for token, logprob in zip(found.transcript.tokens, found.transcript.logprobs, strict=True)
    ]


def event(value: dict[str, Any]) -> str:
    """A server-sent event."""
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"
