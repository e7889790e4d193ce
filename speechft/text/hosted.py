"""The same data as files that hosted fine-tuning services take, checked against their formats before anything leaves.

| format | a line | source |
|---|---|---|
| `openai` | `messages` | OpenAI, Supervised fine-tuning guide; also Azure and other compatible services |
| `openai-preference` | `input`, `preferred_output`, `non_preferred_output` | OpenAI, Direct preference guide |
| `bedrock` | `prompt`, `completion` | Amazon Bedrock, Prepare data for fine-tuning text-to-text models |
| `bedrock-conversation` | `schemaVersion`, `system`, `messages` | the same page, Converse format; Amazon Nova |
| `bedrock-claude` | `system`, `messages` | the same page, Anthropic Claude 3 Haiku |

Nothing is sent from here, and no account is needed.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from speechft import complaints
from speechft.errors import SpeechftError
from speechft.files import write_text
from speechft.text.data import Corpus
from speechft.text.examples import Example
from speechft.text.files import opened
from speechft.text.layouts import Unusable

CHARACTERS_A_TOKEN = 4  # of English, for the estimate alone; the service counts with its own tokenizer
# Around each message OpenAI's models see its role and two marks: `tokens_per_message` in its cookbook's counting of
# chat fine-tuning data. Of other services it is not said, so the estimate is the same for the same rows.
MESSAGE_TOKENS = 3
FILES = ("train.jsonl", "validation.jsonl")
# "Preparing data for fine-tuning Understanding models" in the Amazon Nova User Guide: a job fails that has these in a
# user's or the system's text. In capitals, and with Thought:, they are in AWS's nova_ft_dataset_validator.py.
RESERVED = (
    "User:", "USER:", "Bot:", "BOT:", "Assistant:", "ASSISTANT:", "System:", "SYSTEM:", "Thought:",
    "<image>", "<video>", "[EOS]",
)  # fmt: skip
LEAST_EXAMPLES = 10  # OpenAI refuses files with fewer

Text = Annotated[str, Field(min_length=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ChatMessage(_Strict):
    """A message as in OpenAI's API reference, "Create fine-tuning job" and "Create chat completion"; texts only."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | None = None
    name: Text | None = None
    weight: Literal[0, 1] | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: Text | None = None

    @model_validator(mode="after")
    def _suits_the_role(self) -> ChatMessage:
        if self.role != "assistant" and (self.weight is not None or self.tool_calls):
            raise ValueError("weight and tool_calls belong to the assistant's messages")
        if self.content is None and not self.tool_calls:
            raise ValueError("a message has no content")
        if (self.role == "tool") != (self.tool_call_id is not None):
            raise ValueError("tool_call_id belongs to a tool's message, and is missing or elsewhere")
        return self


class AssistantMessage(_Strict):
    role: Literal["assistant"]
    content: Text


class OpenAiInput(_Strict):
    messages: Annotated[list[ChatMessage], Field(min_length=1)]
    tools: list[dict[str, Any]] | None = None
    parallel_tool_calls: bool | None = None


class OpenAiChat(OpenAiInput):
    messages: Annotated[list[ChatMessage], Field(min_length=2)]

    @model_validator(mode="after")
    def _ends_with_an_answer(self) -> OpenAiChat:
        if self.messages[-1].role != "assistant":
            raise ValueError("the last message is not the assistant's")
        return self


class OpenAiPreference(_Strict):
    input: OpenAiInput
    preferred_output: Annotated[list[AssistantMessage], Field(min_length=1, max_length=1)]
    non_preferred_output: Annotated[list[AssistantMessage], Field(min_length=1, max_length=1)]


class BedrockPair(_Strict):
    prompt: Text
    completion: Text


class BedrockText(_Strict):
    text: Text


class BedrockMessage(_Strict):
    role: Literal["user", "assistant"]
    content: Annotated[list[BedrockText], Field(min_length=1)]


class BedrockConversation(_Strict):
    schemaVersion: Text  # Nova takes any; `bedrock-conversation-2024` is the one in the guides
    system: list[BedrockText] = []
    messages: Annotated[list[BedrockMessage], Field(min_length=2)]

    @model_validator(mode="after")
    def _is_taken(self) -> BedrockConversation:
        _alternating([message.role for message in self.messages])
        asked = [part.text for message in self.messages if message.role == "user" for part in message.content]
        for text in [*(part.text for part in self.system), *asked]:
            if word := next((word for word in RESERVED if word in text), None):
                raise ValueError(f"Amazon Nova reserves '{word}', and a job fails with it in a prompt")
        return self


class ClaudeMessage(_Strict):
    role: Literal["user", "assistant"]
    content: Text


class BedrockClaude(_Strict):
    system: Text | None = None
    messages: Annotated[list[ClaudeMessage], Field(min_length=2)]

    @model_validator(mode="after")
    def _is_taken(self) -> BedrockClaude:
        _alternating([message.role for message in self.messages])
        return self


