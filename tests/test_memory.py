"""Memory that runs out: the same work in smaller parts, and a word about it."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import textwrap

import pytest
import torch

from speechft.manifest import Manifest
from speechft.memory import Parts, ran_out

# A process that takes its limit from its own size, so that the test is the same on every machine: whatever memory the
# libraries reserve, `room` MB are left above it.
LIMITED = """
import json, resource, sys
import numpy as np, torch
torch.set_num_threads(1)

def size():
    return int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()

def with_room(megabytes, work):
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size() + int(megabytes * 1e6), hard))
    try:
        return work()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
"""


def limited(script: str) -> dict:
    """What a script in a process of its own printed as JSON, and what it said on stderr."""
    command = [sys.executable, "-c", LIMITED + textwrap.dedent(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout) | {"said": done.stderr}


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 5 bytes."),
            True,
        ),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("could not create a primitive"), True),
        (RuntimeError("can't start new thread"), True),
        (ImportError("libx.so: failed to map segment from shared object"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory."), False),
        (KeyboardInterrupt(), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_memory_that_ran_out_is_known_by_its_words(error: BaseException, expected: bool) -> None:
    assert ran_out(error) is expected


def test_parts_are_halved_until_they_fit_and_stay_small(caplog: pytest.LogCaptureFixture) -> None:
    in_parts, sizes = Parts(), []

    def work(part: list[int]) -> int:
        sizes.append(len(part))
        if len(part) > 3:
            raise MemoryError
        return sum(part)

    with caplog.at_level(logging.WARNING):
        made = list(in_parts(list(range(10)), work))
    assert [item for part, _ in made for item in part] == list(range(10))
    assert sum(value for _, value in made) == 45
    assert sizes == [10, 5, 2, 2, 2, 2, 2]
    assert [*in_parts([1, 2, 3, 4], work)] == [([1, 2], 3), ([3, 4], 7)]
    assert "continuing with 2" in caplog.text


def test_one_item_that_does_not_fit_is_the_callers_to_explain() -> None:
    def work(part: list[int]) -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        list(Parts()([1, 2], work))


def test_other_errors_are_not_tried_again() -> None:
    calls = []

    def work(part: list[int]) -> None:
        calls.append(part)
        raise RuntimeError("a mistake")

    with pytest.raises(RuntimeError, match="a mistake"):
        list(Parts()([1, 2], work))
    assert len(calls) == 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_decoding_goes_on_with_fewer_clips(voice: Manifest) -> None:
    found = limited(f"""
        from speechft.manifest import Manifest
        from speechft.decode import decode
        from speechft.transcript import DecodeOptions
        from speechft.memory import release
        from speechft.context import Context
        from speechft.whisper import load_whisper

        clips = [u.load() for u in Manifest.load({str(voice.path)!r})][:16]
        whisper = load_whisper("bundled:tiny.en", device="cpu", dtype=torch.float32)
        plain, own = DecodeOptions(temperatures=()), Context("clip+1s")
        work = lambda: decode(whisper, clips, plain, context=own, ready=True)
        decode(whisper, clips[:1], plain, context=own, ready=True)
        for room in range(10, 2000, 20):  # scarcity first: the heap keeps what it was given once
            release()
            try:
                scarce = with_room(room, work)
            except (MemoryError, RuntimeError):
                continue
            break
        print(json.dumps({{"enough": [t.text for t in work()], "scarce": [t.text for t in scarce], "room": room}}))
    """)
    assert found["scarce"] == found["enough"]
    assert "memory ran out" in found["said"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_training_goes_on_with_the_same_gradient(voice: Manifest, tmp_path) -> None:
    found = limited(f"""
        from speechft.config import SpeechRecipe
        from speechft.errors import SpeechftError
        from speechft.manifest import Manifest
        from speechft.memory import release
        from speechft.train import Run

        manifest = Manifest.load({str(voice.path)!r})
        recipe = SpeechRecipe(
            manifest=manifest.path, output_dir={str(tmp_path)!r}, batch_size=8, context="clip+5s", augment=None,
            adapter={{"rank": 2}}, precision="fp32", epochs=1,
        )
        told = []
        run = Run(recipe, manifest[:8], manifest[:2], told.append)
        run.whisper.model.train()
        ((_, batches),) = run.feed.steps(0, 1)
        whole = run.feed.batch([i for b in batches for i in b.indices], 0)
        for room in [20, *range(100, 4000, 100)]:  # scarcity first: the heap keeps what it was given once
            run.descend.most_frames = float("inf")
            told.clear()
            try:
                scarce = with_room(room, lambda: run.descend(0, [whole], 0.0))
            except SpeechftError as error:
                refusal = str(error)
                continue
            break
        events = list(told)
        run.descend.most_frames = float("inf")
        enough = run.descend(0, [whole], 0.0)
        print(json.dumps({{"enough": [enough.loss, enough.norm], "scarce": [scarce.loss, scarce.norm],
                           "told": events, "refusal": refusal, "room": room}}))
    """)
    assert found["scarce"] == pytest.approx(found["enough"], rel=1e-3)
    assert [event["event"] for event in found["told"]] == ["less memory"] * len(found["told"])
    assert found["told"]
    assert found["told"][0]["of"] == 8
    assert "not enough memory to learn from this clip alone" in found["refusal"]
