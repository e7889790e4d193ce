"""What weights are known by: a hash that takes milliseconds, for models of any size.

It reads every file's header and both ends of every tensor. A tensor that training changed is changed nearly everywhere,
so its ends tell; names, shapes and places are in the header.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from speechft.files import refuse_special
from speechft.sources import SECOND_COPIES

END = 4096  # bytes read at either end of a tensor: all of a norm or a bias
SAMPLES = 64  # of a file, in the first form
MOST_HEADER = 100_000_000  # bytes, as the format has it


def base_hash(folder: Path) -> str:
    """SHA-256 over the headers and tensor ends of a folder's safetensors: identifies a model or adapter."""
    digest = hashlib.sha256()
    for path in _weights(folder):
        with refuse_special(path).open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = file.read(min(length, MOST_HEADER))
            digest.update(header)
            for start, end in _tensors(header):
                for first, last in ((start, min(end, start + END)), (max(start + END, end - END), end)):
                    if first < last:
                        file.seek(8 + length + first)
                        digest.update(file.read(last - first))
        digest.update(str(path.stat().st_size).encode())
    return digest.hexdigest()


def hashes_of(folder: Path) -> set[str]:
    """Every form in which a card may name these weights.

    Adapters saved before `base_hash` saw every tensor have its first form, which sampled files here and there and
    missed a change of a few norms or biases; they belong to their base all the same.
    """
    return {base_hash(folder), _first_form(folder)}


def _weights(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.glob("*.safetensors")) if not path.match(SECOND_COPIES))


def _tensors(header: bytes) -> list[tuple[int, int]]:
    """Where each tensor begins and ends in the data, in order; none where the header is damaged, which loading says."""
    try:
        found = [entry["data_offsets"] for name, entry in json.loads(header).items() if name != "__metadata__"]
        return sorted((int(start), int(end)) for start, end in found if 0 <= start <= end)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return []


def _first_form(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in _weights(folder):
        size = path.stat().st_size
        with refuse_special(path).open("rb") as file:
            for start in range(0, size, max(1, size // SAMPLES)):
                file.seek(start)
                digest.update(file.read(END))
        digest.update(str(size).encode())
    return digest.hexdigest()
