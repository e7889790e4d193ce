"""EVA starts where the inputs of a layer vary most."""

from __future__ import annotations

import peft
import pytest
import torch
from torch import nn

from speechft import eva
from speechft.eva import InputMoments, initialise_from_data


def rows(count: int, width: int = 12) -> torch.Tensor:
    scale = torch.linspace(4, 0.1, width)
    return torch.randn(2, count, width, generator=torch.Generator().manual_seed(0)) * scale + 3


def test_directions_are_those_of_all_rows_about_their_mean() -> None:
    moments, x = InputMoments(), rows(200)
    moments.add(None, (x[:, :50],), None)
    moments.add(None, (x[:, 50:],), None)
    found = moments.directions(4).float()
    flat = x.reshape(-1, 12)
    expected = torch.linalg.svd(flat - flat.mean(0), full_matrices=False).Vh[:4]
    torch.testing.assert_close(found.abs(), expected.abs(), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found @ found.T, torch.eye(4), atol=1e-5, rtol=0)
    assert (found.gather(1, found.abs().argmax(1, keepdim=True)) > 0).all()


def test_more_directions_than_rows_are_orthonormal_still() -> None:
    moments = InputMoments()
    moments.add(None, (rows(1)[:1],), None)
    found = moments.directions(6)
    torch.testing.assert_close(found @ found.T, torch.eye(6, dtype=torch.float64))


class TwoLayers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused = nn.Linear(12, 12), nn.Linear(12, 12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.used(x)


@pytest.mark.filterwarnings("ignore:the following layers were initialized")
@pytest.mark.parametrize(("init", "most_bytes"), [("eva", 1e9), ("eva", 1), (True, 1e9)])
def test_only_layers_that_were_fed_and_asked_for(
    init: str | bool, most_bytes: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eva, "MOST_BYTES", most_bytes)  # one layer at a time, or all
    torch.manual_seed(0)
    settings = {"eva_config": peft.EvaConfig(rho=1.0)} if init == "eva" else {}
    config = peft.LoraConfig(r=3, target_modules=["used", "unused"], init_lora_weights=init, **settings)
    model = peft.get_peft_model(TwoLayers(), config)
    base, x = model.base_model.model, rows(30)
    start = base.used.lora_A["default"].weight.clone()
    initialise_from_data(model, [x, x + 1, x, x, x * 100], model)
    moments = InputMoments()
    for batch in (x, x + 1, x, x):  # the fifth is not looked at
        moments.add(None, (batch,), None)
    expected = moments.directions(3).float() if init == "eva" else start
    torch.testing.assert_close(base.used.lora_A["default"].weight, expected, atol=1e-5, rtol=1e-5)
    assert base.unused.lora_A["default"].weight.shape == (3, 12)
    assert model.peft_config["default"].target_modules == {"used", "unused"}
    assert not base.used._forward_hooks
