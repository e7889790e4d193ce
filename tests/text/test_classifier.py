"""Public reward models and classifiers as a reward and as a judge, equal to what their own library says of a text."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_bert import WORDS, labels, make_tiny_bert
from typer.testing import CliRunner

from speechft.cli import app
from speechft.errors import SpeechftError
from speechft.recipes import load_recipe
from speechft.text.classifier import encoded, load_classifier
from speechft.text.config import PolicyRecipe, RewardRecipe
from speechft.text.data import read
from speechft.text.judge import compare, identity, judge_from
from speechft.text.model import longest
from speechft.text.pipeline import evaluate, train
from speechft.text.policy import reward_function
from speechft.text.reward import load_reward_model, rewards

LABELS = ["good", "-bad", "so so"]


@pytest.fixture(scope="module")
def rater(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One number for a pair of texts."""
    return make_tiny_bert(tmp_path_factory.mktemp("rater"), num_labels=1)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three labels of which one is right."""
    return make_tiny_bert(tmp_path_factory.mktemp("classifier"), **labels(LABELS))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    rows = [
        {"prompt": f"say {one}", "chosen": f"yes {one} {other}", "rejected": other, "split": split}
        for one in WORDS[7:] for other in WORDS[8:] for split in ("train", "dev", "test")
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def talk(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


TALKS = [talk("say cat", "cat"), talk("say dog bird", "no dog fish yes"), talk("say", "tree tree")]


def by_transformers(folder: Path, texts: list[tuple[str, ...]]) -> torch.Tensor:
    """The logits of each text, or pair, alone."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForSequenceClassification.from_pretrained(folder)
    with torch.inference_mode():
        return torch.cat([model.eval()(**tokenizer(*text, return_tensors="pt")).logits for text in texts])


@pytest.fixture(autouse=True)
def fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    """On every machine, so that numbers can be compared."""
    monkeypatch.setattr("speechft.precision.has_native_bf16", lambda: False)


def test_a_model_of_one_number_reads_prompt_and_answer_as_a_pair(rater: Path) -> None:
    expected = by_transformers(rater, [(t[0]["content"], t[1]["content"]) for t in TALKS])[:, 0]
    assert rewards(load_reward_model(rater), TALKS) == pytest.approx(expected.tolist(), abs=1e-5)


def test_a_classifier_reads_the_answer_and_gives_the_log_odds_of_its_label(classifier: Path) -> None:
    shares = by_transformers(classifier, [(t[1]["content"],) for t in TALKS]).softmax(1)
    for place, name in enumerate(LABELS):
        odds = (shares[:, place] / (1 - shares[:, place])).log().tolist()
        assert rewards(load_reward_model(classifier, name), TALKS) == pytest.approx(odds, abs=1e-4)
        against = rewards(load_reward_model(classifier, f"-{name}"), TALKS)
        assert against == pytest.approx([-value for value in odds], abs=1e-4)


@pytest.mark.parametrize("kind", ["bert", "roberta", "deberta-v2"])
def test_in_bf16_rewards_are_nearly_the_same(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_tiny_bert(tmp_path, kind, num_labels=1)
    exact = rewards(load_reward_model(folder), TALKS)
    monkeypatch.setattr("speechft.precision.has_native_bf16", lambda: True)
    text = load_reward_model(folder)
    assert {p.dtype for p in text.model.parameters()} == {torch.bfloat16, torch.float32}
    assert rewards(text, TALKS) == pytest.approx(exact, abs=0.3)


@pytest.mark.parametrize("kind", ["multi_label_classification", "regression"])
def test_labels_that_exclude_nothing_are_rated_by_their_own_output(kind: str, tmp_path: Path) -> None:
    folder = make_tiny_bert(tmp_path, problem_type=kind, **labels(LABELS))
    expected = by_transformers(folder, [(t[1]["content"],) for t in TALKS])[:, 2]
    assert rewards(load_reward_model(folder, "so so"), TALKS) == pytest.approx(expected.tolist(), abs=1e-5)


@pytest.mark.parametrize(("label", "message"), [(None, "with 3 labels"), ("bad", "no label 'bad'")])
def test_the_labels_of_a_classifier_are_named(classifier: Path, label: str | None, message: str) -> None:
    with pytest.raises(SpeechftError, match=message) as raised:
        load_reward_model(classifier, label)
    assert "good, -bad, so so" in raised.value.fix


def llama(source: Path, folder: Path, **about: Any) -> Path:
    """The tiny Llama with a head of random weights."""
    from transformers import AutoModelForSequenceClassification

    shutil.copytree(source, folder)
    torch.manual_seed(1)
    AutoModelForSequenceClassification.from_pretrained(source, num_labels=1, **about).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("padding", [0, None, 2])
def test_a_model_with_a_chat_template_reads_what_it_says(padding: int | None, tiny_llama: Path, tmp_path: Path) -> None:
    """Whatever its padding is: none, or the end token, after which it looks for the last other one."""
    folder = llama(tiny_llama, tmp_path / "reward")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "pad_token_id": padding}))
    text = load_reward_model(folder)
    whole = [text.tokenizer.apply_chat_template(t, tokenize=False) for t in TALKS]
    expected = by_transformers(folder, [(one,) for one in whole])[:, 0].tolist()
    assert len({round(value, 4) for value in expected}) == 3
    assert rewards(text, TALKS) == pytest.approx(expected, abs=1e-5)
    assert rewards(text, TALKS, batch_size=1) == pytest.approx(expected, abs=1e-5)


