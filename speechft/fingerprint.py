"""Whether two clips are one recording: coded in another format, at another level, cut a little, or under another name.

Haitsma and Kalker's audio fingerprint (ISMIR 2002): for each moment 32 bits say where the energy of a band rises
against that of the next one. Bits of a recording and of its copy in mp3 at usual rates differ in a twentieth, those of
two other recordings in nearly half. Copies at another speed or pitch, and clips under 0.4 s, are not found; nor is
every copy in strong noise or at the lowest rates of a coder.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

RATE = 8_000  # samples a second; what tells recordings apart lies below 3 kHz
FRAME, HOP = 2048, 192  # samples: 256 ms, and 24 ms further on
BANDS = np.round(np.geomspace(300, 3000, 34) * FRAME / RATE).astype(int)  # edges of 33 bands, as bins of the transform
MOST_DIFFERENT = 0.28  # share of bits; copies differ in less, other recordings in more than 0.4
LEAST_FRAMES = 6  # of two clips that lie over each other
TOO_COMMON = 40  # bits of a moment that so many clips share (hum, silence) say nothing


def fingerprint(samples: np.ndarray) -> np.ndarray:
    """32 bits for every 24 ms.

    Args:
        samples: mono 16 kHz, shape (samples,).

    Returns:
        uint32, shape (frames,); empty for clips that are too short.
    """
    half = samples[: samples.size // 2 * 2].reshape(-1, 2).mean(1, dtype=np.float32)
    if half.size < FRAME + HOP * LEAST_FRAMES:
        return np.zeros(0, np.uint32)
    frames = np.lib.stride_tricks.sliding_window_view(half, FRAME)[::HOP]
    window = np.hanning(FRAME).astype(np.float32)
    power = np.abs(np.fft.rfft(frames * window, axis=1)) ** 2
    energy = np.add.reduceat(power[:, : BANDS[-1]], BANDS[:-1], axis=1)
    rising = np.diff(np.diff(energy, axis=1), axis=0) > 0
    return np.packbits(rising, axis=1).view(">u4").ravel().astype(np.uint32)


def copies(prints: Sequence[np.ndarray]) -> list[tuple[int, int]]:
    """Pairs of clips that are one recording, as positions (earlier, later) in `prints`.

    A pair counts if at least half of the shorter clip lies over the other with few different bits.
    """
    found = set()
    for one, other, offset in sorted(_candidates(prints)):
        if (one, other) not in found and _same(prints[one], prints[other], offset):
            found.add((one, other))
    return sorted(found)


def _candidates(prints: Sequence[np.ndarray]) -> set[tuple[int, int, int]]:
    """(clip, later clip, how many frames later a moment comes in it) of moments with the same 32 bits."""
    if not any(print_.size for print_ in prints):
        return set()
    bits = np.concatenate(prints)
    clip = np.repeat(np.arange(len(prints)), [print_.size for print_ in prints])
    frame = np.concatenate([np.arange(print_.size) for print_ in prints])
    order = np.argsort(bits, kind="stable")
    bits, clip, frame = bits[order], clip[order], frame[order]
    found = set()
    for start, end in _runs(bits):
        clips = clip[start:end]
        if clips[0] != clips[-1] and end - start <= TOO_COMMON:  # sorted stably, so clips ascend within a run
            for i in range(start, end):
                for j in range(i + 1, end):
                    if clip[i] != clip[j]:
                        found.add((int(clip[i]), int(clip[j]), int(frame[j] - frame[i])))
    return found


def _runs(values: np.ndarray) -> Iterator[tuple[int, int]]:
    """(start, end) of every stretch of two or more equal values."""
    edges = np.flatnonzero(np.diff(values)) + 1
    starts, ends = np.r_[0, edges], np.r_[edges, values.size]
    yield from zip(*(part[ends - starts > 1].tolist() for part in (starts, ends)), strict=True)


def _same(one: np.ndarray, other: np.ndarray, offset: int) -> bool:
    """Whether frame i of the one is frame i + offset of the other, for enough frames."""
    start, end = max(0, -offset), min(one.size, other.size - offset)
    if end - start < max(LEAST_FRAMES, min(one.size, other.size) // 2):
        return False
    different = np.bitwise_count(one[start:end] ^ other[start + offset : end + offset]).mean() / 32
    return bool(different < MOST_DIFFERENT)
