"""Learning from the recogniser's own mistakes: fewer expected word errors over its N-best lists.

Cross-entropy teaches the next right word after right words. It never sees what the model says by itself, where loops
and invented text come from. Minimum word error rate training (Prabhavalkar et al., 2018, arXiv 1712.01818) does: the
model writes several hypotheses of a clip, and those with fewer errors than it expects of its list become more
probable, those with more errors less, in proportion. A part of cross-entropy keeps it from forgetting what it knows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from speechft import adapters
from speechft.batching import IGNORED, Batch, token_tensors
from speechft.config import SpeechRecipe
from speechft.error_rate import word_errors
from speechft.errors import SpeechftError
from speechft.evaluate import Rates, evaluate_model, normalizer_for
from speechft.events import OnEvent
from speechft.locks import locked
from speechft.manifest import Manifest
from speechft.normalize import normalizer
from speechft.objective import FrozenHeadLoss
from speechft.own_results import refuse_foreign_results
from speechft.seen import Seen
from speechft.train import Run, Trained
from speechft.transcript import DecodeOptions, Transcript
from speechft.validation import validated
from speechft.whisper import core, decoder_states, encode

Hypothesis = tuple[list[int], int]  # label ids, word errors


def expected_errors(logprobs: Tensor, errors: Tensor) -> Tensor:
    """Word errors that the model expects of itself on one clip, less their mean over the list.

    Args:
        logprobs: of each hypothesis as a whole, shape (hypotheses,); of none of them the result is 0.
        errors: word errors of each, same shape. What is the same for all does not matter.
    """
    centred = errors - errors.sum() / max(1, len(errors))
    return (torch.softmax(logprobs, 0) * centred).sum()


def refine(
    adapter: str | Path,
    train: Manifest,
    dev: Manifest,
    out: str | Path,
    *,
    beams: int = 4,
    rounds: int = 2,
    batch_size: int = 4,
    learning_rate: float = 1e-4,
    risk: float = 1.0,
    cross_entropy: float = 0.1,
    seed: int = 0,
    on_event: OnEvent = lambda event: None,
) -> Trained:
    """Go on from a trained LoRA adapter on its own N-best lists, by the loop of `speechft.train`.

    Args:
        adapter: made by speechft; `base` of the result's progress is this adapter's error rates on dev.
        train, dev: utterances with texts; the lists come from train, the best state is chosen on dev.
        out: gets adapter/, checkpoints/ and metrics.jsonl; a run that was cut off there goes on.
        beams: hypotheses of a clip, as they come: no guard takes loops out.
        rounds: passes over the clips; the lists are written anew for each.
        risk: weight of the expected word errors, a mean over the clips of a step; with 0 this is plain training.
        cross_entropy: weight of the reference's mean token loss beside it.

    Returns:
        its `adapter` is None where no state was better on dev than the adapter it started from.

    Raises:
        SpeechftError: the adapter is no LoRA of ours, or nothing can be trained on.
    """
    card = adapters.read_card(adapter)
    if card.get("recipe", {}).get("adapter", {}).get("method") != "lora":
        raise SpeechftError(
            "is not a LoRA adapter trained by speechft", where=adapter, fix="Give OUT/adapter of speechft train."
        )
    settings = {
        **card["recipe"], "manifest": train.path or "-", "output_dir": Path(out), "epochs": rounds, "min_steps": 0,
        "max_steps": None, "batch_size": batch_size, "batch_seconds": None, "accumulate": 1, "augment": None,
        "learning_rate": learning_rate, "cache": "off", "average": False, "evaluations": rounds, "patience": rounds,
        "seed": seed, "tracking": None, "split_file": None,  # not for the adapter to say
    }  # fmt: skip
    recipe = validated(SpeechRecipe, settings, Path(adapter) / adapters.CARD)
    refuse_foreign_results(out)
    with locked(Path(out)):
        run = _Refinement(Path(adapter), beams, risk, cross_entropy, recipe, train, dev, on_event)
        return run.go({"refined": "minimum word error rate" if risk else "cross-entropy"})


class _Refinement(Run):
    def __init__(self, adapter: Path, beams: int, risk: float, cross_entropy: float, *run: Any) -> None:
        self.start, self.risk, self.cross_entropy = adapter, risk, cross_entropy
        self.besides = (adapters.base_hash(adapter), beams, risk, cross_entropy)
        self.options = DecodeOptions(beams=beams, temperatures=())
        self.lists: list[list[Hypothesis]] = []
        super().__init__(*run)

    def _adapted(self, model: Any) -> Any:
        adapted = adapters.load(model, self.start, self.folder)
        for name, parameter in adapted.named_parameters():
            parameter.requires_grad_("lora_" in name)
        return adapted

    def _card(self) -> dict[str, Any]:
        card = super()._card()
        return card | {"seen": Seen.by([card, adapters.read_card(self.start)]).to_dict()}

    def _evaluate_base(self) -> Rates:
        self.untrained = self.selection.evaluate(self.whisper)  # with the adapter that it starts from
        return self.selection.rates(self.untrained)

    def _train_step(self, step: int, batches: list[Batch]) -> None:
        if self.risk and (not self.lists or step % self.per_epoch == 0):
            self.lists = self._n_best()
        super()._train_step(step, batches)

    def _share(self, batch: Batch, n_targets: float) -> Tensor:
        device = self.base.device
        with self.accelerator.autocast():
            states = encode(self.whisper.model, batch.x.to(device))
            right = self._logprobs(batch.inputs.to(device), batch.targets.to(device), states)
            loss = -self.cross_entropy * right.sum() / n_targets
            own = [self.lists[index] if self.risk else [] for index in batch.indices]
            labels = [ids for hypotheses in own for ids, _ in hypotheses]
            if not labels:
                return loss
            rows = torch.tensor([row for row, hypotheses in enumerate(own) for _ in hypotheses], device=device)
            inputs, targets = token_tensors(labels, len(self.base.prompt()))
            said = self._logprobs(inputs.to(device), targets.to(device), states[rows])
        errors = torch.tensor([float(count) for hypotheses in own for _, count in hypotheses], device=device)
        sizes = [len(hypotheses) for hypotheses in own]
        clips = [expected_errors(*pair) for pair in zip(said.split(sizes), errors.split(sizes), strict=True)]
        return loss + self.risk * torch.stack(clips).sum() / self.recipe.batch_size

    def _logprobs(self, inputs: Tensor, targets: Tensor, states: Tensor) -> Tensor:
        """Log-probability of each row's target tokens together; shape (rows,)."""
        hidden, head = decoder_states(self.whisper.model, inputs, states), core(self.whisper.model).proj_out.weight
        wanted = targets != IGNORED
        return torch.stack(
            [
                -FrozenHeadLoss.apply(own[here], head, ids[here])
                for own, here, ids in zip(hidden, wanted, targets, strict=True)
            ]
        )

    def _n_best(self) -> list[list[Hypothesis]]:
        """The different hypotheses of each training clip; those too long for the decoder are left out."""
        self.whisper.model.eval()
        clean = normalizer(normalizer_for(self.base, self.train, self.recipe.normalizer))
        found = evaluate_model(
            self.whisper, self.train, self.recipe.normalizer, options=self.options, on_event=self.on_event
        )
        self.whisper.model.train()
        lists: dict[str, list[Hypothesis]] = {}
        for utterance, transcript in zip(found.heard, found.transcripts, strict=True):
            reference = clean(utterance.text)
            language = self.base.language_of(utterance.language)
            own = []
            for text, ended in _written(transcript).items():
                ids = self.base.label_ids(text, language)[: None if ended else -1]
                if len(ids) <= self.base.max_tokens:
                    own.append((ids, word_errors(reference, clean(text)).errors))
            lists[utterance.id] = own
        return [lists.get(utterance.id, []) for utterance in self.train]


def _written(transcript: Transcript) -> dict[str, bool]:
    """The different hypotheses, best first, and whether each has an end: a loop that the cap cut off has none, and with
    one it would be too improbable to learn from."""
    texts = (transcript.text, *transcript.alternatives)
    ends = (transcript.end_logprob, *transcript.alternatives_end)
    found: dict[str, bool] = {}
    for text, end in zip(texts, ends, strict=True):
        found.setdefault(text, end != 0 or not text)
    return found
