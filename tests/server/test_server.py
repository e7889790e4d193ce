"""The transcription server, through the openai client and by hand: right voices, right formats, and who is refused."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import numpy as np
import openai
import pytest
import soundfile
from server.conftest import Running, served

from speechft.audio import SAMPLE_RATE, load_audio
from speechft.errors import SpeechftError
from speechft.recogniser import load
from speechft.server import media
from speechft.server.engine import Busy, Engine, _Job
from speechft.server.guard import Guard, failure, public_message
from speechft.server.media import HEADER, MediaReader, Unusable, WorkerDied
from speechft.server.metrics import Metrics
from speechft.server.run import address, guarded, token_for
from speechft.server.voices import BadVoice, adapters_in, public_name, unnamed_in, usable
from speechft.transcript import DecodeOptions


def test_each_request_gets_its_own_voice(client: openai.OpenAI, clips: list[Path], voice_folder: Path) -> None:
    def ask(job: tuple[str, Path]) -> str:
        return client.audio.transcriptions.create(model=job[0], file=job[1]).text

    jobs = [(name, clip) for name in ("tiny.en", "tiny.en:anna", "tiny.en:ben") for clip in clips]
    alone = [ask(job) for job in jobs]
    of_voice = [tuple(alone[start : start + len(clips)]) for start in range(0, len(jobs), len(clips))]
    assert len(set(of_voice)) == 3  # they do differ
    with ThreadPoolExecutor(12) as pool:  # mixed, so that they are batched together
        found = list(pool.map(ask, jobs * 2))
    same = sum(a == b for a, b in zip(found, alone * 2, strict=True))
    assert same >= 0.85 * len(found)  # in bf16 the size of a batch can decide a near tie; other voices say much else
    by_hand = load("bundled:tiny.en", voice_folder / "anna")
    same = sum(by_hand.transcribe(clip).text == text for clip, text in zip(clips, of_voice[1], strict=True))
    assert same >= len(clips) - 1  # merged into bf16 weights, one word may come out differently


def test_the_page_s_example_runs(running: Running, clips: list[Path], tmp_path: Path) -> None:
    """As it stands, at this server's address."""
    page = (Path(__file__).parents[2] / "docs" / "server.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", page, re.S)
    (tmp_path / "new.wav").write_bytes(clips[0].read_bytes())
    code = block.replace("http://localhost:8000", running.url)
    assert code != block
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_models_are_listed(client: openai.OpenAI) -> None:
    assert [m.id for m in client.models.list()] == ["tiny.en", "tiny.en:anna", "tiny.en:ben"]
    assert client.models.retrieve("tiny.en:ben").id == "tiny.en:ben"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("tiny.en:../ben")


def test_formats(client: openai.OpenAI, clips: list[Path]) -> None:
    def ask(kind: str, **more: object) -> object:
        return client.audio.transcriptions.create(
            model="tiny.en",
            file=clips[0],
            response_format=kind,
            **more,  # type: ignore[arg-type, call-overload]
        )

    text = load("bundled:tiny.en").transcribe(clips[0]).text
    assert ask("json").text == text  # type: ignore[attr-defined]
    assert ask("text") == text + "\n"
    assert "00:00:00," in str(ask("srt"))
    assert str(ask("vtt")).startswith("WEBVTT")
    full = ask("verbose_json", timestamp_granularities=["word", "segment"])
    assert full.text == text  # type: ignore[attr-defined]
    assert " ".join(w.word for w in full.words) == text  # type: ignore[attr-defined]
    assert all(0 <= w.confidence <= 1 for w in full.words)  # type: ignore[attr-defined]
    assert full.segments[0].end == pytest.approx(full.duration, abs=0.05)  # type: ignore[attr-defined]


