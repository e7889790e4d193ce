"""The app under hostile requests: broken uploads, forms, archives, JSON, paths, headers and connections.

    python benchmarks/fuzz.py [--requests 10000] [--seed 0] [--slices 10] [--out DIR]

It starts `speechft demo` in a sandbox (data folder, home, temporary folder, working folder) and sends requests over raw
sockets, so that they may be wrong in any way. Counted: answers by status, server errors, files outside the data folder,
open files, and memory of the server and of its decoding processes after each slice. Few requests hold sound that the
model has to decode: the fuzz is of what stands before it.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import io
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import soundfile
from server import free_port

MARK = "fuzz-7f3a9c"  # in every name that should never become a file's
VOICE_CALLS = (
    "prompts",
    "phrases",
    "names",
    "skip",
    "recordings",
    "export",
    "report",
    "recordings/x",
    "recordings/../x",
)
Request = bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--slices", type=int, default=10)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as root, Sandbox(Path(root)) as app:
        result = asyncio.run(fuzz(app, a.requests, a.seed, a.slices))
    print(json.dumps(result, indent=2))
    a.out.mkdir(parents=True, exist_ok=True)
    (a.out / "fuzz.json").write_text(json.dumps(result, indent=2) + "\n")


class Sandbox:
    """`speechft demo` with every folder it could write to under one root."""

    def __init__(self, root: Path) -> None:
        self.root, self.data, self.port = root, root / "data", free_port()

    def __enter__(self) -> Sandbox:
        places = {name: self.root / name.lower() for name in ("HOME", "TMPDIR", "XDG_DATA_HOME", "XDG_CACHE_HOME")}
        for place in (*places.values(), self.root / "work"):
            place.mkdir()
        path = os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path if entry)
        env = os.environ | {name: str(place) for name, place in places.items()} | {"PYTHONPATH": path}
        command = [sys.executable, "-m", "speechft.cli", "demo", "--data", str(self.data), "--port", str(self.port)]
        self.process = subprocess.Popen(
            command, cwd=self.root / "work", env=env, stdout=subprocess.DEVNULL, stderr=(self.root / "log").open("wb")
        )
        while b" 200 " not in asyncio.run(exchange(self.port, plain("GET", "/health")))[:15]:
            assert self.process.poll() is None, (self.root / "log").read_text()
            time.sleep(0.3)
        self.before = self.outside()
        return self

    def __exit__(self, *error: object) -> None:
        self.process.terminate()
        self.process.wait(timeout=120)

    def outside(self) -> set[str]:
        """Files that are not in the data folder."""
        files = (path for path in self.root.rglob("*") if path.is_file() and self.data not in path.parents)
        return {str(path.relative_to(self.root)) for path in files}

    def memory(self) -> dict[str, int]:
        """Resident memory now, MB."""
        main = psutil.Process(self.process.pid)
        workers = sum(child.memory_info().rss for child in main.children(recursive=True))
        return {"server_mb": round(main.memory_info().rss / 1e6), "decoders_mb": round(workers / 1e6)}


async def fuzz(app: Sandbox, count: int, seed: int, slices: int) -> dict[str, Any]:
    """Send the requests and see what is left of the server afterwards."""
    rng = random.Random(seed)
    statuses: collections.Counter[str] = collections.Counter()
    errors: list[str] = []
    pending = asyncio.Semaphore(8)
    course = [{"requests": 0, **app.memory(), "open_files": psutil.Process(app.process.pid).num_fds()}]
    started = time.perf_counter()

    async def one(kind: Callable[..., Request], request: Request) -> None:
        async with pending:
            answer = await exchange(app.port, request)
        status = status_of(answer)
        statuses[status] += 1
        if status.startswith("5"):
            errors.append(f"{kind.__name__}: {request[:200]!r} -> {answer[-200:]!r}")

    for part in range(slices):
        voice = await new_voice(app.port)
        jobs = []
        for _ in range(count // slices):
            kind = rng.choice(KINDS)
            jobs.append(one(kind, kind(rng, voice)))
        await asyncio.gather(*jobs)
        await exchange(app.port, plain("DELETE", f"/api/voices/{voice}"))
        await until_idle(app.port)
        course.append(
            {
                "requests": (part + 1) * (count // slices),
                **app.memory(),
                "open_files": psutil.Process(app.process.pid).num_fds(),
            }
        )
        print(course[-1], dict(statuses), file=sys.stderr, flush=True)
    health = await exchange(app.port, plain("GET", "/health"))
    names = subprocess.run(
        ["find", "/", "-xdev", "-name", f"*{MARK}*", "-not", "-path", "/proc/*"], capture_output=True, text=True
    ).stdout.split()
    return {
        "requests": sum(statuses.values()),
        "seconds": round(time.perf_counter() - started),
        "statuses": dict(sorted(statuses.items())),
        "server_errors": errors[:10],
        "alive": health.startswith(b"HTTP/1.1 200") and app.process.poll() is None,
        "tracebacks": (app.root / "log").read_text(errors="replace").count("Traceback"),
        "files_outside_the_data_folder": sorted(app.outside() - app.before),
        "files_with_a_name_of_ours": [name for name in names if not name.startswith(str(app.data))],
        "memory": course,
    }


async def until_idle(port: int) -> None:
    """Wait until nothing waits to be decoded."""
    for _ in range(300):
        answer = await exchange(port, plain("GET", "/health"))
        if answer.startswith(b"HTTP") and not json.loads(answer.rpartition(b"\r\n\r\n")[2])["waiting_s"]:
            return
        await asyncio.sleep(1)


async def new_voice(port: int) -> str:
    body = json.dumps({"name": "Fuzz", "agreed": True}).encode()
    answer = await exchange(port, plain("POST", "/api/voices", body, "application/json"))
    return str(json.loads(answer.rpartition(b"\r\n\r\n")[2])["id"])


def status_of(answer: bytes) -> str:
    """An answer's status; `closed` where the server only ended the connection."""
    return answer[9:12].decode("latin-1") if answer.startswith(b"HTTP/1.1 ") else "closed"


