"""Instruction tuning: the loss is on what the assistant says, and what is measured is what it then answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from speechft.errors import SpeechftError
from speechft.events import OnEvent
from speechft.text.chat import IGNORED, refuse_unlocated, tokenize_chat
from speechft.text.config import SftRecipe
from speechft.text.data import Corpus, drawn, held_out
from speechft.text.examples import Example, made_of
from speechft.text.generation import answers
from speechft.text.likelihood import answer_logprobs
from speechft.text.measure import Measure
from speechft.text.metrics import score_answers
from speechft.text.model import TextModel, prompt_tokens, refuse_too_long
from speechft.text.packing import packs
from speechft.text.trainer import WHERE, ours
from speechft.text.training import Fitted, arguments, fit, for_training, import_trl


def train(recipe: SftRecipe, corpus: Corpus, log: OnEvent) -> Fitted:
    """Train on the training conversations; the state with the lowest loss on dev is kept."""
    trl = import_trl()
    text = for_training(recipe, log)
    usable(text, held_out(corpus, recipe)[1], recipe, log)  # what cannot be measured is told now
    settings = arguments(
        trl.SFTConfig, recipe, text.device, packing=packs(text, recipe, log), packing_strategy="bfd",
        eval_packing=False,
    )  # fmt: skip
    trainer = ours(trl.SFTTrainer)(
        model=text.model,
        args=settings,
        train_dataset=tokenized(text, corpus.train, recipe.max_length, log),
        eval_dataset=tokenized(text, drawn(corpus.dev, recipe.dev_examples, recipe.seed), recipe.max_length, log),
        processing_class=text.tokenizer,
    )
    return fit(trainer, text, recipe, corpus, None, log)


def tokenized(text: TextModel, examples: Sequence[Example], max_length: int, log: OnEvent) -> Any:
    """Conversations as a dataset of `input_ids` and `labels`, and `where` each is from.

    Those that the template refuses, and those whose answer was cut off whole, are left out by name.

    Raises:
        SpeechftError: all of them.
    """
    from datasets import Dataset

    def row(example: Example) -> dict[str, Any]:
        made = tokenize_chat(text.tokenizer, example.messages, max_length, unlearnt=example.unlearnt)
        if all(label == IGNORED for label in made["labels"][1:]):
            reason = f"nothing is left of the answer at max_length={max_length}"
            raise SpeechftError(reason, fix="Give a larger max_length.")
        return {**made, WHERE: example.where}

    return Dataset.from_list(made_of(examples, row, log))


def usable(text: TextModel, examples: Sequence[Example], recipe: SftRecipe, log: OnEvent) -> list[Example]:
    """Those that can be measured; what the template refuses, or is too long to answer, is left out by name."""

    def located(example: Example) -> Example:
        refuse_unlocated(text.tokenizer, example.messages)
        tokens = len(prompt_tokens(text, example.prompt)) + recipe.max_new_tokens
        refuse_too_long(text, tokens, "Give shorter prompts, or a smaller max_new_tokens.")
        return example

    return made_of(examples, located, log)


def measure(text: TextModel, examples: Sequence[Example], recipe: SftRecipe) -> dict[str, Any]:
    """Perplexity of the reference answers, and the recipe's metrics of generated ones."""
    nll = answer_logprobs(text, [example.messages for example in examples], recipe.max_length, recipe.batch_size)
    found = answers(text, [example.prompt for example in examples], max_new_tokens=recipe.max_new_tokens)
    scores = score_answers(found, [example.references for example in examples], recipe.metrics, recipe.encoder)
    return {"perplexity": Measure.perplexity([(-total, count) for total, count in nll]), **scores}
