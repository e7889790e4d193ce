"""The app without a browser: what is kept, what is refused, what a person is told."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import stat
import threading
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from fastapi.testclient import TestClient
from server.conftest import make_voice

from speechft.app import job, phrases, training
from speechft.app.api import demo_app
from speechft.app.opening import damaged, opened
from speechft.app.outcome import words_for
from speechft.app.quality import notes
from speechft.app.records import Process, read_json, write_json
from speechft.app.store import FREE, Store, VoiceFolder, now
from speechft.app.transfer import export_voice, import_voice
from speechft.app.vault import seal
from speechft.audio import SAMPLE_RATE, load_audio
from speechft.cache import FOLDER as CACHE
from speechft.errors import SpeechftError
from speechft.files import replace_folder
from speechft.locks import locked
from speechft.manifest import Manifest
from speechft.server.engine import Engine
from speechft.server.guard import Guard
from speechft.server.media import MediaReader
from speechft.server.metrics import Metrics
from speechft.server.voices import Voices

BASE = "bundled:tiny.en"


@pytest.fixture
def anna(store: Store) -> VoiceFolder:
    return store.create("Anna Ä.", "I agree")


@pytest.fixture(scope="module")
def parts() -> Iterator[tuple[Engine, MediaReader, Metrics, list[Any]]]:
    found: list[Any] = [dict]
    engine = Engine(Voices(BASE, lambda: found[0]()))
    media = MediaReader(processes=1, longest=60.0)
    yield engine, media, Metrics(), found
    engine.close()
    media.close()


@pytest.fixture
def client(store: Store, parts: tuple[Engine, MediaReader, Metrics, list[Any]]) -> TestClient:
    engine, media, metrics, found = parts
    found[0] = store.adapters
    app = Guard(demo_app(store, engine.voices, engine, media, metrics), most_bytes=10_000_000)
    return TestClient(app, base_url="http://localhost")


def wav(seconds: float = 2.0, level: float = 0.1) -> bytes:
    file = io.BytesIO()
    sound = level * np.random.default_rng(0).standard_normal(int(seconds * SAMPLE_RATE)).astype(np.float32)
    sound *= np.repeat([1.0, 0.01, 1.0, 0.01], -(-len(sound) // 4))[: len(sound)]  # as loud and quiet as speech
    soundfile.write(file, sound, SAMPLE_RATE, format="WAV")
    return file.getvalue()


def test_a_voice_is_its_owners_alone(store: Store, anna: VoiceFolder) -> None:
    anna.add(wav(), "hello", FREE, 2.0)
    assert anna.id.startswith("anna-a-")
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700
    assert anna.about["consent"]["text"] == "I agree"
    assert anna.about["consent"]["given"]
    with pytest.raises(SpeechftError, match="consent"):
        store.create("Ben", "")
    with pytest.raises(SpeechftError, match="name"):
        store.create(" \n", "I agree")


@pytest.mark.parametrize("identity", ["", ".", "..", "../data", "a/b", "ANNA", "x" * 99, "%2e%2e", "anna\n"])
def test_no_id_leads_out_of_the_folder(store: Store, anna: VoiceFolder, identity: str) -> None:
    with pytest.raises(SpeechftError):
        store.voice(identity)
    with pytest.raises(SpeechftError):
        anna.sound(identity)


@contextlib.contextmanager
def looked_at(voice: VoiceFolder) -> Iterator[None]:
    """Somebody else looks whether the voice is trained."""
    import fcntl

    with (voice.training / training.JOB).open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield


def test_a_recording_counts_when_both_files_are_there(anna: VoiceFolder) -> None:
    take = anna.add(wav(), "one sentence", "p1", 2.0)
    (anna.recordings / "half.wav").write_bytes(wav())  # a crash before its sentence was written
    (anna.recordings / "other.json").write_text("{")
    assert [t.id for t in anna.takes()] == [take.id]
    again = anna.add(wav(), "one sentence", "p1", 2.0)  # the same sentence once more replaces it
    assert [t.id for t in anna.takes()] == [again.id]
    assert [u.text for u in anna.manifest(anna.path / "manifest.jsonl")] == ["one sentence"]
    assert Manifest.load(anna.path / "manifest.jsonl")[0].speaker == anna.id


def test_deleting_leaves_nothing(store: Store, anna: VoiceFolder) -> None:
    anna.add(wav(), "hello", FREE, 2.0)
    anna.manifest(anna.path / "manifest.jsonl")
    (anna.path / ".speechft-cache").mkdir()
    (anna.path / ".speechft-cache" / "features.bin").write_bytes(b"x")
    count = store.delete(anna.id)
    assert count == 5
    assert list(store.voices_folder.iterdir()) == []
    (store.voices_folder / ".deleted-0").mkdir()  # a deletion that a crash cut off
    store.finish_deletions()
    assert list(store.voices_folder.iterdir()) == []


def test_prompts_mix_the_sets_and_know_what_is_done(anna: VoiceFolder) -> None:
    first = phrases.prompts(anna)
    assert [p["set"] for p in first[:3]] == list(phrases.SETS)
    anna.add(wav(), first[0]["text"], first[0]["id"], 2.0)
    phrases.set_skipped(anna, first[1]["text"], True)
    now = phrases.prompts(anna)
    assert now[0]["take"]
    assert now[1]["skipped"]
    phrases.set_skipped(anna, first[1]["text"], False)
    assert not phrases.prompts(anna)[1]["skipped"]
    phrases.save_sets(anna, {"Everyday": ["Only this."], "At home": [], "Care": []})
    assert [p["text"] for p in phrases.prompts(anna)] == ["Only this."]


def test_a_set_as_it_comes_with_the_app_stays_the_apps(anna: VoiceFolder) -> None:
    originals = phrases.defaults()
    phrases.save_sets(anna, {**originals, "Everyday": ["Mine."], "Own": ["One."]})
    assert anna.phrases()["sets"] == {"Everyday": ["Mine."], "Own": ["One."]}
    phrases.save_sets(anna, originals)  # the originals put back, and the own set removed
    assert anna.phrases()["sets"] == {}
    assert phrases.sets_of(anna) == originals


def test_the_sentences_are_many_and_each_is_another() -> None:
    lines = [line for lines in phrases.defaults().values() for line in lines]
    assert len(lines) >= 300
    assert len({phrases.prompt_id(line) for line in lines}) == len(lines)


def test_what_is_agreed_to_is_what_was_shown(store: Store, client: TestClient) -> None:
    shown = client.get("/api/about").json()["consent"]
    ben = {"name": "Ben", "agreed": True}
    for other in ("", shown + " And more."):
        reply = client.post("/api/voices", json={**ben, "consent": other})
        assert reply.status_code == 400
        assert "agreement" in reply.json()["error"]["message"]
    assert store.voices() == []
    made = client.post("/api/voices", json={**ben, "consent": shown}).json()
    assert made["consent"]["text"] == shown
    assert made["left"] == len(phrases.prompts(store.voice(made["id"])))


def test_names_come_in_a_few_sentences_each() -> None:
    made = phrases.sentences_with(["Mira", " "])
    assert 3 <= len(made) <= 5
    assert all("Mira" in text for text in made)


def test_what_is_wrong_with_a_recording_is_said_kindly() -> None:
    def kinds(samples: np.ndarray, text: str = "hello there you") -> list[str]:
        return [note["kind"] for note in notes(samples.astype(np.float32), text)]

    speech = load_audio(io.BytesIO(wav(2.0)))
    noise = 0.1 * np.random.default_rng(1).standard_normal(2 * SAMPLE_RATE)
    assert kinds(speech) == []
    assert kinds(np.zeros(SAMPLE_RATE)) == ["silent"]
    for samples in (0, 1, 100, 1000):
        assert kinds(speech[:samples])[0] == "silent"
    assert kinds(0.01 * speech) == ["quiet"]
    assert kinds(np.clip(30 * speech, -1, 1)) == ["clipped"]
    assert kinds(noise) == ["noisy"]
    assert kinds(np.tile(speech, 16)) == ["long"]
    assert kinds(speech[: SAMPLE_RATE // 4], "a long sentence of many words that cannot be said so fast") == ["short"]


def test_a_full_disk_is_said_and_leaves_nothing_half(
    client: TestClient, store: Store, anna: VoiceFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/home/anna/voices")

    monkeypatch.setattr("speechft.files.os.fsync", full)
    reply = client.post(f"/api/voices/{anna.id}/recordings", files={"file": ("r.wav", wav())}, data={"text": "hello"})
    assert reply.status_code == 507
    assert "no room left on the disk" in reply.json()["error"]["message"]
    assert anna.takes() == []
    assert list(anna.recordings.iterdir()) == []
    reply = client.post("/api/voices", json={"name": "Ben", "agreed": True})
    assert reply.status_code == 507
    assert [path.name for path in store.voices_folder.iterdir()] == [anna.id]


def test_a_full_temporary_folder_is_said(
    client: TestClient, anna: VoiceFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/tmp/x")

    monkeypatch.setattr("starlette.datastructures.UploadFile.write", full)
    for address in (f"/api/voices/{anna.id}/recordings", "/v1/audio/transcriptions"):
        reply = client.post(address, files={"file": ("r.wav", wav())}, data={"text": "hello"})
        assert reply.status_code == 507
        assert "no room left" in reply.json()["error"]["message"]


def test_only_what_no_retry_can_save_is_called_unusable(client: TestClient, anna: VoiceFolder) -> None:
    def code(voice: str, file: bytes) -> Any:
        address = f"/api/voices/{voice}/recordings"
        return client.post(address, files={"file": ("r.wav", file)}, data={"text": "hello"}).json()["error"]["code"]

    assert code(anna.id, b"nothing") == "unusable"
    assert code(anna.id, wav(level=0.0)) == "unusable"
    assert code("on-a-disk-that-is-gone", wav()) is None


def test_a_long_recording_is_heard_by_both_one_after_the_other(store: Store, parts: Any, anna: VoiceFolder) -> None:
    _, media, metrics, _ = parts
    trained(anna)
    voices = Voices(BASE, store.adapters)
    engine = Engine(voices, most_waiting=5.0)
    client = TestClient(demo_app(store, voices, engine, media, metrics))
    reply = client.post("/api/transcribe", files={"file": ("r.wav", wav(4.0))}, data={"voice": anna.id})
    engine.close()
    done = [json.loads(line) for line in reply.text.splitlines()]
    assert [line["which"] for line in done if line.get("done")] == ["personal", "base"], done


def test_nothing_comes_back_when_a_voice_is_deleted_meanwhile(
    client: TestClient, store: Store, anna: VoiceFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, put = threading.Event(), VoiceFolder.put

    def slowly(self: VoiceFolder, *arguments: Any) -> None:
        self.recordings.mkdir()
        began.set()
        time.sleep(0.5)
        put(self, *arguments)

    monkeypatch.setattr(VoiceFolder, "put", slowly)
    with ThreadPoolExecutor(1) as pool:
        address, file = f"/api/voices/{anna.id}/recordings", {"file": ("r.wav", wav())}
        saved = pool.submit(client.post, address, files=file, data={"text": "hello"})
        assert began.wait(60)
        assert client.delete(f"/api/voices/{anna.id}").status_code == 200
        assert saved.result().status_code == 200
    assert list(store.voices_folder.iterdir()) == []


def test_looking_whether_a_voice_is_trained_makes_no_file(anna: VoiceFolder) -> None:
    before = sorted(anna.path.rglob("*"))
    assert not training.is_running(anna)
    assert sorted(anna.path.rglob("*")) == before
    with locked(anna.training, training.JOB):
        assert training.is_running(anna)
    with looked_at(anna):
        assert not training.is_running(anna)  # who looks is not taken for a job


def test_the_page_can_do_all_of_it(client: TestClient, store: Store) -> None:
    made = client.post("/api/voices", json={"name": "Ben", "agreed": True}).json()
    prompt = client.get(f"/api/voices/{made['id']}/prompts").json()[0]
    address = f"/api/voices/{made['id']}/recordings"
    saved = client.post(address, files={"file": ("r.wav", wav())}, data={"text": prompt["text"]}).json()
    assert saved["voice"]["recordings"] == 1
    assert client.get(f"/api/voices/{made['id']}/prompts").json()[0]["take"] == saved["take"]
    assert client.get(f"{address}/{saved['take']}").headers["content-type"] == "audio/wav"
    free = client.post(address, files={"file": ("r.wav", wav())}, data={"text": "my own words", "free": "true"}).json()
    assert [take["text"] for take in client.get(address).json()] == ["my own words", prompt["text"]]
    assert client.delete(f"{address}/{free['take']}").json()["recordings"] == 1
    refused = client.post(f"/api/voices/{made['id']}/training")
    assert refused.status_code == 400
    assert "too few" in refused.json()["error"]["message"]
    lines = client.post("/api/transcribe", files={"file": ("r.wav", wav())}, data={"voice": made["id"]}).text
    assert json.loads(lines.splitlines()[-1]) == {"which": "base", "done": True}
    assert client.post("/api/speak", json={"text": "Hello there."}).content[:4] == b"RIFF"
    assert client.get("/").text.startswith("<!doctype html>")
    gone = client.delete(f"/api/voices/{made['id']}").json()
    assert gone["deleted"] >= 3
    assert client.get(f"/api/voices/{made['id']}").status_code == 400


@pytest.mark.parametrize(
    ("method", "path", "content"),
    [
        ("post", "/api/voices", {"json": {"name": "x"}}),
        ("post", "/api/voices", {"json": {"name": "x", "agreed": False}}),
        ("post", "/api/voices", {"content": b"{", "headers": {"content-type": "application/json"}}),
        ("get", "/api/voices/..%2f..%2fetc", {}),
        ("get", "/api/voices/none/recordings/none", {}),
        ("put", "/api/voices/none/phrases", {"json": {"a": "b"}}),
        ("post", "/api/transcribe", {"files": {"file": ("a.wav", b"nothing")}}),
        ("post", "/api/alternatives", {"files": {"file": ("a.wav", wav(0.5))}, "data": {"start": "1e999"}}),
        ("post", "/api/alternatives", {"files": {"file": ("a.wav", wav(0.5))}, "data": {"end": "nan"}}),
        ("post", "/api/transcribe", {"files": {"file": ("a.wav", wav(0.5))}, "data": {"voice": "../x"}}),
        ("post", "/api/voices/import", {"files": {"file": ("a.zip", b"nothing")}}),
        ("get", "/api/voices/none/report", {}),
    ],
)
def test_what_makes_no_sense_is_refused(client: TestClient, method: str, path: str, content: dict[str, Any]) -> None:
    reply = getattr(client, method)(path, **content)
    assert 400 <= reply.status_code < 500
    if reply.headers["content-type"] == "application/json":
        assert "error" in reply.json() or "detail" in reply.json()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"json": {"name": "x"}}, "'agreed' is missing"),
        ({"json": {"name": 5, "agreed": True}}, "'name' should be a text"),
        ({"json": {"name": "x" * 201, "agreed": True}}, "'name' should have at most 200 characters"),
        ({"json": []}, "the request should be a group of keys with values"),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, "the request is not JSON"),
    ],
)
def test_what_is_wrong_with_a_request_is_said_in_plain_words(
    client: TestClient, content: dict[str, Any], says: str
) -> None:
    reply = client.post("/api/voices", **content)
    assert reply.status_code == 400
    assert reply.json()["error"]["message"] == says


@pytest.mark.parametrize(("host", "here"), [("127.0.0.1", True), ("localhost", True), ("0.0.0.0", False)])
def test_what_people_agree_to_is_true_of_the_computer_they_sit_at(
    store: Store, parts: Any, host: str, here: bool
) -> None:
    engine, media, metrics, _ = parts
    client = TestClient(demo_app(store, engine.voices, engine, media, metrics, host=host))
    text = client.get("/api/about").json()["consent"]
    assert ("stay on this computer" in text) == here
    assert ("computer that runs this app" in text) != here
    made = client.post("/api/voices", json={"name": "Ben", "agreed": True}).json()
    assert made["consent"]["text"] == text


def test_silence_is_not_saved(client: TestClient) -> None:
    made = client.post("/api/voices", json={"name": "Ben", "agreed": True}).json()
    silent = {"file": ("r.wav", wav(level=0.0))}
    reply = client.post(f"/api/voices/{made['id']}/recordings", files=silent, data={"text": "hello"})
    assert reply.status_code == 400
    assert "microphone" in reply.json()["error"]["message"]
    assert client.get(f"/api/voices/{made['id']}").json()["recordings"] == 0


def hostile_imports() -> Iterator[dict[str, bytes]]:
    """What is named as an export is, and holds something else."""
    consent = {"text": "t", "given": "2026-01-01", "by": "b"}
    about = json.dumps({"name": "Eve", "consent": consent}).encode()
    take = json.dumps({"text": "t", "prompt": "p", "seconds": 1.0, "recorded": "r"}).encode()
    for wrong in (b"[]", b'{"name": "Eve", "consent": []}', b"[" * 100_000, b"\xff", b"{}"):
        yield {"voice.json": wrong}
    huge = take.replace(b"1.0", b"1e308")  # two of them are infinitely long
    for wrong in (b"{}", b"[1]", take.replace(b"1.0", b"NaN"), take.replace(b"1.0", b'"x"'), b"[" * 100_000, huge):
        yield {"voice.json": about, "recordings/a.json": wrong, "recordings/a.wav": wav()}
    for wrong in (b"", b"RIFF", b"OggS" + wav(), wav()[:30], wav(0.0)):
        yield {"voice.json": about, "recordings/a.json": take, "recordings/a.wav": wrong}
    many = json.dumps({"sets": {"Mine": ["tea"] * 6000}, "skipped": []}).encode()
    yield {"voice.json": about[:-1] + b" " * 6_000_000 + b"}"}
    for wrong in (b"[]", b"{}", b'{"sets": [], "skipped": []}', b'{"sets": {}, "skipped": 1}', b"[" * 100_000, many):
        yield {"voice.json": about, "phrases.json": wrong}


def test_an_import_that_holds_something_else_leaves_nothing(client: TestClient, store: Store) -> None:
    for members in hostile_imports():
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for name, data in members.items():
                archive.writestr(name, data)
        reply = client.post("/api/voices/import", files={"file": ("a.zip", file.getvalue())})
        assert reply.status_code == 400, members
        assert client.get("/api/voices").json() == []
        assert [path for path in store.folder.rglob("*") if path.is_file()] == []


def test_an_imported_recording_lasts_as_long_as_its_sound(store: Store, anna: VoiceFolder) -> None:
    anna.add(wav(3.0), "hello", FREE, 80_000.0)
    there = import_voice(store, export_voice(anna, recordings=True), BASE)
    assert [take.seconds for take in there.takes()] == [3.0]


def test_a_result_of_impossible_numbers_can_be_shown(anna: VoiceFolder, client: TestClient) -> None:
    rates = {"wer": -1e308, "wer_ci95": [-1e308, 1e308], "n_utterances": 2, "n_words": 9}
    result = {"base": rates, "adapted": rates, "difference": {"wer_ci95": None}, "adapter": None}
    write_json(anna.run / "result.json", result)
    assert client.get("/api/voices").status_code == 200
    (anna.run / "result.json").write_text(json.dumps(result).replace("9}", f"{'9' * 4000}}}"))
    assert client.get("/api/voices").json()[0]["result"] is None


def test_a_damaged_recording_does_not_count(anna: VoiceFolder, client: TestClient) -> None:
    anna.add(wav(), "one sentence", "p1", 2.0)
    for number, said in enumerate(["[]", "{}", '{"seconds": NaN}', "[" * 100_000, '"text"']):
        (anna.recordings / f"bad{number}.json").write_text(said)
        (anna.recordings / f"bad{number}.wav").write_bytes(wav())
    assert client.get(f"/api/voices/{anna.id}").json()["recordings"] == 1


DAMAGED = ["", "{", "[]", "null", "{}", '{"name": 5}', '{"takes": "x"}', "[" * 100_000, '{"name": "\\ud800"}']


@pytest.mark.parametrize("said", DAMAGED)
@pytest.mark.parametrize("name", ["voice.json", "phrases.json", "training/request.json"])
def test_a_damaged_file_of_one_voice_is_named_and_harms_no_other(
    store: Store, anna: VoiceFolder, client: TestClient, name: str, said: str
) -> None:
    ben = store.create("Ben", "I agree")
    path = anna.path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(said)
    assert {voice["id"] for voice in client.get("/api/voices").json()} == {anna.id, ben.id}
    assert client.get(f"/api/voices/{anna.id}/prompts").status_code == 200
    assert training.resume_all(store) == []
    (fault,) = damaged(store)
    assert str(path) in str(fault)
    assert fault.fix
    assert path.read_text() == said


def test_damaged_phrases_are_kept_when_others_are_saved(anna: VoiceFolder) -> None:
    (anna.path / "phrases.json").write_text('{"sets": {"Mine": ["Sam is here"]')
    phrases.set_skipped(anna, "Good morning.", True)
    assert anna.phrases()["skipped"] == ["Good morning."]
    assert [path.read_text() for path in anna.path.glob("phrases-*.damaged")] == ['{"sets": {"Mine": ["Sam is here"]']


@pytest.mark.parametrize("name", ["a:b", "Anna", "anna b", "[red]"])
def test_a_folder_whose_name_is_no_id_is_named_and_not_listed(
    store: Store, anna: VoiceFolder, client: TestClient, name: str
) -> None:
    os.rename(anna.path, anna.path.with_name(name))
    assert client.get("/api/voices").json() == []
    assert store.adapters() == {}
    (fault,) = damaged(store)
    assert fault.where == str(store.voices_folder / name)


def test_no_damaged_file_names_a_process_to_kill(anna: VoiceFolder) -> None:
    anna.training.mkdir()
    for said in ("-1", "0", "null", "[]"):
        (anna.training / "process.json").write_text(f'{{"pid": {said}}}')
        assert training._pid(anna) is None


def test_without_a_token_the_browser_is_sent_to_log_in(store: Store, parts: Any) -> None:
    engine, media, metrics, _ = parts
    token = "a-long-enough-token"
    app = Guard(demo_app(store, engine.voices, engine, media, metrics), hosts=(), token=token, login="/login")
    client = TestClient(app, base_url="http://clinic.local", follow_redirects=False)
    page = {"accept": "text/html"}
    assert client.get("/", headers=page).headers["location"] == "/login"
    assert client.get("/api/voices").status_code == 401
    assert "token" in client.get("/login").text
    client.post("/login", data={"token": "wrong"})
    assert client.get("/api/voices").status_code == 401
    assert client.get("/", headers=page).headers["location"] == "/login#wrong"
    for strange in ("Ж" * 20, "\u00e4" * 20, "a\0b", "\U0001f600", "%41;=,"):
        assert client.post("/login", data={"token": strange}).status_code == 303
        assert client.get("/", headers=page).headers["location"] == "/login#wrong"
    client.post("/login", data={"token": token})
    assert client.get("/api/voices").status_code == 200


def test_any_token_can_be_typed_in(store: Store, parts: Any) -> None:
    engine, media, metrics, _ = parts
    token = "пароль; с=точкой, %41"
    app = Guard(demo_app(store, engine.voices, engine, media, metrics), hosts=(), token=token, login="/login")
    client = TestClient(app, base_url="http://clinic.local", follow_redirects=False)
    client.post("/login", data={"token": token})
    assert client.get("/api/voices").status_code == 200


def trained(voice: VoiceFolder) -> VoiceFolder:
    """Give a voice an adapter that does nothing, as if it had been trained."""
    make_voice(voice.run / "adapter", seed=0, strength=0.0)
    write_json(voice.run / "result.json", {"adapter": "adapter"})
    return voice


def test_a_voice_moves_to_another_computer(store: Store, anna: VoiceFolder) -> None:
    anna.add(wav(), "hello", FREE, 2.0)
    trained(anna)
    phrases.save_sets(anna, {"Mine": ["Sam is here"]}, ["hello"])
    there = import_voice(store, export_voice(anna, recordings=True), BASE)
    assert there.id != anna.id
    assert there.about["consent"] == anna.about["consent"]
    assert [t.text for t in there.takes()] == ["hello"]
    assert there.phrases() == {"sets": {"Mine": ["Sam is here"]}, "skipped": ["hello"]}
    assert there.adapter
    assert (
        there.adapter.joinpath("adapter_model.safetensors").read_bytes()
        == (anna.run / "adapter" / "adapter_model.safetensors").read_bytes()
    )
    alone = import_voice(store, export_voice(anna, recordings=False), BASE)
    assert alone.takes() == []
    assert alone.phrases()["sets"] == {}  # they name people
    with pytest.raises(SpeechftError, match="trained on"):
        import_voice(store, export_voice(anna, recordings=False), "bundled:base")


@pytest.mark.parametrize(
    "name", ["../evil.txt", "/etc/evil", "adapter/../../x", "adapter/adapter_model.bin", "recordings/../x.wav", "x"]
)
def test_a_hostile_archive_is_refused(store: Store, anna: VoiceFolder, name: str) -> None:
    file = io.BytesIO(export_voice(trained(anna), recordings=False))
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(name, b"x")
    before = sorted(store.folder.rglob("*"))
    with pytest.raises(SpeechftError, match="no exported voice has"):
        import_voice(store, file.getvalue(), BASE)
    assert sorted(store.folder.rglob("*")) == before


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_an_archive_with_a_changed_byte_is_refused(client: TestClient, store: Store, method: int) -> None:
    about = json.dumps({"name": "Eve", "consent": {"text": "t" * 999, "given": "2026-01-01", "by": "b"}})
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("voice.json", about)
    whole, start = file.getvalue(), 30 + len("voice.json")  # after the local header
    for place in range(start, start + 12):
        changed = bytearray(whole)
        changed[place] ^= 0xFF
        reply = client.post("/api/voices/import", files={"file": ("a.zip", bytes(changed))})
        assert reply.status_code == 400, place
        assert "exported voice" in reply.json()["error"]["message"]
    assert store.voices() == []


def test_a_full_disk_is_not_called_a_damaged_file(
    client: TestClient, store: Store, anna: VoiceFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "/home/anna/voices")

    anna.add(wav(), "hello", FREE, 2.0)
    whole = export_voice(anna, recordings=True)
    monkeypatch.setattr("speechft.files.os.fsync", full)
    reply = client.post("/api/voices/import", files={"file": ("a.zip", whole)})
    assert reply.status_code == 507
    assert "no room left on the disk" in reply.json()["error"]["message"]
    assert [voice.id for voice in store.voices()] == [anna.id]


def test_a_truncated_archive_is_refused(store: Store, anna: VoiceFolder) -> None:
    whole = export_voice(trained(anna), recordings=False)
    for size in range(0, len(whole), len(whole) // 7 + 1):
        with pytest.raises(SpeechftError):
            import_voice(store, whole[:size], BASE)
    assert len(store.voices()) == 1


@pytest.mark.parametrize(
    ("bounds", "p", "adapter", "verdict"),
    [
        ([-0.4, -0.1], 0.01, "adapter", "better"),
        ([-0.4, -0.1], 0.0625, "adapter", "unsure"),  # as large a difference comes by chance too
        ([-0.4, 0.1], 0.2, "adapter", "unsure"),
        ([None, None], 0.01, "adapter", "better"),  # each sentence gained as much, so no interval can be drawn
        ([None, None], 1.0, None, "not yet"),
    ],
)
def test_results_in_words(bounds: list[float | None], p: float, adapter: str | None, verdict: str) -> None:
    rates = {"n_utterances": 10, "n_words": 60}
    result = {
        "base": {"wer": 0.7, "wer_ci95": [0.5, 0.9], **rates},
        "adapted": {"wer": 0.3, "wer_ci95": [0.1, 1.2], **rates},
        "difference": {"wer_ci95": bounds, "p_speakers": p},
        "adapter": adapter,
    }
    said = words_for(result, [])
    assert (said["before"], said["after"], said["low"], said["high"]) == (3.0, 7.0, 0.0, 9.0)
    assert said["verdict"] == verdict
    assert (said["more"] > 0) == (verdict != "better")


@pytest.mark.parametrize(("sentences", "verdict"), [(2, "unsure"), (5, "unsure"), (6, "better")])
def test_few_sentences_have_no_range_and_prove_nothing(sentences: int, verdict: str) -> None:
    """Of two sentences 13 in 100 trainings that changed nothing were called better, and half of the ranges wrong."""
    rates = {"n_utterances": sentences, "n_words": 5 * sentences}
    result = {
        "base": {"wer": 0.7, "wer_ci95": [0.6, 0.8], **rates},
        "adapted": {"wer": 0.35, "wer_ci95": [0.33, 0.38], **rates},
        "difference": {"wer_ci95": [-0.5, -0.2]},  # of an older run, which said no p
        "adapter": "adapter",
    }
    said = words_for(result, [])
    assert said["verdict"] == verdict
    assert (said["low"], said["high"]) == ((None, None) if sentences < 6 else (6.2, 6.7))


def test_what_got_worse_is_not_called_better() -> None:
    rates = {"n_utterances": 10, "n_words": 60, "wer_ci95": None}
    result = {
        "base": {"wer": 0.3, **rates}, "adapted": {"wer": 0.36, **rates}, "difference": {"wer_ci95": [-0.1, 0.3]},
        "adapter": "adapter",
    }  # fmt: skip
    assert words_for(result, [])["verdict"] == "not yet"


def test_an_export_holds_no_paths_of_this_computer(store: Store, anna: VoiceFolder) -> None:
    rates = {"wer": 0.5, "wer_ci95": None, "n_utterances": 2, "n_words": 9}
    result = {
        "base": rates, "adapted": rates, "difference": {"wer_ci95": [0.0, 0.0]}, "adapter": "adapter",
        "recipe": {"manifest": str(anna.path / "training.jsonl")},
    }  # fmt: skip
    write_json(trained(anna).run / "result.json", result)
    with zipfile.ZipFile(io.BytesIO(export_voice(anna, recordings=False))) as archive:
        held = b"".join(archive.read(name) for name in archive.namelist())
    assert str(store.folder).encode() not in held
    assert json.loads(zipfile.ZipFile(io.BytesIO(export_voice(anna, recordings=False))).read("result.json"))
    (anna.run / "result.json").unlink()  # as a voice that came from elsewhere may be
    assert import_voice(store, export_voice(anna, recordings=False), BASE).adapter


def test_a_voice_that_cannot_be_used_leaves_the_standard_one(client: TestClient, store: Store) -> None:
    made = client.post("/api/voices", json={"name": "Ben", "agreed": True}).json()
    voice = trained(store.voice(made["id"]))
    assert voice.adapter
    weights = voice.adapter / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    reply = client.post("/api/transcribe", files={"file": ("r.wav", wav())}, data={"voice": voice.id})
    found = [json.loads(line) for line in reply.text.splitlines()]
    assert [line["which"] for line in found if "error" in line] == ["personal"]
    assert {"which": "base", "done": True} in found


def test_an_estimate_grows_with_what_is_recorded(anna: VoiceFolder) -> None:
    few = [anna.add(wav(), f"sentence {n}", FREE, 3.0) for n in range(12)]
    assert 20 < training.estimate(few) < 300
    assert training.estimate(few * 30) > 2 * training.estimate(few)
    assert training.estimate(few, pace=2.0) == 2 * training.estimate(few)


def test_an_estimate_counts_the_steps_that_a_run_makes(anna: VoiceFolder) -> None:
    """Of 100 steps a pass and at least 150 a run makes 200: it passes over the recordings twice."""
    take = anna.add(wav(), "a sentence", FREE, 3.0)

    def steps(recordings: int) -> float:
        rest = training.START_SECONDS + 10 * training.CHECK_SECONDS * min(400, round(0.3 * recordings))
        return (training.estimate([take] * recordings) - rest) / (training.STEP_SECONDS * 8 * 3.0)

    assert steps(1143) == pytest.approx(200)  # 800 of them are learnt from
    assert steps(1720) == pytest.approx(151)  # 1204: one pass is enough
    assert steps(10) == pytest.approx(150)


def test_a_failed_training_leaves_nothing_to_the_next(
    store: Store, anna: VoiceFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "_spawn", lambda *_: None)
    for n in range(10):
        anna.add(wav(), f"sentence {n}", FREE, 2.0)
    training.start(store, anna, BASE)
    checkpoint = anna.training / "checkpoints" / "latest" / "state.json"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_text("{}")
    assert training.resume_all(store) == [anna.id]
    training.start(store, anna, BASE)  # it was interrupted: what it learnt is kept
    assert checkpoint.is_file()
    write_json(anna.training / "progress.json", {"phase": "failed", "share": 0.0, "reason": "The disk was full."})
    assert training.resume_all(store) == []
    training.start(store, anna, BASE)
    assert not checkpoint.exists()
    assert (training.status(anna) or {})["phase"] == "starting"


@pytest.mark.parametrize("late", [False, True])
def test_a_training_that_is_killed_at_its_very_end_is_gone_on_with_or_done(
    store: Store, anna: VoiceFolder, monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    def replaced_and_killed(new: Path, out: Path) -> None:
        if late:
            replace_folder(new, out)
        raise SystemExit

    def run(recipe: Any, **_: Any) -> None:
        (recipe.output_dir / "result.json").write_text("new")

    monkeypatch.setattr(training, "_spawn", lambda *_: None)
    monkeypatch.setattr("speechft.pipeline.train", run)
    for n in range(10):
        anna.add(wav(), f"sentence {n}", FREE, 2.0)
    anna.run.mkdir()
    (anna.run / "result.json").write_text("old")
    training.start(store, anna, BASE)
    with monkeypatch.context() as patched:
        patched.setattr(job, "replace_folder", replaced_and_killed)
        with pytest.raises(SystemExit):
            job.train(store, anna)
    assert training.resume_all(store) == ([] if late else [anna.id])
    assert (anna.run / "result.json").read_text() == ("new" if late else "old")
    training.start(store, anna, BASE)
    job.train(store, anna)
    assert training.resume_all(store) == []
    assert (anna.run / "result.json").read_text() == "new"
    assert not (anna.run / "request.json").exists()


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/home/anna"), "no room left on the disk"),
        (RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"), "no room left"),
        (MemoryError(), "too little memory"),
        (RuntimeError("/home/anna/voices: mat1 and mat2"), "should not (RuntimeError)"),
    ],
)
def test_why_a_training_failed_is_said_in_plain_words(
    store: Store, anna: VoiceFolder, monkeypatch: pytest.MonkeyPatch, error: Exception, says: str
) -> None:
    def fails(*_: Any) -> None:
        raise error

    monkeypatch.setattr(job, "train", fails)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO()))
    write_json(anna.training / "request.json", {"model": BASE, "takes": 10, "expected_s": 60.0, "asked": now()})
    with pytest.raises(type(error)):
        job.main(str(store.folder), anna.id)
    state = training.status(anna) or {}
    assert says in state["reason"]
    assert "/home" not in state["reason"]


def test_a_job_that_was_killed_is_gone_on_with(store: Store, voice: Manifest) -> None:
    ben = store.create("Ben", "I agree")
    for u in voice:
        ben.add(u.audio.read_bytes(), u.text, FREE, u.duration_s or 0.0)
    training.start(store, ben, BASE)
    with pytest.raises(SpeechftError, match="already"):
        training.start(store, ben, BASE)
    assert training.is_running(ben)
    os.kill(read_json(ben.training / "process.json", Process)["pid"], 9)
    deadline = time.monotonic() + 10
    while training.is_running(ben) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert training.resume_all(store) == [ben.id]
    assert training.is_running(ben)
    assert training.resume_all(store) == []
    training.stop(ben)
    assert not training.is_running(ben)
    assert training.status(ben) is None
    assert len(ben.takes()) == len(voice)


def ready(store: Store, voice: VoiceFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training of ten recordings that was asked for; the test itself does what its process would."""
    monkeypatch.setattr(training, "_spawn", lambda *_: None)
    for n in range(10):
        voice.add(wav(), f"sentence {n}", f"p{n}", 2.0)
    training.start(store, voice, BASE)


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_training_that_does_not_help_leaves_the_adapter_that_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encrypted: bool
) -> None:
    def run(recipe: Any, **_: Any) -> None:
        (recipe.output_dir / "result.json").parent.mkdir(exist_ok=True)
        (recipe.output_dir / "result.json").write_text('{"adapter": null}')

    monkeypatch.setattr("speechft.pipeline.train", run)
    with opened(tmp_path, lambda new: "words in a row", encrypted) as store:
        anna = store.create("Anna", "I agree")
        trained(anna)
        if encrypted:
            seal(store.vault, anna.run)
        ready(store, anna, monkeypatch)
        assert anna.adapter
        weights = store.vault.read(anna.adapter / "adapter_model.safetensors")
        job.train(store, anna)
        assert store.vault.read(anna.run / "result.json") == b'{"adapter": null}'
        assert anna.adapter
        assert store.vault.read(anna.adapter / "adapter_model.safetensors") == weights


