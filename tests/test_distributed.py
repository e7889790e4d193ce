"""Several processes on one run: the gradients, weights and files of one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file

from speechft import distributed
from speechft.errors import SpeechftError
from speechft.manifest import Manifest
from speechft.sources import resolve

GRADIENTS = """
import sys, torch
from accelerate import PartialState
from speechft import distributed
distributed.start()
linear = torch.nn.Linear(3, 2)
unused = torch.nn.Parameter(torch.ones(4))
with torch.no_grad():
    linear.weight.fill_(0.5)
    linear.bias.zero_()
rows = torch.arange(15, dtype=torch.float32).reshape(5, 3)[distributed.rank() :: distributed.world()]
linear(rows).square().sum().backward()
if distributed.rank() == 1:
    unused.sum().backward()
distributed.sum_gradients([*linear.parameters(), unused])
(count,) = distributed.summed([len(rows)], like=linear.weight)
said = distributed.from_first(lambda: f"from {distributed.rank()}")
order = distributed.first_before_others(lambda: distributed.rank())
found = f"{count} {linear.weight.grad.tolist()} {linear.bias.grad.tolist()} {unused.grad.tolist()} {said}"
open(f"{sys.argv[1]}/{distributed.rank()}.txt", "w").write(found)  # two processes' prints get mixed up
torch.distributed.destroy_process_group()
"""

SHARDED = """
import sys, torch
from speechft import distributed
distributed.start()
assert distributed.is_sharded()
root = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
with torch.no_grad():
    for parameter in root.parameters():
        parameter.fill_(0.5)
distributed.shard(root, [root[0]])
rows = torch.arange(12.0).reshape(4, 3)[distributed.rank() :: distributed.world()]
(root(rows).square().sum() * distributed.world()).backward()
found = distributed.whole(root[0].weight.grad)
assert root[0].weight.to_local().numel() < found.numel()
open(f"{sys.argv[1]}/{distributed.rank()}.txt", "w").write(str(found.tolist()))
torch.distributed.destroy_process_group()
"""

EVA = """
import sys, torch
from peft import EvaConfig, LoraConfig, get_peft_model
from speechft import distributed
from speechft.eva import initialise_from_data
distributed.start()
torch.manual_seed(0)
eva = EvaConfig(rho=1.0, adjust_scaling_factors=False)
config = LoraConfig(r=2, target_modules=["0"], init_lora_weights="eva", eva_config=eva)
model = get_peft_model(torch.nn.Sequential(torch.nn.Linear(6, 6)), config)
rows = torch.randn(20, 6, generator=torch.Generator().manual_seed(distributed.rank()))
initialise_from_data(model, [rows], model)
found = [p.tolist() for name, p in model.named_parameters() if "lora_A" in name]
open(f"{sys.argv[1]}/{distributed.rank()}.txt", "w").write(str(found))
torch.distributed.destroy_process_group()
"""

RUN = """
import sys
from speechft.config import SpeechRecipe
from speechft.manifest import Manifest
from speechft.train import fit
recipe = SpeechRecipe.model_validate_json(sys.argv[1])
clips = Manifest.load(recipe.manifest)
def told(event):
    if event.get("step") == int(sys.argv[2]) and "loss" in event:
        raise KeyboardInterrupt
