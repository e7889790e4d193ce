"""Proximal policy optimisation (Schulman et al., 2017, arXiv 1707.06347) of a language model, small enough to read.

One round: the policy answers prompts; each answer gets a reward at its end, and at each token a penalty for moving
away from the reference (Ziegler et al., 2019, arXiv 1909.08593), which is the same weights with the adapter off. A
value head on the policy says what reward is still to come; generalised advantages (Schulman et al., 2015, arXiv
1506.02438) say which tokens did better than that. A few passes of the clipped surrogate follow.

Tensors of a rollout have shape (answers, tokens - 1): place t is about token t + 1. They are 0 outside the answers.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from speechft import adapters
from speechft.checkpoint import load_checkpoint, save_checkpoint, with_prefix, without_prefixes
from speechft.interruption import Interrupted, deferred
from speechft.non_finite import broken_weights
from speechft.precision import all_finite
from speechft.quantization import optimizer as optimizer_of
from speechft.schedule import evaluation_interval, rate_factor
from speechft.text.batches import padded
from speechft.text.chat import IGNORED
from speechft.text.config import PolicyRecipe
from speechft.text.examples import Example
from speechft.text.generation import decoded, generate
from speechft.text.likelihood import label_logprobs
from speechft.text.model import TextModel, autocast, prompt_tokens
from speechft.text.training import Best, Fitted

Reward = Callable[[Sequence[Example], Sequence[str]], list[float]]
VALUE = "value/"  # prefix of the value head's weights in a checkpoint


@dataclass(frozen=True)
class Rollout:
    """What the policy did, and what it was worth; a row each answer.

    Attributes:
        ids, attention: prompt and answer, padded on the right, shape (answers, tokens).
        mask: 1 where an answer's token is predicted.
        logprobs, reference: of those tokens, by the policy that sampled them and by the reference.
        values: what the value head expected there.
        advantages, returns: from `advantages`.
        scores: the reward of each answer, shape (answers,).
    """

    ids: Tensor
    attention: Tensor
    mask: Tensor
    logprobs: Tensor
    reference: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor
    scores: Tensor

    def rows(self, index: Tensor) -> Rollout:
        return Rollout(**{name: value[index] for name, value in vars(self).items()})


def token_rewards(scores: Tensor, divergence: Tensor, mask: Tensor, kl: float) -> Tensor:
    """The penalty at every token, and the score at the last.

    Args:
        scores: shape (answers,).
        divergence: log-ratio of policy to reference, shape (answers, places).
        kl: weight of the penalty.
    """
    rewards = -kl * divergence * mask
    last = (mask * torch.arange(1, mask.shape[1] + 1, device=mask.device)).argmax(1)
    rewards[torch.arange(len(scores)), last] += scores
    return rewards


def advantages(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimates and the returns they imply; both 0 outside the mask.

    Args:
        rewards, values, mask: shape (answers, places); an answer's places are contiguous.
        gamma, lam: discount, and how far an estimate looks before it trusts the values.
    """
    found = torch.zeros_like(rewards)
    following = torch.zeros_like(rewards[:, 0])
    value_after = torch.zeros_like(following)
    for place in range(rewards.shape[1] - 1, -1, -1):
        here = mask[:, place]
        surprise = rewards[:, place] + gamma * value_after - values[:, place]
        following = (surprise + gamma * lam * following) * here
        value_after = values[:, place] * here
        found[:, place] = following
    return found, (found + values) * mask


def policy_loss(new: Tensor, old: Tensor, gains: Tensor, mask: Tensor, clip: float) -> tuple[Tensor, Tensor]:
    """The clipped surrogate, and the share of tokens whose ratio was clipped.

    Args:
        new, old: log-probabilities of the sampled tokens now, and when they were sampled.
        gains: advantages.
        clip: how far the ratio may move the loss.
    """
    ratio = torch.exp((new - old) * mask)
    loss = -torch.minimum(ratio * gains, ratio.clamp(1 - clip, 1 + clip) * gains)
    return mean(loss, mask), mean(((ratio - 1).abs() > clip).float(), mask)


def value_loss(new: Tensor, old: Tensor, returns: Tensor, mask: Tensor, clip: float) -> Tensor:
    """Half the squared error of the values, the worse of the new value and one that moved by `clip` at most.

    Args:
        new, old: what the value head expects now, and when the answers were sampled; shape (answers, places).
        returns: from `advantages`.
    """
    near = old + (new - old).clamp(-clip, clip)
    return 0.5 * mean(torch.maximum((new - returns) ** 2, (near - returns) ** 2), mask)


def mean(values: Tensor, mask: Tensor) -> Tensor:
    """Over the answers' tokens."""
    return (values * mask).sum() / mask.sum().clamp(min=1)


