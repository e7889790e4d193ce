"""What is pushed comes back and works, says what was measured, and names nobody; others' adapters work here."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from five_sentences import one
from local_hub import Hub, serving

from speechft import adapters, load
from speechft.config import SpeechRecipe
from speechft.errors import SpeechftError
from speechft.hub import push
from speechft.manifest import Manifest, Utterance
from speechft.model_card import model_card
from speechft.paired import compare
from speechft.pipeline import evaluate
from speechft.scoring import score
from speechft.sources import hub_id, local_adapter, resolve, resolve_adapter
from speechft.transcript import DecodeOptions
from speechft.whisper import Whisper

MODEL, REPO = "bundled:tiny.en", "somebody/voice"


@pytest.fixture(scope="module")
def run(voice: Manifest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run leaves: an adapter with its card, and the scores of a real evaluation."""
    out = tmp_path_factory.mktemp("anna-lives-here")
    torch.manual_seed(0)
    base = load(MODEL, device="cpu").whisper
    model = adapters.attach(base.model, rank=2)
    for name, parameter in adapters.trainable(model):
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, 0, 0.02)
    recipe = SpeechRecipe(manifest=voice.path, output_dir=out, split_file=out / "split.json")
    card = {
        "format": 1, "model": MODEL, "base_sha256": adapters.base_hash(resolve(MODEL)), "context": "clip+10s",
        "licence": adapters.VOICE_LICENCE, "data": {
            "train_clips": 20, "train_minutes": 1.5, "speakers": 1,
            "split_file": {"protocol": "torgo", "options": {"speaker": "frida"}, "base": None, "sha256": "ab"},
        },
        "recipe": recipe.model_dump(mode="json", exclude={"manifest", "output_dir", "speakers", "search"}),
    }  # fmt: skip
    adapters.save(model, out / "adapter", card, MODEL, resolve(MODEL))
    rows = [replace(utterance, speaker="frida") for utterance in voice[:2]]
    evaluate(Manifest(rows, voice.path), adapter=out / "adapter", out=out)
    return out


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[type[Hub]]:
    from huggingface_hub import constants, hf_api

    with serving(REPO) as address:
        for target, name, value in (
            (constants, "ENDPOINT", address),
            (constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}"),
            (constants, "HF_HUB_CACHE", str(tmp_path / "cache")),
            (constants, "HF_HUB_OFFLINE", False),
            (hf_api.api, "endpoint", address),
        ):
            monkeypatch.setattr(target, name, value)
        monkeypatch.setenv("HF_TOKEN", "hf_test")
        yield Hub


def test_what_is_pushed_comes_back_and_works(run: Path, hub: type[Hub], voice: Manifest) -> None:
    push(run / "adapter", REPO)
    assert hub.private is True
    assert set(hub.files) == {"README.md", "adapter_config.json", "adapter_model.safetensors", "speechft.json"}
    clip, plain = voice[0].audio, DecodeOptions(temperatures=())
    ours = load(adapter=run / "adapter").transcribe(clip, options=plain).text
    found = load(adapter=f"{REPO}@main")
    assert found.whisper.context.policy == "clip+10s"
    assert found.transcribe(clip, options=plain).text == ours
    assert resolve_adapter(REPO) == found.adapter, "the same revision"
    with pytest.raises(SpeechftError, match="cannot be downloaded"):
        resolve_adapter(f"{REPO}@v9")
    with pytest.raises(SpeechftError, match="cannot be downloaded"):
        resolve_adapter("somebody/else")
    hub.private = False  # it is there already, so creating it again changes nothing
    with pytest.raises(SpeechftError, match="is public"):
        push(run / "adapter", REPO)


