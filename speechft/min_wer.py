"""Learning from the recogniser's own mistakes: fewer expected word errors over its N-best lists.

Cross-entropy teaches the next right word after right words. It never sees what the model says by itself, where loops
and invented text come from. Minimum word error rate training (Prabhavalkar et al., 2018, arXiv 1712.01818) does: the
model writes several hypotheses of a clip, and those with fewer errors than the mean become more probable, those with
more errors less, in proportion. A part of cross-entropy keeps it from forgetting what it knows.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from speechft import adapters
from speechft.batching import IGNORED, Batch, teachable, token_tensors
from speechft.checkpoint import append_metrics, locked
from speechft.config import SpeechRecipe
from speechft.decode import DecodeOptions
from speechft.error_rate import word_errors
from speechft.errors import SpeechftError
from speechft.evaluate import Rates, evaluate_model
from speechft.feed import Feed
from speechft.manifest import Manifest
from speechft.normalize import normalizer
from speechft.precision import inference_dtype
from speechft.recogniser import load
from speechft.schedule import learning_rate_factor
from speechft.sources import resolve
from speechft.whisper import Whisper, core, decoder_states, encode


@dataclass(frozen=True)
class Refined:
    """What came of it.

    Attributes:
        adapter: the new folder; None where no state was better than the adapter it started from.
        before, after: (WER, CER) on dev of that adapter and of the best state.
        steps: done.
    """

    adapter: Path | None
    before: Rates
    after: Rates
    steps: int


def expected_errors(logprobs: Tensor, errors: Tensor) -> Tensor:
    """Word errors that the model expects of itself on one clip, less their mean over the list.

    Args:
        logprobs: of each hypothesis as a whole, shape (hypotheses,).
        errors: word errors of each, same shape. What is the same for all does not matter.
    """
    return (torch.softmax(logprobs, 0) * (errors - errors.mean())).sum()


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
    cross_entropy: float = 0.1,
    seed: int = 0,
    on_event: Callable[[dict[str, Any]], None] = lambda event: None,
) -> Refined:
    """Go on from a trained adapter on its own N-best lists.

    Args:
        adapter: a LoRA adapter of ours.
        train, dev: utterances with texts; the lists come from train, the best state is chosen on dev.
        out: gets adapter/ and metrics.jsonl.
        beams: hypotheses of a clip.
        rounds: passes over the clips; the lists are written anew for each.
        cross_entropy: weight of the reference's mean token loss beside the expected word errors.

    Raises:
        SpeechftError: the adapter is not one of ours, or nothing can be trained on.
    """
    card = adapters.read_card(adapter)
    if "recipe" not in card:
        raise SpeechftError("was not trained here", where=adapter, fix="Give OUT/adapter of speechft train.")
    folder = Path(out)
    settings = {
        **card["recipe"],
        "augment": None,
        "cache": "off",
        "batch_size": batch_size,
        "accumulate": 1,
        "seed": seed,
    }
    recipe = SpeechRecipe.model_validate({**settings, "manifest": train.path or "-", "output_dir": folder})
    with locked(folder):
        (folder / "metrics.jsonl").unlink(missing_ok=True)
        whisper = load(recipe.model, adapter, language=recipe.language).whisper
        for name, parameter in whisper.model.named_parameters():
            parameter.requires_grad_("lora_" in name)
        return _Refinement(whisper, recipe, train, dev, beams, cross_entropy, on_event).go(
            rounds, learning_rate, card, folder
        )


class _Refinement:
    def __init__(
        self, whisper: Whisper, recipe: SpeechRecipe, train: Manifest, dev: Manifest, beams: int, weight: float,
        on_event: Callable[[dict[str, Any]], None],
    ) -> None:  # fmt: skip
        self.whisper, self.recipe, self.dev, self.weight, self.on_event = whisper, recipe, dev, weight, on_event
        self.train, labels = teachable(whisper, train, lambda utterance, reason: None)
        self.feed = Feed(whisper, self.train, labels, recipe, lambda utterance, reason: None)
        self.options = DecodeOptions(beams=beams)
        self.clean = normalizer(recipe.normalizer)

    def go(self, rounds: int, learning_rate: float, card: dict[str, Any], out: Path) -> Refined:
        parameters = [p for _, p in adapters.trainable(self.whisper.model)]
        optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.0)
        total = rounds * self.feed.per_epoch
        before = best = self._rates()
        state: dict[str, Tensor] | None = None
        for number in range(rounds):
            lists = self._lists()
            first = number * self.feed.per_epoch
            self.whisper.model.train()
            for step, batches in self.feed.steps(first, first + self.feed.per_epoch):
                for group in optimizer.param_groups:
                    group["lr"] = learning_rate * learning_rate_factor(step, total, self.recipe.schedule)
                loss = sum(float(self._learn(batch, lists)) for batch in batches)
                torch.nn.utils.clip_grad_norm_(parameters, self.recipe.gradient_clip)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                line = {"step": step + 1, "loss": loss}
                append_metrics(out / "metrics.jsonl", line)
                self.on_event({**line, "steps": total})
            rates = self._rates()
            append_metrics(
                out / "metrics.jsonl", {"step": first + self.feed.per_epoch, "wer": rates[0], "cer": rates[1]}
            )
            if rates < best:
                best, state = rates, adapters.trainable_state(self.whisper.model)
        if state is None:
            shutil.rmtree(out / "adapter", ignore_errors=True)
            return Refined(None, before, best, total)
        adapters.load_trainable_state(self.whisper.model, state)
        card = card | {"refined": "minimum word error rate", "dev_wer": {"base": before[0], "adapted": best[0]}}
        folder = resolve(self.recipe.model)
        saved = adapters.save(self.whisper.model, out / "adapter", card, self.recipe.model, folder)
        return Refined(saved, before, best, total)

    def _rates(self) -> Rates:
        self.whisper.model.eval()
        return evaluate_model(self.whisper, self.dev, self.recipe.normalizer, on_event=self.on_event).rates

    def _lists(self) -> list[list[tuple[list[int], int]]]:
        """(label ids, word errors) of each different hypothesis of each training clip."""
        self.whisper.model.eval()
        found = evaluate_model(
            self.whisper, self.train, self.recipe.normalizer, options=self.options, on_event=self.on_event
        )
        lists = []
        for utterance, transcript in zip(self.train, found.transcripts, strict=True):
            texts = dict.fromkeys([transcript.text, *transcript.alternatives])
            reference = self.clean(utterance.text)
            pairs = [(self.whisper.label_ids(t), word_errors(reference, self.clean(t)).errors) for t in texts]
            lists.append([(ids, errors) for ids, errors in pairs if len(ids) <= self.whisper.max_tokens])
        return lists

    def _learn(self, batch: Batch, lists: Sequence[list[tuple[list[int], int]]]) -> Tensor:
        """Add a batch's gradient; returns its loss, a mean over clips."""
        own = [lists[index] for index in batch.indices]
        labels = [ids for hypotheses in own for ids, _ in hypotheses]
        inputs, targets = token_tensors(labels, len(self.whisper.prompt()))
        device = self.whisper.device
        rows = torch.tensor([row for row, hypotheses in enumerate(own) for _ in hypotheses], device=device)
        dtype = inference_dtype(device)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            states = encode(self.whisper.model, batch.x.to(device))
            said = self._logprobs(inputs.to(device), targets.to(device), states[rows]).sum(1)
            right = self._logprobs(batch.inputs.to(device), batch.targets.to(device), states)
        parts = said.split([len(hypotheses) for hypotheses in own])
        worth = [torch.tensor([float(errors) for _, errors in hypotheses], device=device) for hypotheses in own]
        clips = [expected_errors(one, two) for one, two in zip(parts, worth, strict=True)]
        loss = torch.stack(clips).mean() - self.weight * right.sum() / batch.n_targets
        loss.backward()
        return loss.detach()

    def _logprobs(self, inputs: Tensor, targets: Tensor, states: Tensor) -> Tensor:
        """Log-probability of each target token, 0 where there is none; shape (rows, tokens)."""
        hidden = decoder_states(self.whisper.model, inputs, states)
        logits = (hidden @ core(self.whisper.model).proj_out.weight.t()).float()
        return -torch.nn.functional.cross_entropy(
            logits.transpose(1, 2), targets, reduction="none", ignore_index=IGNORED
        )