def test_a_long_recording_is_streamed_piece_by_piece(client: openai.OpenAI, clips: list[Path]) -> None:
    pause = np.zeros(4 * SAMPLE_RATE, np.float32)
    parts = [part for clip in clips[:3] * 3 for part in (load_audio(clip), pause)]
    file = io.BytesIO()
    soundfile.write(file, np.concatenate(parts), SAMPLE_RATE, format="WAV")
    events = list(client.audio.transcriptions.create(model="tiny.en", file=("long.wav", file.getvalue()), stream=True))
    deltas = [e.delta for e in events if e.type == "transcript.text.delta"]
    assert len(deltas) >= 3
    assert events[-1].type == "transcript.text.done"
    assert events[-1].text == "".join(deltas)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"model": "tiny.en:nobody"}, "no model"),
        ({"response_format": "xml"}, "response_format"),
        ({"temperature": "1.2"}, "temperature"),
        ({"temperature": "nan"}, "temperature"),
        ({"include[]": "item"}, "unknown include"),
        ({"include[]": "logprobs", "response_format": "verbose_json"}, "response_format json only"),
        ({"temperature": "hot"}, "temperature"),
        ({"language": "de"}, "English only"),
        ({"timestamp_granularities[]": "letter"}, "unknown timestamp_granularities"),
        ({"timestamp_granularities[]": "word"}, "verbose_json"),
        ({"stream": "perhaps"}, "neither true nor false"),
        ({"stream": "true", "response_format": "srt"}, "not streamed"),
        ({"chunking_strategy": "auto"}, "'chunking_strategy' is not supported"),
    ],
)
def test_what_is_not_supported_is_refused_with_a_sentence(
    running: Running, clips: list[Path], fields: dict[str, str], says: str
) -> None:
    with running.client() as client, clips[0].open("rb") as file:
        reply = client.post("/v1/audio/transcriptions", data=fields, files={"file": file})
    assert reply.status_code in (400, 404)
    assert says in reply.json()["error"]["message"]


@pytest.mark.parametrize(
    ("file", "name", "value"),
    [
        ("speechft.json", "context", ["clip"]),
        ("speechft.json", "context", None),
        ("speechft.json", "context", "sideways"),
        ("speechft.json", "language", {"en": 1}),
        ("speechft.json", "base_sha256", 5),
        ("speechft.json", "base_sha256", "of another model"),
        ("adapter_config.json", "r", "four"),
        ("adapter_config.json", "r", 0),
        ("adapter_config.json", "lora_alpha", float("nan")),
        ("adapter_config.json", "lora_alpha", [8]),
        ("adapter_config.json", "peft_type", ["LORA"]),
        ("adapter_config.json", "target_modules", 5),
        ("adapter_model.safetensors", "", None),
    ],
)
def test_a_damaged_voice_is_an_error_of_its_own(
    running: Running, clips: list[Path], voice_folder: Path, file: str, name: str, value: object
) -> None:
    bad = voice_folder / "carla"
    shutil.copytree(voice_folder / "anna", bad)
    try:
        if name:
            config = json.loads((bad / file).read_text())
            (bad / file).write_text(json.dumps({**config, name: value}))
            if name == "target_modules":  # what only peft reads: a voice that the bank does not serve
                config |= {name: value, "use_dora": True}
                (bad / file).write_text(json.dumps(config))
        else:
            (bad / file).unlink()
        with running.client() as client, ThreadPoolExecutor(2) as pool:

            def ask(voice: str) -> httpx.Response:
                with clips[0].open("rb") as sound:
                    return client.post("/v1/audio/transcriptions", data={"model": voice}, files={"file": sound})

            reply, other = pool.map(ask, ["tiny.en:carla", "tiny.en:anna"])
    finally:
        shutil.rmtree(bad)
    assert reply.status_code == 503
    assert "carla" in reply.json()["error"]["message"]
    assert str(voice_folder.parent) not in reply.text
    assert other.status_code == 200


@pytest.mark.parametrize("name", ["a:b", "tiny.en:x", "[b] ü", "a b:", "a?b#c%41"])
def test_a_voice_of_any_name_is_found(running: Running, clips: list[Path], voice_folder: Path, name: str) -> None:
    shutil.copytree(voice_folder / "anna", voice_folder / name)
    try:
        with running.client() as client:
            listed = [model["id"] for model in client.get("/v1/models").json()["data"]]
            assert f"tiny.en:{name}" in listed
            assert client.get(f"/v1/models/{quote(f'tiny.en:{name}')}").status_code == 200
            with clips[0].open("rb") as sound:
                fields = {"model": f"tiny.en:{name}"}
                assert client.post("/v1/audio/transcriptions", data=fields, files={"file": sound}).status_code == 200
    finally:
        shutil.rmtree(voice_folder / name)


