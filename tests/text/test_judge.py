"""Judges: both orders, their biases measured, an endpoint by the protocol, and preferences made from them."""

from __future__ import annotations

import doctest
import http.server
import json
import re
import shutil
import socketserver
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from speechft.cli import app
from speechft.errors import SpeechftError
from speechft.text import feedback, judge
from speechft.text.audit import audit, audit_scores
from speechft.text.config import FeedbackRecipe, PolicyRecipe, RewardRecipe
from speechft.text.examples import Example
from speechft.text.judge import (
    TRIES,
    EndpointJudge,
    LocalJudge,
    RewardJudge,
    Verdict,
    compare,
    identity,
    judge_from,
    ranking,
    said_option,
    score,
)
from speechft.text.model import load_text_model
from speechft.text.pipeline import train

WORDS = ["cat", "dog", "bird", "fish", "story", "tree", "house", "water", "fire"]


def prefers_longer(messages: Sequence[dict], options: Sequence[str]) -> list[float]:
    text = messages[-1]["content"]
    first, second = text.split("Answer A: ")[1].split("\n\nReply")[0].split("\n\nAnswer B: ")
    return [0.9, 0.1] if len(first) > len(second) else [0.1, 0.9] if len(first) < len(second) else [0.5, 0.5]


def prefers_the_first_place(messages: Sequence[dict], options: Sequence[str]) -> list[float]:
    return [0.8, 0.2]


def test_examples_in_docstrings() -> None:
    assert doctest.testmod(judge).failed == 0


def test_a_verdict_needs_both_orders() -> None:
    assert compare(prefers_longer, "?", "long answer", "short").winner == 1
    assert compare(prefers_longer, "?", "short", "long answer").winner == 2
    verdict = compare(prefers_the_first_place, "?", "one", "two")
    assert verdict.winner == 0
    assert verdict.favour == pytest.approx(0.5)


def test_biases_are_found() -> None:
    texts = [("a" * n, "b" * m) for n in range(1, 9) for m in range(1, 9)]
    lengths = [(len(a), len(b)) for a, b in texts]
    longer = audit([compare(prefers_longer, "?", a, b) for a, b in texts], lengths)
    assert longer["longer_wins"]["value"] == 1
    assert longer["place"]["value"] == pytest.approx(0)
    placed = audit([compare(prefers_the_first_place, "?", a, b) for a, b in texts], lengths)
    assert placed["place"]["value"] == pytest.approx(0.3)
    assert placed["ties"]["value"] == 1
    human = [1 if a > b else 2 if a < b else 0 for a, b in lengths]
    agreed = audit([compare(prefers_longer, "?", a, b) for a, b in texts], lengths, human)
    assert agreed["kappa"]["value"] == 1
    assert agreed["people_longer"]["value"] == 1
    by_chance = audit([compare(prefers_longer, "?", a, b) for a, b in texts], lengths, [1, 2] * 32)
    low, high = by_chance["kappa"]["ci95"]
    assert low < 0 < high
    assert agreed["accuracy"]["value"] == 1


def test_who_always_says_the_same_agrees_by_chance_alone() -> None:
    """Draws in which people say the same too have no kappa, and do not widen its interval."""
    always = [Verdict(1, 0.9, 0.9)] * 6
    lengths = [(1, 2)] * 6
    assert audit(always, lengths, [1] * 5 + [2])["kappa"] == {"value": 0.0, "ci95": [0.0, 0.0], "n": 6}
    assert audit(always, lengths, [1] * 6)["kappa"] == {"value": None, "ci95": [None, None], "n": 6}


