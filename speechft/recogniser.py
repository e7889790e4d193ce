"""A model and an adapter, loaded and ready to use: what `speechft.load` returns."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from speechft import adapters
from speechft.context import OTHERS_CONTEXT, Context
from speechft.decoder import inference_copy
from speechft.errors import SpeechftError
from speechft.evaluate import Evaluation, evaluate_model
from speechft.manifest import Manifest
from speechft.recording import Recording, transcribe
from speechft.sources import hub_id, resolve, resolve_adapter
from speechft.trained_on import THE_ADAPTER, THE_MODEL
from speechft.transcript import DecodeOptions
from speechft.whisper import Whisper, load_whisper

DEFAULT_MODEL = "bundled:tiny.en"


class Recogniser:
    """Speech to text with one model and at most one adapter.

    Attributes:
        whisper: the model; its `context` is the adapter's.
        adapter: the adapter's folder, or None.
        notes: what a reader of its transcripts must know, such as that the adapter names another base model.
    """

    def __init__(self, whisper: Whisper, adapter: Path | None = None, notes: Sequence[str] = ()) -> None:
        self.whisper = whisper
        self.adapter = adapter
        self.notes = list(notes)

    @cached_property
    def _ready(self) -> Whisper:
        return inference_copy(self.whisper)

    def transcribe(
        self,
        audio: str | Path | np.ndarray,
        *,
        words: bool = False,
        options: DecodeOptions | None = None,
        language: str | None = None,
        context: str | None = None,
    ) -> Recording:
        """Transcribe a file or mono 16 kHz samples of any length; `.text` of the result is the text.

        Args:
            words: also find when each word was said.
            options: beams, guards and so on.
            language: forced; else the model's, else detected.
            context: overrides the policy of model or adapter.
        """
        return transcribe(
            self._ready,
            audio,
            options,
            words=words,
            language=language,
            context=Context(context) if context else None,
            ready=True,
        )

    def evaluate(self, manifest: Manifest, normalizer: str = "auto", **settings: Any) -> Evaluation:
        """Error rates on a manifest; see `speechft.evaluate.evaluate_model`."""
        return evaluate_model(self.whisper, manifest, normalizer, **settings)


def load(
    model: str | Path | None = None,
    adapter: str | Path | None = None,
    *,
    language: str | None = None,
    device: str | None = None,
    quantize: str | None = None,
) -> Recogniser:
    """Load a model, with an adapter if there is one.

    Args:
        model: see `speechft.sources.resolve`; None means the one the adapter was trained on, else tiny.en.
        adapter: folder with adapter_config.json, such as OUT/adapter, or a hub's; see `sources.resolve_adapter`.
        language: of the speech; None means the adapter's, else detected (multilingual models).
        device: `cpu`, `cuda` or `mps`; the best there is unless given.
        quantize: `nf4`, `nf4-single`, `fp4` or `int8` weights.

    Raises:
        SpeechftError: a missing or damaged model or adapter, or one that belongs to another model.
    """
    adapter = resolve_adapter(adapter) if adapter else None
    card = card_of(adapter=adapter)
    name = str(model or (adapters.base_of(adapter) if adapter else DEFAULT_MODEL))
    folder = _base_folder(name, None if model else adapter)
    language = language or card.get("language")
    whisper = load_whisper(name, language=language, device=device, quantize=quantize or adapters.loftq_kind(card))
    if adapter is None:
        if card := card_of(name):  # a fully fine-tuned model of ours says itself how it was trained
            context = Context(card.get("context", OTHERS_CONTEXT))
            whisper = whisper.with_(context=context, language=language or card.get("language"))
        return Recogniser(whisper)
    adapted = adapters.load(whisper.model, adapter, folder)
    context = Context(card.get("context", OTHERS_CONTEXT))
    note = _other_base_named(adapter, name)
    return Recogniser(whisper.with_(model=adapted, context=context, adapter=adapter), adapter, [note] if note else [])


def _base_folder(name: str, named_by: Path | None) -> Path:
    """The folder of a base model; an error names the adapter whose files name the model, if they do."""
    try:
        return resolve(name)
    except (SpeechftError, OSError) as error:  # the latter of names that are too long
        if named_by is None:
            raise
        why = error.what if isinstance(error, SpeechftError) else error.strerror
        fix = error.fix if isinstance(error, SpeechftError) else "Ask its maker for the name."
        what = f"names a base model that cannot be had: {name[:80]} {why}"
        raise SpeechftError(what, where=named_by, fix=f"{fix} Or give one with --model.") from None


def _other_base_named(folder: Path, model: str) -> str | None:
    """What must be known of an adapter that names another base model than the one it is put on.

    Only of an adapter without a hash of its base, such as others make: one with a hash is refused where it differs. A
    folder has no name that could be compared.
    """
    card, config = adapters.read_card(folder), adapters.read_config(folder)
    named = str(card.get("model") or config.get("base_model_name_or_path") or "")
    theirs, ours = hub_id(named) if named else None, hub_id(model)
    if card.get("base_sha256") or theirs is None or ours is None or theirs == ours:
        return None
    return f"The adapter says that it was trained on {theirs}, and here it is used on {ours}."


def card_of(model: str | Path | None = None, adapter: str | Path | None = None) -> dict[str, Any]:
    """What an adapter, or a model that was fine-tuned as a whole, says of itself; empty where it says nothing."""
    if adapter:
        return adapters.read_card(resolve_adapter(adapter))
    return adapters.own_card(resolve(str(model))) if model else {}


def cards_of(model: str | Path | None = None, adapter: str | Path | None = None) -> dict[str, dict[str, Any]]:
    """The card by what it is of, for what a result says of it; a model that nobody adapted has none."""
    card = card_of(model, adapter)
    if adapter:
        return {THE_ADAPTER: card}
    return {THE_MODEL: card} if card else {}