def test_what_is_recorded_anew_or_deleted_changes_no_training_at_work(
    store: Store, anna: VoiceFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(recipe: Any, **_: Any) -> None:
        rows = Manifest.load(recipe.manifest)
        anna.add(wav(3.0), "sentence 0", "p0", 3.0)
        anna.remove(next(take.id for take in anna.takes() if take.prompt == "p1"))
        assert [u.text for u in rows] == [f"sentence {n}" for n in range(10)]
        assert all(u.audio.read_bytes() == wav() for u in rows)
        for name in ("report.html", "report.md", "result.json"):
            (recipe.output_dir / name).write_text("x")

    monkeypatch.setattr("speechft.pipeline.train", run)
    ready(store, anna, monkeypatch)
    job.train(store, anna)
    assert len(list(anna.path.rglob("*.wav"))) == 9  # nothing is left of what was deleted
    assert (anna.run / "result.json").is_file()
    assert not (anna.run / "report.html").exists()  # it holds recordings


def test_an_interrupted_training_goes_on_without_what_was_deleted(
    client: TestClient, store: Store, anna: VoiceFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(recipe: Any, **_: Any) -> None:
        (recipe.output_dir / "checkpoints").mkdir()
        raise SystemExit

    def run(recipe: Any, **_: Any) -> None:
        assert len(Manifest.load(recipe.manifest)) == 9
        assert not (recipe.output_dir / "checkpoints").exists()

    ready(store, anna, monkeypatch)
    monkeypatch.setattr("speechft.pipeline.train", killed)
    with pytest.raises(SystemExit):
        job.train(store, anna)
    gone = anna.takes()[0].id
    client.delete(f"/api/voices/{anna.id}/recordings/{gone}")
    assert list(anna.path.rglob(f"{gone}.*")) == []
    monkeypatch.setattr("speechft.pipeline.train", run)
    job.train(store, anna)
    assert training.status(anna) is None


def test_a_deleted_recording_is_in_no_report(client: TestClient, anna: VoiceFolder) -> None:
    take = anna.add(wav(), "hello", FREE, 2.0)
    for path in (anna.run / "report.html", anna.run / "report.md", anna.path / CACHE / "states.bin"):
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(wav())
    said = client.delete(f"/api/voices/{anna.id}/recordings/{take.id}").json()
    assert not said["report"]
    assert [path.name for path in anna.path.rglob("*") if path.is_file()] == ["voice.json"]


def test_a_full_disk_keeps_no_app_from_starting(
    store: Store, anna: VoiceFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, value: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        ready(store, anna, patched)
    monkeypatch.setattr(training, "write_json", full)
    assert training.resume_all(store) == []
    assert not training.is_running(anna)  # nobody could stop a job whose number is not known


def test_sets_of_one_name_keep_all_their_sentences(anna: VoiceFolder) -> None:
    phrases.save_sets(anna, {"Mine": ["one"], " Mine ": ["two"]})
    assert anna.phrases()["sets"] == {"Mine": ["one", "two"]}