def test_the_card_says_what_was_measured_and_names_nobody(run: Path, tmp_path: Path, voice: Manifest) -> None:
    out = Path(push(run / "adapter", REPO, dry_run=tmp_path / "look"))
    text = (out / "README.md").read_text()
    front = yaml.safe_load(text.split("---\n")[1])
    result = json.loads((run / "result.json").read_text())
    assert front["base_model"] == "openai/whisper-tiny.en"
    assert front["library_name"] == "peft"
    assert front["license"] == "other"
    metrics = front["model-index"][0]["results"][0]["metrics"]
    assert metrics[0]["value"] == round(100 * result["wer"], 2)
    assert f"{result['wer']:.1%}" in text
    assert f"{result['base']['wer_ci95'][0]:.1%}" in text
    assert result["notice"] in text, "simulated speech is called so"
    for word in ("personal data", "diagnosis", "consent", "lora, rank 2", "| minutes | 1.5 |"):
        assert word in text
    everything = "".join(path.read_text() for path in out.glob("*.json")) + text
    for private in ("anna-lives-here", str(Path.home()) + "/", str(voice.path.parent), "split.json", "frida"):
        assert private not in everything
    assert json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"] == "openai/whisper-tiny.en"
    assert adapters.read_card(out)["data"]["split_file"] == {"protocol": "torgo", "sha256": "ab"}
    assert adapters.read_card(out)["model"] == MODEL, "ours still knows which weights"
    adapters.load(load(MODEL, device="cpu").whisper.model, out, resolve(MODEL))


def test_nothing_is_public_without_a_licence(run: Path, tmp_path: Path) -> None:
    with pytest.raises(SpeechftError, match="no licence"):
        push(run / "adapter", REPO, public=True, dry_run=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    out = Path(push(run / "adapter", REPO, public=True, licence="cc-by-nc-4.0", dry_run=tmp_path / "out"))
    assert "license: cc-by-nc-4.0" in (out / "README.md").read_text()
    assert adapters.read_card(out)["licence"] == "cc-by-nc-4.0"
    with pytest.raises(SpeechftError, match="exists already"):
        push(run / "adapter", REPO, dry_run=out)
    with pytest.raises(SpeechftError, match="USER/NAME"):
        push(run / "adapter", "voice", dry_run=tmp_path / "other")


def test_a_base_model_of_ones_own_needs_a_name(run: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    for path in (run / "adapter").iterdir():
        (own / path.name).write_bytes(path.read_bytes())
    card = json.loads((own / adapters.CARD).read_text()) | {"model": str(tmp_path / "anna" / "model")}
    (own / adapters.CARD).write_text(json.dumps(card))
    with pytest.raises(SpeechftError, match="nobody else has"):
        push(own, REPO, dry_run=tmp_path / "out")
    out = Path(push(own, REPO, base="openai/whisper-small", dry_run=tmp_path / "out"))
    assert "anna" not in "".join(path.read_text() for path in (*out.glob("*.json"), *out.glob("*.md")))
    assert adapters.read_card(out)["model"] == "openai/whisper-small"
    assert "base_sha256" not in adapters.read_card(out), "of the folder; the hub's model may be another"
    assert "Nothing was measured" in (out / "README.md").read_text()


def test_a_result_is_a_result_and_of_this_adapter(run: Path, tmp_path: Path) -> None:
    own = json.loads((run / "result.json").read_text())
    assert own["adapter_sha256"] == adapters.base_hash(run / "adapter")
    path = tmp_path / "result.json"
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"adapter": 5}, "is no result"),
        (own | {"adapter": 5}, "adapter should be a text"),
        (
            own | {"difference": {k: v for k, v in own["difference"].items() if k != "p_mapsswe"}},
            "p_mapsswe is missing",
        ),
        (own | {"adapter_sha256": "0" * 64}, "another adapter's"),
    ]
    for number, (result, said) in enumerate(wrong):
        path.write_text(json.dumps(result))
        with pytest.raises(SpeechftError, match=said) as refused:
            push(run / "adapter", REPO, result=path, dry_run=tmp_path / f"{number}")
        assert refused.value.fix
    for number, result in enumerate(
        (
            {k: v for k, v in own.items() if k != "adapter_sha256"},
            own | {"difference": own["difference"] | {"p_mapsswe": None}},
        )
    ):
        path.write_text(json.dumps(result))
        card = Path(push(run / "adapter", REPO, result=path, dry_run=tmp_path / f"good{number}")) / "README.md"
        assert f"{own['wer']:.1%}" in card.read_text()