def test_a_model_without_a_head_is_refused(tiny_llama: Path, classifier: Path, tmp_path: Path, pairs: Path) -> None:
    with pytest.raises(SpeechftError, match="LlamaForCausalLM model without a head"):
        load_reward_model(tiny_llama)
    with pytest.raises(SpeechftError, match="without a head"):
        evaluate(str(pairs), task="reward", model=str(tiny_llama))
    folder = shutil.copytree(classifier, tmp_path / "without")
    weights = load_file(folder / "model.safetensors")
    save_file(
        {k: v for k, v in weights.items() if "classifier" not in k}, folder / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(
        SpeechftError, match=r"lacks weights, which would be random \(classifier.bias, classifier.weight\)"
    ):
        load_reward_model(folder, "good")
    other = shutil.copytree(classifier, tmp_path / "other")
    save_file({**weights, "classifier.weight": torch.zeros(2, 32)}, other / "model.safetensors", {"format": "pt"})
    with pytest.raises(SpeechftError, match="lacks weights"):
        load_reward_model(other, "good")


def test_a_model_that_needs_code_of_its_own_is_refused(tiny_llama: Path, tmp_path: Path) -> None:
    folder = llama(tiny_llama, tmp_path / "gated")
    config = json.loads((folder / "config.json").read_text())
    own = {"auto_map": {"AutoModelForSequenceClassification": "mine.Gated"}, "architectures": ["Gated"]}
    for about in (own, {**own, "model_type": "gated", "auto_map": {"AutoConfig": "mine.Config"}}):
        (folder / "config.json").write_text(json.dumps({**config, **about}))
        (folder / "mine.py").write_text("raise SystemExit('ran')")
        with pytest.raises(SpeechftError, match="needs code that comes with it, which is not run"):
            load_reward_model(folder)


def test_long_texts_are_cut_to_what_the_model_can_read(rater: Path, tmp_path: Path) -> None:
    text = load_classifier(rater)
    assert len(encoded(text, talk("say " * 40, "cat " * 40))["input_ids"]) == 24
    assert len(encoded(text, talk("say " * 40, "cat " * 40), max_length=12)["input_ids"]) == 12
    other = load_classifier(make_tiny_bert(tmp_path, "roberta", num_labels=1))
    assert longest(other.model) == 23  # its positions count from the padding's on
    assert len(rewards(other, [talk("say " * 40, "cat " * 40)])) == 1
    endless = load_classifier(
        make_tiny_bert(tmp_path / "endless", "deberta-v2", num_labels=1, position_biased_input=False)
    )
    assert len(encoded(endless, talk("say " * 40, "cat " * 40))["input_ids"]) == 83


def test_answers_of_a_policy_are_read_in_the_classifiers_own_tokens(
    tiny_llama: Path, classifier: Path, pairs: Path, tmp_path: Path
) -> None:
    recipe = PolicyRecipe(
        model=str(tiny_llama), data=str(pairs), output_dir=tmp_path, reward=str(classifier), reward_label="-good",
        max_length=8,
    )  # fmt: skip
    examples = read(str(pairs), needs="prompt").train[:3]
    said = ["yes cat", "no", "tree " * 12]
    odds = by_transformers(classifier, [(one,) for one in said]).softmax(1)[:, 0].logit()
    assert reward_function(recipe, examples)(examples, said) == pytest.approx((-odds).tolist(), abs=1e-4)


@pytest.mark.parametrize("algorithm", ["ppo", "rloo", "grpo"])
def test_a_policy_is_trained_and_measured_with_a_public_model(
    algorithm: str, tiny_llama: Path, classifier: Path, pairs: Path, tmp_path: Path
) -> None:
    recipe = PolicyRecipe(
        model=str(tiny_llama), data=str(pairs), output_dir=tmp_path, reward=str(classifier), reward_label="good",
        algorithm=algorithm, max_new_tokens=3, rollouts=4, batch_size=4, max_steps=1, max_length=64, evaluations=1,
        dev_examples=4, test_examples=4,
    )  # fmt: skip
    result = train(recipe)
    settings = {"reward": str(classifier), "reward_label": "good", "max_new_tokens": 3, "test_examples": 4}
    found = evaluate(str(pairs), task="policy", model=str(tiny_llama), settings={**settings, "max_length": 64})
    assert found["reward"]["value"] == pytest.approx(result["base"]["reward"]["value"], abs=1e-4)


def test_a_template_that_refuses_a_prompt_is_told_before_training(
    tiny_llama: Path, tmp_path: Path, pairs: Path
) -> None:
    folder = llama(tiny_llama, tmp_path / "reward")
    (folder / "chat_template.jinja").write_text("{{ raise_exception('no system') }}")
    recipe = PolicyRecipe(model=str(tiny_llama), data=str(pairs), output_dir=tmp_path, reward=str(folder))
    with pytest.raises(SpeechftError, match=r"pairs.jsonl:1: the reward model cannot rate answers to it"):
        reward_function(recipe, read(str(pairs), needs="prompt").train)


def test_pairs_are_evaluated_by_a_public_model(rater: Path, classifier: Path, pairs: Path) -> None:
    words = ["evaluate", "--manifest", str(pairs), "--task", "reward", "--json", "--model"]
    run = CliRunner()
    found = json.loads(run.invoke(app, [*words, str(rater)], catch_exceptions=False).stdout)
    assert found["accuracy"]["n"] == found["examples"] == 20
    liked = run.invoke(app, [*words, str(classifier), "--set", "reward_label=good"], catch_exceptions=False)
    disliked = run.invoke(app, [*words, str(classifier), "--set", "reward_label=-good"], catch_exceptions=False)
    margins = [json.loads(one.stdout)["margin"]["value"] for one in (liked, disliked)]
    assert margins[0] == pytest.approx(-margins[1]) != 0
    with pytest.raises(SpeechftError, match="is a classifier with 3 labels"):
        run.invoke(app, [*words, str(classifier)], catch_exceptions=False)


def test_a_classifier_judges_pairs(classifier: Path, rater: Path, pairs: Path) -> None:
    question, *said = "say cat", "yes cat", "no"
    worth = rewards(load_reward_model(classifier, "good"), [talk(question, one) for one in said])
    judge = judge_from(f"reward:{classifier}", "good")
    assert compare(judge, question, *said).favour == pytest.approx(torch.tensor(worth[0] - worth[1]).sigmoid().item())
    name = f"reward:{classifier}"
    assert identity(name, label="good") != identity(name, label="-good")
    with pytest.raises(SpeechftError, match="has no label 'good'"):
        judge_from("url:http://127.0.0.1:1/v1 m", "good")
    words = ["judge", str(pairs), "--judge", name, "--label", "good", "--json"]
    assert json.loads(CliRunner().invoke(app, words, catch_exceptions=False).stdout)["measures"]["accuracy"]["n"] == 20


def test_a_label_is_refused_where_there_is_none(tiny_llama: Path, pairs: Path, tmp_path: Path) -> None:
    about = {"model": str(tiny_llama), "data": str(pairs), "output_dir": tmp_path}
    with pytest.raises(ValueError, match="chrf has no labels"):
        PolicyRecipe(**about, reward="chrf", reward_label="good")
    with pytest.raises(SpeechftError, match="is not trained here"):
        train(RewardRecipe(**about, reward_label="good"))
    (tmp_path / "speechft.json").write_text(json.dumps({"task": "reward"}))
    with pytest.raises(SpeechftError, match="without labels, so it has no 'good'"):
        load_reward_model(tmp_path, "good")


def test_a_hub_id_of_a_reward_stays_as_it_is(tmp_path: Path) -> None:
    """Unless its first part is a folder here: then it is a path, which is relative to the recipe."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("task: policy\ndata: d.jsonl\noutput_dir: out\nreward: someone/reward-model\n")
    assert load_recipe(recipe).reward == "someone/reward-model"
    (tmp_path / "someone").mkdir()
    assert load_recipe(recipe).reward == str(tmp_path / "someone" / "reward-model")
