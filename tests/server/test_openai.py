"""OpenAI's own Python client: what it sends is taken, and what comes back is what it expects."""

from __future__ import annotations

import io
import math
import re
import shutil
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest
import soundfile
from server.conftest import Running

from speechft.audio import SAMPLE_RATE, load_audio
from speechft.normalize import join_texts
from speechft.transcript import Transcript


def test_prompt_and_temperature_are_taken_and_change_nothing(client: openai.OpenAI, clips: list[Path]) -> None:
    plain = client.audio.transcriptions.create(model="tiny.en", file=clips[0])
    other = client.audio.transcriptions.create(model="tiny.en", file=clips[0], prompt="A zebra.", temperature=0.7)
    assert other.text == plain.text


def test_the_page_s_example_runs(
    running: Running, clips: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """As it stands, at this server's address."""
    page = (Path(__file__).parents[2] / "docs" / "server.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", page, re.S)
    assert "http://localhost:8000/v1" in block
    shutil.copy(clips[0], tmp_path / "new.wav")
    monkeypatch.chdir(tmp_path)
    exec(block.replace("http://localhost:8000", running.url), {})
    with running.client() as client, (tmp_path / "new.wav").open("rb") as recording:
        form = {"data": {"model": "tiny.en:anna"}, "files": {"file": recording}}
        heard = client.post("/v1/audio/transcriptions", **form).json()["text"]
    assert capsys.readouterr().out == f"{heard}\n"


def test_answers_have_what_the_client_has_names_for(client: openai.OpenAI, clips: list[Path]) -> None:
    seconds = math.ceil(len(load_audio(clips[0])) / SAMPLE_RATE)
    found = client.audio.transcriptions.create(model="tiny.en", file=clips[0], include=["logprobs"])
    assert found.usage
    assert (found.usage.type, found.usage.seconds) == ("duration", seconds)
    assert found.logprobs
    assert "".join(one.token or "" for one in found.logprobs).strip() == found.text
    assert all((one.logprob or 0.0) <= 0 for one in found.logprobs)
    full = client.audio.transcriptions.create(model="tiny.en", file=clips[0], response_format="verbose_json")
    assert full.language == "english"
    assert full.usage
    assert full.usage.seconds == seconds
    events = client.audio.transcriptions.create(model="tiny.en", file=clips[0], stream=True, include=["logprobs"])
    *deltas, done = list(events)
    assert done.type == "transcript.text.done"
    assert done.text == found.text
    tokens = [one.token for one in found.logprobs]
    assert [one.token for one in done.logprobs or []] == tokens
    assert [one.token for delta in deltas for one in getattr(delta, "logprobs", [])] == tokens


def test_errors_say_what_is_wrong_by_name(client: openai.OpenAI, clips: list[Path]) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        client.audio.transcriptions.create(model="tiny.en:nobody", file=clips[0])
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError) as wrong:
        client.audio.transcriptions.create(model="tiny.en", file=clips[0], language="de")
    assert (wrong.value.code, wrong.value.param, wrong.value.type) == (None, "language", "invalid_request_error")
    with pytest.raises(openai.BadRequestError) as unusable:
        client.audio.transcriptions.create(model="tiny.en", file=("a.wav", b"nothing"))
    assert (unusable.value.code, unusable.value.param) == ("unusable", "file")


def test_no_proxy_holds_a_stream_back(running: Running, clips: list[Path]) -> None:
    reply = httpx.post(
        f"{running.url}/v1/audio/transcriptions",
        data={"stream": "true"},
        files={"file": clips[0].read_bytes()},
        timeout=60,
    )
    assert reply.headers["x-accel-buffering"] == "no"


def test_pieces_are_joined_as_their_language_is_written(
    client: openai.OpenAI, clips: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if the model had heard Japanese, which has no spaces between words."""

    def japanese(model: object, pieces: list[np.ndarray], *_: object, **__: object) -> list[Transcript]:
        return [Transcript("はい", language="ja") for _ in pieces]

    monkeypatch.setattr("speechft.server.engine.decode", japanese)
    pause = np.zeros(4 * SAMPLE_RATE, np.float32)
    file = io.BytesIO()
    sound = [part for clip in clips[:3] * 3 for part in (load_audio(clip), pause)]
    soundfile.write(file, np.concatenate(sound), SAMPLE_RATE, format="WAV")
    events = list(client.audio.transcriptions.create(model="tiny.en", file=("a.wav", file.getvalue()), stream=True))
    assert len(events) > 2
    assert events[-1].type == "transcript.text.done"
    assert events[-1].text == join_texts(["はい"] * (len(events) - 1), "ja")
