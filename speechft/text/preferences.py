"""Learning from preferences: DPO, IPO, KTO and ORPO by TRL; the reference is the model with its adapter off."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from speechft import adapters
from speechft.errors import SpeechftError
from speechft.events import OnEvent
from speechft.peft_methods import TEXT_ONLY, has_reference
from speechft.text.chat import refuse_unlocated
from speechft.text.config import PairRecipe
from speechft.text.data import Corpus, drawn, held_out
from speechft.text.examples import Example, blocks_of, made_of, rejected
from speechft.text.likelihood import SumAndCount, answer_logprobs
from speechft.text.measure import Measure
from speechft.text.metrics import won
from speechft.text.model import TextModel, fitting
from speechft.text.trainer import WHERE, ours
from speechft.text.training import Fitted, arguments, fit, for_training, import_trl


def train(recipe: PairRecipe, corpus: Corpus, log: OnEvent) -> Fitted:
    """Train on the training pairs; the state with the lowest loss on dev is kept.

    No second copy of the model is in memory: where a loss compares with the model before training, the adapter is
    switched off for that pass.

    Raises:
        SpeechftError: the method and the loss do not go together, or no prompt leaves room for its answer.
    """
    refuse(recipe)
    trl = import_trl()
    text = for_training(recipe, log)
    kind, config = _trainer(trl, recipe.loss)

    def rows(examples: Sequence[Example]) -> Any:
        examples = usable(text, examples, recipe, log)  # TRL drops the others without a word
        return unpaired(examples, recipe.seed) if recipe.loss == "kto" else paired(examples)

    usable(text, held_out(corpus, recipe)[1], recipe, log)  # what cannot be measured is told now
    train_rows = rows(corpus.train)
    trainer = kind(
        model=text.model,
        args=arguments(config, recipe, text.device, beta=recipe.beta, **_loss_settings(recipe.loss, train_rows)),
        train_dataset=train_rows,
        eval_dataset=rows(drawn(corpus.dev, recipe.dev_examples, recipe.seed)),
        processing_class=text.tokenizer,
    )
    return fit(trainer, text, recipe, corpus, None, log)


def refuse(recipe: PairRecipe) -> None:
    """
    Raises:
        SpeechftError: the loss needs an adapter that can be switched off, or texts without one's own prompt before
            them, and the method has not.
    """
    method, init = recipe.adapter.method, recipe.adapter.init
    if recipe.loss == "orpo" and method in TEXT_ONLY:
        raise SpeechftError(
            f"orpo does not train the prompt that {method} tuning puts before a text", fix="Use adapter.method=lora."
        )
    if recipe.loss != "orpo" and not has_reference(method, init):
        instead = "" if method in TEXT_ONLY else ", or loss=orpo, which needs no reference"
        raise SpeechftError(
            f"{recipe.loss} compares with the model before training, but adapter.method={method} with init={init} "
            "changes it",
            fix=f"Use adapter.method=lora with init=zero{instead}.",
        )


def _trainer(trl: Any, loss: str) -> tuple[Any, Any]:
    if loss == "kto":
        return ours(trl.KTOTrainer), trl.KTOConfig  # which measures a divergence over a batch
    if loss == "orpo":
        from trl.experimental.orpo import ORPOConfig, ORPOTrainer

        return ours(ORPOTrainer), ORPOConfig  # a mean over tokens in it
    return ours(trl.DPOTrainer, mean_of_rows=True), trl.DPOConfig


def _loss_settings(loss: str, rows: Any) -> dict[str, Any]:
    if loss == "kto":  # good and bad answers weigh alike in sum, as section 4.2 of the paper advises
        good = sum(rows["label"])
        bad = len(rows) - good
        if not good or not bad:
            raise SpeechftError(
                "kto needs good answers and bad ones", where="label", fix="Add some of the kind that is missing."
            )
        return {"desirable_weight": max(1.0, bad / good), "undesirable_weight": max(1.0, good / bad)}
    return {"loss_type": ["sigmoid" if loss == "dpo" else loss]} if loss in ("dpo", "ipo") else {}


def usable(text: TextModel, examples: Sequence[Example], recipe: Any, log: OnEvent) -> list[Example]:
    """Those that fit and whose answers the template puts behind the prompt; the others are left out by name."""

    def located(example: Example) -> Example:
        refuse_unlocated(text.tokenizer, example.messages)
        if example.rejected is not None:
            refuse_unlocated(text.tokenizer, rejected(example))
        return example

    return made_of(fitting(text, examples, recipe.max_length, log), located, log)


def paired(examples: Sequence[Example]) -> Any:
    """Pairs as TRL's conversational rows."""
    from datasets import Dataset

    rows = [
        {"prompt": list(e.prompt), "chosen": _turn(e.answer), "rejected": _turn(e.rejected or ""), WHERE: e.where}
        for e in examples
        if e.rejected
    ]
    return Dataset.from_list(rows)


