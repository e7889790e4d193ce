"""What every trainer of ours shares: no pickles, exact resumption, no update that is not finite, smaller passes."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from text.conftest import ignore

from speechft import adapters
from speechft.errors import SpeechftError
from speechft.interruption import Interrupted
from speechft.text import trainer as trainer_module
from speechft.text.config import TEXT_RECIPES
from speechft.text.generation import generate
from speechft.text.model import load_text_model
from speechft.text.pipeline import corpus_of, task_module
from speechft.text.trainer import Ours, _Guard
from speechft.text.training import Fitted
from speechft.validation import validated

WORDS = ["red", "green", "blue", "cat", "dog", "fish"]
MAGIC = {b"\x80": "pickle", b"PK\x03\x04": "zip", b"PK\x05\x06": "zip", b"\x1f\x8b": "gzip"}
KINDS: dict[str, dict[str, Any]] = {
    "sft": {"task": "sft"},
    "packed": {"task": "sft", "packing": True, "max_length": 24},
    "pretrain": {"task": "pretrain", "max_length": 24},
    "dpo": {"task": "preference"},
    "kto": {"task": "preference", "loss": "kto"},
    "orpo": {"task": "preference", "loss": "orpo"},
    "reward": {"task": "reward"},
    "ppo": {"task": "policy", "reward": "f1", "rollouts": 4, "max_new_tokens": 3},
    "grpo": {"task": "policy", "algorithm": "grpo", "reward": "f1", "max_new_tokens": 3},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same 24 rows for every task; each says its place, so that no two are alike."""
    folder = tmp_path_factory.mktemp("rows")
    pairs = [(a, b) for a in WORDS for b in WORDS[:4]]
    for name, make in {
        "document": lambda a, b: {"text": f"what is {a} and {b} story"},
        "preference": lambda a, b: {"prompt": f"say {a} {b}", "chosen": f"{b} {a}", "rejected": "water"},
        "answer": lambda a, b: {"prompt": f"say {a} {b}", "completion": f"{b} {a}"},
    }.items():
        rows = [{**make(a, b), "split": split} for split in ("train", "dev") for a, b in pairs]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def run(model: Path, data: Path, out: Path, kind: str, told: Callable[[dict], None] = ignore, **more: Any) -> Fitted:
    """The training of a task, without what is measured before and after it."""
    task = KINDS[kind]["task"]
    layout = {"pretrain": "document", "preference": "preference", "reward": "preference"}.get(task, "answer")
    recipe = validated(
        TEXT_RECIPES[task],
        {
            "model": str(model), "data": str(data / f"{layout}.jsonl"), "output_dir": str(out), "max_steps": 4,
            "batch_size": 4, "dev_examples": 4, "evaluations": 1, "learning_rate": 1e-2, "max_length": 64,
            "precision": "fp32", **KINDS[kind], **more,
        },
    )  # fmt: skip
    return task_module(task).train(recipe, corpus_of(recipe), told)


