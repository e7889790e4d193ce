"""Whether a model keeps texts apart that are packed into one sequence, which not every architecture can."""

from __future__ import annotations

import torch
from torch import Tensor

from speechft.events import OnEvent
from speechft.peft_methods import TEXT_ONLY
from speechft.text.config import PretrainRecipe, SftRecipe
from speechft.text.model import TextModel, autocast
from speechft.text.training import import_trl

MOST = 0.1  # of what a text does to the next where both are one: rounding may give a few hundredths, OPT has 0.9


def packs(text: TextModel, recipe: PretrainRecipe | SftRecipe, log: OnEvent) -> bool:
    """Whether to pack: a recipe wants it, and the model allows it; where it does not, that is told."""
    if not recipe.packing or recipe.adapter.method in TEXT_ONLY:
        return recipe.packing
    if kept_apart(text):
        return True
    kind = text.model.config.model_type
    log({"event": "no packing", "reason": f"packed texts would see each other in a model of the kind {kind}"})
    return False


@torch.no_grad()
def kept_apart(text: TextModel) -> bool:
    """Whether a text has the same logits behind another one, packed as TRL packs them, as alone.

    What a model refuses, as some do that have convolutions over time, counts as not kept apart.
    """
    import_trl()
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    was_training = text.model.training
    text.model.eval()
    ids = [place * 7 % len(text.tokenizer) for place in range(3, 35)]
    half = len(ids) // 2
    collate = DataCollatorForLanguageModeling(pad_token_id=text.tokenizer.pad_token_id, padding_free=True)

    def logits(row: dict[str, list[int]]) -> Tensor:
        batch = {
            k: v.to(text.device) if isinstance(v, Tensor) else v for k, v in collate([row]).items() if k != "labels"
        }
        with autocast(text.device):
            return text.model(**batch, use_cache=False).logits[0, -half:].float()

    try:
        packed = logits({"input_ids": ids, "seq_lengths": [half, half]})
        alone = logits({"input_ids": ids[half:], "seq_lengths": [half]})
        seen = logits({"input_ids": ids, "seq_lengths": [2 * half]})
    except (TypeError, ValueError):
        return False
    finally:
        text.model.train(was_training)
    return bool((packed - alone).abs().max() <= MOST * (seen - alone).abs().max())