async def exchange(port: int, request: Request) -> bytes:
    """Send bytes, and read until the server closes the connection; what came before an error counts."""
    answer = b""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return answer
    try:
        writer.write(request)
        await writer.drain()
        if request.endswith(GONE):
            return answer
        while block := await asyncio.wait_for(reader.read(1 << 16), 120):
            answer = (answer + block)[:4000]
    except (OSError, TimeoutError):
        pass
    finally:
        writer.close()
    return answer


GONE = b"\r\n-- client gone"  # a request that ends so is sent, and its answer not waited for


def plain(method: str, path: str, body: bytes = b"", kind: str = "", **headers: str) -> Request:
    """A request as bytes."""
    lines = {"host": "localhost", "connection": "close", "content-length": str(len(body))} | headers
    if kind:
        lines["content-type"] = kind
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in lines.items())
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def form(fields: dict[str, str | bytes], file: bytes | None, name: str = "a.wav") -> tuple[bytes, str]:
    """A multipart form and its type."""
    parts = [
        b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
        % (key.encode(), value if isinstance(value, bytes) else value.encode("utf-8", "replace"))
        for key, value in fields.items()
    ]
    if file is not None:
        parts.append(
            b'--x\r\nContent-Disposition: form-data; name="file"; filename="%s"\r\n\r\n%s\r\n' % (name.encode(), file)
        )
    return b"".join(parts) + b"--x--\r\n", "multipart/form-data; boundary=x"


def weird(rng: random.Random) -> str:
    """A text that something may trip over."""
    texts = ["", "\0", "x" * 5000, f"../../{MARK}", f"/tmp/{MARK}", "ü\u202e\ud7ff", "-1", "nan", "1e999", "{name}"]
    return rng.choice([*texts, "a\r\nb: c", "%00", "' or 1=1", "<script>", "\u2028", f"tiny.en:../{MARK}", "0", "[]"])


