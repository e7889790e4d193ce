"""RLAIF: the model answers, a judge says which answers are better, and the model learns from that (Bai et al., 2022,
arXiv 2212.08073; Lee et al., 2023, arXiv 2309.00267)."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, islice
from pathlib import Path
from typing import Any

from speechft import adapters
from speechft.errors import SpeechftError
from speechft.events import OnEvent
from speechft.files import write_json, write_text
from speechft.text import preferences
from speechft.text.audit import audit
from speechft.text.chat import rendered
from speechft.text.config import FeedbackRecipe
from speechft.text.data import Corpus, drawn
from speechft.text.examples import Example, made_of
from speechft.text.generation import answers
from speechft.text.judge import Verdict, every_two, identity, judge_from, points_of, ranking
from speechft.text.measure import Measure
from speechft.text.model import TextModel, load_text_model
from speechft.text.training import Fitted

AT_ONCE = 16  # prompts, sampled and judged before that is written
LEAST_GAP = 0.05  # of the judge's favour between the best and the worst answer to a prompt


def train(recipe: FeedbackRecipe, corpus: Corpus, log: OnEvent, judged_in: Path | None = None) -> Fitted:
    """Sample and judge answers to the training and dev prompts, write them to OUT/preferences.jsonl, and train on them.

    The same file trains a reward model (`task: reward`), and that a policy (`task: policy`).

    Args:
        judged_in: folder of verdicts, which several runs may share; OUT/judged unless given.

    Raises:
        SpeechftError: as `preferences.train`, before anything is sampled; full fine-tuning; or a judge without an
            opinion.
    """
    preferences.refuse(recipe)
    if recipe.adapter.method == "full":
        raise SpeechftError(
            "answers are compared with those of the model before training, but full fine-tuning changes that model",
            fix="Use adapter.method=lora.",
        )
    judged = _judged_splits(recipe, corpus, log, judged_in or Path(recipe.output_dir) / "judged")
    found = {name: pairs(examples, said) for name, (examples, said) in judged.items()}
    rows = [_row(example, name) for name, examples in found.items() for example in examples]
    write_text(Path(recipe.output_dir) / "preferences.jsonl", (json.dumps(r, ensure_ascii=False) + "\n" for r in rows))
    log({"event": "judge", "measures": audit_of([one for _, said in judged.values() for one in said])})
    if not found["train"] or not found["dev"]:
        raise SpeechftError(
            "the judge prefers no answer to another", where=recipe.judge,
            fix="Use a stronger judge, more samples or a higher temperature.",
        )  # fmt: skip
    log({"event": "judged", **{name: len(examples) for name, examples in found.items()}})
    return preferences.train(recipe, Corpus(tuple(found["train"]), tuple(found["dev"]), ()), log)


@dataclass(frozen=True)
class Judged:
    """Different answers to one prompt, and what the judge says of them.

    Attributes:
        answers: none twice.
        verdicts: on every two of them, see `judge.every_two`.
    """

    answers: tuple[str, ...]
    verdicts: tuple[Verdict, ...]


def _judged_splits(
    recipe: FeedbackRecipe, corpus: Corpus, log: OnEvent, folder: Path
) -> dict[str, tuple[Sequence[Example], list[Judged]]]:
    """By split; the model that sampled and the judge are gone from memory when this returns."""
    judge = judge_from(recipe.judge, recipe.reward_label)
    text = load_text_model(recipe.model, quantize=recipe.adapter.quantize, inference=True)
    parts = {"train": corpus.train, "dev": drawn(corpus.dev, recipe.dev_examples, recipe.seed)}
    return {name: (part, judged_prompts(text, judge, part, recipe, log, folder)) for name, part in parts.items()}


def judged_prompts(
    text: TextModel, judge: Any, examples: Sequence[Example], recipe: FeedbackRecipe, log: OnEvent, folder: Path
) -> list[Judged]:
    """Answers to each prompt and the judge's verdicts on them, kept in a folder."""
    found: list[Judged] = []
    of = [adapters.base_hash(text.folder), identity(recipe.judge, recipe.rubric, recipe.reward_label)]
    for start in range(0, len(examples), AT_ONCE):
        part = examples[start : start + AT_ONCE]
        found += judged_answers(text, judge, part, recipe, folder, of, recipe.seed + start)
        log({"event": "judged", "prompts": start + len(part), "of": len(examples)})
    return found