def whitened(values: Tensor, mask: Tensor) -> Tensor:
    """Mean 0 and variance 1 over the answers' tokens."""
    centred = (values - mean(values, mask)) * mask
    return centred / (mean(centred**2, mask).sqrt() + 1e-8)


class Policy(nn.Module):
    """The model with its value head.

    Args:
        text: with an adapter; with the adapter off it is the reference.
        temperature: of sampling; log-probabilities are those of the distribution that is sampled from.
        precision: of the recipe.
    """

    def __init__(self, text: TextModel, temperature: float, precision: str = "auto") -> None:
        super().__init__()
        self.text, self.model, self.temperature, self.precision = text, text.model, temperature, precision
        width = text.model.config.get_text_config().hidden_size
        self.value = nn.Linear(width, 1).to(text.device)
        nn.init.zeros_(self.value.weight)
        nn.init.zeros_(self.value.bias)
        self.eval()  # for good: with dropout, old and new probabilities differ by more than the update

    def forward(self, ids: Tensor, attention: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Log-probability of each token of the answers, and the value before it: shapes (rows, tokens - 1), else 0."""
        labels = nn.functional.pad(ids[:, 1:].masked_fill(mask == 0, IGNORED), (1, 0), value=IGNORED)
        with autocast(self.text.device, precision=self.precision):
            found, out = label_logprobs(
                self.model, ids, attention, labels, self.temperature, output_hidden_states=True, use_cache=False
            )
        return found, self.value(out.hidden_states[-1][:, :-1].float())[..., 0] * mask


def roll_out(policy: Policy, examples: Sequence[Example], reward: Reward, recipe: PolicyRecipe, seed: int) -> Rollout:
    """Answer prompts and work out what each token was worth.

    Args:
        examples: whose prompts are answered; `recipe.batch_size` rows are computed at once.
        reward: of each answer.
        seed: of sampling.
    """
    text = policy.text
    prompts = [prompt_tokens(text, example.prompt) for example in examples]
    found = generate(text, prompts, max_new_tokens=recipe.max_new_tokens, temperature=recipe.temperature, seed=seed)
    scores = torch.tensor(reward(examples, decoded(text, found)), device=text.device)
    ids, attention = padded([p + a for p, a in zip(prompts, found, strict=True)], text.tokenizer.pad_token_id)
    mask = torch.zeros(ids.shape[0], ids.shape[1] - 1)
    for row, (prompt, answer) in enumerate(zip(prompts, found, strict=True)):
        mask[row, len(prompt) - 1 : len(prompt) + len(answer) - 1] = 1
    ids, attention, mask = (t.to(text.device) for t in (ids, attention, mask))
    parts = [slice(start, start + recipe.batch_size) for start in range(0, len(ids), recipe.batch_size)]
    with torch.no_grad():
        old, values = (torch.cat(t) for t in zip(*(policy(ids[p], attention[p], mask[p]) for p in parts), strict=True))
        with adapters.disabled(text.model):
            reference = torch.cat([policy(ids[p], attention[p], mask[p])[0] for p in parts])
    gains, returns = advantages(
        token_rewards(scores, old - reference, mask, recipe.kl), values, mask, recipe.gamma, recipe.lam
    )
    return Rollout(ids, attention, mask, old, reference, values, whitened(gains, mask), returns, scores)


def train(recipe: PolicyRecipe, text: TextModel, examples: Sequence[Example], reward: Reward, best: Best) -> Fitted:
    """Rounds of rollouts and updates; `recipe.max_steps` rounds, each one line of metrics.jsonl.

    Args:
        text: with an adapter, which is trained.
        examples: whose prompts are answered; each fits into `recipe.max_length`.
        reward: of answers to them.
        best: keeps the state that does best on dev, and what a run that goes on needs to know.

    Raises:
        SpeechftError: OUT holds a run with other settings or data.
        Interrupted: it was asked to stop; the round is saved.
    """
    started = time.perf_counter()
    policy = Policy(text, recipe.temperature, recipe.precision)
    adapter = [p for _, p in adapters.trainable(text.model)]
    optimizer = optimizer_of(
        recipe.optimizer, [*adapter, *policy.value.parameters()], recipe.learning_rate, recipe.weight_decay
    )
    saved = _resumed(policy, optimizer, best)
    best.start(saved)
    first = saved["step"] if saved else 0
    every = evaluation_interval(recipe.evaluations, recipe.max_steps)
    with deferred() as asked:
        for step in range(first, recipe.max_steps):
            rate = recipe.learning_rate * rate_factor(recipe, step, recipe.max_steps)
            for group in optimizer.param_groups:
                group["lr"] = rate
            asked_about = prompts_of_round(examples, recipe, step)
            rollout = roll_out(policy, asked_about, reward, recipe, seed=recipe.seed + step)

            def fine(loss: float, norm: float, index: Tensor, step: int = step, of: Any = asked_about) -> bool:
                rows = list(dict.fromkeys(of[i].where for i in index.tolist()))
                return best.skips.judge(step + 1, loss, norm, rows, recipe, best.log)

            line = update(policy, rollout, optimizer, recipe, seed=recipe.seed + step, fine=fine)
            if not all_finite(p for group in optimizer.param_groups for p in group["params"]):
                raise broken_weights(step + 1, rate, recipe.output_dir)
            best.write({"step": step + 1, **line, "learning_rate": rate})
            last = step + 1 == recipe.max_steps
            if (step + 1) % every == 0 or last:
                best.consider(step + 1)
            stop = asked()
            if stop or last or (step + 1) % recipe.checkpoint_every == 0:
                weights = adapters.trainable_state(text.model)
                weights |= {f"{VALUE}{name}": p.detach().cpu() for name, p in policy.value.named_parameters()}
                save_checkpoint(best.folder, weights, optimizer, best.state(step + 1))
            if stop:
                raise Interrupted(stop, f"Stopped after round {step + 1} of {recipe.max_steps}; it is saved.")
    best.finish(recipe.max_steps)
    return best.fitted(recipe.max_steps, time.perf_counter() - started)


def prompts_of_round(examples: Sequence[Example], recipe: PolicyRecipe, step: int) -> list[Example]:
    """The prompts of a round: each epoch in another order, a function of seed and step alone."""
    picked = []
    for place in range(step * recipe.rollouts, (step + 1) * recipe.rollouts):
        epoch, index = divmod(place, len(examples))
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + epoch)
        picked.append(examples[int(torch.randperm(len(examples), generator=generator)[index])])
    return picked


def update(
    policy: Policy,
    rollout: Rollout,
    optimizer: torch.optim.Optimizer,
    recipe: PolicyRecipe,
    seed: int,
    fine: Callable[[float, float, Tensor], bool] = lambda loss, norm, index: True,
) -> dict[str, Any]:
    """Passes over a rollout in batches of `recipe.batch_size`.

    Args:
        optimizer: of the adapter and the value head.
        seed: of the order of answers.
        fine: whether a batch may change the weights, by its loss, the norm of its gradient and its places.

    Returns:
        of the round `loss`, `clipped` and `value_error`, over the batches that did change them; `reward`, `kl` (mean
        over answers of the summed log-ratio to the reference) and `answer_tokens`.
    """
    generator = torch.Generator().manual_seed(seed)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    totals: list[list[float]] = []
    for _ in range(recipe.ppo_epochs):
        for index in torch.randperm(len(rollout.scores), generator=generator).split(recipe.batch_size):
            batch = rollout.rows(index.to(rollout.ids.device))
            new, values = policy(batch.ids, batch.attention, batch.mask)
            surrogate, clipped = policy_loss(new, batch.logprobs, batch.advantages, batch.mask, recipe.clip)
            error = value_loss(values, batch.values, batch.returns, batch.mask, recipe.value_clip)
            loss = surrogate + recipe.value_weight * error
            loss.backward()
            norm = nn.utils.clip_grad_norm_(parameters, recipe.gradient_clip)
            value = float(loss.detach())
            if fine(value, float(norm), index):
                optimizer.step()
                totals.append([value, float(clipped), float(error.detach())])
            optimizer.zero_grad(set_to_none=True)
    loss_mean, clipped_mean, error_mean = torch.tensor(totals or [[math.nan] * 3]).mean(0).tolist()
    return {
        "loss": loss_mean,
        "reward": float(rollout.scores.mean()),
        "kl": float((rollout.logprobs - rollout.reference).sum(1).mean()),
        "clipped": clipped_mean,
        "value_error": error_mean,
        "answer_tokens": float(rollout.mask.sum(1).mean()),
    }


def _resumed(policy: Policy, optimizer: torch.optim.Optimizer, best: Best) -> dict[str, Any] | None:
    """The state that a run which was cut off saved, if one was; its weights are put back.

    Raises:
        SpeechftError: it had other settings or data.
    """
    found = load_checkpoint(best.folder, optimizer, best.fingerprint) if best.folder.is_dir() else None
    if found is None:
        return None
    weights, state = found
    policy.value.load_state_dict(with_prefix(weights, VALUE))
    adapters.load_trainable_state(policy.text.model, without_prefixes(weights, VALUE))
    return state