def test_the_card_says_where_its_numbers_come_from(run: Path, tmp_path: Path) -> None:
    """`never trained on` only where that is known; what an evaluation warns of is passed on."""
    own = json.loads((run / "result.json").read_text())
    pair = {
        "first": "train", "second": "test", "rows": 2, "speakers": [], "sessions": [], "prompts": 0, "texts": 0,
        "text_rows": 0, "audio": ["one"],
    }  # fmt: skip
    trained_on = "2 of these 2 recordings were trained on: the numbers say little about new ones."
    learnt = pair | {"first": "training of the adapter", "audio": []}
    clean = own | {"caveats": [], "leakage": [learnt], "split": "test"}
    results = [
        (clean, True),
        (clean | {"caveats": [trained_on]}, False),
        (clean | {"caveats": [trained_on], "leakage": [learnt | {"audio": ["one", "two"]}]}, False),
        (clean | {"leakage": []}, False),  # of an earlier version, which compared it with nothing
        (clean | {"split": "train"}, False),
    ]
    for number, (result, never) in enumerate(results):
        (tmp_path / "result.json").write_text(json.dumps(result))
        out = push(run / "adapter", REPO, result=tmp_path / "result.json", dry_run=tmp_path / f"{number}")
        card = (Path(out) / "README.md").read_text()
        assert ("never trained on" in card) == never
        assert card.count(trained_on) == (trained_on in result["caveats"])
        if result["leakage"] == [learnt | {"audio": ["one", "two"]}]:
            assert card.index(trained_on) < card.index("word error rate")
    shared = "train and test share nothing, and perhaps speaker 'Frida', but for case or spaces"
    alike = clean | {"leakage": [pair | {"audio": [], "alike": ["speaker 'Frida'"]}], "overlap": shared}
    card = model_card(REPO, MODEL, {}, None, alike | {"caveats": [f"Overlap between splits: {shared}."]}, None)
    assert "Frida" not in card
    assert card.count("perhaps others, but for case or spaces") == 1
    trained = {"evaluated_on": {"split": "test"}, "base": own["base"], "adapted": own["base"], "leakage": []}
    other = [pair | {"second": "dev"}]
    for result, never in (
        (trained, True),
        (trained | {"leakage": other}, True),
        (trained | {"leakage": [pair]}, False),
        (trained | {"evaluated_on": {"split": "dev"}}, False),
    ):
        assert ("never trained on" in model_card(REPO, MODEL, {}, None, result, None)) == never
    assert "never trained on" not in model_card(REPO, MODEL, {}, None, clean, None), "nobody knows what others did"


