"""Instruction tuning: the loss is where it should be, packing changes nothing, and it learns."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from text.conftest import cut_off, ignore, stop_at_the_end

from speechft.decoder import is_quantized
from speechft.errors import SpeechftError
from speechft.interruption import Interrupted
from speechft.text.chat import IGNORED, tokenize_chat
from speechft.text.config import SftRecipe
from speechft.text.model import PLAIN_TEMPLATE, load_text_model, prompt_tokens
from speechft.text.pipeline import corpus_of, evaluate, train
from speechft.text.training import _Course

NUMBERS = ["one", "two", "three", "four", "five", "six", "seven"]
COLOURS = ["red", "green", "blue"]


def write_rows(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Say the colour in capitals, whatever else is said: the same task in dev and test, other sentences."""
    rows = []
    for i, number in enumerate(NUMBERS * 6):
        colour = COLOURS[i % 3]
        text = f"{number} {NUMBERS[(i * 5 + i // 7) % 7]} {colour}"
        split = ("test" if i % 6 == 0 else "dev") if i % 3 == 0 and i > 6 else "train"
        rows.append({"prompt": f"say the colour {text}", "completion": colour, "split": split})
    return write_rows(tmp_path_factory.mktemp("echo") / "echo.jsonl", rows)


def test_loss_is_on_the_assistants_tokens_and_their_end(tiny_llama: Path) -> None:
    text = load_text_model(tiny_llama)
    messages = [
        {"role": "user", "content": "what is red"},
        {"role": "assistant", "content": "a colour"},
        {"role": "user", "content": "and one"},
        {"role": "assistant", "content": "a number"},
    ]
    row = tokenize_chat(text.tokenizer, messages)
    trained = [token for token in row["labels"] if token != IGNORED]
    assert text.tokenizer.decode(trained) == "a colour<|im_end|>a number<|im_end|>"
    assert [i for i, label in zip(row["input_ids"], row["labels"], strict=True) if label != IGNORED] == trained


def test_a_prompt_is_the_start_of_what_is_learnt_by_models_without_a_template(tiny_llama: Path) -> None:
    text = load_text_model(tiny_llama)
    text.tokenizer.chat_template = PLAIN_TEMPLATE
    messages = [{"role": "user", "content": "red cat"}, {"role": "assistant", "content": "dog bird"}]
    row, prompt = tokenize_chat(text.tokenizer, messages), prompt_tokens(text, messages[:1])
    ids, labels = row["input_ids"], row["labels"]
    assert ids[: len(prompt)] == prompt
    assert labels[: len(prompt)] == [IGNORED] * len(prompt)
    assert text.tokenizer.decode(ids[len(prompt) :]) == " dog bird<|im_end|>\n"
    assert text.tokenizer.decode([label for label in labels if label != IGNORED]) == " dog bird<|im_end|>"


def test_a_plain_conversation_has_the_start_token_that_the_tokenizer_gives_a_text(
    tiny_llama: Path, tmp_path: Path
) -> None:
    from tokenizers.processors import TemplateProcessing

    folder = shutil.copytree(tiny_llama, tmp_path / "base")
    tokenizer = load_text_model(tiny_llama).tokenizer
    start = tokenizer.bos_token_id
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", start)]
    )
    tokenizer.chat_template = None
    tokenizer.save_pretrained(folder)
    (folder / "chat_template.jinja").unlink()
    text = load_text_model(folder)
    messages = [{"role": "user", "content": "red cat"}, {"role": "assistant", "content": "dog bird"}]
    for ids in (prompt_tokens(text, messages[:1]), tokenize_chat(text.tokenizer, messages)["input_ids"]):
        assert (ids[0], ids.count(start)) == (start, 1)


