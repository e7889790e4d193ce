"""An adapter's ways out of a model: into the weights for good, off, or off for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from speechft.adapter_files import changes_base
from speechft.errors import SpeechftError
from speechft.precision import NoNumbers, all_finite
from speechft.trainable_weights import load_trainable_state, trainable_state


def mergeable(model: Any) -> bool:
    """Whether what a model was given can become part of its weights, so that the result has the layers of the base."""
    config = getattr(model, "peft_config", {}).get("default")
    if config is None:
        return True
    if config.is_prompt_learning or config.peft_type == "BOTTLENECK":
        return False
    if config.peft_type == "BEFT":
        return all(m.get_base_layer().bias is not None for m in model.modules() if hasattr(m, "beft_bias"))
    return True


def merge(model: Any, where: object = None) -> Any:
    """Add the adapter into the weights for good; returns the plain transformers model.

    Args:
        where: what to name in an error, such as the adapter's folder.

    Raises:
        SpeechftError: the method adds layers or tokens, which no weight can take in; or the sum is not finite.
    """
    if not mergeable(model):
        kind = getattr(model.peft_config["default"].peft_type, "value", model.peft_config["default"].peft_type)
        raise SpeechftError(
            f"an adapter of the kind {kind} cannot be merged into this model",
            fix="Use it as it is, or train one whose row in docs/methods.md says that it merges.",
        )
    if not hasattr(model, "merge_and_unload"):
        return model
    changed = [module.get_base_layer() for module in model.modules() if hasattr(module, "get_base_layer")]
    merged = model.merge_and_unload()
    if not all_finite(weight for layer in changed for weight in layer.parameters() if weight.is_floating_point()):
        raise NoNumbers(where)
    return merged


def unload(model: Any) -> Any:
    """Take the adapter off; returns the base model as it was."""
    if not hasattr(model, "peft_config"):
        return model
    if model.peft_config["default"].is_prompt_learning:
        return model.get_base_model()
    if hasattr(model, "start"):  # PiSSA: what it took out of the weights goes back
        load_trainable_state(model, model.start)
        return model.merge_and_unload()
    _refuse_changed_base(model)
    return model.unload()


def _refuse_changed_base(model: Any) -> None:
    if changes_base(vars(model.peft_config["default"])):
        raise SpeechftError(
            "an adapter that took its initial values out of the weights cannot be taken off",
            fix="Load the base model by itself; what speechft trains with init=pissa comes off.",
        )


@contextlib.contextmanager
def disabled(model: Any) -> Iterator[None]:
    """Run the base model without its adapter for a while: the reference of a comparison, at no cost in memory."""
    if hasattr(model, "start"):  # PiSSA: its start is part of the base model
        now = trainable_state(model)
        load_trainable_state(model, model.start)
        try:
            yield
        finally:
            load_trainable_state(model, now)
    elif hasattr(model, "disable_adapter"):
        _refuse_changed_base(model)
        with model.disable_adapter():
            yield
    else:
        yield