def test_pairs_of_one_prompt_are_drawn_together() -> None:
    """Four verdicts on the answers to one prompt are not six observations."""
    verdicts = [Verdict.of(0.9, 0.8), Verdict.of(0.2, 0.4)] * 12
    lengths = [(2, 1), (1, 3)] * 12
    alone = audit(verdicts, lengths)["place"]["ci95"]
    together = audit(verdicts, lengths, blocks=[str(i // 4) for i in range(24)])["place"]["ci95"]
    assert together != alone
    assert audit([Verdict.of(0.5, 0.5)] * 2, [(1, 2)] * 2, blocks=["a", "b"])["longer_wins"]["n"] == 0


def test_scores_that_follow_length_are_found() -> None:
    lengths = [3, 9, 1, 7, 5, 2, 8, 4]
    assert audit_scores([n / 10 for n in lengths], lengths)["length"]["value"] == pytest.approx(1)
    assert audit_scores([-(n**3.0) for n in lengths], lengths)["length"]["value"] == pytest.approx(-1)
    assert audit_scores([5.0] * 8, lengths)["length"]["value"] is None
    pairs = audit_scores([4.0, 2.0, 3.0], [1, 2, 3], rejected=[(2.0, 1), (2.0, 2), (9.0, 3)])
    assert pairs["accuracy"]["value"] == 0.5  # a tie counts half
    assert pairs["score"]["n"] == 3
    assert pairs["length"]["n"] == 6


def test_a_reward_model_gives_no_score(tiny_llama: Path) -> None:
    judge = RewardJudge(load_text_model(tiny_llama, scalar=True))
    with pytest.raises(SpeechftError, match="no score"):
        score(judge, "what is red", "a colour")


TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "what is red"},
    {"role": "assistant", "content": "a colour"},
    {"role": "user", "content": "and blue"},
]


def test_a_judge_is_told_who_said_what() -> None:
    shown: list[str] = []

    def listens(messages: Sequence[dict], options: Sequence[str]) -> list[float]:
        shown.append(messages[-1]["content"])
        return [1 / len(options)] * len(options)

    ranking(listens, TALK, ["too", "no"])
    score(listens, TALK, "too")
    for text in shown:
        assert "System: Be brief.\n\nUser: what is red\n\nAssistant: a colour\n\nUser: and blue\n\nAnswer" in text
    shown.clear()
    ranking(listens, TALK[1:2], ["a colour", "no"])
    assert "Question: what is red\n\nAnswer A" in shown[0]


@settings(deadline=None)
@given(st.lists(st.sampled_from(["aa", "b", "cccc", "ddd"]), min_size=2, unique=True))
def test_a_ranking_orders_as_the_judge_does(answers: list[str]) -> None:
    points = ranking(prefers_longer, [{"role": "user", "content": "?"}], answers)
    assert sorted(answers, key=len) == [answer for _, answer in sorted(zip(points, answers, strict=True))]
    assert sum(points) == pytest.approx(len(answers) / 2)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("A", "A"),
        ("B.", "B"),
        ("The answer B is better than A", "B"),
        ("Answer: B", "B"),
        ("neither", None),
        ("A better answer is B", "B"),
        ("A is a better answer than B", "A"),
        ("The better response is **A**.", "A"),
    ],
)
def test_what_was_said(said: str, expected: str | None) -> None:
    assert said_option(said, ["A", "B"]) == ([0.5, 0.5] if expected is None else [expected == "A", expected == "B"])
    assert said_option("10", [str(n) for n in range(1, 11)])[-1] == 1


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("b", "B"),
        ("(a).", "A"),
        ("Answer: b", "B"),
        ("Answer A is worse than B, so B", "B"),
        ("A is worse than B.", "B"),
        ("Both A and B are right, but B is better.", "B"),
        ("I first thought that the answer is A. The better answer is B.", "B"),
        ("**B**\n\nA is a good answer too.", "B"),
        ("B, not A", "B"),
        ("I would choose Answer A over B.", "A"),
        ("A for its clarity", "A"),
        ("<think>A looks right. The answer is A.</think>\n\nB", "B"),
        ("<think>The answer is A, or perhaps", None),
        ("A or B", None),
        ("A, B", None),
        ("A is better in tone. B is better in facts.", None),
        ("A tie.", None),
        ("Answer: a tie", None),
        ("It is not A.", None),
        ("A clear win for B", "B"),
        ("", None),
    ],
)
def test_what_was_said_at_greater_length(said: str, expected: str | None) -> None:
    assert said_option(said, ["A", "B"]) == ([0.5, 0.5] if expected is None else [expected == "A", expected == "B"])


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("On a scale of 1 to 10, I'd give it a 7.", 7),
        ("7/10", 7),
        ("10/10!", 10),
        ("8 out of 10", 8),
        ("<think>maybe 3</think>8", 8),
        ("There are 3 errors. Score: 6", 6),
        ("Style: 8/10. Content: 6/10. Overall: 7/10.", 7),
        ("1. It is clear.\n2. It is right.\n\nI rate it 9.", 9),
        ("I'd say 7 or 8.", None),
        ("3 errors and 2 typos", None),
        ("8/10 for style, 6/10 for content", None),
        ("7.5", None),
        ("11", None),
    ],
)
def test_what_score_was_said(said: str, expected: int | None) -> None:
    weights = said_option(said, [str(n) for n in range(1, 11)])
    assert weights == ([0.1] * 10 if expected is None else [float(n == expected) for n in range(1, 11)])


