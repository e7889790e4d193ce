"""PPO: its pieces against arithmetic by hand, and the whole against a reward it can raise."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from text.conftest import stop_at_the_end

from speechft import adapters
from speechft.errors import SpeechftError
from speechft.interruption import Interrupted
from speechft.text.config import PolicyRecipe, RewardRecipe
from speechft.text.data import read
from speechft.text.generation import answers, generate
from speechft.text.model import TextModel, load_text_model, prompt_tokens
from speechft.text.pipeline import evaluate, train
from speechft.text.policy import measured, standardised
from speechft.text.ppo import (
    Policy,
    advantages,
    policy_loss,
    prompts_of_round,
    roll_out,
    token_rewards,
    update,
    value_loss,
)
from speechft.text.training import for_training

WORDS = ["cat", "dog", "bird", "fish", "story", "tree", "house", "water"]


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("prompts") / "prompts.jsonl"
    rows = [
        {"prompt": f"say {a} {b}", "answer": "yes", "split": {0: "test", 1: "dev"}.get((i + j) % 4, "train")}
        for i, a in enumerate(WORDS)
        for j, b in enumerate(WORDS)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_rewards_come_at_the_end_and_the_penalty_at_every_token() -> None:
    mask = torch.tensor([[0.0, 1, 1, 0], [0, 0, 1, 1]])
    found = token_rewards(torch.tensor([2.0, -1.0]), torch.full((2, 4), 0.5), mask, kl=0.1)
    torch.testing.assert_close(found, torch.tensor([[0, -0.05, 1.95, 0], [0, 0, -0.05, -1.05]]))


def test_advantages_by_hand() -> None:
    rewards = torch.tensor([[0.0, 0.0, 1.0, 0.0]])
    values = torch.tensor([[0.0, 0.2, 0.6, 0.0]])
    mask = torch.tensor([[0.0, 1.0, 1.0, 0.0]])
    found, returns = advantages(rewards, values, mask, gamma=0.9, lam=0.5)
    last = 1.0 - 0.6
    first = 0.9 * 0.6 - 0.2 + 0.9 * 0.5 * last
    torch.testing.assert_close(found, torch.tensor([[0.0, first, last, 0.0]]))
    torch.testing.assert_close(returns, torch.tensor([[0.0, first + 0.2, last + 0.6, 0.0]]))


def test_with_lambda_one_returns_are_discounted_sums_whatever_the_values() -> None:
    torch.manual_seed(0)
    rewards, mask = torch.randn(3, 6), torch.ones(3, 6)
    _, returns = advantages(rewards, torch.randn(3, 6), mask, gamma=1.0, lam=1.0)
    torch.testing.assert_close(returns, rewards.flip(1).cumsum(1).flip(1))


def test_beyond_the_clip_there_is_no_gradient() -> None:
    old, mask = torch.zeros(1, 2), torch.ones(1, 2)
    new = torch.log(torch.tensor([[1.5, 1.1]])).requires_grad_()
    loss, clipped = policy_loss(new, old, torch.ones(1, 2), mask, clip=0.2)
    loss.backward()
    assert loss.item() == pytest.approx(-(1.2 + 1.1) / 2)
    assert clipped.item() == 0.5
    assert new.grad is not None
    torch.testing.assert_close(new.grad, torch.tensor([[0.0, -0.55]]))


def test_values_move_by_the_clip_at_most() -> None:
    one = torch.ones(1, 1)
    new = torch.full((1, 1), 2.0, requires_grad=True)
    value_loss(new, 0 * one, 3 * one, one, clip=0.5).backward()
    assert new.grad is not None
    assert new.grad.item() == 0.0


def test_a_rollout_lines_up_with_the_model(tiny_llama: Path, prompts: Path, tmp_path: Path) -> None:
    recipe = PolicyRecipe(
        model=str(tiny_llama), data=str(prompts), output_dir=tmp_path, reward="f1", max_new_tokens=5, rollouts=6
    )
    text = for_training(recipe)
    for name, parameter in adapters.trainable(text.model):
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    policy = Policy(text, 1.0)
    corpus = read(str(prompts), needs="prompt")
    examples = prompts_of_round(corpus.train, recipe, 0)
    said: list[str] = []

    def reward(examples: object, answers: object) -> list[float]:
        said.extend(answers)  # type: ignore[arg-type]
        return [1.0] * len(list(answers))  # type: ignore[call-overload]

    rollout = roll_out(policy, examples, reward, recipe, seed=1)
    tokens = [rollout.ids[i, 1:][rollout.mask[i].bool()] for i in range(6)]
    assert [text.tokenizer.decode(t, skip_special_tokens=True).strip() for t in tokens] == said
    assert (rollout.logprobs[rollout.mask == 0] == 0).all()
    assert (rollout.logprobs != rollout.reference).any()
    with adapters.disabled(text.model), torch.no_grad():
        again, _ = policy(rollout.ids, rollout.attention, rollout.mask)
    torch.testing.assert_close(again, rollout.reference)
    sizes: list[int] = []
    policy.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    roll_out(policy, examples, reward, recipe, seed=1)
    assert max(sizes) == recipe.batch_size == 4


def with_some_change(recipe: PolicyRecipe) -> Policy:
    """A policy that is no longer its reference."""
    text = for_training(recipe)
    torch.manual_seed(0)
    for name, parameter in adapters.trainable(text.model):
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return Policy(text, recipe.temperature)


def test_logits_of_answers_alone_are_those_of_the_whole_text(
    tiny_llama: Path, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Log-probabilities, values and gradients, to float32's rounding; the prompts' logits are not computed."""
    monkeypatch.setattr("speechft.precision.has_native_bf16", lambda: False)
    recipe = PolicyRecipe(
        model=str(tiny_llama), data=str(prompts), output_dir=tmp_path, reward="f1", max_new_tokens=5, temperature=0.7,
    )  # fmt: skip
    policy = with_some_change(recipe)
    torch.nn.init.normal_(policy.value.weight)
    rollout = roll_out(policy, read(str(prompts)).train[:6], worth_its_length, recipe, seed=1)
    parameters = [p for _, p in adapters.trainable(policy.text.model)]

    def gradients(found: torch.Tensor, values: torch.Tensor) -> list[torch.Tensor]:
        return list(torch.autograd.grad((found + 0.1 * values).sum(), parameters))

    found, values = policy(rollout.ids, rollout.attention, rollout.mask)
    whole = policy.model(rollout.ids, attention_mask=rollout.attention, output_hidden_states=True)
    scores = (whole.logits[:, :-1] / 0.7).log_softmax(-1)
    expected = scores.gather(-1, rollout.ids[:, 1:, None])[..., 0] * rollout.mask
    expected_values = policy.value(whole.hidden_states[-1][:, :-1])[..., 0] * rollout.mask
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(values, expected_values)
    ours, theirs = gradients(found, values), gradients(expected, expected_values)
    assert any(gradient.abs().max() > 0.1 for gradient in ours)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    sizes: list[int] = []
    head = policy.model.get_output_embeddings()
    head.register_forward_hook(lambda _, given, out: sizes.append(out.shape[:-1].numel()))
    policy(rollout.ids, rollout.attention, rollout.mask)
    assert sizes == [int(rollout.mask.sum())]