def unpaired(examples: Sequence[Example], seed: int) -> Any:
    """Single answers, each good or bad, in a random order; a pair becomes one of each.

    TRL takes the rows as they come, and estimates KTO's divergence from each prompt with its neighbour's answer: two
    answers to one prompt must not stand side by side.
    """
    from datasets import Dataset

    rows = []
    for e in examples:
        judged = [(e.answer, True), (e.rejected, False)] if e.rejected is not None else [(e.answer, bool(e.label))]
        for said, good in judged:
            rows.append({"prompt": list(e.prompt), "completion": _turn(said), "label": good, WHERE: e.where})
    random.Random(seed).shuffle(rows)
    return Dataset.from_list(rows)


def _turn(content: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": content}]


def measure(text: TextModel, examples: Sequence[Example], recipe: Any) -> dict[str, Measure]:
    """How often the better answer is the more probable one, and what it cost.

    Returns:
        `preference_accuracy`: log-probability of the chosen answer above that of the rejected one.
        `reward_accuracy`, `reward_margin`: of DPO's implicit reward, beta times the log-ratio to the reference; 0.5
        and 0 for the reference itself. Not of a model without an adapter, which has none.
        `label_accuracy`: of single answers, how often that reward is above 0 for a good one and below for a bad one.
        `perplexity`: of the chosen and the good answers.
        Each with its blocks, as pairs and single answers may be mixed.
    """
    pairs = [example for example in examples if example.rejected is not None]
    single = [example for example in examples if example.rejected is None]
    chosen, others = _both_logprobs(text, pairs, recipe)
    judged = _logprobs(text, single, recipe)
    good = [*pairs, *(example for example in single if example.label)]
    nll = [*chosen, *(part for part, example in zip(judged, single, strict=True) if example.label)]
    found: dict[str, Measure] = {}
    if pairs:
        favours = [won(c[0] - r[0]) for c, r in zip(chosen, others, strict=True)]
        found["preference_accuracy"] = replace(Measure.share(favours), blocks=blocks_of(pairs))
    if good:
        measured = Measure.perplexity([(-total, count) for total, count in nll])
        found["perplexity"] = replace(measured, blocks=blocks_of(good))
    if not hasattr(text.model, "disable_adapter"):
        return found
    with adapters.disabled(text.model):
        before, judged_before = _both_logprobs(text, pairs, recipe), _logprobs(text, single, recipe)
    if pairs:
        margins = [
            recipe.beta * ((c[0] - bc[0]) - (r[0] - br[0]))
            for c, r, bc, br in zip(chosen, others, *before, strict=True)
        ]
        found["reward_accuracy"] = replace(Measure.share([won(m) for m in margins]), blocks=blocks_of(pairs))
        found["reward_margin"] = replace(Measure.mean(margins), blocks=blocks_of(pairs))
    if single:
        gains = [after[0] - first[0] for after, first in zip(judged, judged_before, strict=True)]
        signs = [won(gain if example.label else -gain) for gain, example in zip(gains, single, strict=True)]
        found["label_accuracy"] = replace(Measure.share(signs), blocks=blocks_of(single))
    return found


def _both_logprobs(
    text: TextModel, pairs: Sequence[Example], recipe: Any
) -> tuple[list[SumAndCount], list[SumAndCount]]:
    return _logprobs(text, pairs, recipe), answer_logprobs(
        text, [rejected(e) for e in pairs], recipe.max_length, recipe.batch_size
    )


def _logprobs(text: TextModel, examples: Sequence[Example], recipe: Any) -> list[SumAndCount]:
    return answer_logprobs(text, [e.messages for e in examples], recipe.max_length, recipe.batch_size)