def anything(rng: random.Random, depth: int = 0) -> Any:
    """A JSON value of any shape."""
    kind = rng.randrange(8 if depth < 3 else 5)
    if kind < 5:
        return (weird(rng), rng.randrange(-(2**63), 2**63), None, True, rng.choice([1e308, -0.0, 0.5]))[kind]
    if kind == 5:
        return [anything(rng, depth + 1) for _ in range(rng.randrange(4))]
    keys = ("name", "agreed", "by", "text", "skipped", "Everyday", weird(rng))
    return {rng.choice(keys): anything(rng, depth + 1) for _ in range(rng.randrange(4))}


def sound(rng: random.Random) -> bytes:
    """A short recording, of a common or strange shape."""
    file = io.BytesIO()
    rate = rng.choice([1, 100, 8000, 16_000, 48_000, 384_000])
    shape = rng.randrange(0, 4000 if rate > 1000 else 40), rng.choice([1, 1, 2, 8])
    samples = rng.choice([0.0, 1.0, 0.1, np.nan, np.inf]) * np.random.default_rng(rng.randrange(99)).normal(size=shape)
    kind, coding = rng.choice([("WAV", "FLOAT"), ("WAV", "PCM_16"), ("FLAC", "PCM_16")])
    with np.errstate(all="ignore"):
        try:
            soundfile.write(file, samples.astype(np.float32), rate, format=kind, subtype=coding)
        except (soundfile.LibsndfileError, ValueError, AssertionError):  # what cannot be written: half a file will do
            return file.getvalue()
    return file.getvalue()


def damaged(rng: random.Random, data: bytes) -> bytes:
    """The data cut off, and with some bytes changed."""
    out = bytearray(data[: rng.randrange(1, len(data) + 1)] if data else b"x")
    for _ in range(rng.randrange(12)):
        out[rng.randrange(len(out))] = rng.randrange(256)
    return bytes(out)


def recording(rng: random.Random, voice: str) -> Request:
    """A damaged or strange recording; most to be saved, some to be transcribed."""
    data = sound(rng) if rng.random() < 0.4 else damaged(rng, sound(rng))
    if rng.random() < 0.3:
        magic = rng.choice([b"RIFF", b"OggS", b"fLaC", b"ID3", b"\x1aE\xdf\xa3", b"PK\x03\x04", b"\0\0\0\x18ftyp", b""])
        data = magic + rng.randbytes(rng.randrange(4000))
    if rng.random() < 0.85:
        text = rng.choice(["hello there", "a", weird(rng)])
        body, kind = form({"text": text, "free": rng.choice(["true", "", "maybe"])}, data, f"../{MARK}.wav")
        return plain("POST", f"/api/voices/{voice}/recordings", body, kind)
    path = rng.choice(["/v1/audio/transcriptions", "/api/transcribe", "/api/alternatives"])
    body, kind = form({"start": weird(rng), "end": "1"} if "alternatives" in path else {}, data)
    return plain("POST", path, body, kind)


def fields(rng: random.Random, voice: str) -> Request:
    """Fields of the wrong sort."""
    names = ["model", "language", "response_format", "temperature", "stream", "prompt", "voice", "text", "start", "end"]
    chosen: dict[str, str | bytes] = {name: weird(rng) for name in rng.sample(names, rng.randrange(1, 4))}
    body, kind = form(chosen, b"x" * rng.randrange(50) if rng.random() < 0.7 else None)
    paths = ("/v1/audio/transcriptions", "/api/transcribe", "/api/alternatives", "/login", "/api/voices/import")
    return plain("POST", rng.choice([*paths, f"/api/voices/{voice}/recordings"]), body, kind)


def no_form(rng: random.Random, voice: str) -> Request:
    """A form that is no form, or one of too many parts."""
    part = b'--x\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\nx\r\n'
    bodies = [b"--x\r\n", b"--x--", rng.randbytes(200), part * rng.randrange(80), part[: rng.randrange(len(part))]]
    bodies += [
        b"--x\r\nContent-Disposition: " + b"a" * 70_000,
        b"--x\r\n" + b"A: b\r\n" * 500,
        b"--x\r\nC: \xff\r\n\r\n",
    ]
    kind = rng.choice(["multipart/form-data; boundary=x", "multipart/form-data", "multipart/form-data; boundary=\xff"])
    path = rng.choice(["/v1/audio/transcriptions", "/api/transcribe", f"/api/voices/{voice}/recordings", "/login"])
    return plain("POST", path, rng.choice(bodies), kind)


