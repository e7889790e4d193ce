"""Strangers' recordings are decoded in processes of their own, which may crash, hang or swell without harm.

A worker speaks a plain protocol over its pipes: a length and the bytes of a file in; a status, a length and the samples
or a sentence out, with a second line for the log. Nothing is unpickled from it, and no file is written.
"""

from __future__ import annotations

import io
import logging
import os
import queue
import select
import struct
import subprocess
import sys
import time
from typing import Any, BinaryIO

import numpy as np

from speechft import memory
from speechft.audio import SAMPLE_RATE, Seconds, Undecodable, load_audio
from speechft.errors import SpeechftError

log = logging.getLogger("speechft.server")
HEADER = struct.Struct("<BQ")  # 1 for samples, 0 for a sentence; bytes that follow
MOST_MEMORY = 2 << 30  # bytes a worker may hold


class Unusable(SpeechftError):
    """A recording that will not be taken however often it is sent."""


class WorkerDied(SpeechftError):
    """The process that decoded a recording was ended, by it or by something else."""


class MediaReader:
    """Decodes recordings of any container, in other processes.

    Args:
        processes: how many at the same time.
        longest: recordings that last longer are refused.
        patience: seconds a file may take to decode.
    """

    def __init__(self, processes: int = 2, longest: Seconds = 3600.0, patience: Seconds = 60.0) -> None:
        self.longest, self.patience = longest, patience
        self._idle: queue.Queue[subprocess.Popen | None] = queue.Queue()
        for _ in range(processes):
            self._idle.put(self._start())

    def read(self, data: bytes) -> np.ndarray:
        """Samples of a file's bytes: mono 16 kHz float32; waits for a free worker.

        Raises:
            Unusable: it cannot be decoded, holds nothing, or lasts too long.
            WorkerDied: two processes ended over it.
            SpeechftError: it takes too long.
        """
        try:
            status, payload = self._answer(data)
        except WorkerDied:  # perhaps not because of it: somebody else may have needed the memory
            status, payload = self._answer(data)
        if status == 1:
            return np.frombuffer(payload, np.float32).copy()  # torch wants memory it may write to
        sentence, _, reason = payload.decode().partition("\n")
        if reason:
            log.info("%s: %r", sentence, reason)
        raise Unusable(sentence, fix="wav, flac, mp3, ogg, m4a and webm are read.")

    def _answer(self, data: bytes) -> tuple[int, bytes]:
        """What a free worker says of a file."""
        worker = self._idle.get()
        try:
            if worker is None or worker.poll() is not None:
                worker = self._start()
            return self._ask(worker, data)
        except BaseException as error:
            # whatever it was, MemoryError for one: an answer left in its pipe would be another request's
            if worker is not None:
                worker.kill()
                worker.wait()
            worker = None
            if isinstance(error, TimeoutError):
                raise SpeechftError("the recording takes too long to decode", fix="Send a shorter one.") from None
            if isinstance(error, BrokenPipeError | EOFError):
                fix = (
                    "Try again; if that does not help, the recording is damaged, or unpacks to more than is reasonable."
                )
                raise WorkerDied("the recording could not be decoded", fix=fix) from None
            raise
        finally:
            self._idle.put(worker)

    def close(self) -> None:
        """End the workers."""
        while not self._idle.empty():
            if worker := self._idle.get():
                worker.kill()
                worker.wait()

    def _start(self) -> subprocess.Popen:
        command = [sys.executable, "-m", "speechft.server.media", str(self.longest)]
        pipe: Any = subprocess.PIPE
        # its complaints are not ours: ffmpeg's name what is in the file; nor is Ctrl-C, which is for the server alone
        return subprocess.Popen(  # noqa: S603
            command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, start_new_session=True
        )

    def _ask(self, worker: subprocess.Popen, data: bytes) -> tuple[int, bytes]:
        assert worker.stdin is not None
        assert worker.stdout is not None
        deadline = time.monotonic() + self.patience
        worker.stdin.write(struct.pack("<Q", len(data)))
        worker.stdin.write(data)
        worker.stdin.flush()
        status, size = HEADER.unpack(_receive(worker.stdout.fileno(), HEADER.size, deadline))
        if size > 4 * SAMPLE_RATE * (self.longest + 1):
            raise EOFError
        return status, _receive(worker.stdout.fileno(), size, deadline)


def _receive(pipe: int, size: int, deadline: float) -> bytes:
    """Exactly `size` bytes of a pipe; EOFError at its end, TimeoutError after the deadline."""
    blocks, left = [], size
    while left:
        ready, _, _ = select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise TimeoutError
        block = os.read(pipe, min(left, 1 << 20))
        if not block:
            raise EOFError
        blocks.append(block)
        left -= len(block)
    return b"".join(blocks)


def _decoded(data: bytes, longest: Seconds) -> tuple[int, bytes]:
    try:
        samples = load_audio(io.BytesIO(data), 0.0, longest + 1.0)
    except Undecodable as error:
        return 0, f"{error.plain}\n{error.reason}".encode()
    except SpeechftError as error:
        return 0, error.what.encode()
    except MemoryError:
        return 0, b"the recording unpacks to more than is reasonable"
    except Exception as error:  # decoders of hostile files raise anything
        return 0, f"the recording cannot be decoded\n{type(error).__name__}".encode()
    if len(samples) > longest * SAMPLE_RATE:
        return 0, f"the recording lasts longer than {longest / 60:.0f} minutes".encode()
    return 1, samples.tobytes()


def _work(source: BinaryIO, out: BinaryIO, longest: Seconds) -> None:
    while len(head := source.read(8)) == 8:
        status, payload = _decoded(source.read(struct.unpack("<Q", head)[0]), longest)
        out.write(HEADER.pack(status, len(payload)) + payload)
        out.flush()
        payload = b""
        memory.release()  # of an hour of sound, which the next one may not need


def _limit() -> None:
    """No more memory than a long recording needs, no core file of somebody's voice, no new files."""
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_MEMORY, MOST_MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


if __name__ == "__main__":
    import contextlib

    import av  # noqa: F401 - before the limits, and not in the time of the first recording

    _limit()
    with contextlib.suppress(KeyboardInterrupt):
        _work(sys.stdin.buffer, sys.stdout.buffer, float(sys.argv[1]))
