"""Every method goes through one door, learns, finds its way home and leaves the base as it was."""

from __future__ import annotations

import copy
import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from speechft import adapters, eva, peft_methods
from speechft.audio import log_mel, pad_frames
from speechft.batching import IGNORED
from speechft.config import AdapterSettings
from speechft.decoder import is_quantized
from speechft.errors import SpeechftError
from speechft.fast_lora import fuse
from speechft.files import write_text
from speechft.manifest import Manifest
from speechft.objective import TokenLoss
from speechft.quantization import merge_quantized, size
from speechft.text.model import TextModel, trainable_text_model
from speechft.whisper import core

LORA: dict[str, dict[str, Any]] = {
    "rslora": {"rslora": True}, "dora": {"dora": True}, "pissa": {"init": "pissa"}, "eva": {"init": "eva"},
}  # fmt: skip
SETTINGS = {method: {"method": method} for method in peft_methods.METHODS} | LORA
SPEECH = [name for name in SETTINGS if name not in peft_methods.TEXT_ONLY]
UNMERGEABLE = {"whisper": {"houlsby", "pfeiffer"}, "llama": {"houlsby", "pfeiffer", "bitfit", "prompt", "prefix"}}
CASES = [("whisper", name) for name in SPEECH] + [("llama", name) for name in SETTINGS]
PROJECTIONS = {
    "whisper": ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"],
    "llama": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
}


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    """A Whisper and a Llama with random weights; their norms and biases are no identities."""
    from transformers import LlamaConfig, LlamaForCausalLM, WhisperConfig, WhisperForConditionalGeneration

    torch.manual_seed(0)
    whisper = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=60, d_model=32, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
            decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64, num_mel_bins=8, max_source_positions=40,
            max_target_positions=16, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
            init_std=0.2, suppress_tokens=None, begin_suppress_tokens=None,
        )
    )  # fmt: skip
    llama = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=60, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
            initializer_range=0.2,
        )
    )  # fmt: skip
    return {"whisper": whisper.eval(), "llama": llama.eval()}


def batch(kind: str) -> tuple[torch.Tensor, ...]:
    if kind in REAL:
        return REAL[kind]
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(3, 60, (3, 7), generator=generator)
    return (torch.randn(3, 8, 60, generator=generator), ids[:, :-1], ids[:, 1:]) if kind == "whisper" else (ids,)


def loss(model: Any, kind: str) -> torch.Tensor:
    if len(batch(kind)) == 3:
        return TokenLoss(model)(*batch(kind)) / 18
    (ids,) = batch(kind)
    return model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=ids).loss


@torch.no_grad()
def value(model: Any, kind: str) -> float:
    return float(loss(model.eval(), kind))


def attached(models: dict[str, Any], kind: str, name: str, **more: Any) -> Any:
    torch.manual_seed(0)
    settings = (
        {"rank": 4, "projections": PROJECTIONS["llama" if len(batch(kind)) == 1 else "whisper"], "virtual_tokens": 3}
        | settings_of(name)
        | more
    )
    model = adapters.attach(copy.deepcopy(models[kind]), **settings)
    eva.initialise_from_data(model, [batch(kind)] * 2, lambda _: loss(model, kind))
    return model


def settings_of(name: str) -> dict[str, Any]:
    """What `attach` is given for a row of the table; the part after "on" is the base's."""
    name = name.partition(" on ")[0]
    return {"init": "loftq"} if name == "loftq" else SETTINGS[name]


def train(
    model: Any, kind: str, steps: int, total: int = 12, rate: float = 2e-2
) -> tuple[torch.optim.Optimizer, Any, Callable]:
    parameters = [p for _, p in adapters.trainable(model)]
    optimizer = torch.optim.AdamW(parameters, rate)
    ranks = peft_methods.attach_rank_schedule(model, optimizer, total)

    def step() -> None:
        loss(model, kind).backward()
        optimizer.step()
        optimizer.zero_grad()

    for _ in range(steps):
        step()
    return optimizer, ranks, step


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_the_life_of_a_method(models: dict[str, Any], kind: str, name: str, tmp_path: Path) -> None:
    base = value(models[kind], kind)
    model = attached(models, kind, name)
    fused = fuse(model)
    assert (fused > 0) == (name in ("lora", *LORA)), "only LoRA layers compute the fused way"
    if name not in ("prompt", "prefix"):
        assert value(model, kind) == pytest.approx(base, abs=1e-4), "training starts at the base model"
    found = size(model)
    assert 0 < found.trainable <= found.parameters
    assert (found.trainable == found.parameters) == (name == "full" and kind == "llama")

    train(model, kind, 12)
    trained = value(model, kind)
    assert trained < base - 0.01
    row = lived(model, models[kind], kind, name, trained, base, tmp_path)
    assert (row["merges"] == "yes") == (name not in UNMERGEABLE[kind])


