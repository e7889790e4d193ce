"""Preference learning and reward models: they learn, and the reference is the model with its adapter off."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from text.conftest import ignore

from speechft import adapters
from speechft.errors import SpeechftError
from speechft.export import export
from speechft.hub import push
from speechft.text import feedback, policy, preferences, reward, sft
from speechft.text.batches import padded
from speechft.text.config import TEXT_RECIPES, PreferenceRecipe, RewardRecipe, SftRecipe, TextAdapterSettings
from speechft.text.data import read
from speechft.text.examples import Example
from speechft.text.judge import compare, identity, judge_from, ranking
from speechft.text.likelihood import answer_logprobs
from speechft.text.model import autocast, load_text_model
from speechft.text.pipeline import evaluate, measures, train
from speechft.text.preferences import measure
from speechft.text.reward import load_reward_model, rewards
from speechft.text.training import for_training

WORDS = ["cat", "dog", "bird", "fish", "story", "tree", "house", "water", "fire", "number"]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The better answer says yes, the worse says no; which prompts are held out is not learnable by heart."""
    path = tmp_path_factory.mktemp("pairs") / "pairs.jsonl"
    rows = []
    for i, word in enumerate(WORDS):
        for j, other in enumerate(WORDS):
            split = {0: "test", 1: "dev"}.get((i + j) % 4, "train")
            rows.append(
                {"prompt": f"say {word} {other}", "chosen": f"yes {word}", "rejected": f"no {word}", "split": split}
            )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


SLOW = pytest.mark.slow


LOSSES = [
    ("dpo", None), ("dpo", "nf4"), *(pytest.param(name, None, marks=SLOW) for name in ("ipo", "kto", "orpo"))
]  # fmt: skip


@pytest.mark.parametrize(("loss", "quantize"), LOSSES)
def test_the_chosen_answer_becomes_the_more_probable_one(
    tiny_llama: Path, pairs: Path, tmp_path: Path, loss: str, quantize: str | None
) -> None:
    recipe = PreferenceRecipe(
        model=str(tiny_llama), data=str(pairs), output_dir=tmp_path / loss, loss=loss, batch_size=8, epochs=4,
        learning_rate=1e-2, max_length=64, evaluations=1, adapter={"quantize": quantize},
    )  # fmt: skip
    result = train(recipe)
    assert result["kept"] == "adapter"
    assert result["adapted"]["preference_accuracy"]["value"] > 0.9
    assert result["base"]["reward_accuracy"]["value"] == 0.5
    assert result["base"]["reward_margin"]["value"] == 0
    assert result["adapted"]["reward_margin"]["value"] > 0
    saved = load_file(tmp_path / loss / "adapter" / "adapter_model.safetensors")
    assert not any("ref" in name for name in saved)
    assert not (tmp_path / loss / "adapter" / "ref").exists()


def test_the_reference_is_the_model_with_its_adapter_off(tiny_llama: Path, pairs: Path, tmp_path: Path) -> None:
    from speechft.text.preferences import paired
    from speechft.text.training import arguments, for_training, import_trl, prepare

    trl = import_trl()
    recipe = PreferenceRecipe(
        model=str(tiny_llama), data=str(pairs), output_dir=tmp_path, adapter=TextAdapterSettings(rank=4)
    )
    text = for_training(recipe)
    corpus = read(str(pairs), needs="preference")
    trainer = trl.DPOTrainer(
        model=text.model, args=arguments(trl.DPOConfig, recipe, text.device), train_dataset=paired(corpus.train),
        processing_class=text.tokenizer,
    )  # fmt: skip
    prepare(trainer, recipe)
    assert list(trainer.model.peft_config) == ["default"]
    assert trainer.ref_model is None
    for _, parameter in adapters.trainable(text.model):
        torch.nn.init.normal_(parameter, std=0.3)
    batch = next(iter(trainer.get_train_dataloader()))
    with autocast(text.device):
        adapted = trainer.compute_loss(text.model, batch).item()
        with adapters.disabled(text.model):
            at_reference = trainer.compute_loss(text.model, batch).item()
    assert at_reference == pytest.approx(0.6931, abs=2e-3)  # log 2: policy and reference are the same
    assert adapted != pytest.approx(at_reference, abs=1e-2)


