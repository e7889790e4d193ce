"""What an adapter says of itself is checked where it is read: each wrong value is a sentence with file and field."""

from __future__ import annotations

import doctest
import json
import resource
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model_state_dict
from safetensors.torch import save_file

import speechft.adapter_places
from speechft import adapters, load
from speechft.adapter_arithmetic import average
from speechft.adapter_files import MOST
from speechft.adapter_places import is_harmless
from speechft.errors import SpeechftError
from speechft.export import export
from speechft.hub import push
from speechft.peft_methods import target_pattern
from speechft.sources import resolve

MODEL = "bundled:tiny.en"
WRONG_CONFIG: list[tuple[str, Any]] = [
    ("r", "x"), ("r", 0), ("r", True), ("lora_alpha", None), ("lora_alpha", float("nan")), ("lora_alpha", "16"),
    ("target_modules", 5), ("target_modules", {"a": 1}), ("peft_type", []), ("peft_type", None), ("use_dora", "no"),
    ("base_model_name_or_path", 7), ("rank_pattern", [1]), ("alpha_pattern", 3),
]  # fmt: skip
WRONG_CARD: list[tuple[str, Any]] = [
    ("context", 5), ("context", "sometimes"), ("context", None), ("language", ["en"]), ("model", {}), ("task", 1),
    ("seen", [1]), ("seen", {"train": 5}), ("seen", {"dev": [1]}), ("seen", {"parts": [{}]}),
    ("seen", {"parts": [{"salt": ""}]}), ("seen", {"parts": [{"salt": "s", "train": {"audio": "a@1-x"}}]}),
    ("seen", {"parts": [{"salt": "s", "train": {"audio": "a@1.0.0-"}}]}),
    ("seen", {"parts": [{"salt": "s", "train": {"nameless": -1}}]}), ("recipe", "r"), ("recipe", {"adapter": 3}),
    ("data", [1]), ("licence", 3), ("base_sha256", 1), ("speechft", 1), ("normalizer", 2),
]  # fmt: skip


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    model = adapters.attach(load(MODEL, device="cpu").whisper.model, rank=2)
    card = {"model": MODEL, "base_sha256": adapters.base_hash(resolve(MODEL)), "context": "clip"}
    return adapters.save(model, tmp_path_factory.mktemp("run") / "adapter", card, MODEL, resolve(MODEL))


def with_value(good: Path, out: Path, file: str, key: str, value: Any) -> Path:
    shutil.copytree(good, out)
    found = json.loads((good / file).read_text())
    (out / file).write_text(json.dumps(found | {key: value}))
    return out


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [("adapter_config.json", *pair) for pair in WRONG_CONFIG] + [(adapters.CARD, *pair) for pair in WRONG_CARD],
)
def test_a_wrong_value_is_named_with_its_file(good: Path, tmp_path: Path, file: str, key: str, value: Any) -> None:
    folder = with_value(good, tmp_path / "adapter", file, key, value)
    for use in (
        lambda: load(adapter=folder),
        lambda: export(folder, tmp_path / "exported"),
        lambda: push(folder, "somebody/voice", base="openai/whisper-tiny.en", dry_run=tmp_path / "pushed"),
        lambda: average([good, folder], None, tmp_path / "sum"),
    ):
        with pytest.raises(SpeechftError, match=rf"{file}: {key}"):
            use()
    assert [path.name for path in tmp_path.iterdir()] == ["adapter"]


@pytest.mark.parametrize("text", ["[]", "5", "{", "", "[" * 100_000, '{"r": 1' + "0" * 5000 + "}"])
@pytest.mark.parametrize("file", ["adapter_config.json", adapters.CARD])
def test_what_is_no_object_is_damaged(good: Path, tmp_path: Path, file: str, text: str) -> None:
    folder = with_value(good, tmp_path / "adapter", file, "r", 1)
    (folder / file).write_text(text)
    with pytest.raises(SpeechftError, match=rf"{file}.* is damaged"):
        push(folder, "somebody/voice", base="openai/whisper-tiny.en", dry_run=tmp_path / "pushed")


@pytest.mark.parametrize(("key", "value"), [("layers_to_transform", {"a": "b"}), ("init_lora_weights", [5])])
def test_values_that_peft_alone_reads_are_a_sentence_too(good: Path, tmp_path: Path, key: str, value: Any) -> None:
    folder = with_value(good, tmp_path / "adapter", "adapter_config.json", key, value)
    with pytest.raises(SpeechftError, match=r"It is damaged, or belongs to another model"):
        load(adapter=folder)