fit(recipe, clips[:7], clips[7:8], on_event=told)
"""

NEEDS_DEEPSPEED = pytest.mark.skipif(find_spec("deepspeed") is None, reason="accelerate wants DeepSpeed installed")
FSDP2 = {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}
DEEPSPEED = {"ACCELERATE_USE_DEEPSPEED": "true"}  # as `accelerate launch` hands a configuration on


def launched(script: str, *words: str, processes: int = 2, env: dict[str, str] | None = None) -> list[str]:
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return [sys.executable, *(launch if processes > 1 else []), script, *words]


def test_gradients_and_counts_are_summed_over_processes(tmp_path: Path) -> None:
    script = tmp_path / "gradients.py"
    script.write_text(GRADIENTS)
    done = subprocess.run([*launched(str(script)), str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [(tmp_path / f"{rank}.txt").read_text() for rank in range(2)]
    assert lines[0].startswith("5.0")
    assert lines[0] == lines[1]
    rows = torch.arange(15, dtype=torch.float32).reshape(5, 3)
    linear = torch.nn.Linear(3, 2)
    with torch.no_grad():
        linear.weight.fill_(0.5)
        linear.bias.zero_()
    linear(rows).square().sum().backward()
    assert f"{linear.weight.grad.tolist()} {linear.bias.grad.tolist()} [1.0, 1.0, 1.0, 1.0] from 0" in lines[0]


def test_all_processes_start_from_one_processs_directions(tmp_path: Path) -> None:
    script = tmp_path / "eva.py"
    script.write_text(EVA)
    done = subprocess.run([*launched(str(script)), str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "0.txt").read_text() == (tmp_path / "1.txt").read_text()


def test_one_process_is_left_alone() -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    distributed.sum_gradients([parameter])
    assert parameter.grad is None
    assert distributed.summed([3], like=parameter) == [3]
    assert distributed.is_first()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (DEEPSPEED | {"ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE": "cpu"}, "offloading is not supported"),
        (DEEPSPEED | {"ACCELERATE_DEEPSPEED_ZERO_STAGE": "7"}, "stage cannot be read"),
        (DEEPSPEED | {"ACCELERATE_DEEPSPEED_CONFIG_FILE": "missing.json"}, "missing.json"),
        (FSDP2 | {"FSDP_VERSION": "1"}, "fsdp_version: 2"),
    ],
)
def test_what_the_loop_does_not_do_is_refused(
    asked: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in ({"WORLD_SIZE": "2"} | asked).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SpeechftError, match=message):
        distributed.start()


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_a_stage_of_deepspeed_is_found(stage: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", str(stage))
    assert distributed._of_deepspeed() == distributed.STAGES[stage]
    file = tmp_path / "ds.json"
    file.write_text(json.dumps({"zero_optimization": {"stage": stage, "offload_param": None}}))
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", "1")
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_CONFIG_FILE", str(file))
    assert distributed._of_deepspeed() == distributed.STAGES[stage]


CONFIGS = Path(__file__).parent.parent / "configs"
ACCELERATE = [sys.executable, "-m", "accelerate.commands.launch", "--config_file"]


@pytest.mark.parametrize(
    ("launch", "asked"),
    [
        ([*ACCELERATE, str(CONFIGS / "fsdp2.yaml")], {}),
        (launched("")[:-1], DEEPSPEED | {"ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"}),
        pytest.param([*ACCELERATE, str(CONFIGS / "deepspeed.yaml")], {}, marks=NEEDS_DEEPSPEED),
    ],
)
def test_a_model_is_spread(launch: list[str], asked: dict[str, str], tmp_path: Path) -> None:
    script = tmp_path / "sharded.py"
    script.write_text(SHARDED)
    command = [*launch, str(script), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | asked)
    assert done.returncode == 0, done.stderr
    root = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
    with torch.no_grad():
        for parameter in root.parameters():
            parameter.fill_(0.5)
    root(torch.arange(12.0).reshape(4, 3)).square().sum().backward()
    for rank in range(2):
        assert (tmp_path / f"{rank}.txt").read_text() == str(root[0].weight.grad.tolist())


@pytest.fixture(scope="module")
def noises(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """Seconds of noise with a text each: enough to learn from for a model of random weights."""
    out = tmp_path_factory.mktemp("noises")
    rng = np.random.default_rng(0)
    rows = []
    for number, words in enumerate(("one", "two two", "three", "four five six", "seven", "eight", "nine ten", "no")):
        soundfile.write(out / f"{number}.wav", 0.1 * rng.standard_normal(16000 + 4000 * number), 16000)
        rows.append({"id": str(number), "audio": f"{number}.wav", "text": words, "speaker": f"s{number}"})
    (out / "manifest.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return Manifest.load(out / "manifest.jsonl")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Whisper of random weights that has tiny.en's tokens."""
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    folder = tmp_path_factory.mktemp("small")
    config = WhisperConfig.from_pretrained(resolve("bundled:tiny.en"))
    config.d_model = config.encoder_ffn_dim = config.decoder_ffn_dim = 32
    config.encoder_layers = config.decoder_layers = config.encoder_attention_heads = config.decoder_attention_heads = 2
    torch.manual_seed(0)
    WhisperForConditionalGeneration(config).save_pretrained(folder)
    for path in resolve("bundled:tiny.en").iterdir():
        if path.suffix in (".json", ".txt") and path.name != "config.json":
            shutil.copy(path, folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "asked"),
    [("lora", FSDP2), ("full", FSDP2), ("full", DEEPSPEED | {"ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"})],
)
def test_two_processes_that_share_a_model_train_what_one_does(
    method: str, asked: dict[str, str], noises: Manifest, small: Path, tmp_path: Path
) -> None:
    """Three clips a batch, so that the processes never have equally many."""
    script = tmp_path / "run.py"
    script.write_text(RUN)

    def run(name: str, processes: int, stop: int = 0) -> int:
        recipe = {
            "model": str(small), "manifest": str(noises.path), "output_dir": str(tmp_path / name), "batch_size": 3,
            "epochs": 2, "min_steps": 0, "checkpoint_every": 2, "precision": "fp32", "augment": None, "context": "clip",
            "adapter": {"rank": 4, "method": method}, "learning_rate": 3e-3, "cache": "off",
        }  # fmt: skip
        command = launched(str(script), json.dumps(recipe), str(stop), processes=processes)
        return subprocess.run(command, env=os.environ | (asked if processes > 1 else {})).returncode

    def losses(name: str) -> list[float]:
        lines = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        return [line["loss"] for line in lines if "loss" in line]

    def weights(name: str) -> dict[str, torch.Tensor]:
        return load_file(tmp_path / name / "checkpoints" / "latest" / "state.safetensors")

    assert run("one", 1) == 0
    assert run("two", 2) == 0
    assert len(losses("one")) == 6
    assert losses("two") == pytest.approx(losses("one"), rel=1e-3)
    assert losses("two")[-1] < losses("two")[0]
    one, two = weights("one"), weights("two")
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=2e-3, rtol=2e-2, msg=name)
    assert run("cut", 2, stop=4) != 0
    assert run("cut", 2) == 0
    again = weights("cut")
    assert all(torch.equal(again[name], value) for name, value in two.items())


