"""The base model and the voices on it: which adapters there are, and the few that are in memory."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from speechft.adapter_files import WEIGHTS
from speechft.bank import AdapterBank, adapter_in, can_serve
from speechft.decoder import inference_copy
from speechft.errors import SpeechftError
from speechft.memory import ran_out
from speechft.plain_text import visible
from speechft.recogniser import load
from speechft.whisper import Whisper

log = logging.getLogger("speechft.server")
KEPT = 8  # merged copies in memory; the one that was used longest ago makes room


class UnknownVoice(SpeechftError):
    """There is no voice of that name."""


class BadVoice(SpeechftError):
    """A voice whose files are damaged; what is wrong with them is for the log, not for those who ask."""

    def __init__(self, name: str) -> None:
        what = f"the voice '{name[:80]}' cannot be used: its files are damaged, or made for another model"
        super().__init__(what, fix="The server's log says more.")


@contextlib.contextmanager
def usable(name: str) -> Iterator[None]:
    """Turns whatever a voice's files raise into `BadVoice`."""
    try:
        yield
    except Exception as error:
        if ran_out(error):
            raise
        raise bad_voice(name, error) from None


def bad_voice(name: str, error: Exception) -> BadVoice:
    """What those who ask are told of an error of a voice's files; the log gets the rest."""
    # not where: a path names whoever owns the folder, and an error of a library may hold one
    what = error.what if isinstance(error, SpeechftError) else type(error).__name__
    log.warning("the voice %r cannot be used: %s", name, visible(what))
    return BadVoice(name)


class Voices:
    """The base model, the voices on it, and how to decode several of them in one batch.

    Plain LoRA adapters share the base model in an `AdapterBank`. Adapters of other kinds, which cannot
    (`bank.can_serve`), get a merged
    copy of the model each; the last `KEPT` of these stay in memory.

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
        self.bank = AdapterBank(load(base, language=language).whisper, {}, language=language)
        self._lock = threading.Lock()
        self._copies: OrderedDict[str, tuple[int, Whisper]] = OrderedDict()
        self._banked: dict[str, tuple[int, bool]] = {}

    @property
    def base_id(self) -> str:
        """The base model's name in requests."""
        return public_name(self.base)

    def ids(self) -> list[str]:
        """What a request may name as its model: the base, then base:voice for each."""
        return [self.base_id, *(f"{self.base_id}:{name}" for name in sorted(self.find()))]

    def named(self, model: str) -> str | None:
        """The voice that a request's `model` means; None is the base.

        Raises:
            UnknownVoice: there is no such model.
        """
        for base in (self.base_id, self.base, "whisper-1"):  # the last is what OpenAI's own clients say
            if model == base:
                return None
            voice = model.removeprefix(f"{base}:")
            if voice != model and voice in self.find():
                return voice
        raise UnknownVoice(f"there is no model '{model[:80]}'", fix="GET /v1/models lists them.")

    def shares_batch(self, voice: str | None) -> bool:
        """Whether a voice can be decoded in one batch with others; looks whether it was trained again or deleted.

        Raises:
            UnknownVoice: it is not here any more.
        """
        return voice is None or self._shares_batch(voice, self.find())

    def _shares_batch(self, voice: str, present: Mapping[str, Path]) -> bool:
        folder = present.get(voice)
        if folder is None:
            self.forget(voice)
            raise UnknownVoice(f"the voice '{voice}' is not here any more")
        with usable(voice), self._lock:
            version = (folder / WEIGHTS).stat().st_mtime_ns
            known = self._banked.get(voice)
            if known is None or known[0] != version:
                self._copies.pop(voice, None)
                self._banked[voice] = known = (version, can_serve(folder))
                self.bank.put(voice, folder)
        return known[1]

    @contextlib.contextmanager
    def using(self, voices: Sequence[str | None]) -> Iterator[Whisper]:
        """The model to decode clips with, each in its voice; voices that share no batch come alone."""
        present = self.find()
        shared = {voice: voice is None or self._shares_batch(voice, present) for voice in set(voices)}
        first = voices[0]
        if len(shared) == 1 and first is not None and not shared[first]:
            with usable(first):
                copy = self._copy(first, present[first])
            yield copy
            return
        for voice in filter(None, shared):
            with usable(voice), self.bank.using(voice):  # in memory from here on
                pass
        with self.bank.using(voices) as whisper:
            alone = self.bank.voice(first)
            yield whisper if len(shared) > 1 else whisper.with_(context=alone.context, language=alone.language)

    def _copy(self, voice: str, folder: Path) -> Whisper:
        """The model with an adapter merged into it."""
        version = self._banked[voice][0]
        with self._lock:
            held = self._copies.get(voice)
            if held is None or held[0] != version:
                recogniser = load(self.base, folder, language=self.language)
                self._copies[voice] = held = (version, inference_copy(recogniser.whisper))
            self._copies.move_to_end(voice)
            while len(self._copies) > self.kept:
                self._copies.popitem(last=False)
            return held[1]

    def forget(self, voice: str) -> None:
        """Take a voice out of memory."""
        with self._lock:
            self.bank.forget(voice)
            self._banked.pop(voice, None)
            self._copies.pop(voice, None)


def adapters_in(folder: Path) -> dict[str, Path]:
    """The adapters of a folder by name: NAME/, NAME/adapter/ (an output folder) or NAME/run/adapter/ (the app's)."""
    return {name: place for name, place in _places(folder).items() if _can_be_asked_for(name)}


def unnamed_in(folder: Path) -> list[str]:
    """Names of folders with adapters that no request could give, so that `adapters_in` leaves them out."""
    return [name for name in _places(folder) if not _can_be_asked_for(name)]


def _places(folder: Path) -> dict[str, Path]:
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    places = {path.name: adapter_in(path) or adapter_in(path / "run") for path in paths}
    return {name: place for name, place in places.items() if place}


def _can_be_asked_for(name: str) -> bool:
    """Text, and not changed where spaces around a form's field are taken off."""
    return name == name.strip() and name.isprintable()


def public_name(base: str) -> str:
    """What requests call a base model: `tiny.en` for bundled:tiny.en, and a folder without the way to it."""
    path = Path(base).expanduser()
    return path.resolve().name if path.exists() else base.removeprefix("bundled:")
