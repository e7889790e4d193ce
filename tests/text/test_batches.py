"""Batches of like lengths: every row once, and the padding where it belongs."""

from __future__ import annotations

import doctest

import pytest
import torch

from speechft.text import batches
from speechft.text.batches import by_length, padded


def test_the_example_in_the_docstring() -> None:
    assert doctest.testmod(batches).failed == 0


@pytest.mark.parametrize("batch_size", [1, 3, 50])
def test_every_row_is_in_one_batch_with_those_of_its_length(batch_size: int) -> None:
    rows = [[0] * (n * 7 % 11) for n in range(20)]
    found = list(by_length(rows, batch_size))
    places = [place for batch in found for place in batch]
    assert sorted(places) == list(range(20))
    assert [len(rows[place]) for place in places] == sorted(map(len, rows))
    assert all(len(batch) <= batch_size for batch in found)
    assert list(by_length([], 4)) == []


def test_rows_are_padded_on_the_side_that_is_asked_for() -> None:
    ids, mask = padded([[1, 2, 3], [4]], 9)
    assert (ids.tolist(), mask.tolist()) == ([[1, 2, 3], [4, 9, 9]], [[1, 1, 1], [1, 0, 0]])
    ids, mask = padded([[1, 2, 3], [4]], 9, left=True)
    assert torch.equal(ids[1], torch.tensor([9, 9, 4]))
    assert torch.equal(mask[1], torch.tensor([0, 0, 1]))
