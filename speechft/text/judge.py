"""A language model as a judge of answers; how far to trust it, `speechft.text.audit` measures.

Two answers are compared in both orders, because judges prefer a place as well as an answer (Zheng et al., 2023, arXiv
2306.05685): only what is said both times counts, the rest is a tie.
"""

from __future__ import annotations

import http.client
import itertools
import json
import math
import os
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from speechft import adapters
from speechft.errors import SpeechftError
from speechft.sources import resolve
from speechft.text.examples import Message, answered
from speechft.text.model import TextModel, autocast, load_text_model, prompt_tokens, reward_identity
from speechft.text.replies import said_option

RUBRIC = "Which answer is more helpful, correct and to the point?"
SCORE_RUBRIC = "How good is this answer?"
SCORES = tuple(range(1, 11))
MOST_TOKENS = 1024  # of an endpoint's reply: enough to think, or to explain, before the letter
SEVERAL_TURNS = [{"role": role, "content": "said"} for role in ("system", "user", "assistant", "user")]
TRIES, PAUSE_S, LONGEST_PAUSE_S = 4, 2.0, 60.0  # where a server is busy; the pause doubles unless the server names one
BAD_REQUEST, TOO_MANY, SERVER_ERROR = 400, 429, 500


class Choice(Protocol):
    """What a judge has to be able to do: say how much it favours each of a few words as the reply."""

    def __call__(self, messages: Sequence[Message], options: Sequence[str]) -> list[float]:
        """Weights of the options, not negative, summing to 1."""


@dataclass(frozen=True)
class Verdict:
    """A comparison in both orders.

    Attributes:
        winner: 1 or 2; 0 is a tie, where the orders disagree or the judge is undecided.
        first_when_first, first_when_second: how much the judge favours the first answer, 0 to 1, shown at either place.
    """

    winner: int
    first_when_first: float
    first_when_second: float

    @classmethod
    def of(cls, first_when_first: float, first_when_second: float) -> Verdict:
        """The verdict that two questions add up to."""
        low, high = sorted((first_when_first, first_when_second))
        return cls(1 if low > 0.5 else 2 if high < 0.5 else 0, first_when_first, first_when_second)

    @property
    def favour(self) -> float:
        """For the first answer, place taken out: the mean of both orders."""
        return (self.first_when_first + self.first_when_second) / 2


def compare(
    judge: Choice | RewardJudge, prompt: str | Sequence[Message], first: str, second: str, rubric: str = RUBRIC
) -> Verdict:
    """Which of two answers is better, asked in both orders.

    Args:
        judge: from `judge_from`, or any `Choice`. A reward model sees each answer alone, so it has no orders and heeds
            no rubric.
        prompt: what was answered: a question, or a conversation up to there.
        first, second: the answers.
        rubric: what the judge is told to look for.
    """
    if isinstance(judge, RewardJudge):
        alone = judge.favour(_messages(prompt), first, second)
        return Verdict.of(alone, alone)
    one = judge(_pair(prompt, first, second, rubric), ["A", "B"])[0]
    return Verdict.of(one, judge(_pair(prompt, second, first, rubric), ["A", "B"])[1])


def score(
    judge: Choice | RewardJudge, prompt: str | Sequence[Message], answer: str, rubric: str = SCORE_RUBRIC
) -> float:
    """A score from 1 to 10: the mean of the scores, weighted by how much the judge favours each.

    Args:
        judge, prompt, rubric: as in `compare`.

    Raises:
        SpeechftError: the judge is a reward model, whose numbers have no scale.
    """
    if isinstance(judge, RewardJudge):
        raise SpeechftError(
            "a reward model compares answers, and gives no score from 1 to 10", where=judge.text.name,
            fix="Compare pairs, or use a language model as the judge.",
        )  # fmt: skip
    text = f"{rubric}\n\n{question(prompt)}\n\nAnswer: {answer}\n\nReply with a number from 1 (bad) to 10 (good)."
    weights = judge([{"role": "user", "content": text}], [str(s) for s in SCORES])
    return sum(weight * s for weight, s in zip(weights, SCORES, strict=True))