def test_an_unreachable_hub_is_a_sentence(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(SpeechftError, match="cannot be uploaded to"):
        push(run / "adapter", REPO)


def test_names_of_models_and_adapters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert hub_id("bundled:base") == "openai/whisper-base"
    assert hub_id("openai/whisper-small@v1") == "openai/whisper-small"
    assert hub_id(str(tmp_path)) is None
    (tmp_path / "runs").mkdir()
    assert resolve_adapter("runs/adapter") == Path("runs/adapter"), "a folder was meant"
    assert local_adapter("runs/adapter@main") is None, "nobody writes a revision after a folder"
    with pytest.raises(SpeechftError, match="If it is on a hub: runs/adapter@main"):
        adapters.read_card("runs/adapter")


THEIRS: dict[str, dict[str, Any]] = {
    "the usual recipe": {"target_modules": ["q_proj", "v_proj"], "lora_alpha": 64, "lora_dropout": 0.05},
    "another scale": {"target_modules": "all-linear", "use_rslora": True},
    "a task type": {"target_modules": ["fc1", "fc2"], "task_type": "SEQ_2_SEQ_LM"},
    "decomposed": {"target_modules": ["q_proj", "out_proj"], "use_dora": True},
}


def made_for(adapter: Path, base: str) -> Path:
    """The same adapter, naming another base model."""
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": base}))
    return adapter


@pytest.mark.parametrize("name", THEIRS)
def test_an_adapter_made_by_peft_alone(name: str, tiny: Whisper, tmp_path: Path) -> None:
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import WhisperForConditionalGeneration

    folder = resolve(MODEL)
    model = WhisperForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    torch.manual_seed(0)
    made = get_peft_model(model, LoraConfig(r=4, **THEIRS[name]))
    for key, parameter in made.named_parameters():
        if "lora_B" in key:
            torch.nn.init.normal_(parameter, 0, 0.02)
    made.save_pretrained(tmp_path / "theirs")
    assert not (tmp_path / "theirs" / adapters.CARD).exists()
    ours = load(adapter=tmp_path / "theirs", device="cpu")
    assert ours.whisper.context.policy == "full", "they trained at 30 s"
    named = made_for(tmp_path / "theirs", "openai/whisper-tiny")
    (note,) = load(MODEL, named, device="cpu").notes
    assert "trained on openai/whisper-tiny, and here it is used on openai/whisper-tiny.en" in note
    for silent in ("openai/whisper-tiny.en@main", str(folder)):
        assert load(MODEL, made_for(named, silent), device="cpu").notes == []
    theirs = PeftModel.from_pretrained(copy.deepcopy(tiny.model), tmp_path / "theirs").eval()
    frames = torch.randn(1, 80, 3000, generator=torch.Generator().manual_seed(1))
    ids = torch.tensor([[50257, 50362, 262]])
    with torch.inference_mode():
        wanted = theirs.get_base_model()(input_features=frames, decoder_input_ids=ids).logits
        found = ours.whisper.model.get_base_model()(input_features=frames, decoder_input_ids=ids).logits
        base = tiny.model(input_features=frames, decoder_input_ids=ids).logits
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)
    assert (wanted - base).abs().max() > 0.01


def test_a_pickled_adapter_is_refused(tmp_path: Path, tiny: Whisper) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": MODEL, "peft_type": "LORA"}))
    (tmp_path / "adapter_model.bin").write_bytes(b"pickle")
    with pytest.raises(SpeechftError, match="Pickled"):
        load(adapter=tmp_path)


def measured(rows: list[Utterance], before: list[str], after: list[str]) -> str:
    """The card of an adapter with scores of these."""
    one, two = score(rows, before), score(rows, after)
    result = {"base": one.to_dict(), "adapted": two.to_dict(), "difference": compare(one, two), "leakage": []}
    return model_card(REPO, "openai/whisper-base", {"speechft": "0"}, {"peft_type": "LORA"}, result, None)


def test_a_card_of_silence_publishes_no_rate() -> None:
    text = measured([one(i, "") for i in range(3)], ["thank you so much"] * 3, ["you"] * 3)
    assert "model-index" not in text
    assert "| word error rate | – | – |" in text
    assert "On 3 clips, 0 words, 0 speakers, of 'all':" in text
    assert "Difference" not in text
    assert "Texts were normalised by" in text


def test_a_card_calls_characters_so_and_counts_no_speaker_who_is_not_named() -> None:
    rows = [one(i, "请打开灯", language="zh") for i in range(8)]
    text = measured(rows, ["请打开的"] * 8, ["请打开灯"] * 8)
    assert "On 8 clips, 32 characters, speakers not named, of 'all':" in text
    assert "| character error rate (WER) | 25.0% | 0.0% |" in text
    assert "Difference −25.0 percentage points of character error rate (WER); matched-pairs p" in text  # none varies
    assert "word" not in text.partition("## Measured")[2].partition("## Trained on")[0]
    (metric,) = yaml.safe_load(text.split("---\n")[1])["model-index"][0]["results"][0]["metrics"]
    assert (metric["type"], metric["value"]) == ("cer", 0.0)
