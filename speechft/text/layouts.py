"""Rows in any layout that people have them in, to examples; what cannot be used has a reason.

Understood without being told (one row, or line of JSONL, each):

| layout | fields |
|---|---|
| messages | `messages`: a list of `role` (system, user, assistant) and `content`; a turn of `weight` 0 is not learnt |
| ShareGPT | `conversations`: a list of `from` (human, gpt, system) and `value` |
| prompt and completion | `prompt`, `completion` |
| Alpaca | `instruction`, `output`, and perhaps `input` |
| preference | `chosen` and `rejected`, as texts or messages, with `prompt` or the prompt inside both |
| judged answer (KTO) | `prompt`, `completion`, `label` (true or false) |
| prompt alone | `prompt`, and perhaps `answer` or `answers` |
| document | `text` |

Beside any of them, `system` or `system_prompt` is what the system says before the conversation.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

from speechft.rows import TRUTH
from speechft.text.examples import Example, Message
from speechft.text.files import NO_SPLIT, split_of

ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}


class Unusable(ValueError):
    """A row that is not in any layout; the message is the reason."""


def to_example(row: dict[str, Any], where: str = "", split: str | None = None) -> Example:
    """A row in any of the layouts above; `system` or `system_prompt` beside a conversation comes before it.

    Raises:
        Unusable: in none of them.
    """
    example = _in_layout(row, where, split)
    said = row.get("system") or row.get("system_prompt")
    if not said or not example.prompt or example.prompt[0]["role"] == "system":
        return example
    before: Message = {"role": "system", "content": _text(said)}
    places = tuple(place + 1 for place in example.unlearnt)
    return replace(example, prompt=(before, *example.prompt), unlearnt=places)


def _in_layout(row: dict[str, Any], where: str, split: str | None) -> Example:
    if not row:
        raise Unusable(getattr(row, "reason", "is not a row as this kind of file, or its reader, has them"))
    try:
        json.dumps(row, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:
        raise Unusable("holds half a character") from None
    except (TypeError, ValueError, RecursionError):
        raise Unusable("is not plain JSON") from None
    if row.get("split"):  # a name that is not known may mean what is held out
        split = split_of(str(row["split"]))
        if split is None:
            raise Unusable(f"its split '{row['split']!s:.40}' {NO_SPLIT}")
    extra = row.get("extra")
    about: dict[str, Any] = {"where": where, "split": split, "extra": extra if isinstance(extra, dict) else {}}
    about["group"] = str(row.get("group") or "")
    if "chosen" in row and "rejected" in row:
        return _preference(row, about)
    if "messages" in row or "conversations" in row:
        turns: Any = row.get("messages", row.get("conversations"))
        return _conversation(messages_of(turns), [_without_weight(turn) for turn in turns], about)
    if "instruction" in row and "output" in row:
        question = "\n\n".join(_text(part) for part in (row["instruction"], row.get("input")) if part not in (None, ""))
        return _answered(_user(question), row["output"], about)
    if "prompt" in row:
        prompt = _prompt(row["prompt"])
        answers = row.get("answers", row.get("answer", row.get("completion")))
        if isinstance(answers, list) and answers and isinstance(answers[0], dict):
            answers = messages_of(answers)[-1]["content"]
        several = answers if isinstance(answers, list) else [] if answers is None else [answers]
        return Example(
            prompt, _text(several[0]) if several else "", tuple(map(_text, several)),
            label=TRUTH.get(str(row.get("label")).strip().casefold()), **about,
        )  # fmt: skip
    if "text" in row:
        return Example(document=_text(row["text"]), **about)
    raise Unusable(f"fits none of the known layouts (its fields: {', '.join(map(str, row))})")


def messages_of(value: Any) -> list[Message]:
    """Messages in either spelling, as `role` and `content`.

    Raises:
        Unusable: not a list of messages, or a role that is not known.
    """
    if not isinstance(value, list) or not value or not all(isinstance(m, dict) for m in value):
        raise Unusable("messages are not a list")
    made = []
    for message in value:
        role = str(message.get("role", message.get("from", ""))).lower()
        if role not in ROLES:
            raise Unusable(f"unknown role '{role}'")
        content = message.get("content", message.get("value"))
        if isinstance(content, list):  # of parts, as in OpenAI's API; a part that is no text cannot be used
            content = "".join(_text(part.get("text") if isinstance(part, dict) else part) for part in content)
        made.append({"role": ROLES[role], "content": _text(content)})
    return made


def _conversation(messages: list[Message], unlearnt: list[bool], about: dict[str, Any]) -> Example:
    answers = [i for i, one in enumerate(messages) if one["role"] == "assistant" and not unlearnt[i]]
    if not answers or not answers[-1]:
        raise Unusable("no answer by the assistant")
    last = answers[-1]
    about |= {"unlearnt": tuple(i for i in range(last) if messages[i]["role"] == "assistant" and unlearnt[i])}
    return _answered(tuple(messages[:last]), messages[last]["content"], about)


def _without_weight(message: dict[str, Any]) -> bool:
    """Whether a turn is there to be read and not to be learnt, which OpenAI's format says by a weight of 0."""
    return str(message.get("weight")) in ("0", "0.0")


