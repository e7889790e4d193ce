"""Training: one visible loop on accelerate. It returns an adapter that beats the base model on dev, or none.

Everything random about a step is a function of the seed and the step's number, so a checkpoint is weights,
optimiser moments and counters, and a killed run goes on to the same bits.
"""

from __future__ import annotations

import contextlib
import shutil
import signal
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from speechft import adapters, distributed, left_out, memory
from speechft.averaging import RunningMean
from speechft.batching import Batch, empty_batch, with_labels
from speechft.cache import cached_layers, open_or_build
from speechft.checkpoint import Progress, append_metrics, trim_metrics
from speechft.config import SpeechRecipe
from speechft.context import Context
from speechft.descent import Descender, count_skipped
from speechft.eva import initialise_from_data
from speechft.evaluate import Evaluation, Rates, normalizer_for, refuse_wrong_words
from speechft.events import Event, OnEvent
from speechft.fast_lora import fuse
from speechft.feed import Feed
from speechft.files import refuse_special
from speechft.interruption import Interrupted, deferred
from speechft.language import in_known_languages, in_one_language
from speechft.locks import locked
from speechft.manifest import Manifest, Utterance
from speechft.objective import TokenLoss, recompute_layers
from speechft.own_results import refuse_foreign_results
from speechft.peft_methods import attach_rank_schedule
from speechft.precision import mixed_precision
from speechft.prefetch import prefetch
from speechft.quantization import optimizer
from speechft.recogniser import load
from speechft.run_state import RunState, fingerprint
from speechft.schedule import even_steps, planned_steps, rate_factor
from speechft.seen import Seen
from speechft.selection import Selection
from speechft.sharding import gather, whole_copy
from speechft.sources import resolve
from speechft.tracking import Tracking
from speechft.transcript import DecodeOptions
from speechft.whisper import Whisper, core

RELEASE_EVERY = 4  # steps
BY_HEART = 10  # passes over the clips from which on they are few: no early end, and half of the change is tried too


@dataclass(frozen=True)
class Trained:
    """What a run ended with.

    Attributes:
        adapter: folder of what was trained; None where nothing beat the base model.
        progress: counters at the end.
        steps: planned for the whole run.
        trainable, parameters: numbers trained, and in the whole model.
        padding: share of the frames that this process trained on that were padding.
        base: what the untrained model made of dev; None where a resumed run or the caller had its rates already.
        language: the one the model was set to; None where it detects the language, or knows only one.
    """

    adapter: Path | None
    progress: Progress
    steps: int
    trainable: int
    parameters: int
    padding: float
    base: Evaluation | None = None
    language: str | None = None


def fit(
    recipe: SpeechRecipe,
    train: Manifest,
    dev: Manifest,
    *,
    on_event: OnEvent = lambda event: None,
    card: dict[str, Any] | None = None,
    base: Rates | None = None,
    evaluate_at: Collection[int] | None = None,
    decoding: DecodeOptions | None = None,
    scored: Manifest | None = None,
) -> Trained:
    """Train on `train`, choose the best state on `dev`, and save it if it beats the base model.

    Args:
        recipe: the settings; its `output_dir` gets adapter/, checkpoints/ and metrics.jsonl. If a run with the
            same settings and data was cut off there, this one goes on from its last checkpoint.
        train, dev: utterances with texts.
        on_event: called with every line of metrics.jsonl, and with `{"event": name, ...}` for other news.
        card: what `speechft.json` beside the adapter should say besides.
        base: (WER, CER) of the base model on `dev` where they are known already; it is not evaluated then.
        evaluate_at: steps after which dev is evaluated, besides the last, instead of at the recipe's even distances.
        decoding: of dev; greedy with guards unless given.
        scored: what the caller will score afterwards; a wrong `command` or `entities` there ends the run at its start.

    Raises:
        SpeechftError: nothing to train on, another run in the folder, or one with other settings or data, or results
            that are not ours.
    """
    distributed.start()
    refuse_foreign_results(recipe.output_dir, recipe.adapter.saved_as)
    with locked(Path(recipe.output_dir)) if distributed.is_first() else contextlib.nullcontext():
        return Run(recipe, train, dev, on_event, evaluate_at, decoding, scored).go(card or {}, base)