def test_a_tokenizer_without_an_end_token_is_refused(tiny_llama: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_llama, tmp_path / "endless")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    del settings["eos_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(SpeechftError, match="has no end token"):
        load_text_model(folder)


def test_a_turn_that_answers_nobody_is_not_learnt(tiny_llama: Path) -> None:
    tokenizer = load_text_model(tiny_llama).tokenizer
    turns = ["assistant", "user", "assistant"]
    messages = [{"role": role, "content": word} for role, word in zip(turns, ["red", "green", "blue"], strict=True)]
    labels = tokenize_chat(tokenizer, messages)["labels"]
    assert tokenizer.decode([label for label in labels if label != IGNORED]) == "blue<|im_end|>"
    tokenizer.chat_template = "{% if messages[0].role != 'user' %}{{ raise_exception('begin with user') }}{% endif %}"
    with pytest.raises(SpeechftError, match="refuses a conversation of assistant, user, assistant"):
        tokenize_chat(tokenizer, messages)


def test_what_is_too_long_to_learn_from_is_named(tiny_llama: Path, tmp_path: Path) -> None:
    long = {"prompt": "red " * 60, "completion": "blue"}
    short = [{"prompt": f"say {word}", "completion": word} for word in COLOURS]
    rows = [{**row, "split": split} for split in ("train", "dev") for row in short]
    recipe = SftRecipe(
        model=str(tiny_llama), data=str(write_rows(tmp_path / "rows.jsonl", [{**long, "split": "train"}, *rows])),
        output_dir=tmp_path / "out", max_length=48, max_steps=1, max_new_tokens=2,
    )  # fmt: skip
    events: list[dict] = []
    result = train(recipe, on_event=events.append)
    assert [event["where"] for event in events if event.get("event") == "left out"] == ["rows.jsonl:1"]
    assert [(row["where"], "max_length=48" in row["reason"]) for row in result["left_out"]] == [("rows.jsonl:1", True)]
    assert (result["data"]["train_examples"], result["data"]["dev_examples"]) == (3, 3)
    with pytest.raises(SpeechftError, match="max_length=8"):
        train(recipe.model_copy(update={"max_length": 8, "output_dir": tmp_path / "short"}))


def test_packed_conversations_do_not_see_each_other(tiny_llama: Path) -> None:
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    text = load_text_model(tiny_llama)
    rows = [[5, 9, 30, 7, 8], [40, 41, 42], [9, 9, 100, 4]]
    collate = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)
    batch = collate([{"input_ids": [token for row in rows for token in row], "seq_lengths": [5, 3, 4]}])
    batch.pop("labels")
    with torch.inference_mode():
        packed = text.model(**batch, use_cache=False).logits[0]  # as TRL does
        alone = torch.cat([text.model(input_ids=torch.tensor([row])).logits[0] for row in rows])
    torch.testing.assert_close(packed, alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("packing", [False, True])
def test_the_loss_is_the_mean_over_answer_tokens_of_conversations_alone(
    tiny_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packing: bool
) -> None:
    """Of the very batch that the trainer makes, packed or padded."""
    from speechft.text import sft
    from speechft.text.likelihood import sequence_logprobs

    turns = ["say one", "two", "say three four five", "six seven", "repeat", "red green blue"]
    roles = ["user", "assistant"] * 2
    rows = [
        {"messages": [{"role": role, "content": turns[(i + j) % 6]} for j, role in enumerate(roles)]} for i in (0, 2, 4)
    ]
    data = write_rows(tmp_path / "rows.jsonl", [{**row, "split": split} for split in ("train", "dev") for row in rows])
    recipe = SftRecipe(
        model=str(tiny_llama), data=str(data), output_dir=tmp_path, packing=packing, batch_size=1 if packing else 3,
        max_length=256, precision="fp32",
    )  # fmt: skip
    made: list[tuple] = []
    monkeypatch.setattr(sft, "fit", lambda *arguments: made.append(arguments))
    corpus = corpus_of(recipe)
    sft.train(recipe, corpus, ignore)
    trainer, text = made[0][:2]
    batch = next(iter(trainer.get_train_dataloader()))
    assert batch["input_ids"].shape[0] == (1 if packing else 3)
    with torch.no_grad():
        loss = trainer.compute_loss(trainer.model, batch).item()
    tokens = [tokenize_chat(text.tokenizer, example.messages) for example in corpus.train]
    parts = sequence_logprobs(text, [row["input_ids"] for row in tokens], [row["labels"] for row in tokens])
    assert loss == pytest.approx(-sum(total for total, _ in parts) / sum(count for _, count in parts), rel=1e-4)


@pytest.mark.parametrize("packing", [False, True])
def test_it_learns_and_the_saved_adapter_does_the_same(
    tiny_llama: Path, echo: Path, tmp_path: Path, packing: bool
) -> None:
    recipe = SftRecipe(
        model=str(tiny_llama), data=str(echo), output_dir=tmp_path / "out", epochs=24 if packing else 12,
        batch_size=1 if packing else 4, learning_rate=1e-2, packing=packing, max_length=128, max_new_tokens=6,
    )  # fmt: skip
    events: list[dict] = []
    result = train(recipe, on_event=events.append)
    assert result["kept"] == "adapter"
    assert result["adapted"]["perplexity"]["value"] < 0.5 * result["base"]["perplexity"]["value"]
    assert result["difference"]["perplexity"]["ci95"][1] < 1
    again = evaluate(str(echo), adapter=tmp_path / "out" / "adapter")
    assert again["perplexity"]["value"] == pytest.approx(result["adapted"]["perplexity"]["value"], rel=0.02)
    assert again["base"]["perplexity"]["value"] == pytest.approx(result["base"]["perplexity"]["value"], rel=0.02)
    lines = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, result["training"]["steps"] + 1))
    assert json.loads((tmp_path / "out" / "result.json").read_text()) == result