def worth_its_length(examples: object, answers: Sequence[str]) -> list[float]:
    return [float(len(answer)) for answer in answers]


def test_before_an_update_every_ratio_is_one_whatever_the_dropout(
    tiny_llama: Path, prompts: Path, tmp_path: Path
) -> None:
    recipe = PolicyRecipe(
        model=str(tiny_llama), data=str(prompts), output_dir=tmp_path, reward="f1", max_new_tokens=5, rollouts=6,
        batch_size=6, ppo_epochs=1, adapter={"dropout": 0.5}, clip=1e-3,
    )  # fmt: skip
    policy = with_some_change(recipe)
    examples = prompts_of_round(read(str(prompts), needs="prompt").train, recipe, 0)
    rollout = roll_out(policy, examples, worth_its_length, recipe, seed=1)
    optimizer = torch.optim.SGD(policy.parameters(), lr=0.0)
    assert update(policy, rollout, optimizer, recipe, seed=0)["clipped"] == 0


def test_answers_come_from_the_distribution_whose_probabilities_are_counted(
    tiny_llama: Path, prompts: Path, tmp_path: Path
) -> None:
    """Settings that a model ships for chatting change what is sampled, and not what its logits say."""
    chatty = shutil.copytree(tiny_llama, tmp_path / "chatty")
    shipped = {"repetition_penalty": 5.0, "min_p": 0.2, "no_repeat_ngram_size": 1, "eos_token_id": 2}
    (chatty / "generation_config.json").write_text(json.dumps(shipped))
    said = []
    for folder in (tiny_llama, chatty):
        text = load_text_model(folder)
        ids = [prompt_tokens(text, example.prompt) for example in read(str(prompts)).train[:6]]
        said.append(generate(text, ids, max_new_tokens=12, temperature=1.0, seed=3))
    assert said[0] == said[1]


