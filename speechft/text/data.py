"""Text data as people have it to examples: conversations, documents, preferences; what cannot be used is named.

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

import hashlib
import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from speechft.errors import SpeechftError
from speechft.events import OnEvent
from speechft.plain_text import encodable
from speechft.rows import TRUTH
from speechft.text.files import NO_SPLIT, SPLITS, split_of
from speechft.text.rows import rows_of

Message = dict[str, str]
ROLES = {"human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant", "system": "system"}
HELD_OUT = 10  # one in so many goes to dev, and one to test, where the data has no splits


class Unusable(ValueError):
    """A row that is not in any layout; the message is the reason."""


@dataclass(frozen=True)
class Example:
    """One row, whatever layout it came in.

    Attributes:
        prompt: messages before the answer; empty for a document.
        answer: what the assistant says; "" where there is none.
        references: answers that count as right, `answer` among them.
        rejected: the worse answer of a preference; `answer` is then the chosen one.
        label: whether the answer is good, of a judged answer.
        document: a plain text.
        split: `train`, `dev`, `test` or None.
        unlearnt: places in `prompt` of the assistant's turns that nothing is to be learnt from.
        where: file and row.
        group: what it shares with others that must be in the same split, such as a patient; "" is nothing.
        extra: whatever else the row says.
    """

    prompt: tuple[Message, ...] = ()
    answer: str = ""
    references: tuple[str, ...] = ()
    rejected: str | None = None
    label: bool | None = None
    document: str = ""
    split: str | None = None
    unlearnt: tuple[int, ...] = ()
    where: str = ""
    group: str = ""
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def messages(self) -> list[Message]:
        """The conversation with its answer."""
        return [*self.prompt, {"role": "assistant", "content": self.answer}]

    @property
    def together(self) -> str:
        """What decides the split."""
        return self.group or self.key

    @property
    def key(self) -> str:
        """What makes it the same question as another: the prompt, or the document, without case and spaces."""
        text = self.document or "\n".join(m["content"] for m in self.prompt if m["role"] != "system")
        return " ".join(text.lower().split())


@dataclass(frozen=True)
class Corpus:
    """Examples in their splits.

    Attributes:
        train, dev, test: never share a question unless the data's own splits do; see `overlap`.
        left_out: (where, reason) of every row that could not be used.
        other: documents of another domain that a recipe names, to measure what was forgotten.
    """

    train: tuple[Example, ...]
    dev: tuple[Example, ...]
    test: tuple[Example, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    other: tuple[Example, ...] = ()

    @property
    def overlap(self) -> int:
        """Held-out examples whose question, or group, is in the training examples too."""
        seen = {key for example in self.train for key in (example.key, example.together)}
        return sum(bool({e.key, e.together} & seen) for e in (*self.dev, *self.test))

    @property
    def sha256(self) -> str:
        """Of all examples of the splits in order."""
        digest = hashlib.sha256()
        for name in ("train", "dev", "test"):
            for example in getattr(self, name):
                parts = [name, example.messages, example.rejected, example.label, example.document]
                parts += [example.unlearnt] if example.unlearnt else []
                digest.update(json.dumps(parts, sort_keys=True).encode())
        return digest.hexdigest()


def rejected(example: Example) -> list[Message]:
    """The conversation with the worse answer."""
    return [*example.prompt, {"role": "assistant", "content": example.rejected or ""}]


def read(
    source: str, *, reader: str | None = None, needs: str = "answer", rows: int | None = None, seed: int = 0,
    training: bool = True,
) -> Corpus:  # fmt: skip
    """Read and split data.

    Args:
        source: a file (.jsonl, .json, .csv, .tsv, .txt, .parquet, each also .gz but the last), a folder of files named
            train, dev and test (see `files.split_of`) or of documents, or `hub:NAME` / `hub:NAME:CONFIG` of a hub.
        reader: a name from `speechft.text.corpora.READERS` for layouts that have one.
        needs: what each example must have: `answer`, `prompt`, `document`, `preference` or `judgement`.
        rows: of each file or split at most, from its start; of a hub no more is fetched.
        seed: of who goes where, if the data does not say.
        training: whether there must be examples to train on, and others to choose by.

    Raises:
        SpeechftError: no such data, or nothing in it that can be used, or too little for `training`.
    """
    left_out: list[tuple[str, str]] = []
    found: list[Example] = []
    for where, row, split in rows_of(source, reader, rows):
        try:
            example = to_example(row, where, split)
            _check(example, needs)
        except Unusable as problem:
            left_out.append((where, encodable(str(problem))))
        else:
            found.append(example)
    if not found:
        reason = f"; the first row: {left_out[0][1]}" if left_out else ""
        raise SpeechftError(f"holds no {needs}{reason}", where=source, fix="See docs/text/data.md.")
    return split_examples(found, tuple(left_out), seed, training)


def split_examples(
    examples: Sequence[Example], left_out: tuple[tuple[str, str], ...] = (), seed: int = 0, training: bool = True
) -> Corpus:
    """Put examples in splits: as they say, else by a hash of the question, so that equal ones stay together.

    Raises:
        SpeechftError: none are left for training, or none for dev; where it is not for `training`, they may be empty.
    """
    parts: dict[str, list[Example]] = {"train": [], "dev": [], "test": []}
    named = {example.split for example in examples}
    for example in examples:
        split = example.split or ("train" if named & {"dev", "test"} else "")
        draw = int(hashlib.sha256(f"{seed}:{example.together}".encode()).hexdigest()[:8], 16)
        if not split:
            split = {0: "dev", 1: "test"}.get(draw % HELD_OUT, "train")
        elif split == "train" and "dev" not in named:
            split = "dev" if draw % HELD_OUT == 0 else "train"
        parts[split].append(example)
    if training and not parts["train"] and named <= {"dev", "test"}:
        raise SpeechftError(
            f"all {len(examples)} usable rows are named dev or test; none is for training",
            fix="Name the file, or the rows' split, train.",
        )
    if training and not (parts["train"] and parts["dev"]):
        raise SpeechftError(
            f"{len(examples)} usable rows are too few to hold some out", fix="Give more rows, or rows with a split."
        )
    return Corpus(tuple(parts["train"]), tuple(parts["dev"]), tuple(parts["test"]), left_out)


def drawn(examples: Sequence[Example], most: int, seed: int) -> tuple[Example, ...]:
    """All examples, or `most` of them by chance, in their order: files are sorted by article, kind or date."""
    if len(examples) <= most:
        return tuple(examples)
    return tuple(examples[i] for i in sorted(random.Random(seed).sample(range(len(examples)), most)))


def part_of(corpus: Corpus, split: str | None, where: str) -> tuple[str, tuple[Example, ...]]:
    """The name and the examples of a split; test where there is one, else dev, else train, unless told."""
    parts = {name: part for name in ("train", "dev", "test") if (part := getattr(corpus, name))}
    name = SPLITS.get(split.lower(), split) if split else list(parts)[-1]
    if name not in parts:
        raise SpeechftError(f"has no split '{split}'", where=where, fix=f"It has {', '.join(parts)}.")
    return name, parts[name]


def held_out(corpus: Corpus, recipe: Any) -> tuple[str, tuple[Example, ...]]:
    """What a run is measured on at its end, and the name of that split: test where there is one, else dev."""
    if recipe.test and corpus.test:
        return "test", drawn(corpus.test, recipe.test_examples, recipe.seed)
    return "dev", drawn(corpus.dev, recipe.dev_examples, recipe.seed)


def made_of(examples: Sequence[Example], make: Callable[[Example], Any], log: OnEvent) -> list[Any]:
    """What `make` gives for each example; those that it refuses are left out by name, with its reason.

    Raises:
        SpeechftError: it refuses all of them.
    """
    made: list[Any] = []
    refused: list[SpeechftError] = []
    for example in examples:
        try:
            made.append(make(example))
        except SpeechftError as error:
            refused.append(error)
            log({"event": "left out", "where": example.where, "reason": error.what})
    if refused and not made:
        raise SpeechftError(f"no example fits: {refused[0].what}", where=examples[0].where, fix=refused[0].fix)
    return made


def blocks_of(examples: Sequence[Example]) -> tuple[str, ...]:
    """The place of the first example like each, which stands for all that are alike; none if all are on their own.

    Those of one article or patient, and those that ask the same, are no independent evidence, as with speakers.
    """
    first: dict[str, int] = {}
    blocks = tuple(
        str(first.setdefault(example.together, place) if example.together else place)
        for place, example in enumerate(examples)
    )
    return blocks if len(set(blocks)) < len(blocks) else ()


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


def _check(example: Example, needs: str) -> None:
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