@pytest.mark.slow
def test_two_processes_train_what_one_does(voice: Manifest, tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(RUN)

    def run(name: str, processes: int, stop: int = 0) -> int:
        recipe = {
            "manifest": str(voice.path), "output_dir": str(tmp_path / name), "batch_size": 3, "epochs": 2,
            "min_steps": 0, "checkpoint_every": 2, "precision": "fp32", "adapter": {"rank": 4}, "learning_rate": 1e-3,
        }  # fmt: skip
        return subprocess.run(launched(str(script), json.dumps(recipe), str(stop), processes=processes)).returncode

    def course(name: str) -> list[dict]:
        lines = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        return [{k: v for k, v in line.items() if k != "step_seconds"} for line in lines]

    def weights(name: str) -> dict[str, torch.Tensor]:
        return load_file(tmp_path / name / "checkpoints" / "latest" / "state.safetensors")

    assert run("one", 1) == 0
    assert run("two", 2) == 0
    one, two = course("one"), course("two")
    assert [line["step"] for line in one] == [line["step"] for line in two]  # the first process alone writes
    for ours, theirs in zip(one, two, strict=True):
        for key in ours.keys() & {"loss", "gradient_norm"}:
            assert theirs[key] == pytest.approx(ours[key], rel=2e-3)
    assert two[1]["loss"] == pytest.approx(one[1]["loss"], rel=1e-5)
    assert two[1]["gradient_norm"] == pytest.approx(one[1]["gradient_norm"], rel=1e-4)
    difference = change = 0.0
    for name, value in weights("one").items():
        if name.startswith("weights/") and "lora_B" in name:  # began at zero
            difference += float((weights("two")[name] - value).square().sum())
            change += float(value.square().sum())
    assert (difference / change) ** 0.5 < 0.01

    assert run("cut", 2, stop=4) != 0
    assert run("cut", 2) == 0
    again, whole = weights("cut"), weights("two")
    assert all(torch.equal(again[name], whole[name]) for name in whole)
    assert course("cut") == two
