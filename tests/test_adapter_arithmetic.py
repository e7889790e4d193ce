"""Sums of adapters are exact, and adapters that do not belong together are refused."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch

from speechft import adapters, load
from speechft.adapter_arithmetic import average
from speechft.errors import SpeechftError
from speechft.hub import push
from speechft.sources import resolve
from speechft.weights_hash import base_hash, hashes_of
from speechft.whisper import Whisper

MODEL = "bundled:tiny.en"


def make(tiny: Whisper, out: Path, seed: int, licence: str = "cc0-1.0", **settings) -> Path:
    torch.manual_seed(seed)
    model = adapters.attach(copy.deepcopy(tiny.model), **({"rank": 4} | settings))
    for _, parameter in adapters.trainable(model):
        torch.nn.init.normal_(parameter, 0, 0.05)
    card = {"model": MODEL, "base_sha256": adapters.base_hash(resolve(MODEL)), "context": "clip", "licence": licence}
    return adapters.save(model, out, card, MODEL, resolve(MODEL))


def added(folder: Path, tiny: Whisper) -> dict[str, torch.Tensor]:
    """What an adapter adds to each weight of the base."""
    merged = adapters.merge(load(adapter=folder, device="cpu").whisper.model).state_dict()
    base = tiny.model.state_dict()
    return {name: merged[name] - base[name] for name in base if not torch.equal(merged[name], base[name])}


def test_a_sum_adds_the_weighted_sum(tiny: Whisper, tmp_path: Path) -> None:
    one = make(tiny, tmp_path / "one", 1)
    two = make(tiny, tmp_path / "two", 2, rank=2, alpha=16.0, rslora=True)
    first, second = added(one, tiny), added(two, tiny)
    for number, weights in enumerate((None, [0.5, 0.5], [1.0, -0.3])):
        shares = weights or [0.5, 0.5]
        found = added(average([one, two], weights, tmp_path / f"sum{number}"), tiny)
        assert found.keys() == first.keys()
        for name, value in found.items():
            wanted = shares[0] * first[name] + shares[1] * second[name]
            torch.testing.assert_close(value, wanted, atol=1e-5, rtol=1e-4)
    card = adapters.read_card(tmp_path / "sum2")
    assert card["context"] == "clip"
    assert [part["weight"] for part in card["sum_of"]] == [1.0, -0.3]


def test_a_sum_has_a_licence_only_where_all_have_it(tiny: Whisper, tmp_path: Path) -> None:
    free, also, asked = (
        make(tiny, tmp_path / name, 1, licence) for name, licence in (("a", "cc0-1.0"), ("b", "cc0-1.0"), ("c", "ask"))
    )
    assert adapters.read_card(average([free, also], None, tmp_path / "one"))["licence"] == "cc0-1.0"
    both = average([free, asked], None, tmp_path / "other")
    assert adapters.read_card(both)["licence"] == adapters.VOICE_LICENCE
    with pytest.raises(SpeechftError, match="has no licence"):
        push(both, "user/name", public=True, dry_run=tmp_path / "look")
    push(both, "user/name", dry_run=tmp_path / "look")
    assert "sum_of" not in (tmp_path / "look" / adapters.CARD).read_text()


def of_others(folder: Path, base: str) -> Path:
    """The same without our card."""
    (folder / adapters.CARD).unlink()
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": base}))
    return folder


def test_adapters_without_a_hash_go_by_the_name_of_their_base(tiny: Whisper, tmp_path: Path) -> None:
    one = of_others(make(tiny, tmp_path / "one", 1), "openai/whisper-tiny.en")
    same = of_others(make(tiny, tmp_path / "same", 2), MODEL)
    other = of_others(make(tiny, tmp_path / "other", 3), "openai/whisper-tiny")
    average([one, same], None, tmp_path / "sum")
    with pytest.raises(SpeechftError, match="another base model"):
        average([one, other], None, tmp_path / "wrong")


def test_the_two_forms_of_a_hash_are_one_base(tiny: Whisper, tmp_path: Path) -> None:
    one, old = make(tiny, tmp_path / "one", 1), make(tiny, tmp_path / "old", 2)
    first_form = (hashes_of(resolve(MODEL)) - {base_hash(resolve(MODEL))}).pop()
    for sha256, fits in ((first_form, True), ("0" * 64, False)):
        (old / adapters.CARD).write_text(json.dumps(adapters.read_card(old) | {"base_sha256": sha256}))
        if fits:
            average([one, old], None, tmp_path / "sum")
        else:
            with pytest.raises(SpeechftError, match="another base model"):
                average([one, old], None, tmp_path / "wrong")


def test_what_does_not_belong_together_is_refused(tiny: Whisper, tmp_path: Path) -> None:
    one = make(tiny, tmp_path / "one", 1)
    other = make(tiny, tmp_path / "other", 2, placement="decoder")
    dora = make(tiny, tmp_path / "dora", 3, dora=True)
    with pytest.raises(SpeechftError, match="other layers"):
        average([one, other], None, tmp_path / "sum")
    with pytest.raises(SpeechftError, match="cannot be summed"):
        average([one, dora], None, tmp_path / "sum")
    with pytest.raises(SpeechftError, match="2 adapters, but 1 weight"):
        average([one, one], [1.0], tmp_path / "sum")
    with pytest.raises(SpeechftError, match="not an adapter"):
        average([tmp_path / "nothing"], None, tmp_path / "sum")
    assert not (tmp_path / "sum").exists()