def test_a_model_that_was_trained_as_a_whole_is_checked_too(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(resolve(MODEL), folder)
    (folder / adapters.CARD).write_text(json.dumps({"context": 5}))
    for use in (
        lambda: load(folder),
        lambda: push(folder, "a/b", base="openai/whisper-tiny.en", dry_run=tmp_path / "p"),
    ):
        with pytest.raises(SpeechftError, match=rf"{adapters.CARD}: context"):
            use()


def test_a_sum_can_be_shared(good: Path, tmp_path: Path) -> None:
    made = average([good, good], None, tmp_path / "sum")
    assert "trained with speechft" in Path(push(made, "a/b", dry_run=tmp_path / "p"), "README.md").read_text()


def test_lora_settings_that_are_not_said_are_those_of_peft(good: Path, tmp_path: Path) -> None:
    folder = with_value(good, tmp_path / "adapter", "adapter_config.json", "r", 2)
    said = json.loads((folder / "adapter_config.json").read_text())
    del said["lora_alpha"]
    (folder / "adapter_config.json").write_text(json.dumps(said))
    assert adapters.read_config(folder)["lora_alpha"] == 8
    assert average([folder], None, tmp_path / "sum").is_dir()


def test_a_folder_with_an_adapter_is_no_whole_model(tmp_path: Path) -> None:
    assert not adapters.is_whole_model(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    assert adapters.is_whole_model(tmp_path)
    (tmp_path / adapters.CONFIG).write_text("{}")  # some save the base's config.json beside their adapter
    assert not adapters.is_whole_model(tmp_path)


HANGS = "(.*)*(.*)*(.*)*(.*)*X"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("r", 10**6), ("rank_pattern", {"q_proj": 10**6}), ("rank_pattern", {HANGS: 2}),
        ("alpha_pattern", {HANGS: 2.0}),
        ("modules_to_save", [HANGS]), ("layers_pattern", HANGS), ("layers_pattern", [HANGS]), ("size", 10**9),
        ("num_virtual_tokens", 10**9), ("layer_replication", [[0, 4]] * 10**5),
    ],
)  # fmt: skip
def test_what_would_take_all_memory_or_for_ever_is_refused(good: Path, tmp_path: Path, key: str, value: Any) -> None:
    folder = with_value(good, tmp_path / "adapter", "adapter_config.json", key, value)
    with pytest.raises(SpeechftError, match=rf"adapter_config.json: {key}"):
        load(adapter=folder)


def test_a_rank_that_the_tensors_do_not_have_takes_no_memory(good: Path, tmp_path: Path) -> None:
    folder = with_value(good, tmp_path / "adapter", "adapter_config.json", "r", MOST)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(SpeechftError, match="cannot be loaded"):
        load(adapter=folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000  # KiB; it would be over 1,000,000


@pytest.mark.parametrize("key", ["target_modules", "exclude_modules"])
def test_an_expression_of_a_strangers_is_not_run(good: Path, tmp_path: Path, key: str) -> None:
    """The layers are read from the names of the tensors, so whatever it says the adapter is the same."""
    folder = with_value(good, tmp_path / "adapter", "adapter_config.json", key, HANGS)
    again, same = (load(adapter=path, device="cpu").whisper.model for path in (folder, good))
    states = [get_peft_model_state_dict(model, save_embedding_layers=False) for model in (again, same)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    state = {f"base_model.model.elsewhere{i}.weight": torch.zeros(1) for i in range(2)}
    save_file(state, folder / "adapter_model.safetensors")
    with pytest.raises(SpeechftError, match="by an expression of its own where it belongs"):
        load(adapter=folder)


@pytest.mark.parametrize("placement", ["both", "encoder", "decoder"])
@pytest.mark.parametrize("encoder_from", [0, 1, 3])
def test_our_own_expressions_are_harmless(placement: str, encoder_from: int) -> None:
    model = load(MODEL, device="cpu").whisper.model
    pattern = target_pattern(model, placement, ["q_proj", "fc1", "out_proj"], encoder_from)
    assert is_harmless(pattern)
    assert not is_harmless(pattern + "*")
    assert not is_harmless(pattern + HANGS)


def test_examples() -> None:
    assert doctest.testmod(speechft.adapter_places).failed == 0
