"""Instruction tuning: the loss is on what the assistant says, and what is measured is what it then answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from speechft.errors import SpeechftError
from speechft.text.chat import IGNORED, tokenize_chat
from speechft.text.config import SftRecipe
from speechft.text.data import Corpus, Example, drawn
from speechft.text.likelihood import answer_logprobs
from speechft.text.metrics import Measure, score_answers
from speechft.text.model import TextModel, answers
from speechft.text.training import Fitted, OnEvent, arguments, fit, for_training, import_trl


def train(recipe: SftRecipe, corpus: Corpus, log: OnEvent) -> Fitted:
    """Train on the training conversations; the state with the lowest loss on dev is kept."""
    trl = import_trl()
    text = for_training(recipe, log)
    settings = arguments(
        trl.SFTConfig, recipe, text.device, packing=recipe.packing, packing_strategy="bfd", eval_packing=False
    )
    trainer = trl.SFTTrainer(
        model=text.model,
        args=settings,
        train_dataset=tokenized(text, corpus.train, recipe.max_length, log),
        eval_dataset=tokenized(text, drawn(corpus.dev, recipe.dev_examples, recipe.seed), recipe.max_length, log),
        processing_class=text.tokenizer,
    )
    return fit(trainer, text, recipe, corpus, None, log)


def tokenized(text: TextModel, examples: Sequence[Example], max_length: int, log: OnEvent) -> Any:
    """Conversations as a dataset of `input_ids` and `labels`; those whose answer was cut off whole are left out.

    Raises:
        SpeechftError: all of them.
    """
    from datasets import Dataset

    reason = f"nothing is left of the answer at max_length={max_length}"
    rows = []
    for example in examples:
        row = tokenize_chat(text.tokenizer, example.messages, max_length)
        if any(label != IGNORED for label in row["labels"][1:]):
            rows.append(row)
        else:
            log({"event": "left out", "where": example.where, "reason": reason})
    if not rows:
        raise SpeechftError(f"no example fits: {reason}", where=examples[0].where, fix="Give a larger max_length.")
    return Dataset.from_list(rows)


def measure(text: TextModel, examples: Sequence[Example], recipe: SftRecipe) -> dict[str, Any]:
    """Perplexity of the reference answers, and the recipe's metrics of generated ones."""
    nll = answer_logprobs(text, [example.messages for example in examples], recipe.max_length, recipe.batch_size)
    found = answers(text, [example.prompt for example in examples], max_new_tokens=recipe.max_new_tokens)
    scores = score_answers(found, [example.references for example in examples], recipe.metrics)
    return {"perplexity": Measure.perplexity([(-total, count) for total, count in nll]), **scores}
