"""Files for hosted services: what is written is what the services describe, and what cannot be is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from speechft.cli import app
from speechft.errors import SpeechftError
from speechft.text.data import Corpus
from speechft.text.examples import Example
from speechft.text.hosted import FORMATS, export, validate
from speechft.text.layouts import to_example


def corpus(rows: list[dict]) -> Corpus:
    examples = tuple(to_example(row, f"rows:{i}") for i, row in enumerate(rows, 1))
    return Corpus(examples, examples[:2], examples[:1])


PAIRS = [{"prompt": f"question {i}", "chosen": f"right {i}", "rejected": f"wrong {i}"} for i in range(12)]
CHATS = [
    {"messages": [
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": f"question {i}"},
        {"role": "assistant", "content": f"answer {i}"},
    ]}
    for i in range(12)
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "rows", "first"),
    [
        ("openai", CHATS, CHATS[0]),
        (
            "openai-preference",
            PAIRS,
            {
                "input": {"messages": [{"role": "user", "content": "question 0"}]},
                "preferred_output": [{"role": "assistant", "content": "right 0"}],
                "non_preferred_output": [{"role": "assistant", "content": "wrong 0"}],
            },
        ),
        ("bedrock", CHATS, {"prompt": "Be brief.\n\nquestion 0", "completion": "answer 0"}),
        (
            "bedrock-conversation",
            CHATS,
            {
                "schemaVersion": "bedrock-conversation-2024",
                "system": [{"text": "Be brief."}],
                "messages": [
                    {"role": "user", "content": [{"text": "question 0"}]},
                    {"role": "assistant", "content": [{"text": "answer 0"}]},
                ],
            },
        ),
        (
            "bedrock-claude",
            CHATS,
            {
                "system": "Be brief.",
                "messages": [
                    {"role": "user", "content": "question 0"},
                    {"role": "assistant", "content": "answer 0"},
                ],
            },
        ),
    ],
)
def test_lines_are_as_the_service_describes(kind: str, rows: list[dict], first: dict, tmp_path: Path) -> None:
    made = export(corpus(rows), tmp_path, kind, epochs=3, price_per_million=10)
    lines = made.files["train"].read_text().splitlines()
    assert json.loads(lines[0]) == first
    assert made.examples == {"train": 12, "dev": 2}
    assert validate(made.files["train"], kind) == []
    assert made.cost == round(made.tokens / 1e6 * 10, 2)
    assert "consent" in made.warning


def test_the_estimate_counts_texts_and_not_their_format(tmp_path: Path) -> None:
    rows = [{"prompt": f"question {i:02}!", "completion": "an answer"} for i in range(12)]  # 12 and 9 characters
    made = {kind: export(corpus(rows), tmp_path / kind, kind, epochs=2) for kind in FORMATS if "preference" not in kind}
    assert {kind: one.tokens for kind, one in made.items()} == dict.fromkeys(made, 2 * 12 * (21 // 4 + 2 * 3))
    both = export(
        corpus([{**row, "chosen": "an answer", "rejected": "no"} for row in rows]), tmp_path, "openai-preference"
    )
    assert both.tokens == 12 * (23 // 4 + 3 * 3)


def test_what_a_format_cannot_hold_is_left_out_by_name(tmp_path: Path) -> None:
    long = {"messages": [{"role": r, "content": "x"} for r in ("user", "assistant", "user", "assistant")]}
    made = export(corpus([*CHATS, long]), tmp_path, "bedrock")
    assert made.examples["train"] == 12
    assert made.left_out == [("rows:13", "bedrock's format holds one prompt and one completion, not several turns")]
    with pytest.raises(SpeechftError, match="only 0 examples"):
        export(corpus(CHATS), tmp_path, "openai-preference")


@pytest.mark.parametrize("price", [float("nan"), float("inf"), -1.0])
def test_a_price_that_is_none_is_refused(tmp_path: Path, price: float) -> None:
    with pytest.raises(SpeechftError, match="price"):
        export(corpus(CHATS), tmp_path, "openai", price_per_million=price)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("word", ["User:", "BOT:", "Assistant:", "System:", "<image>", "<video>", "[EOS]", "Thought:"])
def test_words_that_nova_reserves_are_left_out_by_name(word: str, tmp_path: Path) -> None:
    """A job with them in a user's or the system's text fails; an answer may hold them."""
    asked = {"prompt": f"Who is the {word} here?", "completion": "nobody"}
    told = {"messages": [{"role": "system", "content": word}, *CHATS[0]["messages"][1:]]}
    answered = {"prompt": "question", "completion": f"the {word}"}
    made = export(corpus([*CHATS, asked, told, answered]), tmp_path, "bedrock-conversation")
    assert made.examples["train"] == 13
    assert [where for where, _ in made.left_out] == ["rows:13", "rows:14"]
    assert all(word in reason for _, reason in made.left_out)
    assert export(corpus([*CHATS, asked]), tmp_path / "claude", "bedrock-claude").left_out == []


def test_what_openai_allows_beside_is_right(tmp_path: Path) -> None:
    user, answer = {"role": "user", "content": "a", "name": "ann"}, {"role": "assistant", "content": "b", "weight": 0}
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    called = {"role": "assistant", "tool_calls": [call]}
    result = {"role": "tool", "tool_call_id": "c", "content": "3"}
    tools = [{"type": "function", "function": {"name": "f"}}]
    right = [
        {"messages": [user, answer, user, {**answer, "weight": 1}]},
        {
            "messages": [{"role": "developer", "content": "x"}, user, called],
            "tools": tools,
            "parallel_tool_calls": False,
        },
        {"messages": [user, called, result, answer], "tools": tools},
    ]
    wrong = [
        {"messages": [{**user, "weight": 0}, answer]}, {"messages": [user, {**answer, "weight": 0.5}]},
        {"messages": [user, {"role": "assistant"}]}, {"messages": [user, {**result, "tool_call_id": None}, answer]},
        {"messages": [{**user, "tool_calls": [call]}, answer]},
    ]  # fmt: skip
    path = tmp_path / "file.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*right, *wrong]))
    assert [line for line, _ in validate(path, "openai")] == [4, 5, 6, 7, 8]


def test_a_file_is_checked_from_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "file.jsonl"
    path.write_text(json.dumps(CHATS[0]) + "\n" + json.dumps({"messages": []}) + "\n")
    done = CliRunner().invoke(app, ["hosted", str(path), "--check"])
    assert done.exit_code == 2
    assert "file.jsonl:2: messages" in " ".join(done.stderr.split())
    path.write_text(json.dumps(CHATS[0]) + "\n")
    done = CliRunner().invoke(app, ["hosted", str(path), "--check"])
    assert (done.exit_code, "fits" in done.stderr) == (0, True)
    with pytest.raises(SpeechftError, match="OUT"):
        CliRunner().invoke(app, ["hosted", str(path)], catch_exceptions=False)
    for nothing in (tmp_path, tmp_path / "gone.jsonl"):
        with pytest.raises(SpeechftError, match="is not a file"):
            CliRunner().invoke(app, ["hosted", str(nothing), "--check"], catch_exceptions=False)
    with pytest.raises(SpeechftError, match="--check writes nothing"):
        CliRunner().invoke(app, ["hosted", str(path), str(tmp_path / "out"), "--check"], catch_exceptions=False)


def test_notes_under_an_agreement_are_refused(tmp_path: Path) -> None:
    note = Example(prompt=({"role": "user", "content": "x"},), answer="y", extra={"access": "credentialed"})
    with pytest.raises(SpeechftError, match="agreement"):
        export(Corpus((note,) * 12, (note,), ()), tmp_path, "openai")


def test_a_file_made_elsewhere_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "file.jsonl"
    good = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    bad = {"messages": [{"role": "user", "content": "a"}, {"role": "bot", "content": "b"}]}
    path.write_text("\n".join([json.dumps(good), json.dumps(bad), "{", json.dumps({**good, "name": 1})]))
    assert [line for line, _ in validate(path, "openai")] == [2, 3, 4]