@pytest.mark.parametrize("kind", [{"task": "preference"}, {"task": "feedback", "judge": "model:m"}])
def test_kto_needs_neighbours_in_a_batch(kind: dict[str, str]) -> None:
    made = TEXT_RECIPES[kind["task"]]
    with pytest.raises(ValueError, match="batch_size must be 2"):
        made(data="d", output_dir="o", loss="kto", batch_size=1, **kind)
    made(data="d", output_dir="o", loss="kto", batch_size=2, **kind)


def test_full_fine_tuning_with_a_reference_is_refused(tiny_llama: Path, pairs: Path, tmp_path: Path) -> None:
    recipe = PreferenceRecipe(model=str(tiny_llama), data=str(pairs), output_dir=tmp_path, adapter={"method": "full"})
    with pytest.raises(SpeechftError, match="adapter"):
        train(recipe)


THOUGHTS_OF_THE_LAST = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' }}{% if m['role'] == 'assistant' and loop.last %}"
    "{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}{{ m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def test_a_template_may_rewrite_the_turns_before_the_answer(tiny_llama: Path, tmp_path: Path) -> None:
    """As Qwen3's does, which leaves out what was thought before earlier answers."""
    folder = shutil.copytree(tiny_llama, tmp_path / "thinker")
    (folder / "chat_template.jinja").write_text(THOUGHTS_OF_THE_LAST)
    rows = [
        {
            "prompt": [
                {"role": "user", "content": f"say {one}"}, {"role": "assistant", "content": one},
                {"role": "user", "content": f"say {two}"},
            ],
            "chosen": two, "rejected": one, "split": split,
        }
        for one, two in zip(WORDS[:4], WORDS[4:8], strict=True) for split in ("train", "dev", "test")
    ]  # fmt: skip
    data = tmp_path / "turns.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = PreferenceRecipe(
        model=str(folder), data=str(data), output_dir=tmp_path / "out", max_steps=2, batch_size=4, max_length=96,
        evaluations=1,
    )  # fmt: skip
    assert train(recipe)["base"]["preference_accuracy"]["n"] == 4


@pytest.mark.parametrize("quantize", [None, "nf4"])
def test_a_reward_model_tells_better_from_worse_and_keeps_its_head(
    tiny_llama: Path, pairs: Path, tmp_path: Path, quantize: str | None
) -> None:
    recipe = RewardRecipe(
        model=str(tiny_llama), data=str(pairs), output_dir=tmp_path, batch_size=8, epochs=4, learning_rate=1e-2,
        max_length=64, evaluations=1, adapter={"quantize": quantize},
    )  # fmt: skip
    result = train(recipe)
    assert result["base"]["accuracy"]["value"] == 0.5
    assert result["adapted"]["accuracy"]["value"] > 0.9
    again = evaluate(str(pairs), adapter=tmp_path / "adapter")
    assert again["accuracy"]["value"] == result["adapted"]["accuracy"]["value"]
    assert again["margin"]["value"] == pytest.approx(result["adapted"]["margin"]["value"], rel=0.05)
    model = load_reward_model(tmp_path / "adapter")
    assert getattr(model.model, "is_loaded_in_4bit", False) == (quantize == "nf4")
    question = {"role": "user", "content": "say cat dog"}
    good, bad = rewards(model, [[question, {"role": "assistant", "content": word}] for word in ("yes cat", "no cat")])
    assert good > bad
    judge = judge_from(f"reward:{tmp_path / 'adapter'}")
    verdict = compare(judge, question["content"], "no cat", "yes cat")
    assert verdict.winner == 2
    assert verdict.favour == pytest.approx(ranking(judge, [question], ["no cat", "yes cat"])[0])


