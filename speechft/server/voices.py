"""The base model and the voices on it: which adapters there are, and the few that are in memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path

from speechft.errors import SpeechftError
from speechft.recogniser import load
from speechft.whisper import Whisper

KEPT = 8  # voices in memory; the one that was used longest ago makes room


class UnknownVoice(SpeechftError):
    """There is no voice of that name."""


class Voices:
    """Inference copies of the base model and of the voices asked for, the last `KEPT` of them.

    Args:
        base: see `speechft.sources.resolve`.
        find: returns the folder of each adapter by the voice's name; asked again each time, so that a voice trained
            or deleted while the server runs is there or gone.
        language: of the speech; None means the adapters', else detected.
    """

    def __init__(
        self, base: str, find: Callable[[], Mapping[str, Path]] = dict, language: str | None = None, kept: int = KEPT
    ) -> None:
        self.base, self.find, self.language, self.kept = base, find, language, kept
        self._lock = threading.Lock()
        self._ready: OrderedDict[str | None, tuple[object, Whisper]] = OrderedDict()

    @property
    def base_id(self) -> str:
        """The base model's name in requests: `tiny.en` for bundled:tiny.en."""
        return self.base.removeprefix("bundled:")

    def ids(self) -> list[str]:
        """What a request may name as its model: the base, then base:voice for each."""
        return [self.base_id, *(f"{self.base_id}:{name}" for name in sorted(self.find()))]

    def named(self, model: str) -> str | None:
        """The voice that a request's `model` means; None is the base.

        Raises:
            UnknownVoice: there is no such model.
        """
        if model in (self.base_id, self.base, "whisper-1"):  # the last is what OpenAI's own clients say
            return None
        base, _, voice = model.rpartition(":")
        if base in (self.base_id, self.base, "whisper-1") and voice in self.find():
            return voice
        raise UnknownVoice(f"there is no model '{model[:80]}'", fix="GET /v1/models lists them.")

    def get(self, voice: str | None) -> Whisper:
        """The model to decode with, loaded if need be; a voice that was trained again is loaded again."""
        folder = self.find().get(voice) if voice is not None else None
        if voice is not None and folder is None:
            self.forget(voice)
            raise UnknownVoice(f"the voice '{voice}' is not here any more")
        version = (folder / "adapter_model.safetensors").stat().st_mtime_ns if folder else 0
        with self._lock:
            held = self._ready.get(voice)
            if held is None or held[0] != version:
                recogniser = load(self.base, folder, language=self.language)
                self._ready[voice] = held = (version, recogniser._ready)
            self._ready.move_to_end(voice)
            while len(self._ready) > self.kept + 1:
                oldest = next(name for name in self._ready if name is not None)
                del self._ready[oldest]
            return held[1]

    def forget(self, voice: str) -> None:
        """Take a voice out of memory."""
        with self._lock:
            self._ready.pop(voice, None)


def adapters_in(folder: Path) -> dict[str, Path]:
    """The adapters of a folder by name: NAME/, NAME/adapter/ (an output folder) or NAME/run/adapter/ (the app's)."""
    found = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        for place in (path, path / "adapter", path / "run" / "adapter"):
            if (place / "adapter_config.json").is_file():
                found[path.name] = place
                break
    return found