def lines(out: Path) -> list[dict]:
    """Of metrics.jsonl; each is JSON to the letter."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    return [json.loads(line, parse_constant=refuse) for line in (out / "metrics.jsonl").read_text().splitlines()]


def timeless(line: dict) -> dict:
    return {key: value for key, value in line.items() if "time" not in key and "seconds" not in key}


def terminate_at(step: int) -> Callable[[dict], None]:
    def told(event: dict) -> None:
        if event.get("step") == step and "loss" in event:
            signal.raise_signal(signal.SIGTERM)

    return told


@pytest.fixture
def no_unpickling(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **more: Any) -> None:
        raise AssertionError("something is unpickled")

    monkeypatch.setattr(torch, "load", refuse)
    monkeypatch.setattr("pickle.load", refuse)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("sft", {"adapter": {"dropout": 0.2}, "schedule": "cosine", "max_steps": 9, "accumulate": 2}),
        ("sft", {"optimizer": "adamw-8bit", "adapter": {"rank": 64}}),
        ("sft", {"adapter": {"method": "adalora"}}),
        ("dpo", {"adapter": {"dropout": 0.2}}),
        ("grpo", {}),
    ],
    ids=["dropout", "8 bits", "adalora", "dpo", "grpo"],
)
def test_a_stopped_run_leaves_no_pickle_and_goes_on_to_the_same_bits(
    kind: str, settings: dict, tiny_llama: Path, data: Path, tmp_path: Path, no_unpickling: None
) -> None:
    if "8bit" in settings.get("optimizer", ""):
        pytest.importorskip("bitsandbytes")
    settings = {"evaluations": 9, **settings}  # after each step
    whole = run(tiny_llama, data, tmp_path / "whole", kind, **settings)
    with pytest.raises(Interrupted, match="Stopped after step 3"):
        # the trainer logs a step when its end has been dealt with: the next one is the last
        run(tiny_llama, data, tmp_path / "cut", kind, terminate_at(2), **settings)
    files = [file for file in (tmp_path / "cut").rglob("*") if file.is_file()]
    assert {"state.safetensors", "state.json"} <= {file.name for file in files}
    found = {file.name: word for file in files for start, word in MAGIC.items() if file.read_bytes().startswith(start)}
    assert not found
    events: list[dict] = []
    resumed = run(tiny_llama, data, tmp_path / "cut", kind, events.append, **settings)
    assert {"event": "resumed", "step": 3, "steps": whole.steps} in events
    assert resumed.steps == whole.steps
    ends = [adapters.trainable_state(fitted.text.model) for fitted in (whole, resumed)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    told = [[timeless(line) for line in lines(tmp_path / name)] for name in ("whole", "cut")]
    assert told[0] == told[1]
    assert all("num_tokens" in line for line in told[0] if "loss" in line)


def test_what_was_the_best_after_the_last_checkpoint_is_so_again(tiny_llama: Path, data: Path, tmp_path: Path) -> None:
    settings = {"evaluations": 4, "checkpoint_every": 1}

    def cut(event: dict) -> None:
        if event.get("step") == 2 and "loss" in event:  # after its evaluation
            raise ConnectionError

    run(tiny_llama, data, tmp_path / "whole", "sft", **settings)
    with pytest.raises(ConnectionError):
        run(tiny_llama, data, tmp_path / "cut", "sft", cut, **settings)
    run(tiny_llama, data, tmp_path / "cut", "sft", **settings)
    told = [[timeless(line) for line in lines(tmp_path / name)] for name in ("whole", "cut")]
    assert told[0] == told[1]
    assert all(line["best"] for line in told[0] if line.get("model") == "trained")


@pytest.fixture(scope="module")
def stopped(tiny_llama: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("stopped")
    with pytest.raises(Interrupted):
        run(tiny_llama, data, out, "sft", terminate_at(1))
    return out


@pytest.mark.parametrize("name", ["latest/state.safetensors", "latest/state.json", "latest/trainer_state.json"])
def test_a_damaged_checkpoint_is_named_with_advice(
    name: str, stopped: Path, tiny_llama: Path, data: Path, no_unpickling: None
) -> None:
    file = stopped / "checkpoints" / name
    before = file.read_bytes()
    try:
        file.write_bytes(before[: len(before) // 2])
        with pytest.raises(SpeechftError, match=r"cannot be read.*[Dd]elete"):
            run(tiny_llama, data, stopped, "sft")
    finally:
        file.write_bytes(before)


def test_a_pickled_checkpoint_of_an_older_version_is_refused(
    tiny_llama: Path, data: Path, tmp_path: Path, no_unpickling: None
) -> None:
    old = tmp_path / "checkpoints" / "checkpoint-4"
    old.mkdir(parents=True)
    (old / "optimizer.pt").write_bytes(b"PK\x03\x04")
    with pytest.raises(SpeechftError, match=r"older version.*not read"):
        run(tiny_llama, data, tmp_path, "sft")


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """Batches with the word "fish" have a loss that is no number; what a skipped step changed, if anything."""
    compute, before, after = Ours.compute_loss, _Guard.on_pre_optimizer_step, _Guard.on_optimizer_step
    kept: list[Any] = []
    same: list[bool] = []

    def compute_loss(self: Any, model: Any, inputs: Any, *args: Any, **more: Any) -> Any:
        found = compute(self, model, inputs, *args, **more)
        bad = any("fish" in text for text in self.processing_class.batch_decode(inputs["input_ids"]))
        return found * math.nan if bad and model.training else found

    def state(guard: _Guard) -> Any:
        own = guard.trainer
        moments = own.optimizer.state_dict()["state"]
        done = own.ranks.done if own.ranks else 0
        return deepcopy((adapters.trainable_state(own.model), moments, done))

    def on_pre(self: _Guard, *args: Any, **more: Any) -> None:
        before(self, *args, **more)
        kept[:] = [] if self.fine else [state(self)]

    def on_step(self: _Guard, *args: Any, **more: Any) -> None:
        after(self, *args, **more)
        if kept:
            same.append(_alike(kept[0], state(self)))

    monkeypatch.setattr(Ours, "compute_loss", compute_loss)
    monkeypatch.setattr(_Guard, "on_pre_optimizer_step", on_pre)
    monkeypatch.setattr(_Guard, "on_optimizer_step", on_step)
    return same


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_alike(one[key], other[key]) for key in one)
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(_alike, one, other))
    return bool(one == other)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("sft", {}),
        ("sft", {"optimizer": "adamw-8bit", "adapter": {"rank": 64}}),
        ("sft", {"adapter": {"method": "adalora"}}),
        ("packed", {}),
        ("pretrain", {}),
        ("dpo", {}),
        ("reward", {}),
    ],
)
def test_a_step_that_is_not_finite_changes_nothing_and_names_its_rows(
    kind: str, settings: dict, poisoned: list[bool], tiny_llama: Path, data: Path, tmp_path: Path
) -> None:
    if "8bit" in settings.get("optimizer", ""):
        pytest.importorskip("bitsandbytes")
    told: list[dict] = []
    settings = {
        "weight_decay": 0.1,
        "batch_size": 2,
        "accumulate": 2,
        "max_steps": 12,
        "schedule": "constant",
    } | settings
    fitted = run(tiny_llama, data, tmp_path, kind, told.append, warmup=0, **settings)
    skipped = [event for event in told if event.get("event") == "skipped step"]
    assert fitted.skipped == len(skipped) == len(poisoned) > 0
    assert all(poisoned)
    assert fitted.steps > fitted.skipped  # the others were made
    written = lines(tmp_path)
    nulls = [line["step"] for line in written if "loss" in line and line["loss"] is None]
    assert nulls == [event["step"] for event in skipped]
    layout = {"pretrain": "document", "dpo": "preference", "reward": "preference"}.get(kind, "answer")
    rows = (data / f"{layout}.jsonl").read_text().splitlines()
    for event in skipped:
        assert event["reason"] == "the loss is not finite"
        named = [rows[int(where.rsplit(":", 1)[1]) - 1] for where in event["rows"]]
        assert any("fish" in row for row in named)
        assert len(named) <= (24 if kind in ("packed", "pretrain") else 4)


@pytest.mark.parametrize("kind", ["sft", "pretrain", "dpo", "kto", "orpo", "reward", "ppo"])
@pytest.mark.parametrize(
    ("policy", "steps"), [({"non_finite": "stop"}, 1), ({"non_finite": "skip", "most_skipped": 1}, 2)]
)
def test_a_run_that_is_not_finite_ends_by_policy(
    kind: str, policy: dict, steps: int, tiny_llama: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "ppo":
        from speechft.text import ppo

        monkeypatch.setattr(ppo, "mean", lambda values, mask: (values * mask).sum() * math.nan)
    elif kind == "reward":  # whose numbers stay finite however large its weights are
        step = Ours.compute_loss

        def compute_loss(self: Any, model: Any, *args: Any, **more: Any) -> Any:
            found = step(self, model, *args, **more)
            return found * math.nan if model.training else found

        monkeypatch.setattr(Ours, "compute_loss", compute_loss)
    told: list[dict] = []
    with pytest.raises(SpeechftError, match=r"is not finite.*learning_rate") as error:
        run(
            tiny_llama, data, tmp_path, kind, told.append, warmup=0, schedule="constant", max_steps=8,
            learning_rate=1e30, **policy,
        )  # fmt: skip
    skipped = [event for event in told if event.get("event") == "skipped step"]
    assert len(skipped) == steps
    assert skipped[-1]["rows"][0] in str(error.value)
    lines(tmp_path)


def test_a_rate_that_makes_weights_no_numbers_is_named(tiny_llama: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(SpeechftError, match=r"step 1 made weights that are not finite.*learning rate, 1e\+39"):
        run(tiny_llama, data, tmp_path, "sft", learning_rate=1e39, warmup=0, schedule="constant")


def test_answers_that_cannot_be_drawn_are_a_sentence(tiny_llama: Path) -> None:
    text = load_text_model(tiny_llama)
    for parameter in text.model.parameters():
        parameter.data.fill_(math.nan)
    with pytest.raises(SpeechftError, match=r"no answer can be drawn.*learning_rate"):
        generate(text, [[5, 6]], max_new_tokens=2, temperature=1.0)


def little_memory(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Backward passes of more rows fail in the middle, as memory that runs out leaves them."""
    compute = Ours.compute_loss

    def compute_loss(self: Any, model: Any, inputs: Any, *args: Any, **more: Any) -> Any:
        found = compute(self, model, inputs, *args, **more)
        rows = inputs["attention_mask"].shape[0] // (1 if "labels" in inputs else 2)
        if rows > most and model.training:
            found.backward()
            raise MemoryError
        return found

    monkeypatch.setattr(Ours, "compute_loss", compute_loss)


