"""What is counted and logged: every answer, also refusals and those to bugs, and nothing of what it held."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from speechft.server.api import transcription_app
from speechft.server.metrics import Metrics
from speechft.server.run import guarded


def broken() -> list[str]:
    raise RuntimeError("/home/anna/secret.wav")


@pytest.fixture
def client() -> TestClient:
    """A server whose voices cannot be listed, because of a bug."""
    voices: Any = SimpleNamespace(ids=broken, base_id="tiny.en")
    engine: Any = SimpleNamespace(waiting=0.0)
    metrics = Metrics()
    app = guarded(transcription_app(voices, engine, None, metrics), metrics, "127.0.0.1", None, 1000)  # type: ignore[arg-type]
    return TestClient(app, base_url="http://localhost")


def counted(client: TestClient, name: str) -> dict[tuple[str, ...], float]:
    """Samples of a metric by the values of their labels, in the order of the labels' names."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    samples = [sample for family in families for sample in family.samples if sample.name == name]
    return {tuple(value for _, value in sorted(s.labels.items())): s.value for s in samples}


def test_what_the_guard_refuses_is_counted_and_logged(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        assert client.get("/health", headers={"host": "rebound.example"}).status_code == 421
        assert client.post("/v1/audio/transcriptions", content=b"x" * 2000).status_code == 413
        assert client.request("BREW", "/health", headers={"origin": "null"}).status_code == 403
    found = counted(client, "speechft_requests_total")
    assert found == {("GET", "other", "421"): 1.0, ("POST", "other", "413"): 1.0, ("other", "other", "403"): 1.0}
    lines = [record.getMessage() for record in caplog.records if record.name == "speechft.server"]
    assert [line.rsplit(" ", 2)[0] for line in lines] == ["GET other 421", "POST other 413", "other other 403"]


def test_a_bug_is_an_answer_of_500_in_our_form(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    reply = client.get("/v1/models")
    assert reply.status_code == 500
    assert reply.json()["error"]["message"] == "something went wrong that should not"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert "RuntimeError at line" in caplog.text
    assert "secret" not in caplog.text
    assert counted(client, "speechft_requests_total") == {("GET", "/v1/models", "500"): 1.0}


def test_times_are_kept_by_method_and_pattern_of_the_path(client: TestClient) -> None:
    client.get("/health")
    client.get("/health")
    assert counted(client, "speechft_request_duration_seconds_count") == {("GET", "/health"): 2.0}