def _answered(prompt: tuple[Message, ...], answer: Any, about: dict[str, Any]) -> Example:
    return Example(prompt, _text(answer), (_text(answer),), **about)


def _preference(row: dict[str, Any], about: dict[str, Any]) -> Example:
    prompt = _prompt(row["prompt"]) if row.get("prompt") else ()
    sides, befores = [], []
    for key in ("chosen", "rejected"):
        value = row[key]
        turns = messages_of(value) if isinstance(value, list) else [] if prompt else _transcript(_text(value))
        befores.append(tuple(turns[:-1]))
        sides.append(turns[-1]["content"] if turns else _text(value))
    if not prompt and befores[0] != befores[1]:
        raise Unusable("chosen and rejected answer different prompts")
    return Example(prompt or befores[0], sides[0], (sides[0],), rejected=sides[1], **about)


def _transcript(text: str) -> list[Message]:
    """The turns of a text that says who speaks, as HH-RLHF does (Bai et al., 2022, arXiv 2204.05862); else none."""
    before, *parts = re.split(r"(?:^|\n\n)(Human|User|Assistant|System):", text)
    if before or parts[-2:-1] != ["Assistant"]:
        return []
    turns = zip(parts[::2], parts[1::2], strict=True)
    return [{"role": ROLES[who.lower()], "content": said.strip()} for who, said in turns]


def _prompt(value: Any) -> tuple[Message, ...]:
    return tuple(messages_of(value)) if isinstance(value, list) else _user(_text(value))


def _user(content: str) -> tuple[Message, ...]:
    return ({"role": "user", "content": _text(content)},)


def _text(value: Any) -> str:
    if isinstance(value, bool | int | float):
        return str(value)
    if not isinstance(value, str):
        raise Unusable("a text is missing")
    return value.strip()


def refuse_without(example: Example, needs: str) -> None:
    """Raises Unusable where an example has not what a task needs, see `data.read`."""
    asked = bool(example.prompt) and bool(example.prompt[-1]["content"])
    if needs == "document":
        if not (example.document or example.answer):
            raise Unusable("an empty document")
    elif not asked:
        raise Unusable("no prompt")
    elif needs != "prompt" and not example.answer:
        raise Unusable("an empty answer")
    elif needs == "preference" and not example.rejected:
        raise Unusable("no rejected answer")
    elif needs == "preference" and example.rejected == example.answer:
        raise Unusable("chosen and rejected are the same")
    elif needs == "judgement" and example.label is None and example.rejected is None:
        raise Unusable("no label")