def test_a_local_judge_sums_to_one_and_scores_within_range(tiny_llama: Path) -> None:
    judge = LocalJudge(load_text_model(tiny_llama))
    weights = judge([{"role": "user", "content": "A or B?"}], ["A", "B"])
    assert sum(weights) == pytest.approx(1)
    assert 1 <= score(judge, "what is red", "a colour") <= 10


def test_what_begins_another_option_is_not_counted_for_both(tiny_llama: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model is all for 10, written in two tokens: 1 must not get a share of that."""
    text = load_text_model(tiny_llama)
    one, nought = text.tokenizer("10", add_special_tokens=False)["input_ids"]

    def all_for_ten(input_ids: torch.Tensor) -> SimpleNamespace:
        logits = torch.zeros(1, input_ids.shape[1], len(text.tokenizer))
        logits[0, torch.arange(input_ids.shape[1]), torch.where(input_ids[0] == one, nought, one)] = 30.0
        return SimpleNamespace(logits=logits)

    monkeypatch.setattr(text.model, "forward", all_for_ten)
    judge = LocalJudge(text)
    weights = judge([{"role": "user", "content": "A or B?"}], [str(n) for n in range(1, 11)])
    assert weights[-1] == pytest.approx(1, abs=1e-6)
    assert score(judge, "what is red", "a colour") == pytest.approx(10, abs=1e-4)


@pytest.fixture
def asked() -> list[dict[str, Any]]:
    """The requests that a server got."""
    return []


@pytest.fixture
def server(asked: list[dict[str, Any]]) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            asked.append(body)
            weights = prefers_longer(body["messages"], ["A", "B"])
            said: str | None = "A" if weights[0] > weights[1] else "B"
            said = {"cut": "Both are right, but Answer A lacks", "mute": None}.get(body["model"], said)
            end = "length" if body["model"] == "cut" else "stop"
            reply = {"choices": [{"message": {"content": said}, "finish_reason": end}]}
            known = self.path == "/v1/chat/completions" and body["model"] in ("m", "thinker", "cut", "mute", "busy")
            refused = body["model"] == "thinker" and "max_tokens" in body
            busy = {"busy": 429, "down": 503}.get(body["model"]) if len(asked) % 3 or body["model"] == "down" else None
            self.send_response(400 if refused else busy or (200 if known else 404))
            if len(asked) % 2:
                self.send_header("Retry-After", "0")
            self.end_headers()
            self.wfile.write(json.dumps(reply).encode())

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}/v1"
        running.shutdown()


def test_an_endpoint_judges_by_the_protocol(server: str) -> None:
    judge = judge_from(f"url:{server} m")
    assert isinstance(judge, EndpointJudge)
    assert compare(judge, "?", "a long answer", "short") == Verdict(1, 1.0, 1.0)
    assert compare(judge_from(f"url:{server} thinker"), "?", "a long answer", "short") == Verdict(1, 1.0, 1.0)
    with pytest.raises(SpeechftError, match="404"):
        compare(judge_from(f"url:{server} other"), "?", "a", "b")


@pytest.mark.parametrize("name", ["cut", "mute"])
def test_a_reply_without_its_end_favours_neither(server: str, name: str) -> None:
    judge = judge_from(f"url:{server} {name}")
    assert compare(judge, "?", "a long answer", "short") == Verdict(0, 0.5, 0.5)


def test_a_busy_server_is_asked_again(
    server: str, asked: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("speechft.text.judge.time.sleep", pauses.append)
    assert compare(judge_from(f"url:{server} busy"), "?", "a long answer", "short").winner == 1
    assert len(asked) == 6
    assert pauses == [0, 4, 2, 0]  # what the server says; else longer each time
    asked.clear()
    with pytest.raises(SpeechftError, match="503"):
        compare(judge_from(f"url:{server} down"), "?", "a", "b")
    assert len(asked) == TRIES


def test_the_page_s_example_runs(server: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As it stands, at this judge's address."""
    page = (Path(__file__).parents[2] / "docs" / "text" / "judge.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", page, re.S)
    code = block.replace("http://localhost:8080/v1 my-model", f"{server} m")
    assert code != block
    exec(code, {"pairs": [("?", "a long answer", "short", 1), ("?", "no", "a longer one", 2)] * 3})
    assert "accuracy" in capsys.readouterr().out


@pytest.mark.parametrize(
    "reply",
    [
        b'{"choices": null}', b'{"choices": {}}', b'{"choices": []}', b"[]", b"3", b"no JSON", b"\xff",
        b'{"choices": ["text"]}', b"[" * 100_000,
    ],
)  # fmt: skip
@pytest.mark.parametrize("head", [b"HTTP/1.0 200 OK\r\n\r\n", b""], ids=["http", "other"])
def test_what_does_not_answer_as_a_chat_server(head: bytes, reply: bytes) -> None:
    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline().strip():
                pass
            self.wfile.write(head + reply + b"\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        judge = judge_from(f"url:http://127.0.0.1:{running.server_address[1]}/v1 m")
        with pytest.raises(SpeechftError, match="does not answer like a chat server"):
            compare(judge, "?", "a", "b")
        running.shutdown()


def test_a_judge_is_measured_from_the_command_line(server: str, tmp_path: Path) -> None:
    rows = [{"prompt": "?", "chosen": "yes " * (1 + i % 3), "rejected": "no " * (2 + i % 2)} for i in range(12)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["judge", str(tmp_path / "train.jsonl"), "--judge", f"url:{server} m", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False)
    found = json.loads(done.stdout)
    assert json.loads((tmp_path / "out" / "result.json").read_text()) == found
    assert (found["split"], found["measures"]["longer_wins"]["value"]) == ("train", 1)
    longer = [len(row["chosen"].strip()) > len(row["rejected"].strip()) for row in rows]
    assert found["measures"]["accuracy"]["value"] == pytest.approx(sum(longer) / 12)
    assert "longer wins" in CliRunner().invoke(app, [*words, "--limit", "4"]).stdout
    with pytest.raises(SpeechftError, match="It has train"):
        CliRunner().invoke(app, [*words, "--split", "test"], catch_exceptions=False)


def test_a_judge_of_single_answers_is_measured(tiny_llama: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"say {w}", "completion": w * (i + 1), "split": "test"} for i, w in enumerate(WORDS)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["judge", str(tmp_path / "rows.jsonl"), "--judge", f"model:{tiny_llama}", "--scores", "--json"]
    measures = json.loads(CliRunner().invoke(app, words, catch_exceptions=False).stdout)["measures"]
    assert measures.keys() == {"score", "length"}
    assert 1 <= measures["score"]["value"] <= 10
    assert -1 <= measures["length"]["value"] <= 1


def test_a_judge_trained_again_in_the_same_folder_is_another(tiny_llama: Path, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    rows = [
        {"prompt": f"say {w}", "chosen": f"{w} {w}", "rejected": w, "split": s} for w in WORDS for s in ("train", "dev")
    ]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = shutil.copytree(tiny_llama, tmp_path / "model")
    recipe = RewardRecipe(
        model=str(model), data=str(pairs), output_dir=tmp_path / "reward", max_steps=1, max_length=64, evaluations=1,
        test=False, learning_rate=1e-3,
    )  # fmt: skip
    name = f"reward:{tmp_path / 'reward' / 'adapter'}"
    train(recipe)
    once = identity(name)
    assert once == identity(name) != identity(name, "Which is shorter?")
    shutil.rmtree(tmp_path / "reward")
    train(recipe.model_copy(update={"seed": 1}))
    assert identity(name) != once
    local = identity(f"model:{model}")
    weights = load_file(model / "model.safetensors")
    save_file({key: value + 1 for key, value in weights.items()}, model / "model.safetensors", {"format": "pt"})
    assert identity(f"model:{model}") != local


@pytest.mark.parametrize("name", ["", "model:", "url:ftp://host m", "url:http://host", "somebody"])
def test_what_is_no_judge(name: str) -> None:
    with pytest.raises(SpeechftError, match="not a judge"):
        judge_from(name)


def test_each_part_of_the_prompts_is_sampled_with_other_random_numbers(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds: list[int] = []
    monkeypatch.setattr(feedback, "answers", lambda text, asked, seed, **_: seeds.append(seed) or ["cat"] * len(asked))
    monkeypatch.setattr(feedback, "identity", lambda *named: [])
    recipe = FeedbackRecipe(model=str(tiny_llama), data="-", output_dir=tmp_path, judge="url:http://h/v1 m", seed=3)
    prompts = [Example(({"role": "user", "content": f"say {i}"},)) for i in range(2 * feedback.AT_ONCE)]
    text = SimpleNamespace(folder=tiny_llama)
    assert feedback.judged_prompts(text, None, prompts, recipe, lambda event: None, tmp_path) == [  # type: ignore[arg-type]
        feedback.Judged(("cat",), ())
    ] * len(prompts)
    assert seeds == [3, 3 + feedback.AT_ONCE]


def test_feedback_from_sampling_to_an_adapter_the_judge_prefers(
    talker: Path, server: str, asked: list[dict[str, Any]], tmp_path: Path
) -> None:
    """The judge likes long answers; after training on its preferences they are longer and win. It is asked once."""
    data = tmp_path / "prompts.jsonl"
    data.write_text(
        "".join(
            json.dumps({"prompt": f"say {a} {b}", "split": {0: "test", 1: "dev"}.get((i + j) % 3, "train")}) + "\n"
            for i, a in enumerate(WORDS)
            for j, b in enumerate(WORDS)
        )
    )
    recipe = FeedbackRecipe(
        model=str(talker), data=str(data), output_dir=tmp_path / "out", judge=f"url:{server} m", samples=3,
        max_new_tokens=10, batch_size=9, epochs=8, learning_rate=3e-3, max_length=96, evaluations=2,
    )  # fmt: skip
    result = train(recipe)
    assert result["kept"] == "adapter"
    assert result["base"]["win_rate"]["value"] == 0.5
    assert result["adapted"]["win_rate"]["ci95"][0] > 0.5
    assert result["judge"]["longer_wins"]["value"] == 1
    assert result["judge"]["place"]["value"] < 0  # of two as long as each other this judge names the second
    assert result["judge"]["ties"]["n"] > 54
    rows = [json.loads(line) for line in (tmp_path / "out" / "preferences.jsonl").read_text().splitlines()]
    assert all(len(row["chosen"]) > len(row["rejected"]) for row in rows)

    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "judged" and "of" not in event:
            raise KeyboardInterrupt

    asked.clear()
    shutil.copytree(tmp_path / "out" / "judged", tmp_path / "again" / "judged")
    with pytest.raises(KeyboardInterrupt):
        train(recipe.model_copy(update={"output_dir": tmp_path / "again"}), on_event=stop)
    assert not asked
    kept = [(tmp_path / name / "preferences.jsonl").read_text() for name in ("out", "again")]
    assert kept[0] == kept[1]


@pytest.mark.slow
def test_from_a_judge_over_a_reward_model_to_a_policy(talker: Path, server: str, tmp_path: Path) -> None:
    """What the page promises of OUT/preferences.jsonl: it teaches a reward model, and that a policy to write more."""
    data = tmp_path / "prompts.jsonl"
    rows = [
        {"prompt": f"say {a} {b}", "split": {0: "test", 1: "dev"}.get((i + j) % 3, "train")}
        for i, a in enumerate(WORDS)
        for j, b in enumerate(WORDS)
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    shared: dict[str, Any] = {"model": str(talker), "max_length": 96, "evaluations": 2}
    judged = FeedbackRecipe(
        **shared, data=str(data), output_dir=tmp_path / "judged", judge=f"url:{server} m", samples=3,
        max_new_tokens=10, batch_size=9, max_steps=1,
    )  # fmt: skip
    train(judged)
    reward = RewardRecipe(
        **shared, data=str(tmp_path / "judged" / "preferences.jsonl"), output_dir=tmp_path / "reward", batch_size=9,
        epochs=8, learning_rate=3e-3, test=False,
    )  # fmt: skip
    assert train(reward)["adapted"]["accuracy"]["value"] > 0.8
    policy = PolicyRecipe(
        **shared, data=str(data), output_dir=tmp_path / "policy", reward=str(tmp_path / "reward" / "adapter"),
        max_new_tokens=10, rollouts=32, batch_size=32, max_steps=30, learning_rate=2e-3, kl=0.01,
    )  # fmt: skip
    result = train(policy)
    assert result["kept"] == "adapter"
    assert result["difference"]["reward"]["ci95"][0] > 0