@pytest.mark.parametrize("name", [" a", "a ", "a\udcff"])
def test_a_voice_that_no_request_could_name_is_left_out(voice_folder: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(voice_folder / "anna", tmp_path / name)
    shutil.copytree(voice_folder / "anna", tmp_path / "anna")
    assert list(adapters_in(tmp_path)) == ["anna"]
    assert unnamed_in(tmp_path) == [name]


def test_a_base_model_in_a_folder_goes_by_the_name_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    assert public_name(str(tmp_path / "mine")) == "mine"
    assert public_name("bundled:tiny.en") == "tiny.en"
    assert public_name("openai/whisper-tiny") == "openai/whisper-tiny"


def test_no_path_of_this_machine_is_told() -> None:
    error = SpeechftError("is damaged", where="/home/anna/x.json", fix="Copy it.")
    assert public_message(error) == "is damaged. Copy it."
    assert "/home" not in public_message(OSError(2, "No such file", "/home/anna/x.json"))


def test_a_question_has_no_full_stop_after_its_mark() -> None:
    error = SpeechftError("is the right one on?", where="a microphone", fix="Look at the settings.")
    assert public_message(error) == "is the right one on? Look at the settings."
    assert str(error) == "a microphone: is the right one on? Look at the settings."
    assert public_message(SpeechftError("it is off")) == "it is off."


@pytest.mark.parametrize("content", [b"", b"RIFF", b"\0" * 5000, b"no sound at all", b"OggS" + b"\xff" * 3000])
def test_what_is_no_recording_is_refused(running: Running, content: bytes) -> None:
    with running.client() as client:
        reply = client.post("/v1/audio/transcriptions", files={"file": ("a.wav", content)})
    assert reply.status_code == 400
    assert "recording" in reply.json()["error"]["message"]


def test_what_the_library_says_of_a_file_is_for_the_log(running: Running, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"), running.client() as client:
        reply = client.post("/v1/audio/transcriptions", files={"file": ("a.wav", b"no sound at all")})
    said = reply.json()["error"]["message"]
    assert said == "the recording cannot be decoded. wav, flac, mp3, ogg, m4a and webm are read."
    assert "cannot be decoded: 'Invalid data found when processing input'" in caplog.text


def test_silence_is_an_empty_text(running: Running) -> None:
    file = io.BytesIO()
    soundfile.write(file, np.zeros(SAMPLE_RATE, np.float32), SAMPLE_RATE, format="WAV")
    with running.client() as client:
        reply = client.post("/v1/audio/transcriptions", files={"file": ("a.wav", file.getvalue())})
    assert reply.json() == {"text": "", "usage": {"type": "duration", "seconds": 1}}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "rebound.example"}, 421),
        ({"origin": "http://elsewhere.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"content-length": "99999999"}, 413),
        ({"content-type": "text/plain"}, 400),
    ],
)
def test_who_is_refused(running: Running, headers: dict[str, str], status: int) -> None:
    assert _raw(running.url, {"host": urlsplit(running.url).netloc, "content-length": "0", **headers}) == status


def test_a_slow_body_is_given_up(running: Running) -> None:
    started = time.monotonic()
    head = {
        "host": urlsplit(running.url).netloc,
        "content-length": "5000",
        "content-type": "multipart/form-data; boundary=x",
    }
    assert _raw(running.url, head) == 408
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("first", [b"", b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n"])
def test_a_slow_head_is_given_up(running: Running, monkeypatch: pytest.MonkeyPatch, first: bytes) -> None:
    monkeypatch.setattr("speechft.server.run.HEAD_SECONDS", 0.5)
    place = urlsplit(running.url)
    with socket.create_connection((place.hostname or "", place.port or 0), timeout=10) as connection:
        if first:  # also on a connection that has served a request
            connection.sendall(first)
            assert b" 200 " in connection.recv(4096)
        started = time.monotonic()
        connection.sendall(b"GET /health HTTP/1.1\r\nho")
        while connection.recv(4096):
            pass
        assert time.monotonic() - started < 8  # the keep-alive timeout of 15 s alone would not do it


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--x",
        b"--x\r\n",
        b"--x--\r\n",
        b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n--x--\r\n",
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\ncut off',
        b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n' * 60 + b"--x--\r\n",
        b"--x\r\n" + b"A: b\r\n" * 2000,
        b"\xff" * 300,
    ],
)
def test_a_malformed_form_is_refused(running: Running, body: bytes) -> None:
    kinds = {"content-type": "multipart/form-data; boundary=x"}, {"content-type": "multipart/form-data"}
    with running.client() as client:
        for kind in kinds:
            assert client.post("/v1/audio/transcriptions", content=body, headers=kind).status_code == 400


