"""Which state of a run is kept: the one with the fewest errors on dev, the base model among them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from speechft import adapters, distributed
from speechft.averaging import RunningMean, in_place, mean_with_base
from speechft.checkpoint import Progress
from speechft.config import SpeechRecipe
from speechft.evaluate import Evaluation, Rates, evaluate_model
from speechft.events import Event, OnEvent
from speechft.files import save_tensors
from speechft.manifest import Manifest
from speechft.precision import NoNumbers
from speechft.significance import standard_error
from speechft.transcript import DecodeOptions
from speechft.whisper import Whisper


@dataclass
class Selection:
    """Compares states of a run on dev, and keeps the best of them on disk.

    Attributes:
        recipe: of the run.
        dev: utterances that choose.
        progress: the best rates, the base model's, and the evaluations since are kept up to date here.
        path: of the best state, a safetensors file.
        now: gives the model with its present weights.
        on_event: told of clips that were decoded or left out.
        log: gets a line for every state that was considered.
        decoding: of dev; greedy with guards where None.
    """

    recipe: SpeechRecipe
    dev: Manifest
    progress: Progress
    path: Path
    now: Callable[[], Whisper]
    on_event: OnEvent
    log: OnEvent
    decoding: DecodeOptions | None = None

    def evaluate(self, whisper: Whisper, confidences: bool = False) -> Evaluation:
        """What a model makes of dev; it is left in evaluation mode."""
        whisper.model.eval()
        return evaluate_model(
            whisper, self.dev, self.recipe.normalizer, options=self.decoding, confidences=confidences,
            on_event=self.on_event,
        )  # fmt: skip

    def rates(self, evaluation: Evaluation) -> Rates:
        """What states are compared by: WER and CER.

        A loop that is not tried again would outweigh all other errors. So without retries a clip has at most as many
        errors as words.
        """
        retries = self.decoding is None or bool(self.decoding.temperatures)
        return evaluation.rates if retries else (evaluation.scores.clipped(), evaluation.scores.cer)

    def start(self, base: Rates) -> None:
        """Begin with the rates of the base model, which every state has to beat."""
        self.progress.base = base
        self.log({"step": 0, **named(base), "model": "base"})

    def consider(self, label: str, tamer: bool = False) -> None:
        """Evaluate the weights as they are, and keep them if they are the best so far, the base model included.

        Args:
            label: what the log calls them.
            tamer: nearer to the base model than what came before: kept also if better than the base model and within
                a standard error of the best, by the rule of Breiman et al. (1984) for trees.
        """
        progress = self.progress
        now = self.now()
        found = distributed.from_first(lambda: self._rates_and_words(now))
        assert progress.base is not None
        if found is None:
            progress.stale += 1
            self.log({"step": progress.step, "wer": None, "cer": None, "model": label, "best": False})
            return
        rates, words = found
        best = progress.best or progress.base
        near = tamer and rates < progress.base and rates[0] <= best[0] + standard_error(best[0], words)
        if rates < best or near:
            progress.best, progress.best_step, progress.stale = rates, progress.step, 0
            if distributed.is_first():
                save_tensors(self.path, adapters.trainable_state(now.model))
        else:
            progress.stale += 1
        self.log({"step": progress.step, **named(rates), "model": label, "best": progress.stale == 0})

    def _rates_and_words(self, whisper: Whisper) -> tuple[Rates, int] | None:
        """Of a model on dev; None where what it computes is not finite, which no earlier state is to be lost for."""
        try:
            evaluation = self.evaluate(whisper)
        except NoNumbers:
            return None
        return self.rates(evaluation), max(1, evaluation.scores.words.length)

    def consider_means(self, model: nn.Module, mean: RunningMean, with_base: bool) -> None:
        """Consider the mean of the late weights and, with `with_base`, the mean of that and the base model."""
        late = mean.values if mean.count > 1 else None
        with in_place(model, late) if late else contextlib.nullcontext():
            if late:
                self.consider("mean of weights")
            if with_base and self.recipe.average and starts_at_zero(self.recipe):
                with in_place(model, mean_with_base(adapters.trainable_state(model))):
                    self.consider("mean with base", tamer=True)


def starts_at_zero(recipe: SpeechRecipe) -> bool:
    """Whether half of what is trained is half-way to the base model."""
    settings = recipe.adapter
    return settings.method == "lora" and not settings.dora and settings.init in ("zero", "eva")


def named(rates: Rates) -> Event:
    """(WER, CER) as a line of the log has them."""
    return {"wer": rates[0], "cer": rates[1]}
