"""A reward model: the language model with a head that gives one number for a conversation; those of others work too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from speechft import adapters
from speechft.errors import SpeechftError
from speechft.events import OnEvent
from speechft.sources import resolve, resolve_adapter
from speechft.text.batches import by_length, padded
from speechft.text.chat import rendered
from speechft.text.classifier import Classifier, encoded, load_classifier, log_odds
from speechft.text.config import RewardRecipe
from speechft.text.data import Corpus, drawn, held_out
from speechft.text.examples import Example, Message, made_of, rejected
from speechft.text.measure import Measure
from speechft.text.metrics import won
from speechft.text.model import GIVE_REWARD, TextModel, autocast, load_text_model
from speechft.text.trainer import WHERE, ours
from speechft.text.training import Fitted, arguments, fit, for_training, import_trl


def train(recipe: RewardRecipe, corpus: Corpus, log: OnEvent) -> Fitted:
    """Train adapter and head so that chosen answers get more than rejected ones; the lowest dev loss is kept."""
    if recipe.reward_label:
        raise SpeechftError(
            f"reward_label={recipe.reward_label} is of a classifier, which can be measured and is not trained here",
            fix="Leave it out, or use speechft evaluate.",
        )  # fmt: skip
    trl = import_trl()
    text = for_training(recipe, log, scalar=True)
    usable(text, held_out(corpus, recipe)[1], recipe, log)  # what cannot be measured is told now
    dev = drawn(corpus.dev, recipe.dev_examples, recipe.seed)
    trainer = ours(trl.RewardTrainer, mean_of_rows=True)(
        model=text.model,
        args=arguments(trl.RewardConfig, recipe, text.device),
        train_dataset=tokenized(text, corpus.train, recipe.max_length, log),
        eval_dataset=tokenized(text, dev, recipe.max_length, log),
        processing_class=text.tokenizer,
    )
    return fit(trainer, text, recipe, corpus, None, log)


def tokenized(text: TextModel, examples: Sequence[Example], max_length: int, log: OnEvent) -> Any:
    """Pairs as token ids, as `rewards` sees them; TRL's own tokenising drops pairs that are too long.

    Those that the template refuses are left out by name.

    Raises:
        SpeechftError: all of them.
    """
    from datasets import Dataset

    def row(example: Example) -> dict[str, Any]:
        sides = {"chosen_ids": example.messages, "rejected_ids": rejected(example)}
        made = {name: _inputs(text, messages, max_length)["input_ids"] for name, messages in sides.items()}
        return {**made, WHERE: example.where}

    return Dataset.from_list(made_of(examples, row, log))


def usable(text: TextModel, examples: Sequence[Example], recipe: RewardRecipe, log: OnEvent) -> list[Example]:
    """Those that can be scored; the others, which the template refuses, are left out by name."""

    def readable(example: Example) -> Example:
        for messages in (example.messages, rejected(example)):
            _inputs(text, messages, recipe.max_length)
        return example

    return made_of(examples, readable, log)


def _inputs(text: TextModel, messages: Sequence[Message], max_length: int | None) -> dict[str, list[int]]:
    """Of a longer conversation the start is cut, as the end is what is judged."""
    if isinstance(text, Classifier):
        return encoded(text, messages, max_length)
    ids = text.tokenizer(rendered(text.tokenizer, messages), add_special_tokens=False)["input_ids"]
    return {"input_ids": ids[-(max_length or 0) :]}


def refuse_unread(text: TextModel, example: Example) -> None:
    """Raises SpeechftError where a reward model's chat template refuses a conversation."""
    try:
        _inputs(text, example.messages, None)
    except SpeechftError as error:
        what = f"the reward model cannot rate answers to it: {error.what}"
        raise SpeechftError(what, where=example.where, fix=error.fix) from None


@torch.inference_mode()
def rewards(
    text: TextModel, conversations: Sequence[Sequence[Message]], max_length: int | None = 512, batch_size: int = 8
) -> list[float]:
    """The reward of each conversation; any real number, only differences mean something.

    Args:
        text: from `load_reward_model`, or loaded with `scalar=True`.
        max_length: tokens, all if None; of longer conversations the start is cut, of others' models see
            `classifier.encoded`.
    """
    text.model.eval()
    rows = [_inputs(text, messages, max_length) for messages in conversations]
    pad = text.tokenizer.pad_token_id
    found = [0.0] * len(rows)
    for places in by_length([row["input_ids"] for row in rows], 1 if pad is None else batch_size):
        given = {key: padded([rows[i][key] for i in places], 0)[0] for key in rows[places[0]]}
        given["input_ids"], given["attention_mask"] = padded([rows[i]["input_ids"] for i in places], pad or 0)
        with autocast(text.device):
            logits = text.model(**{key: value.to(text.device) for key, value in given.items()}).logits.float()
        values = log_odds(text, logits) if isinstance(text, Classifier) else logits[:, 0]
        for i, value in zip(places, values.tolist(), strict=True):
            found[i] = value
    return found


def load_reward_model(name: str | Path, label: str | None = None) -> TextModel:
    """The reward model that a reward recipe saved, an adapter or a whole model, or that was exported; or another's.

    Args:
        name: a folder or a hub id.
        label: of a public classifier, see `classifier.load_classifier`.

    Raises:
        SpeechftError: it is another kind of adapter, or a model without a head for labels, or see `load_classifier`.
    """
    try:
        folder = resolve_adapter(name)
    except SpeechftError as error:
        fix = "Give a reward model's folder, or its hub id (USER/NAME), and check the connection."
        raise SpeechftError(error.what, where=name, fix=fix) from None
    if not folder.is_dir():
        folder = resolve(name)
    card = adapters.own_card(folder)
    if not card and not (folder / adapters.CONFIG).is_file():
        return load_classifier(name, label)
    if card.get("task") != "reward":
        raise SpeechftError("is not a reward model", where=name, fix=GIVE_REWARD)
    if label:
        raise SpeechftError(
            f"is a reward model without labels, so it has no '{label}'", where=name, fix="Leave reward_label out."
        )
    if adapters.is_whole_model(folder):
        return load_text_model(folder, scalar=True, inference=True)
    # on other weights than those it was trained on it says something else
    bits = card.get("recipe", {}).get("adapter", {}).get("quantize")
    return load_text_model(adapters.base_of(folder), adapter=folder, quantize=bits, scalar=True, inference=True)


def measure(text: TextModel, examples: Sequence[Example], recipe: Any) -> dict[str, Measure]:
    """`accuracy`: how often the chosen answer gets more; ties count half. `margin`: by how much."""
    chosen = rewards(text, [e.messages for e in examples], recipe.max_length, recipe.batch_size)
    others = rewards(text, [rejected(e) for e in examples], recipe.max_length, recipe.batch_size)
    margins = [one - two for one, two in zip(chosen, others, strict=True)]
    return {"accuracy": Measure.share([won(m) for m in margins]), "margin": Measure.mean(margins)}