@pytest.fixture(scope="module", params=["lora", "full"])
def reward_model(
    request: pytest.FixtureRequest, tiny_llama: Path, pairs: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """What a reward recipe leaves, as an adapter and as a whole model."""
    out = tmp_path_factory.mktemp("reward")
    recipe = RewardRecipe(
        model=str(tiny_llama), data=str(pairs), output_dir=out, batch_size=8, max_steps=8, learning_rate=1e-2,
        max_length=64, evaluations=1, adapter={"method": request.param},
    )  # fmt: skip
    return out / train(recipe)["kept"]


TALK = [
    [{"role": "user", "content": "say cat"}, {"role": "assistant", "content": word}] for word in ("yes cat", "no cat")
]


def test_a_reward_model_is_exported_with_its_head(reward_model: Path, tmp_path: Path) -> None:
    from transformers import AutoConfig

    merged = export(reward_model, tmp_path / "merged")
    assert AutoConfig.from_pretrained(merged).architectures == ["LlamaForSequenceClassification"]
    before = rewards(load_reward_model(reward_model), TALK)
    assert before[0] != 0
    assert rewards(load_reward_model(merged), TALK) == pytest.approx(before, abs=0.02)


def test_a_reward_model_is_known_as_a_judge_by_its_weights(reward_model: Path, tmp_path: Path) -> None:
    """As an adapter, as a whole model, and as one that was merged."""
    merged = export(reward_model, tmp_path / "merged")
    assert identity(f"reward:{reward_model}")[1]
    before = identity(f"reward:{merged}")
    weights = load_file(merged / "model.safetensors")
    save_file({key: value + 1 for key, value in weights.items()}, merged / "model.safetensors", {"format": "pt"})
    assert identity(f"reward:{merged}") != before


def test_a_reward_model_is_not_taken_for_one_that_writes(
    reward_model: Path, tiny_llama: Path, pairs: Path, tmp_path: Path
) -> None:
    whole = reward_model.name == "model"
    names = {"model": str(reward_model)} if whole else {"model": str(tiny_llama), "adapter": reward_model}
    with pytest.raises(SpeechftError, match="is a reward model"):
        load_text_model(names["model"], adapter=names.get("adapter"))
    with pytest.raises(SpeechftError, match="is a reward model"):
        evaluate(str(pairs), task="sft", **names)


def test_the_page_of_a_reward_model_says_what_it_is(reward_model: Path, tmp_path: Path) -> None:
    """The code on it runs as it stands, with the adapter's folder for its name on the hub."""
    out = Path(push(reward_model, "me/rewards", base="them/llama", dry_run=tmp_path / "look"))
    page = (out / "README.md").read_text()
    assert yaml.safe_load(page.split("---\n")[1])["pipeline_tag"] == "text-classification"
    code = page.split("```python\n")[1].split("```")[0]
    base = adapters.own_card(reward_model)["model"]
    said: list[list[float]] = []
    question, answer = ({"role": r, "content": c} for r, c in (("user", "What is red?"), ("assistant", "A colour.")))
    exec(code.replace("me/rewards", str(reward_model)).replace("them/llama", base), {"print": said.append})
    assert said == [pytest.approx(rewards(load_reward_model(reward_model), [[question, answer]]), abs=0.02)]


def test_a_classifier_of_several_labels_is_no_reward_model(tiny_llama: Path, pairs: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    folder = shutil.copytree(tiny_llama, tmp_path / "classifier")
    AutoModelForSequenceClassification.from_pretrained(tiny_llama, num_labels=3).save_pretrained(folder)
    recipe = RewardRecipe(model=str(folder), data=str(pairs), output_dir=tmp_path / "out")
    with pytest.raises(SpeechftError, match="is a classifier with 3 labels"):
        train(recipe)


def test_an_adapter_that_writes_is_no_reward_model(tiny_llama: Path, tmp_path: Path) -> None:
    (tmp_path / adapters.CARD).write_text(json.dumps({"task": "sft"}))
    with pytest.raises(SpeechftError, match="is not a reward model"):
        load_reward_model(tmp_path)
    with pytest.raises(SpeechftError, match="is not a reward model"):
        load_text_model(tiny_llama, adapter=tmp_path, scalar=True)


def test_a_reward_model_is_used_on_the_tokens_it_was_trained_on(
    tiny_llama: Path, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = RewardRecipe(model=str(tiny_llama), data=str(pairs), output_dir=tmp_path, max_length=64)
    made: list[tuple] = []
    monkeypatch.setattr(reward, "fit", lambda *arguments: made.append(arguments))
    corpus = read(str(pairs), needs="preference")
    reward.train(recipe, corpus, lambda event: None)
    trainer, text = made[0][:2]
    seen: list[list[int]] = []
    monkeypatch.setattr(reward, "padded", lambda rows, pad: seen.extend(rows) or padded(rows, pad))
    rewards(text, [corpus.train[0].messages])
    assert trainer.train_dataset[0]["chosen_ids"] == seen[0]


def test_kto_is_given_good_and_bad_answers_in_mixed_order_and_equal_weight(pairs: Path) -> None:
    from speechft.text.preferences import _loss_settings, unpaired

    rows = unpaired(read(str(pairs), needs="judgement").train, seed=0)
    neighbours = zip(rows["prompt"], rows["prompt"][1:], strict=False)
    assert sum(one == two for one, two in neighbours) <= 3
    assert _loss_settings("kto", rows) == {"desirable_weight": 1, "undesirable_weight": 1}
    few_good = rows.filter(lambda row: not row["label"] or "cat" in row["completion"][0]["content"])
    weights = _loss_settings("kto", few_good)
    assert weights["desirable_weight"] * sum(few_good["label"]) == pytest.approx(len(few_good) - sum(few_good["label"]))
    with pytest.raises(SpeechftError, match="good answers and bad"):
        _loss_settings("kto", rows.filter(lambda row: row["label"]))


def test_a_reward_does_not_depend_on_its_neighbours(tiny_llama: Path, pairs: Path, tmp_path: Path) -> None:
    recipe = RewardRecipe(
        model=str(tiny_llama), data=str(pairs), output_dir=tmp_path, batch_size=8, max_steps=8, learning_rate=1e-2,
        max_length=64, evaluations=1,
    )  # fmt: skip
    train(recipe)
    model = load_reward_model(tmp_path / "adapter")
    conversations = [
        [{"role": "user", "content": "say cat"}, {"role": "assistant", "content": "yes " * n + "cat"}]
        for n in (1, 9, 3, 20)
    ]
    together = rewards(model, conversations)
    alone = [rewards(model, [conversation])[0] for conversation in conversations]
    assert together == pytest.approx(alone, abs=0.02)


@pytest.fixture
def some_long(tiny_llama: Path, tmp_path: Path) -> Path:
    """In each split three pairs, of which the second has a prompt of more than 32 tokens."""
    rows = [
        {"prompt": "say cat " * n, "chosen": f"yes {n}", "rejected": f"no {n}", "split": split}
        for split in ("train", "dev", "test")
        for n in (1, 30, 2)
    ]
    path = tmp_path / "long.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("loss", ["dpo", "kto", "orpo"])
def test_pairs_whose_prompt_leaves_no_room_are_left_out_by_name(
    loss: str, tiny_llama: Path, some_long: Path, tmp_path: Path
) -> None:
    recipe = PreferenceRecipe(
        model=str(tiny_llama), data=str(some_long), output_dir=tmp_path / "out", loss=loss, batch_size=2,
        max_length=32, evaluations=1,
    )  # fmt: skip
    events: list[dict] = []
    result = train(recipe, on_event=events.append)
    left_out = {event["where"] for event in events if event.get("event") == "left out"}
    assert left_out == {f"long.jsonl:{n}" for n in (2, 5, 8)}
    assert result["base"]["preference_accuracy"]["n"] == result["evaluated_on"]["examples"] == 2
    with pytest.raises(SpeechftError, match="fills max_length=8"):
        train(recipe.model_copy(update={"max_length": 8, "output_dir": tmp_path / "none"}))


def test_pairs_of_one_prompt_are_drawn_together_where_others_are_left_out(tiny_llama: Path, tmp_path: Path) -> None:
    rows = [{"prompt": "say cat", "chosen": f"yes {n}", "rejected": f"no {n}", "split": "test"} for n in range(4)]
    rows += [{"prompt": f"say {w} " * n, "chosen": "yes", "rejected": "no", "split": "test"} for w, n in
             (("dog", 1), ("cow", 1), ("hen", 1), ("owl", 1), ("fish", 30))]  # fmt: skip
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = {"max_length": 32}
    found = evaluate(str(path), task="preference", model=str(tiny_llama), settings=settings)
    assert (found["examples"], found["preference_accuracy"]["n"]) == (8, 8)
    assert [row["where"] for row in found["left_out"]] == ["pairs.jsonl:9"]
    text, recipe = load_text_model(tiny_llama), PreferenceRecipe(data="d", output_dir=tmp_path, max_length=32)
    kept = preferences.usable(text, read(str(path), needs="preference", training=False).test, recipe, ignore)
    scores = measures(preferences, text, kept, recipe)
    assert {name: one.independent for name, one in scores.items()} == {"preference_accuracy": 5, "perplexity": 5}


def test_single_answers_are_right_where_the_implicit_reward_has_the_sign_of_their_label(
    tiny_llama: Path, tmp_path: Path
) -> None:
    recipe = PreferenceRecipe(model=str(tiny_llama), data="d", output_dir=tmp_path, loss="kto", max_length=32)
    text = for_training(recipe)
    examples = [
        Example(prompt=({"role": "user", "content": f"say {word}"},), answer=word, label=label, where=word)
        for word, label in zip(WORDS[:6], [True, True, False, False, False, False], strict=True)
    ]
    before = measure(text, examples, recipe)
    assert (before["label_accuracy"].value, before["label_accuracy"].n, before["perplexity"].n) == (0.5, 6, 2)
    torch.manual_seed(0)
    for name, parameter in adapters.trainable(text.model):
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    after = answer_logprobs(text, [e.messages for e in examples])
    with adapters.disabled(text.model):
        first = answer_logprobs(text, [e.messages for e in examples])
    right = [(a[0] > f[0]) == e.label for a, f, e in zip(after, first, examples, strict=True)]
    assert measure(text, examples, recipe)["label_accuracy"].value == sum(right) / 6
    bad = measure(text, examples[2:], recipe)
    assert (set(bad), bad["label_accuracy"].n) == ({"label_accuracy"}, 4)


def test_rows_that_the_template_refuses_are_left_out_by_name(tiny_llama: Path, tmp_path: Path) -> None:
    text = load_text_model(tiny_llama)
    text.tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "{{ m.role + m.content }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant' }}{% endif %}"
    )
    turn = {"role": "user", "content": "say cat"}
    examples = [
        Example(prompt=prompt, answer="cat", rejected="dog", where=f"row {n}")
        for n, prompt in enumerate([(turn,), ({"role": "system", "content": "be brief"}, turn), (turn,)])
    ]
    about = {"data": "d", "output_dir": tmp_path}
    for module in (preferences, policy, reward, sft, feedback):
        recipe = SftRecipe(**about) if module is sft else PreferenceRecipe(**about)
        told: list[dict] = []
        assert module.usable(text, examples, recipe, told.append) == [examples[0], examples[2]], module
        assert [event["where"] for event in told] == ["row 1"]
        assert "refuses a conversation of system, user" in told[0]["reason"]
        with pytest.raises(SpeechftError, match="row 1: no example fits: the model's chat template refuses"):
            module.usable(text, examples[1:2], recipe, told.append)
    for module in (reward, sft):
        assert len(module.tokenized(text, examples, 64, told.append)) == 2


def test_a_reward_model_learns_from_the_end_of_long_pairs(tiny_llama: Path, some_long: Path, tmp_path: Path) -> None:
    """TRL drops them, and where all of dev is long it has no loss."""
    recipe = RewardRecipe(
        model=str(tiny_llama), data=str(some_long), output_dir=tmp_path / "out", max_length=8, batch_size=2,
        evaluations=1,
    )  # fmt: skip
    result = train(recipe)
    assert result["training"]["steps"] == 2
    assert result["base"]["accuracy"]["n"] == 3