def test_log_lines_tell_nothing_of_the_content(
    running: Running, clips: list[Path], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"), running.client() as client, clips[0].open("rb") as file:
        said = client.post("/v1/audio/transcriptions", files={"file": ("secret-name.wav", file)}).json()["text"]
        client.get("/v1/models/secret-name")
    lines = " ".join(
        record.getMessage() for record in caplog.records if record.name.startswith(("speechft", "uvicorn"))
    )
    assert "POST /v1/audio/transcriptions 200" in lines
    assert said not in lines
    assert "secret" not in lines


def test_too_long_a_recording_is_refused(running: Running) -> None:
    file = io.BytesIO()
    soundfile.write(file, np.zeros(130 * 8000, np.int16), 8000, format="FLAC")  # a few kB that unpack to 2 minutes
    with running.client() as client:
        reply = client.post("/v1/audio/transcriptions", files={"file": ("a.flac", file.getvalue())})
    assert reply.status_code == 400
    assert "longer than 2 minutes" in reply.json()["error"]["message"]


def test_a_full_queue_says_when_to_come_back(running: Running) -> None:
    gate = threading.Event()

    class Slow:
        def shares_batch(self, voice: str | None) -> bool:
            return True

        def using(self, voices: list[str | None]) -> object:
            gate.wait(20)
            return running.voices.using(voices)

    engine = Engine(Slow(), most_waiting=5.0)  # type: ignore[arg-type]
    speech = 0.1 * np.random.default_rng(0).standard_normal(4 * SAMPLE_RATE).astype(np.float32)
    first = engine.submit(None, speech)
    with pytest.raises(Busy) as refused:
        engine.submit(None, speech)
    assert refused.value.retry_after >= 1
    gate.set()
    assert first.result(timeout=60).duration_s == 4.0
    deadline = time.monotonic() + 5
    while engine.waiting and time.monotonic() < deadline:
        time.sleep(0.01)
    engine.submit(None, speech).result(timeout=60)  # there is room again
    engine.waiting = 0.0
    for seconds in (0.1, 0.2, 0.7, 0.3, 0.55):  # sums of floats; what is left of them is not sound that waits
        engine.waiting += seconds
    for seconds in (0.55, 0.3, 0.1, 0.7, 0.2):
        engine._less(seconds)
    assert engine.waiting == 0.0
    engine.close()


def test_a_lecture_gets_on_however_many_sentences_come(running: Running) -> None:
    engine = Engine(running.voices)
    engine.close()  # its line alone is looked at
    engine._closed = False
    sentence = 0.1 * np.random.default_rng(0).standard_normal(2 * SAMPLE_RATE).astype(np.float32)
    lecture = np.tile(np.concatenate([sentence, np.zeros(4 * SAMPLE_RATE, np.float32)]), 15)
    engine.submit(None, lecture)
    for _ in range(60):
        engine.submit(None, sentence)
    line = [(piece.arrival, piece.number) for piece in sorted(engine._heap)]
    parts = [number for arrival, number in line if arrival == 0]
    assert len(parts) >= 3
    assert parts == sorted(parts)
    assert line.index((0, 0)) == 0
    assert 10 < line.index((0, 1)) < 25
    assert line.index((0, 2)) < 45


def test_all_requests_together_are_bounded() -> None:
    guard = Guard(_reads_all, most_bytes=1000)
    guard.held = 3500  # others' bodies
    with served(guard) as url, httpx.Client(base_url=url) as client:
        reply = client.post("/", content=b"x" * 900)
        assert reply.status_code == 429
        assert int(reply.headers["retry-after"]) > 0
        assert client.post("/", content=b"x" * 400).status_code == 200
    assert guard.held == 3500  # theirs alone again


def test_what_goes_wrong_is_logged_without_what_it_says(caplog: pytest.LogCaptureFixture) -> None:
    async def wrong(scope: Any, receive: Any, send: Any) -> None:
        raise OSError(5, "cannot read", "/home/anna/secret.wav")

    with served(Guard(wrong)) as url, httpx.Client(base_url=url) as client:
        reply = client.get("/")
    assert reply.status_code == 500
    assert "error" in reply.json()
    logged = caplog.text + " ".join(str(record.exc_info) for record in caplog.records)
    assert "OSError at line" in logged
    assert "secret" not in logged + reply.text


async def _reads_all(scope: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        pass
    await failure(200, "read")(scope, receive, send)


def test_a_result_that_nobody_waits_for_harms_nobody() -> None:
    job = _Job(None, None, DecodeOptions(), False, 1.0, Future(), None, [], True)
    job.future.cancel()
    job.finish()
    job.fail(ValueError("too late"))
    assert job.future.cancelled()


def test_metrics_count_and_tell_nothing_of_the_content(running: Running, clips: list[Path]) -> None:
    with running.client() as client:
        client.get("/v1/models/secret-name")
        text = client.get("/metrics").text
    assert "speechft_decoded_seconds_total" in text
    assert "secret-name" not in text


def test_a_token_is_needed_beyond_this_machine() -> None:
    assert token_for("127.0.0.1", None) is None
    assert token_for("::1", None) is None
    made = token_for("0.0.0.0", None)
    assert made
    assert len(made) >= 32
    guard = Guard(None, hosts=(), token=made)
    assert guard._knows_token({"authorization": f"Bearer {made}"})
    assert guard._knows_token({"cookie": f"speechft={made}"})
    assert guard._knows_token({"cookie": f'other={{"a": 1}}; speechft={made}; last=1'})
    assert not guard._knows_token({"authorization": "Bearer x"})
    assert not guard._knows_token({"cookie": 'speechft="\\'})
    assert not guard._knows_token({})


def test_a_token_from_a_file_fits_what_is_typed_in() -> None:
    assert token_for("0.0.0.0", " a-long-enough-token\n") == "a-long-enough-token"
    with pytest.raises(SpeechftError, match="shorter"):
        token_for("0.0.0.0", "x" + " " * 20)


def test_a_damaged_voice_is_logged_without_its_folder(caplog: pytest.LogCaptureFixture) -> None:
    for error in (SpeechftError("is damaged", where="/home/anna/x.json"), OSError(2, "No such file", "/home/anna")):
        with pytest.raises(BadVoice), usable("v"):
            raise error
    assert "is damaged" in caplog.text
    assert "/home" not in caplog.text


def test_every_address_of_this_machine_is_answered() -> None:
    assert "127.0.0.2" in guarded(None, Metrics(), "127.0.0.2", None, 1).app.hosts
    assert address("::1", 80) == "http://[::1]:80"
    assert address("127.0.0.1", 80) == "http://127.0.0.1:80"


def test_a_worker_that_dies_is_replaced(clips: list[Path]) -> None:
    reader = MediaReader(processes=1, longest=60.0)
    worker = reader._idle.queue[0]
    assert worker
    worker.kill()
    worker.wait()
    assert reader.read(clips[0].read_bytes()).size > SAMPLE_RATE
    reader.close()


def test_a_worker_that_dies_at_work_is_tried_again_once(clips: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    reader, deaths, ask = MediaReader(processes=1, longest=60.0), [2], MediaReader._ask

    def killed(self: MediaReader, worker: Any, data: bytes) -> tuple[int, bytes]:
        if deaths[0]:
            deaths[0] -= 1
            worker.kill()
            worker.wait()
        return ask(self, worker, data)

    monkeypatch.setattr(MediaReader, "_ask", killed)
    with pytest.raises(WorkerDied):
        reader.read(clips[0].read_bytes())
    deaths[0] = 1
    assert np.array_equal(reader.read(clips[0].read_bytes()), load_audio(clips[0]))
    with pytest.raises(Unusable):
        reader.read(b"nothing")
    worker = reader._idle.queue[0]
    assert worker
    assert os.getsid(worker.pid) != os.getsid(0)  # Ctrl-C in the server's terminal is not for it
    reader.close()


def test_no_request_gets_the_answer_of_one_that_failed(clips: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def runs_out(pipe: int, size: int, deadline: float) -> bytes:
        if size > HEADER.size:
            raise MemoryError
        return receive(pipe, size, deadline)

    receive, reader = media._receive, MediaReader(processes=1, longest=60.0)
    with monkeypatch.context() as patched:
        patched.setattr(media, "_receive", runs_out)
        with pytest.raises(MemoryError):
            reader.read(clips[0].read_bytes())
    assert np.array_equal(reader.read(clips[1].read_bytes()), load_audio(clips[1]))
    reader.close()


def _raw(url: str, headers: dict[str, str]) -> int:
    """Status of a POST with exactly these headers and no body."""
    place = urlsplit(url)
    with socket.create_connection((place.hostname or "", place.port or 0), timeout=20) as connection:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        connection.sendall(f"POST /v1/audio/transcriptions HTTP/1.1\r\n{lines}\r\n".encode())
        return int(connection.recv(4096).split()[1])


@pytest.mark.parametrize("host", ["127.0.0.1", "nowhere.invalid"])
def test_an_address_that_cannot_be_had_is_a_sentence_alone(host: str) -> None:
    """In a process of its own: what nobody awaited, asyncio says only at the end."""
    code = f"""
import sys
from speechft.exits import run
from speechft.server.run import serve
run(lambda: serve(None, {host!r}, int(sys.argv[1])))
"""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run([sys.executable, "-c", code, str(port)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    reason, sentence = done.stderr.splitlines()
    assert reason.startswith("ERROR: ")
    assert sentence.startswith(f"Error: cannot listen on {host}:{port}. Check --host;")
