"""Examples of text, whatever layout they came in: conversations, documents, preferences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from speechft.errors import SpeechftError
from speechft.events import OnEvent
from speechft.left_out import tell

Message = dict[str, str]


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
        return answered(self.prompt, self.answer)

    @property
    def together(self) -> str:
        """What decides the split."""
        return self.group or self.key

    @property
    def key(self) -> str:
        """What makes it the same question as another: the prompt, or the document, without case and spaces."""
        text = self.document or "\n".join(m["content"] for m in self.prompt if m["role"] != "system")
        return " ".join(text.lower().split())


def answered(prompt: Sequence[Message], answer: str) -> list[Message]:
    """A conversation with the assistant's next turn."""
    return [*prompt, {"role": "assistant", "content": answer}]


def rejected(example: Example) -> list[Message]:
    """The conversation with the worse answer."""
    return answered(example.prompt, example.rejected or "")


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
            tell(log, example.where, error.what)
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
