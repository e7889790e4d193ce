"""What all text trainers share: their arguments from a recipe, our schedule, our log, and the best state on dev.

TRL's trainers do the optimising. What is kept is decided as for speech: the state that does best on dev, and only if
it does better there than the model before training.
"""

from __future__ import annotations

import math
import os
import shutil
import time
import types
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import PrinterCallback, Trainer, TrainerCallback

from speechft import adapters
from speechft.checkpoint import DAMAGED, LATEST, append_metrics, fingerprint_of, trim_metrics
from speechft.errors import SpeechftError, missing_extra, readable
from speechft.events import Event, OnEvent
from speechft.files import null_for_nan, refuse_special, save_tensors
from speechft.interruption import Interrupted, deferred
from speechft.marks import Mark, without
from speechft.non_finite import Skips
from speechft.peft_methods import TEXT_ONLY, RankSchedule, attach_rank_schedule, is_linear
from speechft.precision import mixed_precision
from speechft.quantization import optimizer
from speechft.schedule import evaluation_interval, rate_factor
from speechft.schedule import planned_steps as steps_of
from speechft.text.config import TextRecipe
from speechft.text.data import Corpus
from speechft.text.metrics import METRICS
from speechft.text.model import (
    TextModel,
    autocast,
    load_text_model,
    refuse_too_long,
    reward_identity,
    trainable_text_model,
)  # fmt: skip
from speechft.text.trainer import last_saved
from speechft.tracking import Tracking


@dataclass(frozen=True)
class Fitted:
    """What a run ended with.

    Attributes:
        text: the model with its best state.
        better: whether that beat the model before training on dev.
        base, best: dev scores, lower is better; `best_step` is null where nothing beat the base.
        steps: done.
        skipped: of them, those whose loss or gradient was not finite.
        seconds: from start to end.
    """

    text: TextModel
    better: bool
    base: float
    best: float
    best_step: int | None
    steps: int
    skipped: int
    seconds: float


def import_trl() -> Any:
    """TRL with its usage reports off; it asks huggingface_hub, which may have read the environment already."""
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    import huggingface_hub.constants

    huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY = True
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    import datasets

    datasets.disable_progress_bars()
    try:
        import trl
    except ImportError:
        raise missing_extra("trl", "text") from None
    return trl


def for_training(recipe: TextRecipe, log: OnEvent = lambda event: None, scalar: bool = False) -> TextModel:
    """The recipe's model with what it trains unfrozen; layers that the recipe names and the model lacks are told."""
    torch.manual_seed(recipe.seed)
    text = load_text_model(recipe.model, quantize=recipe.adapter.quantize, scalar=scalar)
    refuse_too_long(text, recipe.max_length, "Give a smaller max_length.")
    present = {name.rsplit(".", 1)[-1] for name, module in text.model.named_modules() if is_linear(module)}
    named = recipe.adapter.projections or []
    if missing := [name for name in named if name not in present]:
        rest = [name for name in named if name in present]
        log({"event": "no such layers", "names": ", ".join(missing), "adapted": ", ".join(rest)})
    return trainable_text_model(text, recipe.adapter, "score" if scalar else None, recipe.precision)


def arguments(kind: Any, recipe: TextRecipe, device: torch.device, **more: Any) -> Any:
    """A TRL configuration from a recipe: nothing is reported anywhere, nothing is pushed."""
    precision = mixed_precision(recipe.precision, device)
    settings = {
        "output_dir": str(Path(recipe.output_dir) / "checkpoints"),
        "per_device_train_batch_size": recipe.batch_size,
        "per_device_eval_batch_size": recipe.batch_size,
        "gradient_accumulation_steps": recipe.accumulate,
        "num_train_epochs": recipe.epochs,
        "max_steps": recipe.max_steps or -1,
        "learning_rate": recipe.learning_rate,
        "max_grad_norm": recipe.gradient_clip,
        "weight_decay": recipe.weight_decay,
        "seed": recipe.seed,
        "bf16": precision == "bf16",
        "fp16": precision == "fp16",
        "gradient_checkpointing": False,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "report_to": "none",
        "push_to_hub": False,
        "disable_tqdm": True,
        "save_strategy": "steps",
        "save_steps": recipe.checkpoint_every,
        "use_cpu": device.type == "cpu",
        "dataloader_pin_memory": False,
        "max_length": recipe.max_length,
    }
    known = kind.__dataclass_fields__
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # TRL's own names for what transformers has renamed
        return kind(**{key: value for key, value in (settings | more).items() if key in known})


