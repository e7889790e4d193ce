"""A linear layer with the LoRA matrices of many adapters, and which of them each row of a batch takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from speechft.bank import AdapterBank

BASE = 0  # the slot whose matrices are zero


class Rows:
    """Which slot each row of the present batch takes its matrices from.

    Attributes:
        slots: by row; empty for the base model.
        shared: the slot of all rows, if it is one.
        index: `slots` as a tensor.
        groups: (slot, its rows) of each voice, where several rows have the same; else none.
    """

    def __init__(self, slots: Sequence[int] = (), device: torch.device | None = None) -> None:
        self._set(list(slots))
        self.index = torch.tensor(self.slots, device=device)
        self.gathered: dict[int, tuple[Tensor, Tensor]] = {}  # of each layer, by id: its matrices by row

    def _set(self, slots: list[int]) -> None:
        self.slots = slots
        self.shared = slots[0] if slots and len(set(slots)) == 1 else None
        self.plain = not any(slots)
        places: dict[int, list[int]] = {}
        for row, slot in enumerate(slots):
            if slot != BASE:
                places.setdefault(slot, []).append(row)
        few = 2 * len(places) <= len(slots)  # a product a voice costs less than copies of its matrices for each row
        self.groups = [(slot, _slice_or_index(rows)) for slot, rows in places.items()] if few else []

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows."""
        if self.shared is None and self.slots:
            self._set([self.slots[row] for row in rows.tolist()])
            self.index = self.index[rows]
            self.gathered.clear()

    def of(self, layer: BankedLinear) -> tuple[Tensor, Tensor]:
        """A and B of each row, shapes (rows, in, rank) and (rows, rank, out)."""
        if id(layer) not in self.gathered:
            index = self.index.where(self.index < len(layer.a), BASE)  # no adapter beyond has this layer
            self.gathered[id(layer)] = layer.a[index], layer.b[index]
        return self.gathered[id(layer)]


def _slice_or_index(rows: list[int]) -> slice | Tensor:
    """Rows as what picks them fastest: a slice is a view."""
    whole = rows[-1] - rows[0] + 1 == len(rows)
    return slice(rows[0], rows[-1] + 1) if whole else torch.tensor(rows)


class BankedLinear(nn.Module):
    """A linear layer, and the LoRA matrices of many adapters.

    Attributes:
        a, b: stacked, shapes (slots, in, rank) and (slots, rank, out); those of slot 0 are zero.
    """

    def __init__(self, base: nn.Linear, bank: AdapterBank) -> None:
        super().__init__()
        self.base = base
        self.bank = (bank,)  # in a tuple, so that the module does not take it for a part
        weight = base.weight
        self.a = weight.new_zeros(1, base.in_features, 1)
        self.b = weight.new_zeros(1, 1, base.out_features)

    def put(self, slot: int, a: Tensor, b: Tensor, room: int) -> None:
        """Set an adapter's matrices, shapes (in, rank) and (rank, out); `room`: for how many slots, if more are due."""
        rank = a.shape[1]
        if slot >= len(self.a) or rank > self.a.shape[2]:
            slots = max(slot + 1, room) if slot >= len(self.a) else len(self.a)
            ranks = max(rank, self.a.shape[2])
            old_a, old_b = self.a, self.b
            self.a = old_a.new_zeros(slots, old_a.shape[1], ranks)
            self.b = old_b.new_zeros(slots, ranks, old_b.shape[2])
            self.a[: len(old_a), :, : old_a.shape[2]] = old_a
            self.b[: len(old_b), : old_b.shape[1]] = old_b
        self.clear(slot)
        self.a[slot, :, :rank] = a.to(self.a)
        self.b[slot, :rank] = b.to(self.b)

    def clear(self, slot: int) -> None:
        """Leave the base layer as it is for a slot."""
        if slot < len(self.a):
            self.a[slot] = 0
            self.b[slot] = 0

    def forward(self, x: Tensor) -> Tensor:
        """x of shape (rows, ..., in); beams of a clip are rows next to one another."""
        y = self.base(x)
        rows = self.bank[0].rows
        if rows.plain:
            return y
        if rows.shared is not None:
            slot = rows.shared
            if slot < len(self.a):
                y.view(-1, y.shape[-1]).addmm_(x.reshape(-1, x.shape[-1]) @ self.a[slot], self.b[slot])
            return y
        n = len(rows.slots)
        x, out = x.reshape(n, -1, x.shape[-1]), y.view(n, -1, y.shape[-1])
        if not rows.groups:
            a, b = rows.of(self)
            out.baddbmm_(torch.bmm(x, a), b)
        for slot, where in rows.groups:
            if slot < len(self.a):
                self._add(out, x[where], slot, where)
        return y

    def _add(self, out: Tensor, x: Tensor, slot: int, where: slice | Tensor) -> None:
        """Add one voice's part to its rows of the output."""
        low = x.reshape(-1, x.shape[-1]) @ self.a[slot]
        if isinstance(where, slice):
            out[where].view(-1, out.shape[-1]).addmm_(low, self.b[slot])
        else:
            out.index_add_(0, where.to(out.device), (low @ self.b[slot]).view(len(where), -1, out.shape[-1]))
