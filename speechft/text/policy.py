"""Reinforcement learning from a reward on sampled answers: our PPO, and RLOO and GRPO by TRL."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import torch

from speechft import adapters
from speechft.errors import SpeechftError
from speechft.events import OnEvent
from speechft.peft_methods import has_reference
from speechft.sources import local_adapter
from speechft.text import ppo
from speechft.text.chat import IGNORED
from speechft.text.classifier import Classifier
from speechft.text.config import PolicyRecipe
from speechft.text.data import Corpus, drawn, held_out
from speechft.text.examples import Example, answered
from speechft.text.generation import decoded, generate
from speechft.text.likelihood import sequence_logprobs
from speechft.text.measure import Measure
from speechft.text.metrics import METRICS
from speechft.text.model import TextModel, autocast, fitting, prompt_tokens
from speechft.text.reward import load_reward_model, refuse_unread, rewards
from speechft.text.trainer import WHERE, ours
from speechft.text.training import Best, Fitted, arguments, fit, for_training, import_trl


def train(recipe: PolicyRecipe, corpus: Corpus, log: OnEvent) -> Fitted:
    """Raise the reward; the state with the highest reward less its KL penalty on dev prompts is kept.

    Raises:
        SpeechftError: the method leaves no adapter that can be switched off, the reward needs reference answers that
            rows do not have, or no prompt is short enough.
    """
    method, init = recipe.adapter.method, recipe.adapter.init
    if not has_reference(method, init) or method == "adalora":  # whose ranks need a loop that knows its steps
        raise SpeechftError(
            f"the reference is the model with its adapter off, but method={method} with init={init} changes that model",
            fix="Use adapter.method=lora with init=zero.",
        )
    text = for_training(recipe, log)
    usable(text, held_out(corpus, recipe)[1], recipe, log)  # what cannot be measured is told now
    dev = usable(text, drawn(corpus.dev, recipe.dev_examples, recipe.seed), recipe, log)
    prompts = usable(text, corpus.train, recipe, log)  # no algorithm knows a longest prompt
    reward = standardised(text, dev, recipe, reward_function(recipe, (*corpus.train, *corpus.dev, *corpus.test)))

    def score() -> float:
        found = measured(text, dev, recipe, reward)
        return recipe.kl * found["kl"].value - found["reward"].value

    if recipe.algorithm == "ppo":
        best = Best(text, recipe, corpus, score, log, recipe.max_steps)
        return ppo.train(recipe, text, prompts, reward, best)
    trl = import_trl()
    kind, config = {"rloo": (trl.RLOOTrainer, trl.RLOOConfig), "grpo": (trl.GRPOTrainer, trl.GRPOConfig)}[
        recipe.algorithm
    ]
    settings = arguments(
        config, recipe, text.device, beta=recipe.kl, num_generations=recipe.samples, temperature=recipe.temperature,
        max_completion_length=recipe.max_new_tokens, epsilon=recipe.clip, loss_type="grpo", disable_dropout=True,
        use_vllm=False,
    )  # fmt: skip
    trainer = ours(kind)(
        model=text.model,
        reward_funcs=_for_trl(reward, prompts),
        args=settings,
        train_dataset=_prompts(prompts),
        processing_class=text.tokenizer,
    )
    with autocast(text.device, cache=False, precision=recipe.precision):  # TRL samples outside of its own
        return fit(trainer, text, recipe, corpus, score, log)


def reward_function(recipe: PolicyRecipe, examples: Sequence[Example]) -> ppo.Reward:
    """What an answer is worth: a metric against the reference answers, a reward model or a classifier.

    Args:
        examples: all that it will be asked about.

    Raises:
        SpeechftError: no such metric or model, an example without the answers that a metric compares with, or one that
            the reward model's chat template refuses.
    """
    if recipe.reward in METRICS:
        metric = METRICS[recipe.reward]
        if bare := next((example for example in examples if not example.references), None):
            raise SpeechftError(
                f"reward {recipe.reward} needs an answer in every row", where=bare.where,
                fix="Give rows with prompt and answer, or a reward model.",
            )  # fmt: skip
        return lambda examples, said: [
            max(metric(one, right) for right in example.references) for example, one in zip(examples, said, strict=True)
        ]
    folder = local_adapter(recipe.reward)
    if folder and not folder.is_dir():
        raise SpeechftError(
            f"reward '{recipe.reward}' is neither a metric nor a folder",
            fix=f"Give a reward model's folder or hub id (USER/NAME), or one of {', '.join(METRICS)}.",
        )
    model = load_reward_model(recipe.reward, recipe.reward_label)

    def worth(examples: Sequence[Example], said: Sequence[str]) -> list[float]:
        conversations = [answered(e.prompt, one) for e, one in zip(examples, said, strict=True)]
        return rewards(model, conversations, None if isinstance(model, Classifier) else recipe.max_length)

    for example in examples:
        refuse_unread(model, example)
    return worth


def standardised(text: TextModel, dev: Sequence[Example], recipe: PolicyRecipe, reward: ppo.Reward) -> ppo.Reward:
    """The reward less its mean, by its spread, over answers of the model before training (Ziegler et al., 2019).

    A reward model has no unit: with this, `kl`, `value_clip` and the learning rate mean the same for each.
    """
    with adapters.disabled(text.model):
        values = [part.errors for part in measured(text, dev, recipe, reward)["reward"].parts]
    mean, spread = statistics.fmean(values), statistics.pstdev(values) or 1.0
    return lambda examples, said: [(value - mean) / spread for value in reward(examples, said)]


def usable(text: TextModel, examples: Sequence[Example], recipe: PolicyRecipe, log: OnEvent) -> list[Example]:
    """Those whose prompt leaves room for an answer; the others are left out by name."""
    return fitting(text, examples, recipe.max_length, log)


def measure(text: TextModel, examples: Sequence[Example], recipe: PolicyRecipe) -> dict[str, Measure]:
    """`reward` of sampled answers, their `kl` to the model without its adapter, and their length in tokens."""
    return measured(text, examples, recipe, reward_function(recipe, examples))


def measured(
    text: TextModel, examples: Sequence[Example], recipe: PolicyRecipe, reward: ppo.Reward
) -> dict[str, Measure]:
    """As `measure`, with the reward at hand.

    Sampling starts from the recipe's seed, so a model scores the same; training keeps its own random numbers.
    """
    prompts = [prompt_tokens(text, example.prompt) for example in examples]
    with torch.random.fork_rng([text.device] if text.device.type == "cuda" else []):
        found = generate(
            text, prompts, max_new_tokens=recipe.max_new_tokens, temperature=recipe.temperature, seed=recipe.seed
        )
    said = decoded(text, found)
    ids = [p + a for p, a in zip(prompts, found, strict=True)]
    labels = [[IGNORED] * len(p) + a for p, a in zip(prompts, found, strict=True)]
    here = sequence_logprobs(text, ids, labels, recipe.batch_size, recipe.temperature)
    with adapters.disabled(text.model):
        before = sequence_logprobs(text, ids, labels, recipe.batch_size, recipe.temperature)
    return {
        "reward": Measure.mean(reward(examples, said)),
        "kl": Measure.mean([one - two for (one, _), (two, _) in zip(here, before, strict=True)]),
        "answer_tokens": Measure.mean([len(answer) for answer in found]),
    }


def _prompts(examples: Sequence[Example]) -> Any:
    from datasets import Dataset

    return Dataset.from_list([{"prompt": list(e.prompt), "index": i, WHERE: e.where} for i, e in enumerate(examples)])


def _for_trl(reward: ppo.Reward, examples: Sequence[Example]) -> Any:
    def scored(prompts: Any, completions: Any, index: list[int], **more: Any) -> list[float]:
        said = [completion[-1]["content"].strip() for completion in completions]
        return reward([examples[i] for i in index], said)

    return scored
