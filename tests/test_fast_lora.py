"""The fused LoRA layer and the short-clip attention give the numbers of the libraries they stand in for."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from speechft import adapters
from speechft.attention import MOST_POSITIONS, use_short_attention
from speechft.fast_lora import fuse
from speechft.objective import FrozenHeadLoss, TokenLoss
from speechft.whisper import load_whisper, padding_mask


@pytest.fixture(scope="module")
def adapted() -> nn.Module:
    torch.manual_seed(0)
    model = adapters.attach(load_whisper("bundled:tiny.en", device="cpu").model, rank=4)
    for _, parameter in adapters.trainable(model):
        nn.init.normal_(parameter, 0, 0.05)
    return model


def loss_and_gradients(model: nn.Module, bf16: bool = False) -> tuple[float, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    frames = torch.randn(2, 80, 200, generator=generator)
    tokens = torch.randint(0, 5000, (2, 9), generator=generator)
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        loss = TokenLoss(model)(frames, tokens[:, :-1], tokens[:, 1:])
    loss.backward()
    return float(loss.detach()), torch.cat([p.grad.flatten() for _, p in adapters.trainable(model)])


def test_fused_layers_equal_peft(adapted: nn.Module) -> None:
    fused = copy.deepcopy(adapted)
    assert fuse(fused) == 24  # q and v of 4 encoder and 2 x 4 decoder attentions
    loss, gradient = loss_and_gradients(adapted)
    ours, our_gradient = loss_and_gradients(fused)
    assert ours == pytest.approx(loss, rel=1e-5)
    assert torch.nn.functional.cosine_similarity(gradient, our_gradient, 0) > 0.99999
    assert (gradient - our_gradient).norm() / gradient.norm() < 1e-3


def test_fused_layers_in_bf16_are_as_near_to_fp32_as_peft(adapted: nn.Module) -> None:
    fused = copy.deepcopy(adapted)
    fuse(fused)
    _, exact = loss_and_gradients(adapted)
    theirs = loss_and_gradients(adapted, bf16=True)[1]
    ours = loss_and_gradients(fused, bf16=True)[1]
    assert (ours - exact).norm() < 1.2 * (theirs - exact).norm()


def test_bf16_is_within_the_stated_bounds_of_fp32(adapted: nn.Module) -> None:
    """docs/performance.md states them."""
    fused = copy.deepcopy(adapted)
    fuse(fused)
    exact, exact_gradient = loss_and_gradients(fused)
    rounded, rounded_gradient = loss_and_gradients(fused, bf16=True)
    assert rounded != exact  # it was computed in bf16
    assert abs(rounded - exact) / exact < 0.005
    assert (rounded_gradient - exact_gradient).norm() / exact_gradient.norm() < 0.05
    assert torch.nn.functional.cosine_similarity(exact_gradient, rounded_gradient, 0) > 0.999


def test_a_switched_off_adapter_stays_off(adapted: nn.Module) -> None:
    fused = copy.deepcopy(adapted)
    fuse(fused)
    with adapters.disabled(adapted), adapters.disabled(fused), torch.no_grad():
        frames = torch.randn(1, 80, 100)
        tokens = torch.randint(0, 5000, (1, 5))
        assert TokenLoss(adapted)(frames, tokens, tokens) == TokenLoss(fused)(frames, tokens, tokens)


def test_variants_are_left_to_peft() -> None:
    model = load_whisper("bundled:tiny.en", device="cpu").model
    dora = adapters.attach(model, rank=4, dora=True)
    loss, gradient = loss_and_gradients(dora)
    fuse(dora)
    assert loss_and_gradients(dora)[0] == loss
    assert torch.equal(loss_and_gradients(dora)[1], gradient)


@pytest.mark.parametrize("positions", [30, MOST_POSITIONS + 10])
@pytest.mark.parametrize("padded", [False, True])
def test_attention_equals_pytorchs(positions: int, padded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("speechft.attention.FORMATS", (torch.float32,))
    torch.manual_seed(0)
    from transformers import AttentionInterface

    use_short_attention(load_whisper("bundled:tiny.en", device="cpu").model)
    attend = AttentionInterface._global_mapping["speechft"]
    module = nn.Module()
    module.is_causal = not padded
    module.num_key_value_groups = 1
    q, k, v = (torch.randn(2, 3, positions, 8, requires_grad=True) for _ in range(3))
    mask = padding_mask(torch.tensor([positions, positions - 7]), positions) if padded else None
    ours, _ = attend(module, q, k, v, mask, scaling=1.0)
    theirs = nn.functional.scaled_dot_product_attention(q, k, v, mask, is_causal=not padded, scale=1.0)
    assert torch.allclose(ours.transpose(1, 2), theirs, atol=1e-5)
    ours_grad = torch.autograd.grad(ours.square().sum(), (q, k, v))
    theirs_grad = torch.autograd.grad(theirs.square().sum(), (q, k, v))
    assert all(torch.allclose(a, b, atol=1e-3) for a, b in zip(ours_grad, theirs_grad, strict=True))


def test_frozen_head_loss_is_cross_entropy() -> None:
    torch.manual_seed(0)
    rows, head = torch.randn(7, 16, dtype=torch.float64, requires_grad=True), torch.randn(50, 16, dtype=torch.float64)
    ids = torch.randint(0, 50, (7,))
    theirs = nn.functional.cross_entropy(rows @ head.t(), ids, reduction="sum")
    ours = FrozenHeadLoss.apply(rows, head, ids)
    assert float(ours) == pytest.approx(float(theirs), rel=1e-6)
    gradients = [torch.autograd.grad(3 * loss, rows)[0] for loss in (ours, theirs)]
    assert torch.allclose(*gradients, atol=1e-5)