def test_the_divergence_is_that_of_what_was_sampled(tiny_llama: Path, prompts: Path, tmp_path: Path) -> None:
    recipe = PolicyRecipe(
        model=str(tiny_llama), data=str(prompts), output_dir=tmp_path, reward="f1", rollouts=6, temperature=0.5,
        max_new_tokens=6,
    )  # fmt: skip
    policy = with_some_change(recipe)
    examples = read(str(prompts), needs="prompt").train[:6]
    rollout = roll_out(policy, examples, worth_its_length, recipe, seed=recipe.seed)
    expected = (rollout.logprobs - rollout.reference).sum(1).mean().item()
    found = measured(policy.text, examples, recipe, worth_its_length)["kl"].value
    assert found == pytest.approx(expected, rel=1e-3)


def test_training_that_is_measured_goes_on_with_its_own_random_numbers(
    tiny_llama: Path, prompts: Path, tmp_path: Path
) -> None:
    recipe = PolicyRecipe(model=str(tiny_llama), data=str(prompts), output_dir=tmp_path, reward="f1", max_new_tokens=2)
    text = with_some_change(recipe).text
    torch.manual_seed(3)
    before = torch.get_rng_state()
    measured(text, read(str(prompts), needs="prompt").dev[:2], recipe, worth_its_length)
    assert torch.equal(torch.get_rng_state(), before)


def test_rewards_are_in_units_of_the_untrained_models_spread(tiny_llama: Path, prompts: Path, tmp_path: Path) -> None:
    recipe = PolicyRecipe(model=str(tiny_llama), data=str(prompts), output_dir=tmp_path, reward="f1")
    text = with_some_change(recipe).text
    dev = read(str(prompts), needs="prompt").dev
    reward = standardised(text, dev, recipe, worth_its_length)
    with adapters.disabled(text.model):
        said = answers(text, [e.prompt for e in dev], max_new_tokens=32, temperature=1.0, seed=recipe.seed)
    values = torch.tensor(reward(dev, said))
    assert values.mean().item() == pytest.approx(0, abs=1e-5)
    assert values.std(unbiased=False).item() == pytest.approx(1, abs=1e-5)
    assert standardised(text, dev, recipe, lambda examples, said: [3.0] * len(said))(dev, said) == [0.0] * len(said)


