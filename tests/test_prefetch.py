"""What is made ahead for a GPU comes in order, with its errors, by a thread on one core; for a CPU nothing is."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import torch

from speechft.prefetch import prefetch

GPU, CPU = torch.device("cuda"), torch.device("cpu")


def test_all_items_come_in_order() -> None:
    assert list(prefetch(range(20), GPU, depth=2)) == list(range(20))


@pytest.mark.parametrize("device", [GPU, CPU], ids=str)
def test_an_error_comes_after_what_was_made_before_it(device: torch.device) -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("no more")

    found = prefetch(items(), device)
    assert next(found) == 1
    with pytest.raises(ValueError, match="no more"):
        next(found)


def test_the_thread_ends_with_its_consumer() -> None:
    found = prefetch(iter(range(1000)), GPU)
    next(found)
    found.close()  # type: ignore[attr-defined]
    assert "speechft-prefetch" not in [thread.name for thread in threading.enumerate()]


def test_it_computes_on_one_core_and_leaves_the_others_their_number() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        seen = list(prefetch((torch.get_num_threads() for _ in range(2)), GPU))
        later: list[int] = []
        thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert (seen, torch.get_num_threads(), later) == ([1, 1], 3, [3])
    finally:
        torch.set_num_threads(before)


def test_beside_a_model_on_the_cpu_nothing_runs() -> None:
    here = threading.current_thread()
    assert list(prefetch((threading.current_thread() for _ in range(2)), CPU)) == [here, here]