def question(prompt: str | Sequence[Message]) -> str:
    """What a judge is shown of a prompt: one question as it is, of a conversation also who said what.

    >>> question([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}])
    'System: Be brief.\\n\\nUser: Why?'
    """
    messages = _messages(prompt)
    if [message["role"] for message in messages] == ["user"]:
        return f"Question: {messages[0]['content']}"
    return "\n\n".join(f"{message['role'].capitalize()}: {message['content']}" for message in messages)


def _messages(prompt: str | Sequence[Message]) -> Sequence[Message]:
    return [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt


def _pair(prompt: str | Sequence[Message], first: str, second: str, rubric: str) -> list[Message]:
    text = (
        f"{rubric}\n\n{question(prompt)}\n\nAnswer A: {first}\n\nAnswer B: {second}\n\n"
        "Reply with the letter of the better answer, A or B, and nothing else."
    )
    return [{"role": "user", "content": text}]


@dataclass(frozen=True)
class LocalJudge:
    """A local model; what it favours is read from its probabilities of the options.

    Where an option begins another, as 1 begins 10, what is counted for it is without the other.

    Args:
        text: see `speechft.text.model.load_text_model`.
    """

    text: TextModel

    @torch.inference_mode()
    def __call__(self, messages: Sequence[Message], options: Sequence[str]) -> list[float]:
        ids = prompt_tokens(self.text, messages)
        said = [self.text.tokenizer(option, add_special_tokens=False)["input_ids"] for option in options]
        scores = []
        for tokens in said:
            whole = torch.tensor([[*ids, *tokens]], device=self.text.device)
            with autocast(self.text.device):
                logits = self.text.model(input_ids=whole).logits[0, len(ids) - 1 : -1].float()
            picked = torch.log_softmax(logits, -1)[torch.arange(len(tokens)), torch.tensor(tokens)]
            scores.append(float(picked.sum()))
        shares = torch.softmax(torch.tensor(scores, dtype=torch.float64), 0)
        alone = shares.clone()
        for i, one in enumerate(said):
            for j, other in enumerate(said):
                if len(other) > len(one) and other[: len(one)] == one:
                    alone[i] -= shares[j]
        alone = alone.clamp(min=0)
        return (alone / alone.sum()).tolist()


@dataclass(frozen=True)
class EndpointJudge:
    """Any server that speaks OpenAI's chat completions: a local llama.cpp or vLLM, or a hosted one.

    Everything shown to the judge is sent to that server. The key is read from the environment when it is asked, and is
    written nowhere. A reply that was cut off before its end favours nothing: what it would have said is not known.

    Attributes:
        url: up to and with `/v1`.
        model: name on the server.
        key_variable: the environment variable that holds the key, if the server wants one.
        timeout_s: of one question.
    """

    url: str
    model: str
    key_variable: str = "OPENAI_API_KEY"
    timeout_s: float = 300.0

    def __call__(self, messages: Sequence[Message], options: Sequence[str]) -> list[float]:
        body = {"model": self.model, "messages": list(messages)}
        said = self._said({**body, "temperature": 0, "max_tokens": MOST_TOKENS}, or_else=body)
        return said_option(said, options)

    def _said(self, body: dict[str, Any], or_else: dict[str, Any] | None = None) -> str:
        """The reply, "" where it was cut off; `or_else` is sent where the server takes no such limits, as those of
        models that think first."""
        try:
            reply = self._reply(body)
        except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
            if or_else and getattr(error, "code", None) == BAD_REQUEST:
                return self._said(or_else)
            raise self._silent(f"{type(error).__name__}: {error}") from None
        try:
            choice = reply["choices"][0]
            content = choice["message"]["content"]
        except (LookupError, TypeError):
            raise self._silent("its reply has no choices[0].message.content") from None
        if choice.get("finish_reason") == "length":
            return ""
        return str(content or "")  # null where all it wrote was thought

    def _reply(self, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(  # noqa: S310 - the address is the user's own setting, checked by judge_from
            self.url.rstrip("/") + "/chat/completions",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"}
            | ({"Authorization": f"Bearer {key}"} if (key := os.environ.get(self.key_variable)) else {}),
        )
        for pause in [PAUSE_S * 2**n for n in range(TRIES - 1)]:
            try:
                return self._once(request)
            except urllib.error.HTTPError as error:
                if error.code != TOO_MANY and error.code < SERVER_ERROR:
                    raise
                named = str(error.headers.get("Retry-After", ""))  # else a date, which nobody sends
                time.sleep(min(float(named) if named.isdigit() else pause, LONGEST_PAUSE_S))
        return self._once(request)

    def _once(self, request: urllib.request.Request) -> Any:
        with urllib.request.urlopen(request, timeout=self.timeout_s) as response:  # noqa: S310
            return json.load(response)

    def _silent(self, why: str) -> SpeechftError:
        return SpeechftError(
            f"does not answer like a chat server ({why:.200})", where=self.url,
            fix="Check the address, the model's name and the key.",
        )  # fmt: skip


@dataclass(frozen=True)
class RewardJudge:
    """A reward model as a judge of pairs: the Bradley-Terry probability that one answer beats the other."""

    text: TextModel

    def favour(self, prompt: Sequence[Message], first: str, second: str) -> float:
        """For the first answer, 0 to 1."""
        from speechft.text.reward import rewards

        one, two = rewards(self.text, [answered(prompt, said) for said in (first, second)])
        return 1 / (1 + math.exp(two - one))


def judge_from(name: str, label: str | None = None) -> LocalJudge | EndpointJudge | RewardJudge:
    """The judge a recipe names: `model:NAME`, `url:ADDRESS MODEL` or `reward:NAME`.

    Args:
        label: of a public classifier as the reward model, see `speechft.text.classifier.load_classifier`.

    Raises:
        SpeechftError: none of these, or an address that is not http(s); or a label for what has none.
    """
    kind, _, rest = name.partition(":")
    if label and kind != "reward":
        raise SpeechftError(f"'{name}' has no label '{label}'", fix="Leave it out, or use a classifier: reward:NAME.")
    if kind == "model" and rest:
        return LocalJudge(load_text_model(rest, inference=True))
    if kind == "reward" and rest:
        from speechft.text.reward import load_reward_model

        return RewardJudge(load_reward_model(rest, label))
    address, _, model = rest.strip().partition(" ")
    if kind == "url" and address.startswith(("http://", "https://")) and model:
        return EndpointJudge(address, model.strip())
    raise SpeechftError(
        f"'{name}' is not a judge", fix="Use model:NAME, reward:NAME, or 'url:https://host/v1 MODEL' in quotes."
    )


def identity(name: str, rubric: str = RUBRIC, label: str | None = None) -> list[Any]:
    """What a judge's verdicts depend on: its name, its weights, its label and what it is asked; as JSON.

    A model or a reward model that was trained again in the same folder is another judge. Of an endpoint's model the
    weights cannot be seen: it is told by its address, its name there and how long its replies may be.
    """
    kind, _, rest = name.partition(":")
    inside: list[Any] = []
    if kind == "model":
        inside = [adapters.base_hash(resolve(rest))]
    elif kind == "reward":
        inside = [*reward_identity(rest), *([label] if label else [])]
    elif kind == "url":
        inside = [MOST_TOKENS]
    return [name, inside, _pair("question", "first", "second", rubric), question(SEVERAL_TURNS)]


def every_two(
    judge: Choice | RewardJudge, prompt: Sequence[Message], answers: Sequence[str], rubric: str = RUBRIC
) -> list[Verdict]:
    """Verdicts on each answer against each later one, in the order of `itertools.combinations`."""
    return [compare(judge, prompt, one, two, rubric) for one, two in itertools.combinations(answers, 2)]


def points_of(verdicts: Sequence[Verdict], count: int) -> list[float]:
    """How each of `count` answers does against all others, 0 to 1: the mean of what the judge favours it by.

    Args:
        verdicts: from `every_two`.
    """
    points = [0.0] * count
    for (i, j), verdict in zip(itertools.combinations(range(count), 2), verdicts, strict=True):
        points[i] += verdict.favour
        points[j] += 1 - verdict.favour
    return [point / max(1, count - 1) for point in points]


def ranking(
    judge: Choice | RewardJudge, prompt: Sequence[Message], answers: Sequence[str], rubric: str = RUBRIC
) -> list[float]:
    """The points of each answer against all others."""
    return points_of(every_two(judge, prompt, answers, rubric), len(answers))
