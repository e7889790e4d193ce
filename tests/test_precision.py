"""Numbers that are none are found, whatever they stand among."""

from __future__ import annotations

import pytest
import torch

from speechft.precision import all_finite, inference_dtype


@pytest.mark.parametrize("wrong", [float("nan"), float("inf"), float("-inf")])
def test_one_wrong_number_is_found(wrong: float) -> None:
    good = [torch.randn(7, 5), torch.randn(3, dtype=torch.float16), torch.full((4,), 255, dtype=torch.uint8)]
    assert all_finite(good)
    good[0][6, 4] = wrong
    assert not all_finite(good)
    assert not all_finite([torch.tensor([float("inf"), float("-inf"), 1.0])])


def test_large_numbers_are_numbers() -> None:
    assert all_finite([torch.full((9,), 3e38)])
    assert all_finite([torch.full((9,), 6e4, dtype=torch.float16)])
    assert all_finite([])


def test_a_gpu_that_only_emulates_bf16_takes_fp16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert inference_dtype(torch.device("cuda")) == torch.float16
