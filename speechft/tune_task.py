"""What a study minimises: a recipe's best value on dev, of speech or of text."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechft import memory
from speechft.config import SpeechRecipe
from speechft.errors import SpeechftError
from speechft.events import Event, OnEvent
from speechft.feed import lengths
from speechft.manifest import Manifest
from speechft.overlap import Overlap, overlap
from speechft.pipeline import prepared
from speechft.result import notice
from speechft.schedule import evaluation_interval, planned_steps
from speechft.text.config import TextRecipe
from speechft.train import fit
from speechft.transcript import DecodeOptions

RUNGS = (1 / 16, 1 / 4, 1)  # parts of its own run after which a trial is looked at
WITHOUT_RETRIES = DecodeOptions(temperatures=())  # what diverged loops, and looping six times over says no more


@dataclass(frozen=True)
class Task:
    """What a study minimises.

    Attributes:
        metric: its name.
        data: hashes of what is trained and judged on.
        run: a recipe's best value on dev; it tells every event of the run, and what that raises ends the run. An event
            with a `rung` is an evaluation at which the run may be given up; the same rungs are compared.
        shared: what the splits have in common, of speech.
        notice: what must stand before the numbers where nobody said what they are of.
    """

    metric: str
    data: tuple[str, ...]
    run: Callable[[Any, OnEvent], float]
    shared: Overlap | None = None
    notice: str | None = None


def speech_task(recipe: SpeechRecipe, out: Path, dev_utterances: int) -> Task:
    """WER on a part of dev, drawn by seed; a clip has at most as many errors as words (`Selection.rates`)."""
    manifest, _ = prepared(recipe)
    train, dev, shared = manifest.split("train"), manifest.split("dev"), overlap(manifest)
    if train.path is None or not os.access(train.path.parent, os.W_OK):
        train = Manifest(train, out / "manifest.jsonl")  # cached activations lie beside it, for all trials
    order = sorted(dev, key=lambda u: hashlib.sha256(f"{recipe.seed}\0{u.id}".encode()).digest())
    chosen = {u.id for u in order[:dev_utterances]}
    dev = dev.filter(lambda u: u.id in chosen)
    base: dict[Any, tuple[float, float]] = {}  # of the untrained model: the first trial measures it for all
    own, seconds = recipe, sum(lengths(train))

    def run(recipe: SpeechRecipe, on_event: OnEvent) -> float:
        untrained = (recipe.model, recipe.language, recipe.normalizer, recipe.adapter.quantize, recipe.precision)
        at = rungs(recipe, planned_steps(recipe, len(train), seconds))
        if recipe.cache == "auto" and _cached_of(recipe) != _cached_of(own):
            # a cache of its own costs more than it saves a trial that is most likely given up
            recipe = recipe.model_copy(update={"cache": "off"})

        def told(event: Event) -> None:
            if event.get("model") == "base":
                base[untrained] = event["wer"], event["cer"]
            elif event.get("model") == "trained" and event["step"] in at:
                event = event | {"rung": at[event["step"]]}
            on_event(event)

        trained = fit(
            recipe, train, dev, on_event=told, base=base.get(untrained), evaluate_at=at, decoding=WITHOUT_RETRIES
        )
        memory.release()
        assert trained.progress.base is not None
        return (trained.progress.best or trained.progress.base)[0]

    return Task("dev WER, clipped", (train.sha256, dev.sha256), run, shared, notice(dev, manifest))


def _cached_of(recipe: SpeechRecipe) -> list[Any]:
    """What trials have to have in common to read one cache of encoder states."""
    adapter = recipe.adapter
    return [
        recipe.model, recipe.context, recipe.seed, recipe.precision, recipe.augment, adapter.quantize,
        adapter.placement, adapter.encoder_from,
    ]  # fmt: skip


def rungs(recipe: SpeechRecipe, steps: int) -> dict[int, int]:
    """The steps at which a trial is looked at, with the numbers of their rungs.

    They are parts of its own run, and not steps or clips that all trials have in common: a trial that goes on for
    longer still has a high learning rate where a shorter one has come to rest, and would be given up for that.
    `evaluations` in the recipe puts them at even distances instead.
    """
    if recipe.evaluations:
        every = evaluation_interval(recipe.evaluations, steps)
        return {every * number: number for number in range(1, recipe.evaluations + 1) if every * number <= steps}
    return {max(1, round(part * steps)): number for number, part in enumerate(RUNGS, 1)}


def text_task(recipe: TextRecipe) -> Task:
    """The task's own score on dev: a loss, or a reward with its sign turned."""
    from speechft.text.pipeline import corpus_of, task_module
    from speechft.text.training import forget_checkpoints

    corpus = corpus_of(recipe)
    # what was judged does not depend on what is searched: all trials read it from the study's folder
    shared = {"judged_in": Path(recipe.output_dir) / "judged"} if recipe.task == "feedback" else {}

    def run(recipe: TextRecipe, on_event: OnEvent) -> float:
        seen = 0

        def told(event: Event) -> None:
            nonlocal seen
            seen += "dev" in event
            on_event(event | {"rung": seen} if "dev" in event and seen < recipe.evaluations else event)

        best = float(task_module(recipe.task).train(recipe, corpus, told, **shared).best)
        forget_checkpoints(recipe.output_dir)
        if not math.isfinite(best):
            raise SpeechftError("its score on dev is not a number", where="trial", fix="Search lower learning rates.")
        return best

    return Task("dev loss", (corpus.sha256,), run)