class Run:
    """One training run; `go` is the loop.

    Attributes:
        besides: what the result depends on beside recipe, data and model, of a kind of run that has such things.
    """

    besides: tuple[Any, ...] = ()

    def __init__(
        self,
        recipe: SpeechRecipe,
        train: Manifest,
        dev: Manifest,
        on_event: OnEvent,
        evaluate_at: Collection[int] | None = None,
        decoding: DecodeOptions | None = None,
        scored: Manifest | None = None,
    ) -> None:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
        from accelerate.utils import set_seed

        self.started = time.perf_counter()
        self.recipe, self.out = recipe, Path(recipe.output_dir)
        adapters.refuse_foreign(self.out / recipe.adapter.saved_as)  # now, not after hours
        self.on_event = on_event if distributed.is_first() else lambda event: None
        self.dev = dev.spread(recipe.dev_clips)
        self.progress = Progress()
        best = self.out / "checkpoints" / "best.safetensors"
        self.selection = Selection(recipe, self.dev, self.progress, best, self._now, self.on_event, self._log, decoding)
        self.untrained: Evaluation | None = None
        set_seed(recipe.seed)
        memory.keep_heap()
        self.folder = resolve(recipe.model)
        base = load(recipe.model, language=recipe.language, quantize=recipe.adapter.quantize).whisper
        train = in_known_languages(base, train, self._leave_out)
        self.base = in_one_language(base, train, self.on_event)
        judged = scored or self.dev
        refuse_wrong_words(judged, normalizer_for(self.base, judged, recipe.normalizer))  # its language is known by now
        self.train, self.labels = with_labels(self.base, train, self._leave_out)
        self.context = Context(recipe.context)
        self.whisper = self.base.with_(
            model=self._adapted(self.base.model),
            context=self.context.for_decoding(),
        )
        fuse(self.whisper.model)
        if recipe.gradient_checkpointing:
            recompute_layers(self.whisper.model)
        precision = mixed_precision(recipe.precision, self.base.device)
        if precision == "bf16":
            adapters.store_frozen(self.whisper.model, torch.bfloat16)
        AcceleratorState._reset_state()  # it keeps the precision of the last run in this process, and allows no other
        self.accelerator = Accelerator(mixed_precision=precision, cpu=self.base.device.type == "cpu")
        self.tracking = Tracking(recipe.tracking if distributed.is_first() else None, self.out)
        self.cached_layers = None if distributed.is_sharded() else cached_layers(self.whisper.model, recipe)
        loss_of = TokenLoss(self.whisper.model, self.cached_layers or 0)
        self.feed = Feed(self.base, self.train, self.labels, recipe, self._leave_out)
        self.per_epoch = self.feed.per_epoch
        self.steps = planned_steps(recipe, len(self.train), sum(self.feed.seconds))
        self.evaluate_at = even_steps(recipe, self.steps, self.per_epoch) if evaluate_at is None else evaluate_at
        with self.accelerator.autocast():
            initialise_from_data(
                self.whisper.model, self._first_batches(), lambda batch: loss_of(*batch.tensors(self.base.device))
            )
        self.whole = self.whisper  # what is decoded and saved
        if distributed.is_sharded():
            self.whole = whole_copy(self.whisper, recipe)
            model = core(self.whisper.model).model
            distributed.shard(loss_of, [*model.encoder.layers, *model.decoder.layers])
        self.parameters = dict(adapters.trainable(self.whisper.model))
        made = optimizer(recipe.optimizer, self.parameters.values(), recipe.learning_rate, recipe.weight_decay)
        ranks = attach_rank_schedule(self.whisper.model, made, self.steps)
        # several processes: not wrapped, for gradients are summed in `descend`
        self.loss_of = self.accelerator.prepare_model(loss_of, evaluation_mode=distributed.world() > 1)
        self.optimizer = self.accelerator.prepare_optimizer(made)
        self.descend = Descender(
            recipe, self.train, self.accelerator, self._share, self.optimizer, self.parameters, self.on_event,
            empty_batch(self.base.n_mels),
        )  # fmt: skip
        self.mean = RunningMean(self.parameters)
        self.state = RunState(
            self.whisper.model, self.optimizer, self.mean, ranks, self.accelerator.scaler, self.progress
        )

    def _now(self) -> Whisper:
        """The model with its present weights, to decode with or to save; of several processes, in the first one."""
        if distributed.is_sharded():
            gather(self.whisper, self.whole)
        return self.whole

    def go(self, card: dict[str, Any], base: Rates | None = None) -> Trained:
        """Train, evaluate, keep the best; the whole course of a run."""
        progress = self.progress
        distributed.first_before_others(self._resume)
        if progress.base is None:
            self.selection.start(base or distributed.from_first(self._evaluate_base))
            self._checkpoint()
        self.whisper.model.train()
        if self.cached_layers is not None:
            build = partial(
                open_or_build, self.feed, self.whisper.model, self.folder, self.cached_layers, self.steps,
                precision=self.accelerator.autocast, on_event=self.on_event,
            )  # fmt: skip
            self.feed.cache = distributed.first_before_others(build)
        with deferred() as asked:
            self.began = time.perf_counter()  # of a step, whose batches are part of it
            for step, batches in prefetch(self.feed.steps(progress.step, self.steps), self.base.device):
                if progress.stopped:
                    break
                if batches or distributed.world() > 1:
                    self._train_step(step, batches)
                progress.step = step + 1
                last = progress.step == self.steps
                if last or progress.step in self.evaluate_at:
                    self._evaluate_here(last)
                (stop,) = distributed.summed([asked()], like=next(iter(self.parameters.values())))
                if stop or last or progress.stopped or progress.step % self.recipe.checkpoint_every == 0:
                    self._checkpoint()
                if stop:
                    raise Interrupted(
                        asked() or signal.SIGTERM, f"Stopped after step {progress.step} of {self.steps}; saved."
                    )
                self.began = time.perf_counter()
        return self._finish(card)

    def _evaluate_here(self, last: bool) -> None:
        """Evaluations that are due at this step, and what they say about going on."""
        self.selection.consider("trained")
        # by heart: dev clips are few too, and the rate has to fall to its end; to stop early is to stop by chance
        if not (last or self._by_heart) and self.progress.stale >= self.recipe.patience:
            self.progress.stopped = f"no improvement on dev for {self.progress.stale} evaluations"
        if last or self.progress.stopped:
            self.selection.consider_means(self.whisper.model, self.mean, with_base=self._by_heart)
        self.whisper.model.train()

    @property
    def _by_heart(self) -> bool:
        return self.steps >= BY_HEART * self.per_epoch

    def _train_step(self, step: int, batches: list[Batch]) -> None:
        """One optimiser step over the batches it accumulates."""
        rate = self.recipe.learning_rate * rate_factor(self.recipe, step, self.steps)
        descent = self.descend(step, batches, rate)
        if descent.empty:  # in every process: no step to average or log
            return
        count_skipped(descent, step, batches, self.train, self.progress, self.recipe, self.on_event)
        if step % RELEASE_EVERY == 0:
            memory.release()
        if self.recipe.average and step >= self.steps // 2:
            self.mean.add()
        self._log(
            {
                "step": step + 1,
                "epoch": round((step + 1) / self.per_epoch, 3),
                "loss": descent.loss,
                "learning_rate": rate,
                "gradient_norm": descent.norm,
                "step_seconds": round(time.perf_counter() - self.began, 4),
            }
        )

    def _adapted(self, model: Any) -> Any:
        """The model with what is trained."""
        return adapters.attach(model, **self.recipe.adapter.attach_arguments())

    def _share(self, batch: Batch, n_targets: float) -> Tensor:
        """A batch's part of the loss of an optimiser step that has so many target tokens."""
        return self.loss_of(*batch.tensors(self.base.device)) / n_targets

    def _first_batches(self) -> Iterator[Batch]:
        """As training will see them; from the recordings, for there is no cache of them yet."""
        for _, batches in self.feed.steps(0, self.steps, shared=False):
            yield from batches

    def _evaluate_base(self) -> Rates:
        # the adapter is zero still: decoding a merged copy is the base model, without its detour
        untrained = self.whole.with_(context=self.base.context)
        self.untrained = self.selection.evaluate(untrained, confidences=True)
        return self.selection.rates(self.untrained)

    def _finish(self, card: dict[str, Any]) -> Trained:
        progress = self.progress
        adapter = None
        kind = self.recipe.adapter.saved_as
        if not distributed.is_first():
            adapter = self.out / kind if progress.best_step is not None else None
        elif progress.best_step is not None:
            adapters.load_trainable_state(self.whole.model, load_file(refuse_special(self.selection.path)))
            card = self._card() | card
            adapter = adapters.save(self.whole.model, self.out / kind, card, self.recipe.model, self.folder)
        else:
            shutil.rmtree(self.out / kind, ignore_errors=True)  # of an earlier run here: it is not this run's result
        self.tracking.finish()
        self.accelerator.end_training()
        return Trained(
            adapter,
            progress,
            self.steps,
            sum(p.numel() for p in self.parameters.values()),
            sum(p.numel() for p in self.whisper.model.parameters()),
            self.feed.padding,
            self.untrained,
            self.base.language,
        )

    def _card(self) -> dict[str, Any]:
        """What the adapter must say about itself to be used rightly later."""
        own, base = {"seen": Seen.of(self.train, self.dev).to_dict()}, adapters.own_card(self.folder)
        return {
            "format": 1,
            "model": self.recipe.model,
            "base_sha256": adapters.base_hash(self.folder),
            "context": self.context.for_decoding().policy,
            "trained_context": self.context.policy,
            "language": self.base.language,
            "normalizer": normalizer_for(self.base, self.train, self.recipe.normalizer),
            "train_sha256": self.train.sha256,
            "seen": Seen.by([own, base] if base else [own]).to_dict(),  # and what a base of ours had
            "licence": self.recipe.adapter.licence or adapters.VOICE_LICENCE,
            "dev_wer": {"base": self.progress.base[0], "adapted": self.progress.best[0]},  # type: ignore[index]
            "recipe": self.recipe.model_dump(mode="json", exclude={"manifest", "output_dir", "speakers", "search"}),
        }

    @cached_property
    def _fingerprint(self) -> str:
        return fingerprint(self.recipe, self.train, self.dev, adapters.base_hash(self.folder), *self.besides)

    def _checkpoint(self) -> None:
        now = time.perf_counter()
        self.progress.seconds += now - self.started
        self.started = now
        if distributed.is_first() or distributed.is_sharded():
            self.state.save(self.out / "checkpoints", self._fingerprint)

    def _resume(self) -> None:
        """Go on from the last checkpoint if there is one, else start with a clean folder."""
        metrics = self.out / "metrics.jsonl"
        resumed = self.state.restore(self.out / "checkpoints", self._fingerprint)
        if distributed.is_first():
            if resumed:
                trim_metrics(metrics, self.progress.step)
            else:
                metrics.unlink(missing_ok=True)
        if resumed:
            self.on_event({"event": "resumed", "step": self.progress.step, "steps": self.steps})

    def _log(self, line: Event) -> None:
        if distributed.is_first():
            append_metrics(self.out / "metrics.jsonl", line)
        self.on_event({**line, "steps": self.steps})
        self.tracking.log(line)

    def _leave_out(self, utterance: Utterance, reason: str) -> None:
        if utterance.where not in self.progress.left_out:
            self.progress.left_out[utterance.where] = reason
            left_out.tell(self.on_event, utterance.where, reason)
