"""Attention of short clips on this CPU: ours (two products and a softmax) against PyTorch's kernel, in turn.

    python benchmarks/attention.py [--heads 6] [--rounds 5]

Milliseconds of forward, and of forward and backward, for batches of about 1,800 positions, in fp32 and, where the
machine multiplies it natively, in bf16. `speechft.attention` takes the faster of the two by number format and length.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from speechft import exits
from speechft.attention import short_attention
from speechft.precision import has_native_bf16

POSITIONS = (50, 100, 150, 200, 300, 400, 500, 700, 1000, 1500)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--heads", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=5)
    a = parser.parse_args()
    print(
        "| format | positions | ours: forward, with backward | PyTorch's: forward, with backward |\n|---|---|---|---|"
    )
    for dtype in (torch.float32, torch.bfloat16)[: 2 if has_native_bf16() else 1]:
        for n in POSITIONS:
            shape = (max(1, 1800 // n), n, a.heads, 64)
            parts = [torch.randn(shape, dtype=dtype).transpose(1, 2).requires_grad_() for _ in range(3)]
            found = [timed(attend, parts, a.rounds) for attend in (short_attention, theirs)]
            cells = [f"{forward:.1f}, {both:.1f} ms" for forward, both in found]
            print(f"| {str(dtype).removeprefix('torch.')} | {n} | {cells[0]} | {cells[1]} |", flush=True)


def theirs(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return scaled_dot_product_attention(query, key, value, scale=1.0).transpose(1, 2)


def timed(attend: Callable[[Tensor, Tensor, Tensor], Tensor], parts: list[Tensor], rounds: int) -> tuple[float, float]:
    """Median milliseconds of forward alone, and of forward and backward."""
    gradient = torch.randn_like(attend(*parts))
    forward, both = [], []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        with torch.inference_mode():
            attend(*parts)
        middle = time.perf_counter()
        attend(*parts).backward(gradient)
        forward.append(middle - started)
        both.append(time.perf_counter() - middle)
    return 1e3 * statistics.median(forward[1:]), 1e3 * statistics.median(both[1:])


if __name__ == "__main__":
    exits.run(main)
