"""Continued pre-training: packed documents of a domain, and perplexity in it and outside it before and after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from speechft.events import OnEvent
from speechft.text.chat import tokenize_document
from speechft.text.config import PretrainRecipe, TextRecipe
from speechft.text.data import Corpus, drawn, read
from speechft.text.examples import Example, blocks_of
from speechft.text.likelihood import document_nll
from speechft.text.measure import Measure
from speechft.text.model import TextModel
from speechft.text.packing import packs
from speechft.text.trainer import WHERE, ours
from speechft.text.training import Fitted, arguments, fit, for_training, import_trl


def train(recipe: PretrainRecipe, corpus: Corpus, log: OnEvent) -> Fitted:
    """Train on every token of the training documents; the state with the lowest loss on dev is kept.

    Documents are packed into sequences of `max_length`; longer ones go on in the next sequence. No document sees
    another one: positions start again, and attention stops, where one begins. A model that cannot do that gets each
    document, or what is left of it, in a sequence of its own.
    """
    from datasets import Dataset

    trl = import_trl()
    text = for_training(recipe, log)
    packing = packs(text, recipe, log)
    longest = None if packing else recipe.max_length
    parts = {
        name: Dataset.from_list(_rows(text, examples, longest))
        for name, examples in (("train", corpus.train), ("dev", drawn(corpus.dev, recipe.dev_examples, recipe.seed)))
    }
    settings = arguments(
        trl.SFTConfig, recipe, text.device, packing=packing, packing_strategy="bfd_split", eval_packing=packing
    )
    trainer = ours(trl.SFTTrainer)(
        model=text.model, args=settings, train_dataset=parts["train"], eval_dataset=parts["dev"],
        processing_class=text.tokenizer,
    )  # fmt: skip
    return fit(trainer, text, recipe, corpus, None, log)


def _rows(text: TextModel, examples: Sequence[Example], longest: int | None) -> list[dict[str, Any]]:
    """Documents as token ids, in pieces of so many at most, but for those of one, which predicts nothing."""
    rows = []
    for example in examples:
        ids = tokenize_document(text.tokenizer, example.document or example.answer)
        size = longest or max(1, len(ids))
        pieces = [ids[start : start + size] for start in range(0, len(ids), size)]
        kept = [piece for piece in pieces if longest is None or len(piece) > 1]
        rows += [{"input_ids": piece, "labels": piece, WHERE: example.where} for piece in kept]
    return rows


def usable(text: TextModel, examples: Sequence[Example], recipe: PretrainRecipe, log: OnEvent) -> list[Example]:
    """All of them: every document can be read."""
    return list(examples)


def measure(text: TextModel, examples: Sequence[Example], recipe: PretrainRecipe) -> dict[str, Measure]:
    """Perplexity of the held-out documents."""
    return {"perplexity": perplexity(text, examples, recipe)}


def elsewhere(text: TextModel, examples: Sequence[Example], recipe: TextRecipe) -> dict[str, Measure]:
    """Perplexity of documents of another domain, if there are any."""
    if not examples:
        return {}
    return {"perplexity_other_domain": replace(perplexity(text, examples, recipe), blocks=blocks_of(examples))}


def others(recipe: TextRecipe) -> tuple[Example, ...]:
    """Documents of the other domain; none where a recipe names none.

    Raises:
        SpeechftError: there is no such data, or no document in it.
    """
    if not recipe.other_domain:
        return ()
    other = read(recipe.other_domain, needs="document", rows=recipe.rows, seed=recipe.seed, training=False)
    return drawn((*other.test, *other.dev, *other.train), recipe.test_examples, recipe.seed)


def perplexity(text: TextModel, examples: Sequence[Example], recipe: TextRecipe) -> Measure:
    documents = [example.document or example.answer for example in examples]
    return Measure.perplexity(document_nll(text, documents, recipe.max_length, recipe.stride, recipe.batch_size))