def values(rng: random.Random, voice: str) -> Request:
    """JSON of any shape, or none at all, to every call of the page."""
    body = json.dumps(anything(rng)).encode()
    body = rng.choice([body, body, body, damaged(rng, body), b"[" * 100_000, b'{"a":NaN}', b"\xff\xfe"])
    calls = ["/api/voices", "/api/speak", *(f"/api/voices/{voice}/{call}" for call in VOICE_CALLS)]
    return plain(rng.choice(["POST", "PUT", "GET", "DELETE"]), rng.choice(calls), body, "application/json")


def path(rng: random.Random, voice: str) -> Request:
    """Paths that lead elsewhere, by every method."""
    paths = [
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/v1//",
        "//",
        f"/v1/models/../../{MARK}",
        "/%00",
        "/%ff",
    ]
    paths += [
        f"/api/voices/..%2f..%2f{MARK}",
        f"/api/voices/{voice}/recordings/..%2f{MARK}",
        "/js/../../pyproject.toml",
    ]
    paths += [f"/api/voices/{'x' * rng.randrange(3000)}", "/?" + "a=b&" * 500, "*", f"http://{MARK}.example/"]
    return plain(rng.choice(["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "BREW"]), rng.choice(paths))


def head(rng: random.Random, voice: str) -> Request:
    """Headers that lie, and what is hardly HTTP."""
    lies = [{"host": "a.example"}, {"origin": "null"}, {"content_length": "-5"}, {"content_length": "99999999999"}]
    lies += [
        {"cookie": "speechft=\\"},
        {"authorization": "Bearer \xff"},
        {"host": ""},
        {"transfer_encoding": "chunked"},
    ]
    lies += [{"content_encoding": "gzip"}, {"range": "bytes=-1-5"}, {"x": "y" * 70_000}, {"accept": "text/html"}]
    if rng.random() < 0.6:
        lie = rng.choice(lies)
        request = plain(
            rng.choice(["GET", "POST"]), rng.choice(["/", "/api/voices", "/v1/audio/transcriptions"]), **lie
        )
        return request.replace(b"content-length: 0\r\n", b"") if "content_length" in lie else request
    raw = [b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/9.9\r\n\r\n", rng.randbytes(100) + b"\r\n\r\n"]
    raw += [b"POST /api/speak HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n\r\n"]
    return rng.choice(raw)


def archive(rng: random.Random, voice: str) -> Request:
    """An exported voice that is hostile or damaged."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        consent = {"text": "t", "given": "2026", "by": "b"}
        about = json.dumps(rng.choice([{"name": weird(rng), "consent": consent}, anything(rng)]))
        made.writestr("voice.json", rng.choice([about, "[" * 50_000, ""]))
        names = [f"../{MARK}", f"/tmp/{MARK}", "result.json", "adapter/adapter_config.json", "recordings/a.wav"]
        names += ["recordings/a.json", "adapter/adapter_model.safetensors", f"recordings/../{MARK}.wav"]
        for name in rng.sample(names, rng.randrange(3)):
            content = rng.choice([b"", b"\0" * 1_000_000, sound(rng), json.dumps(anything(rng)).encode()])
            made.writestr(name, content)
    data = file.getvalue() if rng.random() < 0.7 else damaged(rng, file.getvalue())
    body, kind = form({}, data, "a.zip")
    return plain("POST", "/api/voices/import", body, kind)


def gone(rng: random.Random, voice: str) -> Request:
    """A client that leaves in the middle."""
    request = rng.choice((recording, fields, values, archive))(rng, voice)
    return request[: rng.randrange(1, len(request) + 1)] + GONE


KINDS = (recording, recording, fields, no_form, values, values, path, head, archive, gone)

if __name__ == "__main__":
    main()