def pairs(examples: Sequence[Example], judged: Sequence[Judged]) -> list[Example]:
    """The best and the worst of each prompt's answers, where the judge tells them apart."""
    found = []
    for example, one in zip(examples, judged, strict=True):
        points = points_of(one.verdicts, len(one.answers))
        best, worst = max(points, default=0.0), min(points, default=0.0)
        if best - worst >= LEAST_GAP:
            chosen, rejected = one.answers[points.index(best)], one.answers[points.index(worst)]
            extra = {"favour": round(best - worst, 4)}
            found.append(
                dataclasses.replace(example, answer=chosen, references=(chosen,), rejected=rejected, extra=extra)
            )
    return found


def audit_of(judged: Sequence[Judged]) -> dict[str, Any]:
    """The judge's preference for a place and for length, in characters; verdicts on one prompt are drawn together."""
    return audit(
        [verdict for one in judged for verdict in one.verdicts],
        [(len(a), len(b)) for one in judged for a, b in combinations(one.answers, 2)],
        blocks=[str(number) for number, one in enumerate(judged) for _ in one.verdicts],
    )


def judged_answers(
    text: TextModel,
    judge: Any,
    examples: Sequence[Example],
    recipe: FeedbackRecipe,
    folder: Path,
    of: list[Any],
    seed: int,
) -> list[Judged]:
    """Different answers to each prompt and the judge's verdicts on every two.

    What was judged is kept in a folder and read from there by a run that goes on: a judge may cost hours, or money.

    Args:
        folder: usually OUT/judged.
        of: what tells the model and the judge from others of the same names, such as those trained again.
        seed: of sampling.
    """
    prompts = [example.prompt for example in examples]
    settings = {"max_new_tokens": recipe.max_new_tokens, "temperature": recipe.temperature, "seed": seed}
    key = json.dumps([prompts, settings, recipe.samples, recipe.adapter.quantize, of], sort_keys=True)
    file = folder / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.json"
    if file.is_file():
        kept = json.loads(file.read_text(encoding="utf-8"))
        return [Judged(tuple(one["answers"]), tuple(Verdict.of(*both) for both in one["verdicts"])) for one in kept]
    said = iter(answers(text, [prompt for prompt in prompts for _ in range(recipe.samples)], **settings))
    found = []
    for prompt in prompts:
        unique = tuple(dict.fromkeys(filter(None, islice(said, recipe.samples))))
        found.append(Judged(unique, tuple(every_two(judge, prompt, unique, recipe.rubric))))
    rows = [
        {"answers": one.answers, "verdicts": [(v.first_when_first, v.first_when_second) for v in one.verdicts]}
        for one in found
    ]
    write_json(file, rows)
    return found


def usable(text: TextModel, examples: Sequence[Example], recipe: FeedbackRecipe, log: OnEvent) -> list[Example]:
    """Those whose prompt the template takes; the others are left out by name."""

    def answerable(example: Example) -> Example:
        rendered(text.tokenizer, example.prompt, opened=True)
        return example

    return made_of(examples, answerable, log)


def measure(text: TextModel, examples: Sequence[Example], recipe: FeedbackRecipe) -> dict[str, Measure]:
    """`win_rate` of sampled answers against those of the model without its adapter, by the same judge, both orders.

    The judge that taught the model also marks it here, so this says that it learnt what the judge likes, no more.
    """
    judge = judge_from(recipe.judge, recipe.reward_label)
    prompts = [example.prompt for example in examples]
    settings = {"max_new_tokens": recipe.max_new_tokens, "temperature": recipe.temperature, "seed": recipe.seed}
    ours = answers(text, prompts, **settings)
    with adapters.disabled(text.model):
        theirs = answers(text, prompts, **settings)
    favours = [
        0.5 if one == two else ranking(judge, prompt, [one, two], recipe.rubric)[0]
        for prompt, one, two in zip(prompts, ours, theirs, strict=True)
    ]
    return {
        "win_rate": Measure.mean(favours),
        "answer_characters": Measure.mean([len(answer) for answer in ours]),
    }


def _row(example: Example, split: str) -> dict[str, Any]:
    return {
        "prompt": list(example.prompt),
        "chosen": example.answer,
        "rejected": example.rejected,
        "split": split,
        **example.extra,
    }