@pytest.mark.parametrize("kind", ["sft", "dpo", "reward"])
def test_where_memory_runs_out_passes_become_smaller_and_the_gradient_stays(
    kind: str, tiny_llama: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"accumulate": 2, "max_steps": 2, "schedule": "constant", "warmup": 0, "optimizer": "adamw"}
    told: list[dict] = []
    run(tiny_llama, data, tmp_path / "much", kind, **settings)
    little_memory(monkeypatch, 1)
    run(tiny_llama, data, tmp_path / "little", kind, told.append, **settings)
    less = [
        {key: event[key] for key in ("step", "rows", "of")} for event in told if event.get("event") == "less memory"
    ]
    assert less == [{"step": 1, "rows": 2, "of": 4}, {"step": 1, "rows": 1, "of": 2}]
    much, little = ([line for line in lines(tmp_path / name) if "loss" in line] for name in ("much", "little"))
    for one, two in zip(much, little, strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-4)
        assert two["gradient_norm"] == pytest.approx(one["gradient_norm"], rel=1e-3)


def test_a_loss_over_a_whole_batch_is_not_cut_up(
    tiny_llama: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Any, *args: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(trainer_module.Ours, "_in_parts", fail)
    with pytest.raises(SpeechftError, match=r"not enough memory.*smaller batch_size with a larger accumulate") as error:
        run(tiny_llama, data, tmp_path, "kto")
    assert "preference.jsonl:" in str(error.value)
