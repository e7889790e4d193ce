"""A model whose weights lie in parts in several processes, and the whole one that the first decodes and saves with."""

from __future__ import annotations

import copy

from speechft import adapters, distributed
from speechft.config import SpeechRecipe
from speechft.errors import SpeechftError
from speechft.whisper import Whisper


def whole_copy(whisper: Whisper, recipe: SpeechRecipe) -> Whisper:
    """Before the model is sharded, a copy for the first process; the others, which do not decode, keep the model.

    Raises:
        SpeechftError: what the recipe wants has not been tried with sharded weights.
    """
    settings = recipe.adapter
    special = settings.quantize or settings.method == "adalora" or settings.init != "zero"
    if special or recipe.cache == "on" or recipe.optimizer != "adamw":
        raise SpeechftError(
            "quantize, adalora, init, cache=on and optimisers other than adamw do not work with sharded weights",
            where="recipe", fix="Leave them out, or launch without FSDP.",
        )  # fmt: skip
    return whisper.with_(model=copy.deepcopy(whisper.model)) if distributed.is_first() else whisper


def gather(sharded: Whisper, whole: Whisper) -> None:
    """Put the present trained weights of all processes into the first one's whole copy."""
    state = adapters.trainable_state(sharded.model)
    if distributed.is_first():
        adapters.load_trainable_state(whole.model, state)