@pytest.mark.parametrize("quantize", ["nf4", pytest.param("int8", marks=pytest.mark.slow)])
def test_frozen_weights_in_few_bits_learn_as_well(tiny_llama: Path, echo: Path, tmp_path: Path, quantize: str) -> None:
    pytest.importorskip("bitsandbytes")
    common = {
        "model": str(tiny_llama), "data": str(echo), "epochs": 12, "learning_rate": 1e-2, "max_length": 128,
        "max_new_tokens": 6, "evaluations": 1,
    }  # fmt: skip
    whole = train(SftRecipe(**common, output_dir=tmp_path / "whole"))
    few = train(SftRecipe(**common, output_dir=tmp_path / "few", adapter={"quantize": quantize}))
    assert few["training"]["weights_mb"] < whole["training"]["weights_mb"]
    gains = [result["difference"]["perplexity"]["ratio"] for result in (whole, few)]
    assert gains[1] < 0.5
    assert gains[1] == pytest.approx(gains[0], abs=0.15)
    again = evaluate(str(echo), adapter=tmp_path / "few" / "adapter")
    assert again["perplexity"]["value"] == pytest.approx(few["adapted"]["perplexity"]["value"], rel=0.05)


def test_a_loftq_adapter_goes_with_the_bits_it_makes_up_for(tiny_llama: Path, echo: Path, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    recipe = SftRecipe(
        model=str(tiny_llama), data=str(echo), output_dir=tmp_path, max_steps=8, learning_rate=1e-2, max_length=128,
        max_new_tokens=4, evaluations=1, adapter={"quantize": "nf4", "init": "loftq", "rank": 4},
    )  # fmt: skip
    assert train(recipe)["kept"] == "adapter"
    assert is_quantized(load_text_model(tiny_llama, adapter=tmp_path / "adapter").model)
    assert not is_quantized(load_text_model(tiny_llama).model)


def test_a_run_that_was_cut_off_goes_on(tiny_llama: Path, echo: Path, tmp_path: Path) -> None:
    def run(out: Path, told: Callable[[dict], None] = ignore, seed: int = 0) -> dict:
        recipe = SftRecipe(
            model=str(tiny_llama), data=str(echo), output_dir=out, epochs=2, learning_rate=1e-2, max_length=128,
            max_new_tokens=4, evaluations=2, checkpoint_every=5, seed=seed,
        )  # fmt: skip

        return train(recipe, on_event=told)

    def terminate(event: dict) -> None:
        if event.get("step") == 13 and "loss" in event:
            signal.raise_signal(signal.SIGTERM)

    whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", cut_off)
    (tmp_path / "cut" / "checkpoints" / ".latest-11").mkdir()  # as a kill leaves it that comes while it is written
    # the trainer logs a step when its end has been dealt with: the next one is the last
    with pytest.raises(Interrupted, match="Stopped after step 14"):
        run(tmp_path / "cut", terminate)
    assert json.loads((tmp_path / "cut" / "checkpoints" / "latest" / "state.json").read_text())["step"] == 14
    with pytest.raises(SpeechftError, match="other settings"):
        run(tmp_path / "cut", seed=1)
    resumed = run(tmp_path / "cut")
    assert resumed["training"]["steps"] == whole["training"]["steps"]
    assert resumed["adapted"]["perplexity"]["value"] == pytest.approx(whole["adapted"]["perplexity"]["value"], rel=0.02)
    lines = [json.loads(line) for line in (tmp_path / "cut" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, whole["training"]["steps"] + 1))


def test_a_run_that_was_stopped_while_it_was_measured_trains_no_step_again(
    tiny_llama: Path, echo: Path, tmp_path: Path
) -> None:
    """Its last step is in the middle of an epoch, where the trainer would go on."""
    recipe = SftRecipe(
        model=str(tiny_llama), data=str(echo), output_dir=tmp_path, max_steps=5, batch_size=8, learning_rate=1e-2,
        max_length=128, max_new_tokens=4, evaluations=1,
    )  # fmt: skip
    with pytest.raises(Interrupted):
        train(recipe, on_event=stop_at_the_end)
    before = (tmp_path / "metrics.jsonl").read_text()
    events: list[dict] = []
    result = train(recipe, on_event=events.append)
    assert {"event": "resumed", "step": 5, "steps": 5} in events
    assert (tmp_path / "metrics.jsonl").read_text() == before
    assert (result["training"]["steps"], result["training"]["best_step"], result["kept"]) == (5, 5, "adapter")
    assert result["adapted"]["perplexity"]["value"] < result["base"]["perplexity"]["value"]
    assert not (tmp_path / "checkpoints" / "latest").exists()


def test_full_fine_tuning_leaves_a_whole_model(tiny_llama: Path, echo: Path, tmp_path: Path) -> None:
    recipe = SftRecipe(
        model=str(tiny_llama), data=str(echo), output_dir=tmp_path, epochs=4, learning_rate=3e-3, max_length=128,
        max_new_tokens=4, evaluations=1, adapter={"method": "full"},
    )  # fmt: skip
    result = train(recipe)
    assert result["kept"] == "model"
    alone = evaluate(str(echo), task="sft", model=str(tmp_path / "model"))
    assert alone["perplexity"]["value"] == pytest.approx(result["adapted"]["perplexity"]["value"], rel=0.02)


def test_nothing_better_is_said_and_leaves_no_adapter(talker: Path, tmp_path: Path) -> None:
    """What is to be learnt contradicts what dev asks for and the model knows already."""
    known = [json.loads(line) for line in (talker.parent / "rows.jsonl").read_text().splitlines()]
    rows = [row if row["split"] == "dev" else {**row, "completion": "blue blue red"} for row in known]
    recipe = SftRecipe(
        model=str(talker), data=str(write_rows(tmp_path / "rows.jsonl", rows)), output_dir=tmp_path / "out",
        learning_rate=1e-2, max_steps=10, max_length=64, max_new_tokens=4, evaluations=1,
    )  # fmt: skip
    (tmp_path / "out" / "adapter").mkdir(parents=True)  # of an earlier run
    result = train(recipe)
    assert (result["kept"], result["adapter"]) == ("base", None)
    assert not (tmp_path / "out" / "adapter").exists()
    assert result["difference"]["perplexity"]["ratio"] == 1


def test_a_loss_that_was_not_reported_is_not_written() -> None:
    lines: list[dict] = []
    best = SimpleNamespace(steps=4, recipe=SimpleNamespace(evaluations=2), write=lines.append)
    course = _Course(best, lambda: 0)  # type: ignore[arg-type]
    for logs in ({"reward": 0.5, "grad_norm": 2}, {"loss": 1.5}, {"train_runtime": 3.0}):
        course.on_log(None, SimpleNamespace(global_step=1), None, logs)
    assert lines == [{"step": 1, "reward": 0.5, "gradient_norm": 2.0}, {"step": 1, "loss": 1.5}]