def _alternating(roles: Sequence[str]) -> None:
    if list(roles) != ["user", "assistant"] * (len(roles) // 2):
        raise ValueError("turns of user and assistant do not alternate, from a user's to an assistant's")


@dataclass(frozen=True)
class Exported:
    """Files for a service.

    Attributes:
        files: written, by split.
        examples: lines in each.
        left_out: (where, reason) of examples that the format cannot hold.
        tokens: of the training file, estimated from the characters of its texts and the number of its messages.
        cost: of that, if a price was given.
        warning: what leaves the machine with these files.
    """

    files: dict[str, Path]
    examples: dict[str, int]
    left_out: list[tuple[str, str]]
    tokens: int
    cost: float | None
    warning: str


def export(
    corpus: Corpus, out: str | Path, kind: str, *, epochs: int = 1, price_per_million: float | None = None
) -> Exported:
    """Write train.jsonl and validation.jsonl (the dev split); the test split stays here.

    Args:
        kind: of `FORMATS`.
        epochs: passes that the service will be asked for; they multiply the cost.
        price_per_million: tokens; look it up, prices change.

    Raises:
        SpeechftError: an unknown format, data that must not be handed on, or nothing that fits the format.
    """
    if kind not in FORMATS:
        raise SpeechftError(f"unknown format '{kind}'", fix=f"Formats: {', '.join(FORMATS)}.")
    if price_per_million is not None and not 0 <= price_per_million < math.inf:
        raise SpeechftError(f"the price is {price_per_million}", fix="Give what a million tokens cost, such as 8.")
    make, schema = FORMATS[kind]
    left_out: list[tuple[str, str]] = []
    files, counts = {}, {}
    tokens = 0
    for split, name in zip(("train", "dev"), FILES, strict=True):
        examples: Sequence[Example] = getattr(corpus, split)
        if any(example.extra.get("access") == "credentialed" for example in examples):
            raise under_agreement(examples[0].where)
        lines, size = [], 0
        for example in examples:
            try:
                row = schema.model_validate(make(example)).model_dump(mode="json", exclude_defaults=True)
            except ValidationError as error:
                left_out.append((example.where, complaints.sentence(error.errors()[0])))
            except Unusable as problem:
                left_out.append((example.where, str(problem)))
            else:
                size += _tokens(example, schema is OpenAiPreference)
                lines.append(json.dumps(row, ensure_ascii=False) + "\n")
        if split == "train" and len(lines) < LEAST_EXAMPLES:
            reason = f"; the first left out: {left_out[0][1]}" if left_out else ""
            raise SpeechftError(
                f"only {len(lines)} examples fit the format; {LEAST_EXAMPLES} are needed{reason}", where=kind,
                fix="Give more examples.",
            )  # fmt: skip
        files[split] = write_text(Path(out) / name, lines)
        counts[split] = len(lines)
        if split == "train":
            tokens = epochs * size
    return Exported(
        files, counts, left_out, tokens,
        None if price_per_million is None else round(tokens / 1e6 * price_per_million, 2),
        "Whoever runs the service can read every line of these files, and may keep them. Do not upload what people "
        "said in confidence, recordings' transcripts without consent to this, or data whose licence forbids it. "
        "The service charges for training, and for keeping or using the model.",
    )  # fmt: skip


def under_agreement(where: str) -> SpeechftError:
    """What is said of data that must not leave the machine."""
    return SpeechftError(
        "these are notes under a data use agreement, which forbids giving them to a service", where=where,
        fix="Train on your own machine.",
    )  # fmt: skip


def validate(path: str | Path, kind: str) -> list[tuple[int, str]]:
    """(line, what is wrong) of a file in one of the formats; empty where all is right. SpeechftError for no file."""
    if kind not in FORMATS:
        raise SpeechftError(f"unknown format '{kind}'", fix=f"Formats: {', '.join(FORMATS)}.")
    if not os.path.isfile(path):
        raise SpeechftError("is not a file", where=path or ".", fix="Name the file that the service is to get.")
    problems = []
    with opened(Path(path)) as file:
        for number, line in enumerate(file, 1):
            try:
                FORMATS[kind][1].model_validate(json.loads(line))
            except ValidationError as error:
                first = error.errors()[0]
                problems.append((number, f"{complaints.place(first)}: {complaints.sentence(first)}".lstrip(": ")))
            except (ValueError, RecursionError):
                problems.append((number, "not JSON"))
    return problems


def _tokens(example: Example, both: bool) -> int:
    """About how many the texts of an example are; with the rejected answer where `both` are sent."""
    texts = [message["content"] for message in example.messages] + [example.rejected or ""] * both
    return sum(map(len, texts)) // CHARACTERS_A_TOKEN + MESSAGE_TOKENS * len(texts)


def _openai(example: Example) -> Any:
    return {"messages": example.messages}


def _openai_preference(example: Example) -> Any:
    return {
        "input": {"messages": list(example.prompt)},
        "preferred_output": [{"role": "assistant", "content": example.answer}],
        "non_preferred_output": [{"role": "assistant", "content": example.rejected or ""}],
    }


def _bedrock(example: Example) -> Any:
    turns = [m for m in example.prompt if m["role"] != "system"]
    if len(turns) != 1:
        raise Unusable("bedrock's format holds one prompt and one completion, not several turns")
    return {"prompt": "\n\n".join(m["content"] for m in example.prompt), "completion": example.answer}


def _bedrock_conversation(example: Example) -> Any:
    return {
        "schemaVersion": "bedrock-conversation-2024",
        "system": [{"text": m["content"]} for m in example.prompt if m["role"] == "system"],
        "messages": [
            {"role": m["role"], "content": [{"text": m["content"]}]} for m in example.messages if m["role"] != "system"
        ],
    }


def _bedrock_claude(example: Example) -> Any:
    system = "\n\n".join(m["content"] for m in example.prompt if m["role"] == "system")
    turns = [m for m in example.messages if m["role"] != "system"]
    return {**({"system": system} if system else {}), "messages": turns}


FORMATS: dict[str, tuple[Callable[[Example], Any], type[BaseModel]]] = {
    "openai": (_openai, OpenAiChat),
    "openai-preference": (_openai_preference, OpenAiPreference),
    "bedrock": (_bedrock, BedrockPair),
    "bedrock-conversation": (_bedrock_conversation, BedrockConversation),
    "bedrock-claude": (_bedrock_claude, BedrockClaude),
}
