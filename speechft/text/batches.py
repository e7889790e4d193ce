"""Token sequences of different lengths as batches: like beside like, so that little is padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch


def by_length(rows: Sequence[Sequence[Any]], batch_size: int) -> Iterator[list[int]]:
    """The places of rows of about the same length, a batch at a time; together all places, each once.

    >>> list(by_length(["aaa", "b", "cc"], 2))
    [[1, 2], [0]]
    """
    order = sorted(range(len(rows)), key=lambda place: len(rows[place]))
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


def padded(rows: Sequence[Sequence[int]], pad: int, left: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and their mask, shape (rows, longest)."""
    longest = max(len(row) for row in rows)
    ids = torch.full((len(rows), longest), pad)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        place = slice(longest - len(row), None) if left else slice(len(row))
        ids[i, place] = torch.tensor(list(row), dtype=ids.dtype)
        mask[i, place] = 1
    return ids, mask