def lived(model: Any, original: Any, kind: str, name: str, trained: float, base: float, tmp_path: Path) -> dict:
    """Save, load, switch off, merge and unload; what of it worked."""
    folder = adapters.save(model, tmp_path / "adapter", {"format": 1}, "base", tmp_path)
    if name == "full":
        again = type(original).from_pretrained(folder)
    else:
        with adapters.disabled(model):
            assert value(model, kind) == pytest.approx(base, abs=1e-4)
        again = adapters.load(copy.deepcopy(original), folder)
    assert value(again, kind) == pytest.approx(trained, abs=1e-4)
    merges = "no"
    if is_quantized(original) and adapters.mergeable(again):
        merged, lost = merge_quantized(again)
        assert 0 < lost.of_weights < 0.2
        assert value(merged, kind) < base
        merges = f"rounded, {lost.of_weights:.1%} off"
    elif adapters.mergeable(again):
        merged = adapters.merge(again)
        assert value(merged, kind) == pytest.approx(trained, abs=1e-3)
        assert merged.state_dict().keys() == original.state_dict().keys()
        merges = "yes"
    else:
        with pytest.raises(SpeechftError, match="cannot be merged"):
            adapters.merge(again)
    size_mb = sum(path.stat().st_size for path in folder.glob("*.safetensors")) / 1e6
    if name != "full":
        assert value(adapters.unload(model), kind) == pytest.approx(base, abs=1e-4)
    return {"merges": merges, "file_mb": size_mb}


@pytest.mark.parametrize(
    ("kind", "name"), [case for case in CASES if case[0] == "whisper" or case[1] in peft_methods.TEXT_ONLY]
)
def test_a_run_goes_on_where_it_was_cut_off(models: dict[str, Any], kind: str, name: str) -> None:
    whole = attached(models, kind, name)
    train(whole, kind, 12)
    first = attached(models, kind, name)
    optimizer, ranks, _ = train(first, kind, 8)
    weights, moments = adapters.trainable_state(first), optimizer.state_dict()
    second = attached(models, kind, name)
    optimizer, later, step = train(second, kind, 0)
    adapters.load_trainable_state(second, weights)
    optimizer.load_state_dict(moments)
    if ranks:
        later.load_state(ranks.state())
    for _ in range(4):
        step()
    expected = adapters.trainable_state(whole)
    assert all(torch.equal(value, expected[key]) for key, value in adapters.trainable_state(second).items())


def test_adalora_takes_ranks_away(models: dict[str, Any]) -> None:
    model = attached(models, "whisper", "adalora")
    _, ranks, _ = train(model, "whisper", 12)
    left = [sum(mask) for mask in ranks.kept.values()]
    assert sum(left) == 4 * len(left), "the budget is `rank` a layer on average"
    energies = [p for name, p in model.named_parameters() if "lora_E" in name]
    assert sum(int((p == 0).sum()) for p in energies) == sum(p.numel() for p in energies) - sum(left)


def test_plain_peft_loads_pissa_on_the_untouched_base(models: dict[str, Any], tmp_path: Path) -> None:
    from peft import PeftModel

    model = attached(models, "whisper", "pissa", rslora=True)
    before = core(model).model.encoder.layers[0].fc1.weight
    assert not torch.allclose(before, models["whisper"].model.encoder.layers[0].fc1.weight)
    train(model, "whisper", 6)
    folder = adapters.save(model, tmp_path / "adapter", {}, "base", tmp_path)
    theirs = PeftModel.from_pretrained(copy.deepcopy(models["whisper"]), folder)
    assert value(theirs, "whisper") == pytest.approx(value(model, "whisper"), abs=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "magic"}, "unknown method"),
        ({"method": "prompt"}, "causal language model"),
        ({"init": "loftq"}, "4-bit"),
        ({"init": "best"}, "unknown initialisation"),
        ({"init": "pissa", "dora": True}, "cannot be combined"),
        ({"method": "ia3", "placement": "middle"}, "unknown placement"),
    ],
)
def test_what_does_not_fit_is_refused(models: dict[str, Any], settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SpeechftError, match=message):
        adapters.attach(copy.deepcopy(models["whisper"]), **settings)


@pytest.mark.parametrize("method", [m for m in peft_methods.METHODS if m not in ("full", *peft_methods.TEXT_ONLY)])
def test_placement_holds_for_every_method(models: dict[str, Any], method: str) -> None:
    model = attached(models, "whisper", method, placement="decoder")
    assert all(".decoder." in name for name, _ in adapters.trainable(model))


RATES = {"full": 1e-5, "ia3": 1e-2, "vera": 1e-2, "bitfit": 3e-3, "norms": 3e-3, "prompt": 3e-2, "prefix": 1e-2}
REAL: dict[str, tuple[torch.Tensor, ...]] = {}  # batches of the models with trained weights


@pytest.fixture(scope="module")
def trained_model(voice: Manifest) -> Callable[..., Any]:
    """tiny.en or SmolLM2 with their weights, quantised if told; a batch for each is in `REAL` then."""
    whole = functools.cache(lambda kind: real_model(kind, voice))
    return lambda kind, bits=None: real_model(kind, voice, bits) if bits else whole(kind)


