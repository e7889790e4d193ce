"""How strongly an adapter works: a dial from 0, the base model, to 1, the adapter as it was trained.

A voice that has been recorded little is often served best by less than the whole adapter; which, dev says.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from speechft import adapters
from speechft.adapter_files import changes_base
from speechft.context import OTHERS_CONTEXT, UNTRAINED, Context
from speechft.errors import SpeechftError
from speechft.evaluate import evaluate_model
from speechft.files import refuse_existing
from speechft.locks import new_place
from speechft.manifest import Manifest
from speechft.recogniser import card_of, load
from speechft.sources import resolve, resolve_adapter
from speechft.whisper import Whisper

SCALES = (0.0, 0.25, 0.5, 0.75, 1.0)
LARGEST = 100  # scale that is tried


def set_scale(model: Any, scale: float) -> None:
    """Turn the dial of a LoRA, AdaLoRA or bottleneck adapter; what is saved from then on is the adapter so weighed.

    Args:
        model: from `adapters.attach` or `adapters.load`.
        scale: 0 is the base model, 1 the adapter as trained; values outside are allowed where one wants to see them.

    Raises:
        SpeechftError: the method has no such dial.
    """
    config = getattr(model, "peft_config", {}).get("default")
    layers = [m for m in model.modules() if isinstance(getattr(m, "scaling", None), dict) and "default" in m.scaling]
    fixed = not layers or hasattr(model, "start")
    if config is None or fixed or getattr(config, "use_dora", False) or changes_base(vars(config)):
        raise SpeechftError(
            "this adapter has no scale that leads back to the base model",
            fix="LoRA, AdaLoRA and bottleneck adapters have; init=pissa of speechft has once it is saved and loaded.",
        )
    if getattr(config, "peft_type", None) == "ADALORA":  # peft takes an alpha of 0 or less for none given
        _scale_singular_values(model, scale)
        return
    key = "scale" if hasattr(config, "scale") else "lora_alpha"
    if not hasattr(model, "whole_scale"):
        own = dict(getattr(config, "alpha_pattern", None) or {})  # layers' own, as others may have
        model.whole_scale = getattr(config, key), own, [layer.scaling["default"] for layer in layers]
    whole, own, wholes = model.whole_scale
    setattr(config, key, whole * scale)
    if own:
        config.alpha_pattern = {name: alpha * scale for name, alpha in own.items()}
    for layer, value in zip(layers, wholes, strict=True):
        layer.scaling["default"] = value * scale


def _scale_singular_values(model: Any, scale: float) -> None:
    """AdaLoRA's B (A E) by E, from what it was when it was first asked for."""
    if not hasattr(model, "whole_values"):
        named = model.named_parameters()
        model.whole_values = {name: value.detach().clone() for name, value in named if ".lora_E." in name}
    for name, whole in model.whole_values.items():
        model.get_parameter(name).data.copy_(whole * scale)


def choose_scale(
    whisper: Whisper,
    dev: Manifest,
    normalizer: str = "auto",
    scales: Sequence[float] = SCALES,
    **settings: Any,
) -> tuple[float, dict[float, float]]:
    """Set the dial to where dev has the fewest word errors, the smallest scale of equals.

    Scale 0 is the base model, so it is heard at the context that the base is used with, not at the adapter's.

    Args:
        whisper: with an adapter.
        dev: utterances that it was not trained on.
        settings: of `evaluate.evaluate_model`.

    Returns:
        the scale that was set, and the WER at each.

    Raises:
        SpeechftError: a scale is not a number, or far from any that makes sense.
    """
    refuse_scales(scales)
    rates: dict[float, tuple[float, float]] = {}
    base = whisper.with_(context=_base_context(whisper))
    for scale in sorted(scales):
        set_scale(whisper.model, scale)
        scores = evaluate_model(whisper if scale else base, dev, normalizer, **settings).scores
        rates[scale] = scores.wer, scores.cer
    best = min(rates, key=lambda scale: rates[scale])
    set_scale(whisper.model, best)
    return best, {scale: wer for scale, (wer, _) in rates.items()}


def refuse_scales(scales: Sequence[float]) -> None:
    """Raises SpeechftError for scales that would not leave numbers of an adapter's."""
    for scale in scales:
        if not abs(scale) <= LARGEST:  # so nan is refused too
            raise SpeechftError(
                f"a scale of {scale:g} is no number from {-LARGEST} to {LARGEST}",
                fix="Give numbers such as 0.5; 1 is the adapter as it was trained.",
            )


def _base_context(whisper: Whisper) -> Context:
    """What the model is heard at without its adapter; one that was fine-tuned as a whole says itself."""
    card = card_of(whisper.name)
    return Context(card.get("context", OTHERS_CONTEXT)) if card else UNTRAINED


def save_at_best_scale(
    adapter: str | Path,
    dev: Manifest,
    out: str | Path,
    *,
    model: str | None = None,
    normalizer: str = "auto",
    scales: Sequence[float] = SCALES,
    **settings: Any,
) -> tuple[float, dict[float, float]]:
    """Write the adapter at the scale that dev chooses as one of its own; its card says `scale` and `scale_wer`.

    Nothing is written where dev chooses 0: no adapter serves better than the base model.

    Args:
        adapter: as of `speechft.load`, which takes `model` too.
        dev, normalizer, scales, settings: as of `choose_scale`.
        out: a new folder.

    Returns:
        the scale, and the WER at each.

    Raises:
        SpeechftError: the folder exists, or the adapter has no such dial.
    """
    out = Path(out)
    refuse_existing(out)
    refuse_scales(scales)
    whisper = load(model, adapter).whisper
    best, rates = choose_scale(whisper, dev, normalizer, scales, **settings)
    if not best:
        return best, rates
    card = adapters.read_card(resolve_adapter(adapter))
    card |= {"scale": best, "scale_wer": {str(scale): wer for scale, wer in rates.items()}}
    with new_place(out):
        adapters.save(whisper.model, out, card, whisper.name, resolve(whisper.name))
    return best, rates
