"""A reward model: the language model with a head that gives one number for a conversation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from speechft import adapters
from speechft.errors import SpeechftError
from speechft.events import OnEvent
from speechft.text.batches import by_length, padded
from speechft.text.chat import rendered
from speechft.text.config import RewardRecipe
from speechft.text.data import Corpus, Example, Message, drawn, held_out, made_of, rejected
from speechft.text.metrics import Measure, won
from speechft.text.model import GIVE_REWARD, TextModel, autocast, load_text_model
from speechft.text.training import Fitted, arguments, fit, for_training, import_trl


def train(recipe: RewardRecipe, corpus: Corpus, log: OnEvent) -> Fitted:
    """Train adapter and head so that chosen answers get more than rejected ones; the lowest dev loss is kept."""
    trl = import_trl()
    text = for_training(recipe, log, scalar=True)
    usable(text, held_out(corpus, recipe)[1], recipe, log)  # what cannot be measured is told now
    dev = drawn(corpus.dev, recipe.dev_examples, recipe.seed)
    trainer = trl.RewardTrainer(
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

    def row(example: Example) -> dict[str, list[int]]:
        sides = {"chosen_ids": example.messages, "rejected_ids": rejected(example)}
        return {name: _tokens(text, messages, max_length) for name, messages in sides.items()}

    return Dataset.from_list(made_of(examples, row, log))


def usable(text: TextModel, examples: Sequence[Example], recipe: RewardRecipe, log: OnEvent) -> list[Example]:
    """Those that can be scored; the others, which the template refuses, are left out by name."""

    def scored(example: Example) -> Example:
        for messages in (example.messages, rejected(example)):
            rendered(text.tokenizer, messages)
        return example

    return made_of(examples, scored, log)


def _tokens(text: TextModel, messages: Sequence[Message], max_length: int) -> list[int]:
    """Of a longer conversation the start is cut, as the end is what is judged."""
    return text.tokenizer(rendered(text.tokenizer, messages), add_special_tokens=False)["input_ids"][-max_length:]


@torch.inference_mode()
def rewards(
    text: TextModel, conversations: Sequence[Sequence[Message]], max_length: int = 512, batch_size: int = 8
) -> list[float]:
    """The reward of each conversation; any real number, only differences mean something.

    Args:
        text: loaded with `scalar=True`.
        max_length: tokens; of longer conversations the start is cut.
    """
    text.model.eval()
    rows = [_tokens(text, messages, max_length) for messages in conversations]
    found = [0.0] * len(rows)
    for chosen in by_length(rows, batch_size):
        ids, mask = padded([rows[i] for i in chosen], text.tokenizer.pad_token_id)
        with autocast(text.device):
            values = text.model(input_ids=ids.to(text.device), attention_mask=mask.to(text.device)).logits[:, 0]
        for i, value in zip(chosen, values.float().tolist(), strict=True):
            found[i] = value
    return found


def load_reward_model(folder: str | Path) -> TextModel:
    """The reward model that a reward recipe saved, an adapter or a whole model, or that was exported.

    Raises:
        SpeechftError: the folder holds another kind of adapter.
    """
    card = adapters.own_card(folder)
    if card.get("task") != "reward":
        raise SpeechftError("is not a reward model", where=folder, fix=GIVE_REWARD)
    if adapters.is_whole_model(folder):
        return load_text_model(folder, scalar=True)
    # on other weights than those it was trained on it says something else
    bits = card.get("recipe", {}).get("adapter", {}).get("quantize")
    return load_text_model(adapters.base_of(folder), adapter=folder, quantize=bits, scalar=True)


def measure(text: TextModel, examples: Sequence[Example], recipe: Any) -> dict[str, Measure]:
    """`accuracy`: how often the chosen answer gets more; ties count half. `margin`: by how much."""
    chosen = rewards(text, [e.messages for e in examples], recipe.max_length, recipe.batch_size)
    others = rewards(text, [rejected(e) for e in examples], recipe.max_length, recipe.batch_size)
    margins = [one - two for one, two in zip(chosen, others, strict=True)]
    return {"accuracy": Measure.share([won(m) for m in margins]), "margin": Measure.mean(margins)}