def test_prompts_of_a_round_are_a_function_of_seed_and_step(prompts: Path, tmp_path: Path) -> None:
    recipe = PolicyRecipe(data=str(prompts), output_dir=tmp_path, reward="f1", rollouts=10)
    train_part = read(str(prompts), needs="prompt").train
    size = len(train_part)
    seen = [example.key for step in range(-(-size // 10)) for example in prompts_of_round(train_part, recipe, step)][
        :size
    ]
    assert sorted(seen) == sorted(example.key for example in train_part)
    assert prompts_of_round(train_part, recipe, 3) == prompts_of_round(train_part, recipe, 3)


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("algorithm", "quantize"),
    [("ppo", None), *(pytest.param(*case, marks=SLOW) for case in (("ppo", "nf4"), ("rloo", None), ("grpo", None)))],
)
def test_the_reward_rises(
    tiny_llama: Path, prompts: Path, tmp_path: Path, algorithm: str, quantize: str | None
) -> None:
    """A random model says 'yes' about never, so F1 against it would be 0 for long: chrF gives a slope.

    A step of PPO is four updates from 32 answers, one of the others is one update.
    """
    ppo = algorithm == "ppo"
    recipe = PolicyRecipe(
        model=str(tiny_llama), data=str(prompts), output_dir=tmp_path / algorithm, reward="chrf", algorithm=algorithm,
        max_new_tokens=4, rollouts=32, batch_size=16 if ppo else 32, max_steps=30 if ppo else 60, learning_rate=2e-2,
        kl=0.01, max_length=64,
        samples=8, evaluations=2, adapter={"quantize": quantize},
    )  # fmt: skip
    result = train(recipe)
    assert result["kept"] == "adapter"
    assert result["difference"]["reward"]["ci95"][0] > 0
    assert result["base"]["kl"]["value"] == pytest.approx(0, abs=1e-4)
    assert result["adapted"]["kl"]["value"] > 0


def test_a_run_that_was_stopped_while_it_was_measured_trains_no_round_again(
    tiny_llama: Path, prompts: Path, tmp_path: Path
) -> None:
    recipe = PolicyRecipe(
        model=str(tiny_llama), data=str(prompts), output_dir=tmp_path, reward="chrf", max_new_tokens=3, rollouts=8,
        batch_size=8, max_steps=2, learning_rate=1e-2, max_length=64, evaluations=1,
    )  # fmt: skip
    with pytest.raises(Interrupted):
        train(recipe, on_event=stop_at_the_end)
    before = (tmp_path / "metrics.jsonl").read_text()
    assert train(recipe)["training"]["steps"] == 2
    assert (tmp_path / "metrics.jsonl").read_text() == before
    assert not (tmp_path / "checkpoints" / "latest").exists()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("algorithm", ["ppo", "rloo", "grpo"])
def test_training_computes_in_the_precision_of_the_recipe(
    algorithm: str, precision: str, tiny_llama: Path, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine whose own precision is the other one, too: evaluation uses that."""
    seen: set[bool] = set()

    def watched(recipe: PolicyRecipe, log: Any) -> TextModel:
        text = for_training(recipe, log)
        text.model.register_forward_pre_hook(
            lambda *_: seen.add(torch.is_autocast_enabled("cpu")) if torch.is_grad_enabled() else None
        )
        return text

    monkeypatch.setattr("speechft.text.policy.for_training", watched)
    monkeypatch.setattr("speechft.precision.has_native_bf16", lambda: precision == "fp32")
    recipe = PolicyRecipe(
        model=str(tiny_llama), data=str(prompts), output_dir=tmp_path, reward="chrf", algorithm=algorithm,
        max_new_tokens=2, rollouts=4, batch_size=4, max_steps=1, max_length=64, evaluations=1, dev_examples=2,
        test_examples=2, precision=precision,
    )  # fmt: skip
    train(recipe)
    assert seen == {precision == "bf16"}


@pytest.mark.parametrize("algorithm", ["ppo", "rloo", "grpo"])
def test_prompts_that_are_too_long_are_left_out_by_name(algorithm: str, tiny_llama: Path, tmp_path: Path) -> None:
    """In every split: a prompt without its beginning asks something else."""
    rows = [{"prompt": "say cat " * (30 if i == 1 else 1), "answer": f"yes {i}", "split": "train"} for i in range(4)]
    rows += [{"prompt": "say dog " * n, "answer": "yes", "split": s} for s in ("dev", "test") for n in (1, 30)]
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = PolicyRecipe(
        model=str(tiny_llama), data=str(data), output_dir=tmp_path / "out", reward="chrf", algorithm=algorithm,
        max_new_tokens=2, samples=2, batch_size=6, max_steps=1, max_length=32, evaluations=1, rollouts=2,
    )  # fmt: skip
    events: list[dict] = []
    result = train(recipe, on_event=events.append)
    told = [event["where"] for event in events if event.get("event") == "left out"]
    assert sorted(told) == ["rows.jsonl:2", "rows.jsonl:6", "rows.jsonl:8"]
    assert (result["evaluated_on"]["examples"], result["base"]["reward"]["n"]) == (1, 1)


def test_a_run_does_not_go_on_with_another_reward_model(tiny_llama: Path, prompts: Path, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    rows = [
        {"prompt": f"say {w}", "chosen": f"yes {w}", "rejected": w, "split": s} for w in WORDS for s in ("train", "dev")
    ]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def reward(seed: int) -> None:
        shutil.rmtree(tmp_path / "reward", ignore_errors=True)
        recipe = RewardRecipe(
            model=str(tiny_llama), data=str(pairs), output_dir=tmp_path / "reward", max_steps=2, max_length=64,
            evaluations=1, test=False, learning_rate=1e-2, seed=seed,
        )  # fmt: skip
        assert train(recipe)["kept"] == "adapter"

    recipe = PolicyRecipe(
        model=str(tiny_llama), data=str(prompts), output_dir=tmp_path / "out", reward=str(tmp_path / "reward/adapter"),
        max_new_tokens=3, rollouts=8, batch_size=8, max_steps=1, max_length=64, evaluations=1,
    )  # fmt: skip
    reward(seed=0)
    with pytest.raises(Interrupted):
        train(recipe, on_event=stop_at_the_end)
    reward(seed=1)
    with pytest.raises(SpeechftError, match="other settings or data"):
        train(recipe)


def test_an_answer_is_missing_in_a_row_that_is_only_measured(tiny_llama: Path, tmp_path: Path) -> None:
    rows = [{"prompt": f"say {i}", "answer": "yes", "split": "train" if i % 2 else "dev"} for i in range(8)]
    rows.append({"prompt": "say cat", "split": "dev"})
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = PolicyRecipe(model=str(tiny_llama), data=str(data), output_dir=tmp_path / "out", reward="rougeL")
    with pytest.raises(SpeechftError, match=r"rows.jsonl:9: reward rougeL needs an answer"):
        train(recipe)
    with pytest.raises(SpeechftError, match=r"rows.jsonl:9: reward rougeL needs an answer"):
        evaluate(str(data), task="policy", model=str(tiny_llama), settings={"reward": "rougeL"})


def test_a_run_that_was_cut_off_goes_on(tiny_llama: Path, prompts: Path, tmp_path: Path) -> None:
    def run(out: Path, stop: bool = False, rank: int = 16) -> dict:
        recipe = PolicyRecipe(
            model=str(tiny_llama), data=str(prompts), output_dir=out, reward="chrf", max_new_tokens=3, rollouts=8,
            batch_size=8, max_steps=4, learning_rate=1e-2, max_length=64, checkpoint_every=2, evaluations=1,
            adapter={"rank": rank},
        )  # fmt: skip

        def watch(event: dict) -> None:
            if stop and event.get("step") == 3:
                signal.raise_signal(signal.SIGTERM)

        return train(recipe, on_event=watch)

    whole = run(tmp_path / "whole")
    with pytest.raises(Interrupted, match="Stopped after round 3"):
        run(tmp_path / "cut", stop=True)
    with pytest.raises(SpeechftError, match="holds a run with other settings or data"):
        run(tmp_path / "cut", rank=4)
    resumed = run(tmp_path / "cut")
    assert resumed["adapted"] == whole["adapted"]
