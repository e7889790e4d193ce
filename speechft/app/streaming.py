"""A recording heard by two voices at once, and their words as they come: a line of JSON each."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from concurrent.futures import Future
from functools import partial
from typing import Any

import numpy as np

from speechft.recording import Recording, Segment
from speechft.server.engine import Busy, Engine
from speechft.server.guard import public_message
from speechft.server.voices import BadVoice

FULL_SECONDS = 1.0  # after which it is tried again whether a full queue has room


async def side_by_side(
    engine: Engine, samples: np.ndarray, names: dict[str, str | None], language: str | None
) -> AsyncIterator[str]:
    """Lines of JSON as segments are ready: `which` of the names, its `segment`; `done` for each at the end.

    An `error` of one has its `which`; one of all says whether it may go away (`again`).
    """
    loop, ready = asyncio.get_running_loop(), asyncio.Queue[tuple[str, Segment | None]]()

    def tell(which: str, found: Segment | None) -> None:
        loop.call_soon_threadsafe(ready.put_nowait, (which, found))

    def start(which: str, voice: str | None) -> Future[Recording]:
        future = engine.submit(voice, samples, language=language, words=True, on_segment=partial(tell, which))
        future.add_done_callback(lambda _: tell(which, None))
        return future

    futures: dict[str, Future[Recording]] = {}
    waiting, left, full = list(names), 0, False
    try:
        while waiting or left:
            while waiting and not (full and left):
                which = waiting[0]
                try:
                    futures[which] = await asyncio.to_thread(start, which, names[which])  # it may wait for a batch
                    left += 1
                except BadVoice as damage:  # the other one can still be heard
                    yield line({"which": which, "error": public_message(damage)})
                except Busy:  # a long recording: the queue may have room for it once only, so one after the other
                    if not futures:
                        raise
                    full = True
                    if not left:
                        await asyncio.sleep(FULL_SECONDS)
                    continue
                del waiting[0]
            if not left:
                break
            which, found = await ready.get()
            if found is not None:
                yield line({"which": which, "segment": segment(found)})
                continue
            left -= 1
            error = futures[which].exception()
            if error:
                yield line({"which": which, "error": public_message(error), "again": isinstance(error, Busy)})
            else:
                yield line({"which": which, "done": True})
    except Exception as error:  # the answer has begun: what is wrong can only be said in it
        yield line({"error": public_message(error), "again": isinstance(error, Busy)})
    finally:
        for future in futures.values():
            future.cancel()


def segment(found: Segment) -> dict[str, Any]:
    """A segment as the page shows it."""
    return {
        "start": found.start_s,
        "end": found.end_s,
        "text": found.text,
        "problem": found.transcript.problem,
        "words": [{"text": w.text, "start": w.start_s, "end": w.end_s, "sure": w.confidence} for w in found.words],
    }


def line(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False) + "\n"