def fit(
    trainer: Any, text: TextModel, recipe: TextRecipe, corpus: Corpus, score: Callable[[], float] | None, log: OnEvent
) -> Fitted:
    """Run a TRL trainer with our schedule, and end with the best state on dev.

    Args:
        trainer: of a kind from `ours`, built on `text.model`.
        score: of the model as it is, lower is better; the trainer's loss on its evaluation data unless told.
        log: gets every line of metrics.jsonl.
    """
    started = time.perf_counter()
    if recipe.adapter.method in TEXT_ONLY:
        _without_packing(trainer, recipe.precision)
    ranks = prepare(trainer, recipe)
    steps = planned_steps(trainer, recipe)
    best = Best(text, recipe, corpus, score or (lambda: float(trainer.evaluate()["eval_loss"])), log, steps)
    trainer.remove_callback(PrinterCallback)
    saved = last_saved(best.folder, best.fingerprint)
    done = saved.step if saved else None
    best.start(saved.state if saved else None)
    trainer.equip(best, ranks, saved)
    if done != steps:  # else it was cut off after training; the trainer would do a step more
        with deferred() as asked:
            trainer.add_callback(_Course(best, asked))
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")  # after a step left out
                trainer.train(resume_from_checkpoint=str(saved.folder) if saved else None)
            done = int(trainer.state.global_step)
            if asked():
                raise Interrupted(asked(), f"Stopped after step {done} of {steps}; it is saved.")
    best.finish(done)
    return best.fitted(done, time.perf_counter() - started)


def forget_checkpoints(out: str | Path) -> None:
    """Delete what a run would go on from: it is over, and what is kept is in best.safetensors and the adapter."""
    folder = Path(out) / "checkpoints"
    for checkpoint in folder.glob(LATEST):
        shutil.rmtree(checkpoint)


def _without_packing(trainer: Any, precision: str) -> None:
    """Prompts go before each text: give it the plain loss, for TRL's own looks for layers that they hide.

    Raises:
        SpeechftError: several texts are packed into one.
    """
    if getattr(trainer.args, "packing", False):
        raise SpeechftError(
            "prompt and prefix tuning put their prompt before a text, not before each of several packed into one",
            fix="Use another adapter.method, or packing=false.",
        )

    def compute_loss(*args: Any, **settings: Any) -> Any:
        # accelerate's own goes where peft switches the prompt off
        with autocast(trainer.model.device, precision=precision):
            return Trainer.compute_loss(trainer, *args, **settings)

    trainer.compute_loss = compute_loss
    trainer.mean_of_rows = False
    trainer.prediction_step = types.MethodType(Trainer.prediction_step, trainer)


def prepare(trainer: Any, recipe: TextRecipe) -> RankSchedule | None:
    """Give a trainer our optimiser and schedule; keep trained weights fp32; make the reference the adapter off."""
    model = trainer.model
    if hasattr(model, "peft_config") and "ref" in model.peft_config:
        model.delete_adapter("ref")  # TRL's copy of an adapter that is still zero: without it, it switches ours off
    parameters = [p for _, p in adapters.trainable(model)]
    for parameter in parameters:
        parameter.data = parameter.data.float()  # TRL casts them to bf16 on quantised models
    steps = planned_steps(trainer, recipe)
    trainer.optimizer = optimizer(recipe.optimizer, parameters, recipe.learning_rate, recipe.weight_decay)
    trainer.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
        trainer.optimizer, lambda step: rate_factor(recipe, step, steps)
    )
    return attach_rank_schedule(model, trainer.optimizer, steps)


def planned_steps(trainer: Any, recipe: TextRecipe) -> int:
    """Optimiser steps of the whole run."""
    return steps_of(recipe, len(trainer.train_dataset))


