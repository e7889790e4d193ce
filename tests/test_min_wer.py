"""Minimum word error rate: the gradient goes where it should, and an adapter gets better on what it trains on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from speechft.config import SpeechRecipe
from speechft.errors import SpeechftError
from speechft.manifest import Manifest
from speechft.min_wer import expected_errors, refine

LISTS = st.lists(st.tuples(st.floats(-20, 0), st.integers(0, 9)), min_size=2, max_size=6)


@settings(deadline=None)
@given(LISTS, st.integers(0, 5))
def test_only_differences_of_errors_count(pairs: list[tuple[float, int]], more: int) -> None:
    logprobs = torch.tensor([p for p, _ in pairs], dtype=torch.float64, requires_grad=True)
    errors = torch.tensor([float(e) for _, e in pairs], dtype=torch.float64)
    one, two = expected_errors(logprobs, errors), expected_errors(logprobs, errors + more)
    assert one.item() == pytest.approx(two.item(), abs=1e-9)
    one.backward()
    assert logprobs.grad is not None
    assert logprobs.grad.sum().item() == pytest.approx(0, abs=1e-9)
    mean = float((logprobs.detach().softmax(0) * errors).sum())
    for gradient, (_, count) in zip(logprobs.grad.tolist(), pairs, strict=True):
        assert gradient <= 1e-12 if count < mean - 1e-6 else gradient >= -1e-12 or abs(count - mean) < 1e-6


@pytest.mark.slow
def test_expected_errors_fall_on_the_clips_it_learns_from(voice: Manifest, tmp_path: Path) -> None:
    from speechft.train import fit

    recipe = SpeechRecipe(
        manifest=Path("-"), output_dir=tmp_path / "first", min_steps=0, max_steps=4, batch_size=8, augment=None,
        learning_rate=3e-4,
    )  # fmt: skip
    first = fit(recipe, voice[:16], voice[:16])
    assert first.adapter is not None
    found = refine(first.adapter, voice[:16], voice[:16], tmp_path / "refined", rounds=3, learning_rate=3e-4)
    assert found.after < found.before
    assert found.adapter is not None


def test_an_adapter_made_elsewhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(SpeechftError, match="not trained here"):
        refine(tmp_path, Manifest([]), Manifest([]), tmp_path / "out")