def real_model(kind: str, voice: Manifest, bits: str | None = None) -> Any:
    from speechft.text.batches import padded
    from speechft.text.model import load_text_model
    from speechft.whisper import load_whisper

    if kind == "SmolLM2":
        text = load_text_model("bundled:smollm2", device="cpu", quantize=bits)
        sentences = [
            "The tremor makes my speech slow, but I have a lot to say and people who wait hear all of it.",
            "Please call my sister on Sunday and ask her to bring the blue chair from the garden shed.",
        ]
        REAL[kind] = (torch.tensor([text.tokenizer(sentence)["input_ids"][:16] for sentence in sentences]),)
        return text.model
    whisper = load_whisper("bundled:tiny.en", device="cpu", quantize=bits)
    clips = list(voice)[:3]
    mels = [log_mel(clip.load(), 80) for clip in clips]
    labels, mask = padded([whisper.label_ids(clip.text) for clip in clips], whisper.generation.eos_token_id)
    targets = labels[:, 1:].masked_fill(mask[:, 1:] == 0, IGNORED)
    REAL[kind] = (pad_frames(mels, max(m.shape[1] for m in mels) // 2 * 2 + 200), labels[:, :-1], targets)
    return whisper.model


QUANTISED = {"lora on nf4": "nf4", "loftq on nf4": "nf4", "houlsby on nf4": "nf4", "lora on int8": "int8"}
TABLE_ORDER = [
    *(("tiny.en", name) for name in [*SPEECH, *QUANTISED]),
    *(("SmolLM2", name) for name in [*SETTINGS, *QUANTISED]),
]
REFUSED = ("SmolLM2", "eva")
REAL_CASES = [case for case in TABLE_ORDER if case != REFUSED]


def test_the_table_says_what_is_refused() -> None:
    text = TextModel("bundled:smollm2", Path(), None, None)
    with pytest.raises(SpeechftError, match="needs recordings"):
        trainable_text_model(text, AdapterSettings(init="eva"))
    page = Path(__file__).parent.parent / "docs" / "methods.md"
    kind, name = REFUSED
    assert f"| {name} | {kind} | refused: it needs recordings |" in page.read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "name"), REAL_CASES)
def test_the_table_of_methods(trained_model: Callable[..., Any], kind: str, name: str, tmp_path: Path) -> None:
    """All of it with trained weights; what is found is a row of docs/methods.md."""
    row = proven(kind, name, trained_model(kind, QUANTISED.get(name)), tmp_path)
    shutil.rmtree(tmp_path)
    page = Path(__file__).parent.parent / "docs" / "methods.md"
    before, _, rest = page.read_text(encoding="utf-8").partition(TABLE_FROM)
    table, _, after = rest.partition(TABLE_TO)
    rows = {tuple(line.split(" | ")[:2]): line for line in [*table.strip().splitlines()[2:], row]}
    order = [(f"| {name}", kind) for kind, name in TABLE_ORDER]
    lines = [rows[key] for key in order if key in rows]
    write_text(page, before + TABLE_FROM + "\n" + "\n".join([*TABLE_HEAD, *lines]) + "\n" + TABLE_TO + after)


TABLE_FROM, TABLE_TO = "<!-- made by tests/test_peft_methods.py -->", "<!-- end -->"
TABLE_HEAD = [
    "| method | model | loss before, after 4 steps | loads | merges | resumes | trained | file | training takes |",
    "|---|---|---|---|---|---|---|---|---|",
]


def proven(kind: str, name: str, original: Any, folder: Path) -> str:
    """A row of the table, after the method has shown what the row says."""
    rate, models = RATES.get(name, 1e-3), {kind: original}
    base = value(original, kind)
    model = attached(models, kind, name, rank=16)
    taken, start = size(model), value(model, kind)
    optimizer, ranks, step = train(model, kind, 3, total=10, rate=rate)
    weights, moments = adapters.trainable_state(model), copy.deepcopy(optimizer.state_dict())
    counters = ranks.state() if ranks else None
    held = sum(t.numel() * t.element_size() for s in optimizer.state.values() for t in s.values()) / 1e6
    step()
    trained = value(model, kind)
    assert trained < start, f"{name} does not learn on {kind}"

    resumed = attached(models, kind, name, rank=16)
    optimizer, ranks, step = train(resumed, kind, 0, total=10, rate=rate)
    adapters.load_trainable_state(resumed, weights)
    optimizer.load_state_dict(moments)
    if ranks:
        ranks.load_state(counters)
    step()
    assert value(resumed, kind) == pytest.approx(trained, abs=1e-5)
    del resumed

    found = lived(model, original, kind, name, trained, base, folder)
    takes = taken.weights_mb + taken.trainable_mb + held  # weights, gradients, moments
    return (
        f"| {name} | {kind} | {start:.3f}, {trained:.3f} | yes | {found['merges']} | yes "
        f"| {taken.share:.3%} | {found['file_mb']:.2f} MB | {takes:.0f} MB |"
    )