class Best:
    """The best state on dev so far, on disk; the model before training is the one to beat."""

    def __init__(
        self, text: TextModel, recipe: TextRecipe, corpus: Corpus, score: Callable[[], float], log: OnEvent, steps: int
    ) -> None:
        self.text, self.recipe, self.score, self.log, self.steps = text, recipe, score, log, steps
        self.out = Path(recipe.output_dir)
        self.folder = self.out / "checkpoints"
        self.tracking = Tracking(recipe.tracking, self.out)
        parts = [without(recipe, Mark.NOT_IN_WEIGHTS), corpus.sha256, adapters.base_hash(text.folder)]
        parts += _reward_weights(recipe)
        self.fingerprint = fingerprint_of(parts)
        self.base = self.best = math.nan
        self.best_step: int | None = None
        self.skips = Skips()
        self.seen = -1

    def start(self, saved: Mapping[str, Any] | None) -> None:
        """Score the model before training, or go on with what a run that was cut off knew.

        Args:
            saved: the state in the checkpoint that the run goes on from, if there is one; see `state`.
        """
        if saved:
            with readable(self.folder / LATEST, DAMAGED):
                self.base, self.best = (math.nan if saved[key] is None else saved[key] for key in ("base", "best"))
                self.best_step, self.seen = (
                    saved["best_step"],
                    saved["step"],
                )  # scored, where it was to be, before saved
                self.skips = Skips(**saved["skips"])
            trim_metrics(self.out / "metrics.jsonl", self.seen)
            self.log({"event": "resumed", "step": self.seen, "steps": self.steps})
            return
        (self.out / "metrics.jsonl").unlink(missing_ok=True)
        with adapters.disabled(self.text.model):  # prompts and some initial values change the model before training
            self.base = self.best = self.score()
        self.write({"step": 0, "dev": self.base, "model": "base"})

    def state(self, step: int) -> dict[str, Any]:
        """What a checkpoint after a step holds of this, as JSON; a file beside it could know of later steps."""
        known = {"fingerprint": self.fingerprint, "base": self.base, "best": self.best, "best_step": self.best_step}
        return null_for_nan(known | {"step": step, "skips": asdict(self.skips)})

    def consider(self, step: int) -> None:
        """Score the model as it is and keep it if it is the best."""
        value = self.score()
        self.seen = step
        better = math.isfinite(value) and value < self.best
        if better:
            self.best, self.best_step = value, step
            save_tensors(self.folder / "best.safetensors", adapters.trainable_state(self.text.model))
        self.write({"step": step, "dev": value, "model": "trained", "best": better})

    def finish(self, step: int) -> None:
        """Put the best state into the model; where nothing was better, the state at the end stays for inspection."""
        if self.seen != step:
            self.consider(step)
        if self.best_step is not None:
            path = self.folder / "best.safetensors"
            with readable(path, DAMAGED):
                adapters.load_trainable_state(self.text.model, load_file(refuse_special(path)))
        self.tracking.finish()

    def fitted(self, steps: int, seconds: float) -> Fitted:
        self.text.model.eval()
        better = self.best_step is not None
        return Fitted(
            self.text, better, self.base, self.best, self.best_step, steps, self.skips.skipped, round(seconds, 1)
        )

    def write(self, line: Event) -> None:
        """A line of metrics.jsonl, and an event."""
        self.out.mkdir(parents=True, exist_ok=True)
        append_metrics(self.out / "metrics.jsonl", line)
        self.tracking.log(line)
        self.log({**line, "steps": self.steps})


def _reward_weights(recipe: TextRecipe) -> list[str]:
    """The hash of a policy's reward model: one retrained in the same folder gives other rewards."""
    reward = getattr(recipe, "reward", None)
    return reward_identity(reward) if reward and reward not in METRICS else []


class _Course(TrainerCallback):
    """The trainer's log in our words, evaluations at even distances, and an end when it is asked for."""

    def __init__(self, best: Best, asked: Callable[[], int]) -> None:
        self.best, self.asked = best, asked
        self.every = evaluation_interval(best.recipe.evaluations, best.steps)

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **more: Any) -> None:
        if not logs or ("loss" not in logs and "reward" not in logs):
            return
        names = {"grad_norm": "gradient_norm"}
        numbers = {names.get(k, k): float(v) for k, v in logs.items() if isinstance(v, int | float)}
        self.best.write({"step": state.global_step, **numbers})

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        if state.global_step % self.every == 0 or state.global_step == self.best.steps:
            wanted, model = (control.should_log, control.should_save), more["model"]
            training = model.training
            self.best.consider(state.global_step)  # an evaluation by the trainer takes them off
            control.should_log, control.should_save = wanted
            model.train(training)  # or TRL counts what it logs of this step as the evaluation's
        if self.asked():  # to end: what is done is saved first
            control.should_save = control.should_training_stop = True
