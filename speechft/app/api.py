"""What the page calls. Every answer about a voice comes from its folder, so nothing is lost with this process."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Annotated, Any
from urllib.parse import quote

import numpy as np
from fastapi import APIRouter, Body, FastAPI, File, Form, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, RedirectResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field

from speechft import complaints
from speechft.app import phrases, training
from speechft.app.outcome import words_for
from speechft.app.quality import notes
from speechft.app.speech import spoken
from speechft.app.store import FREE, Store, VoiceFolder
from speechft.app.streaming import side_by_side
from speechft.app.transfer import export_voice, import_voice
from speechft.audio import SAMPLE_RATE, encoded
from speechft.errors import SpeechftError
from speechft.server.answers import STREAMED
from speechft.server.api import transcription_app
from speechft.server.engine import Engine
from speechft.server.guard import COOKIE, failed_file, failure
from speechft.server.media import MediaReader, Unusable
from speechft.server.metrics import Metrics
from speechft.server.run import is_loopback
from speechft.server.voices import Voices
from speechft.server.wanted import check_language
from speechft.transcript import DecodeOptions

UNCERTAIN = 0.6  # words below this confidence are marked
BEAMS = 5  # of which the others are the alternatives
# "63% of speakers reached the target with 3-4 minutes, 79% with 18-20": Tobin and Tomanek, 2021, arXiv 2110.04612,
# 195 people with speech impairments, home automation.
DOSES = [
    {"minutes": 4, "text": "With 3 to 4 minutes, 63 of 100 people could use voice commands at home."},
    {"minutes": 20, "text": "With 18 to 20 minutes, 79 of 100 people could."},
]
CONSENT = (
    "My recordings stay on this computer. They are used to teach this computer to understand me, and for nothing "
    "else. I can stop at any time, and delete everything with one button."
)
CONSENT_FROM_AFAR = (  # where the page is opened on another computer than the one that keeps the recordings
    "My recordings are kept on the computer that runs this app, and not on mine unless it is the same. Whoever runs it "
    "can hear and export them. They are used to teach that computer to understand me, and for nothing else. I can stop "
    "at any time, and delete everything with one button."
)


class NewVoice(BaseModel):
    """What a new voice needs: a name, and agreement."""

    name: Annotated[str, Field(max_length=200)]
    agreed: bool
    consent: Annotated[str | None, Field(max_length=2000)] = None  # the text that was shown
    by: Annotated[str, Field(max_length=200)] = ""


class Skip(BaseModel):
    """A sentence to leave out, or to take back in."""

    text: Annotated[str, Field(max_length=1000)]
    skipped: bool


class Sentence(BaseModel):
    """A text to read aloud."""

    text: Annotated[str, Field(max_length=2000)]


def demo_app(
    store: Store, voices: Voices, engine: Engine, media: MediaReader, metrics: Metrics, *, host: str = "127.0.0.1"
) -> FastAPI:
    """The transcription server, the app's own calls, and the page; behind `speechft.server.run.guarded`.

    Args:
        store: where the voices are.
        voices: must find the store's, by id.
        engine, media, metrics: as of the transcription server.
        host: where it listens; people agree to another text where other computers can open the page.
    """
    consent = CONSENT if is_loopback(host) else CONSENT_FROM_AFAR
    app = transcription_app(voices, engine, media, metrics)

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        name = complaints.place({**first, "loc": first["loc"][1:]})  # after whether it is of the body or of the address
        what = f"'{name[:80]}'" if name and first["type"] != "json_invalid" else "the request"
        return failure(400, f"{what} {complaints.sentence(first)}")

    @app.exception_handler(OSError)
    async def no_file(request: Request, error: OSError) -> Response:
        if isinstance(error, FileNotFoundError):  # deleted while it was asked for
            return failure(404, "This is not here any more.")
        return failed_file(error)

    @app.get("/api/about")
    def about() -> dict[str, Any]:
        return {"consent": consent, "doses": DOSES, "least": training.LEAST_TAKES, "uncertain": UNCERTAIN}

    @app.post("/login")
    def login(token: Annotated[str, Form(max_length=200)]) -> Response:
        reply = RedirectResponse("/", status_code=303)  # a wrong one leads back here
        reply.set_cookie(COOKIE, quote(token.strip()), httponly=True, samesite="strict", max_age=30 * 24 * 3600)
        return reply

    @app.get("/login")
    def login_page() -> Response:
        return FileResponse(phrases.page_folder() / "login.html")

    app.include_router(voice_calls(store, voices, consent))
    app.include_router(recording_calls(store, media))
    app.include_router(training_calls(store, voices))
    app.include_router(listening_calls(store, voices, engine, media, metrics))
    app.mount("/", StaticFiles(directory=phrases.page_folder(), html=True))
    return app


def voice_calls(store: Store, voices: Voices, consent: str) -> APIRouter:
    """Voices: make, list, move to another computer, delete."""
    router = APIRouter()

    @router.get("/api/voices")
    def every() -> list[dict[str, Any]]:
        return [summary(store, voice) for voice in store.voices()]

    @router.post("/api/voices")
    def create(new: NewVoice) -> dict[str, Any]:
        if new.consent not in (None, consent):
            raise SpeechftError("the agreement that was shown is not this app's", fix="Open the page again.")
        return summary(store, store.create(new.name, consent if new.agreed else "", new.by))

    @router.post("/api/voices/import")
    def take_in(file: UploadFile) -> dict[str, Any]:
        return summary(store, import_voice(store, file.file.read(), voices.base))

    @router.get("/api/voices/{voice}")
    def one(voice: str) -> dict[str, Any]:
        return summary(store, store.voice(voice))

    @router.delete("/api/voices/{voice}")
    def delete(voice: str) -> dict[str, Any]:
        with store.changing(voice) as folder:
            training.stop(folder)
            voices.forget(voice)
            return {"deleted": store.delete(voice)}

    @router.get("/api/voices/{voice}/export")
    def export(voice: str, recordings: bool = False) -> Response:
        data = export_voice(store.voice(voice), recordings)
        name = {"content-disposition": f'attachment; filename="{voice}.zip"'}
        return Response(data, media_type="application/zip", headers=name)

    return router


def recording_calls(store: Store, media: MediaReader) -> APIRouter:
    """What a voice reads: its sentences, and the recordings of them."""
    router = APIRouter()

    @router.get("/api/voices/{voice}/prompts")
    def prompts(voice: str) -> list[dict[str, Any]]:
        return phrases.prompts(store.voice(voice))

    @router.get("/api/phrases")
    def original_phrases() -> dict[str, list[str]]:
        return phrases.defaults()

    @router.get("/api/voices/{voice}/phrases")
    def phrase_sets(voice: str) -> dict[str, list[str]]:
        return phrases.sets_of(store.voice(voice))

    @router.put("/api/voices/{voice}/phrases")
    def edit_phrases(voice: str, sets: dict[str, list[str]]) -> dict[str, list[str]]:
        with store.changing(voice) as folder:
            phrases.save_sets(folder, sets)
            return phrases.sets_of(folder)

    @router.post("/api/voices/{voice}/names")
    def add_names(voice: str, names: Annotated[list[str], Body()]) -> dict[str, list[str]]:
        with store.changing(voice) as folder:
            sets = phrases.sets_of(folder)
            new = [text for text in phrases.sentences_with(names) if text not in sets.get(phrases.NAMES, [])]
            phrases.save_sets(folder, {**sets, phrases.NAMES: [*sets.get(phrases.NAMES, []), *new]})
            return phrases.sets_of(folder)

    @router.post("/api/voices/{voice}/skip")
    def skip(voice: str, wanted: Skip) -> list[dict[str, Any]]:
        with store.changing(voice) as folder:
            phrases.set_skipped(folder, wanted.text, wanted.skipped)
            return phrases.prompts(folder)

    @router.post("/api/voices/{voice}/recordings")
    def record(
        voice: str,
        file: UploadFile,
        text: Annotated[str, Form(max_length=1000)],
        free: Annotated[bool, Form()] = False,
    ) -> dict[str, Any]:
        store.voice(voice)
        samples = media.read(file.file.read())
        found = notes(samples, text)
        if any(note["kind"] == "silent" for note in found):
            raise Unusable(found[0]["text"])
        wav = encoded(np.clip(samples, -1, 1))
        prompt = FREE if free else phrases.prompt_id(text)
        with store.changing(voice) as folder:
            take = folder.add(wav, text, prompt, len(samples) / SAMPLE_RATE)
            training.forget_deleted(folder)  # an older one of the same sentence
            return {"take": take.id, "seconds": take.seconds, "notes": found, "voice": summary(store, folder)}

    @router.get("/api/voices/{voice}/recordings")
    def recordings(voice: str) -> list[dict[str, Any]]:
        return [asdict(take) for take in reversed(store.voice(voice).takes())]

    @router.get("/api/voices/{voice}/recordings/{take}")
    def play(voice: str, take: str) -> Response:
        return Response(store.vault.read(store.voice(voice).sound(take)), media_type="audio/wav")

    @router.delete("/api/voices/{voice}/recordings/{take}")
    def remove(voice: str, take: str) -> dict[str, Any]:
        with store.changing(voice) as folder:
            folder.remove(take)
            training.forget_deleted(folder)
            return summary(store, folder)

    return router


def training_calls(store: Store, voices: Voices) -> APIRouter:
    """Training: begin, stop, and what came of it."""
    router = APIRouter()

    @router.post("/api/voices/{voice}/training")
    def train(voice: str) -> dict[str, Any]:
        with store.changing(voice) as folder:
            training.start(store, folder, voices.base)
            return summary(store, folder)

    @router.delete("/api/voices/{voice}/training")
    def stop(voice: str) -> dict[str, Any]:
        with store.changing(voice) as folder:
            training.stop(folder)
            return summary(store, folder)

    @router.get("/api/voices/{voice}/report")
    def report(voice: str) -> Response:
        path = store.voice(voice).run / "report.html"
        if not path.is_file():
            raise SpeechftError("there is no report yet", fix="Train the voice first.")
        # the report is one file with its scripts inside; it may show and play what is in it, and call nobody
        policy = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
        policy += "img-src data:; media-src data:; sandbox allow-scripts"
        return Response(store.vault.read(path), media_type="text/html", headers={"content-security-policy": policy})

    return router


def listening_calls(store: Store, voices: Voices, engine: Engine, media: MediaReader, metrics: Metrics) -> APIRouter:
    """What is said with a voice: as text, what else it could be, and read aloud."""
    router = APIRouter()

    @router.post("/api/transcribe")
    def transcribe(
        file: UploadFile,
        voice: Annotated[str, Form(max_length=100)] = "",
        language: Annotated[str | None, Form(max_length=40)] = None,
    ) -> StreamingResponse:
        samples = media.read(file.file.read())
        if language:
            check_language(language, voices)
        personal = trained_voice(store, voice)
        both: dict[str, str | None] = {"personal": personal, "base": None} if personal else {"base": None}
        metrics.sound.inc(len(samples) / SAMPLE_RATE)
        lines = side_by_side(engine, samples, both, language)
        return StreamingResponse(lines, media_type="application/x-ndjson", headers=STREAMED)

    @router.post("/api/alternatives")
    async def alternatives(
        file: Annotated[UploadFile, File()],
        voice: Annotated[str, Form(max_length=100)] = "",
        start: Annotated[float, Form(ge=0, allow_inf_nan=False)] = 0.0,
        end: Annotated[float, Form(gt=0, allow_inf_nan=False)] = 30.0,
    ) -> list[str]:
        samples = await asyncio.to_thread(media.read, await file.read())
        part = samples[round(start * SAMPLE_RATE) : round(min(end, start + 30) * SAMPLE_RATE)]
        name = trained_voice(store, voice)
        future = await asyncio.to_thread(engine.submit, name, part, options=DecodeOptions(beams=BEAMS))
        found = await asyncio.wrap_future(future)
        texts = [text for s in found.segments for text in (s.text, *s.transcript.alternatives) if text]
        return list(dict.fromkeys(texts))

    @router.post("/api/speak")
    def speak(sentence: Sentence) -> Response:
        return Response(spoken(sentence.text), media_type="audio/wav")

    return router


def trained_voice(store: Store, identity: str) -> str | None:
    """The voice to decode with: None, the base model, without one or where it has no adapter yet."""
    return identity if identity and store.voice(identity).adapter else None


def summary(store: Store, voice: VoiceFolder) -> dict[str, Any]:
    """A voice as the page shows it."""
    takes, result = voice.takes(), voice.result
    running = training.is_running(voice)  # asked first: one that is done meanwhile must not look interrupted
    state = training.status(voice)
    if state and state["phase"] != "failed":
        state["running"] = running
        if running and state["phase"] == "waiting":
            state |= training.waits(store, voice)
    return {
        "id": voice.id,
        "name": voice.about["name"],
        "consent": voice.about.get("consent"),
        "recordings": len(takes),
        "minutes": round(sum(take.seconds for take in takes) / 60, 2),
        "trained": voice.adapter is not None,
        "result": words_for(result, takes, voice.adapter is not None) if result else None,
        "left": sum(not prompt["take"] and not prompt["skipped"] for prompt in phrases.prompts(voice, takes)),
        "report": (voice.run / "report.html").is_file(),
        "training": state,
        "estimate_s": round(training.estimate(takes, training.pace(store))),
    }
