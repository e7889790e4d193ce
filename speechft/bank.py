"""Many voices on one base model: LoRA adapters side by side in memory, a different one for each row of a batch.

An adapted layer computes y = W x + B A x. Here every such layer holds the A's and B's of many adapters stacked, and the
rows of a batch each take theirs: the product with W is shared; of the small ones there is one a voice, or a batched one
where most rows have a voice of their own. Switching voices is a change of indices. Adapters are read from disk when
they are first used; the least recently used leave memory.
"""

from __future__ import annotations

import contextlib
import difflib
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from speechft import adapters
from speechft.adapter_files import CONFIG, refuse_other_base
from speechft.banked_linear import BASE, BankedLinear, Rows
from speechft.context import OTHERS_CONTEXT, Context
from speechft.decoder import inference_copy, is_quantized
from speechft.errors import SpeechftError
from speechft.lora_sums import is_lora_alone, lora_scale, lora_tensors, refuse_overflow
from speechft.sources import resolve
from speechft.whisper import Whisper

CAPACITY = 256  # adapters in memory


@dataclass(frozen=True)
class Voice:
    """What decoding must know of an adapter besides its matrices.

    Attributes:
        folder: where it lies; None is the base model.
        context: it was trained for.
        language: of the speaker; None where it is the model's or has to be detected.
    """

    folder: Path | None
    context: Context
    language: str | None


class AdapterBank:
    """Serves many LoRA adapters of one base model, also in one batch.

    ```python
    bank = AdapterBank(load_whisper("bundled:tiny.en"), "voices")
    with bank.using(["anna", "ben", None]):  # None is the base model
        transcripts = decode(bank.whisper, clips, ready=True)  # clip i is decoded as voice i
    ```

    Attributes:
        whisper: the model to decode with; what the bank was made from is left as it is.
        capacity: adapters in memory at most.
    """

    def __init__(
        self,
        whisper: Whisper,
        source: str | Path | Mapping[str, str | Path],
        capacity: int = CAPACITY,
        dtype: torch.dtype | None = None,
        language: str | None = None,
    ) -> None:
        """
        Args:
            whisper: without an adapter, not quantised.
            source: a folder whose folders are adapters, or with an `adapter` in each, as runs leave them; or folders
                by name.
            capacity: at least the number of voices of a batch.
            dtype: of base and adapters; the fastest of the machine unless told.
            language: of all voices, whatever their cards say.

        Raises:
            SpeechftError: the model has an adapter or is quantised, or there is no such folder.
        """
        if is_quantized(whisper.model) or hasattr(whisper.model, "peft_config"):
            raise SpeechftError(
                "a bank needs a base model with whole weights and no adapter", fix="Load the model without."
            )
        self.capacity, self.language = capacity, language
        self._source = dict(source) if isinstance(source, Mapping) else Path(source)
        if isinstance(self._source, Path) and not self._source.is_dir():
            raise SpeechftError("is not a folder of adapters", where=source, fix="Check the path.")
        self._base_hashes = adapters.hashes_of(resolve(whisper.name))
        self.whisper = inference_copy(whisper, dtype).with_(bank=self)
        self._layers: dict[str, BankedLinear] = {}
        self._known: dict[str, Voice] = {}
        self._slots: OrderedDict[str, int] = OrderedDict()  # the least recently used first
        self._free: list[int] = []  # slots of voices that were forgotten
        self._lock = threading.RLock()
        self._voices: list[str | None] | str | None = None
        self.rows = Rows()

    @property
    def names(self) -> list[str]:
        """Of all voices there are, in memory or not."""
        if isinstance(self._source, dict):
            return sorted(self._source)
        return sorted(folder.name for folder in self._source.iterdir() if adapter_in(folder))

    @property
    def loaded(self) -> list[str]:
        """Voices in memory, the least recently used first."""
        return list(self._slots)

    @property
    def bytes_held(self) -> int:
        """Of the stacked matrices."""
        return sum(t.numel() * t.element_size() for layer in self._layers.values() for t in (layer.a, layer.b))

    @contextlib.contextmanager
    def using(self, voices: str | Sequence[str | None] | None) -> Iterator[Whisper]:
        """Decode as these voices; one thread at a time, others wait.

        Args:
            voices: of each clip given to `decode`; or one for all clips. None is the base model.

        Yields:
            the model to decode with.

        Raises:
            SpeechftError: no such voice, or no adapter that the bank can serve.
        """
        with self._lock:
            for name in {voices} if voices is None or isinstance(voices, str) else set(voices):
                self.voice(name)
            before = self._voices, self.rows
            self._voices = voices if voices is None or isinstance(voices, str) else list(voices)
            self.rows = Rows()
            if self._voices is None or isinstance(self._voices, str):
                self._choose([self._voices])
            try:
                yield self.whisper
            finally:
                self._voices, self.rows = before

    def voices(self, clips: int) -> list[Voice]:
        """Of each clip that `decode` was given, under the present `using`."""
        if isinstance(self._voices, list):
            if len(self._voices) != clips:
                raise SpeechftError(f"{clips} clips, but {len(self._voices)} voices", fix="Name a voice for each clip.")
            return [self.voice(name) for name in self._voices]
        return [self.voice(self._voices)] * clips

    def voice(self, name: str | None) -> Voice:
        """What is known of a voice.

        Raises:
            SpeechftError: there is none of that name.
        """
        if name is None:
            return Voice(None, self.whisper.context, self.whisper.language)
        if name not in self._known:
            folder = self._folder(name)
            card = adapters.read_card(folder)
            context = Context(card.get("context", OTHERS_CONTEXT))
            language = self.language or card.get("language") or self.whisper.language
            self._known[name] = Voice(folder, context, language)
        return self._known[name]

    def put(self, name: str, folder: str | Path) -> None:
        """Add a voice to a bank that was made from a mapping; one of that name is replaced."""
        assert isinstance(self._source, dict), "the voices of a folder are what is in it"
        with self._lock:
            self.forget(name)
            self._source[name] = folder

    def forget(self, name: str) -> None:
        """Take a voice out of memory, and out of the mapping the bank was made from."""
        with self._lock:
            self._known.pop(name, None)
            if isinstance(self._source, dict):
                self._source.pop(name, None)
            if (slot := self._slots.pop(name, None)) is not None:
                self._free.append(slot)

    def select(self, clips: Sequence[int]) -> None:
        """Called by `decode`: the next forward passes hold these clips, in this order."""
        if isinstance(self._voices, list):
            self._choose([self._voices[clip] for clip in clips])

    def called(self, clip: int) -> object:
        """What errors name, as `Whisper.called`, of one of the clips that `decode` was given."""
        name = self._voices[clip] if isinstance(self._voices, list) else self._voices
        return self.voice(name).folder or self.whisper.name

    def keep(self, rows: Tensor) -> None:
        """Called by `decode`: only these of the rows go on."""
        self.rows.keep(rows)

    def _choose(self, names: Sequence[str | None]) -> None:
        self._load([name for name in dict.fromkeys(names) if name is not None])
        slots = [BASE if name is None else self._slots[name] for name in names]
        self.rows = Rows(slots, self.whisper.device)

    def _folder(self, name: str) -> Path:
        if isinstance(self._source, Path):
            inside = "/" not in name and "\\" not in name and name not in (".", "..")
            folder = adapter_in(self._source / name) if inside else None
        else:
            folder = Path(self._source[name]) if name in self._source else None
        if folder is None:
            near = difflib.get_close_matches(name, self.names, n=1)
            hint = f"Did you mean '{near[0]}'?" if near else ""
            raise SpeechftError(f"there is no voice '{name}'", where=self._where, fix=hint)
        return folder

    @property
    def _where(self) -> Path | None:
        return self._source if isinstance(self._source, Path) else None

    @torch.inference_mode()
    def _load(self, names: list[str]) -> None:
        """Bring voices into memory; the least recently used of the others leave where it is full."""
        if len(names) > self.capacity:
            raise SpeechftError(
                f"{len(names)} voices in one batch, but room for {self.capacity}", fix="Raise the bank's capacity."
            )
        for name in names:
            if name in self._slots:
                self._slots.move_to_end(name)
        missing = [name for name in names if name not in self._slots]
        # one at a time they come with room for more, as copying all the others costs time; together, exactly
        wanted = len(self._slots) + (len(missing) if len(missing) > 1 else 1 + len(self._slots) // 4)
        for name in missing:
            matrices = self._read(name)
            slot = self._slot()
            try:
                for layer in self._layers.values():
                    layer.clear(slot)
                for target, (a, b) in matrices.items():
                    self._layer(target).put(slot, a, b, room=1 + min(wanted, self.capacity))
            except BaseException:
                self._free.append(slot)
                raise
            self._slots[name] = slot

    def _slot(self) -> int:
        """One that may be written to."""
        if self._free:
            return self._free.pop()
        return self._slots.popitem(last=False)[1] if len(self._slots) == self.capacity else 1 + len(self._slots)

    def _read(self, name: str) -> dict[str, tuple[Tensor, Tensor]]:
        """Matrices by module name; the scale is in B.

        Raises:
            SpeechftError: of another kind than plain LoRA, for another base, or damaged.
        """
        folder = self.voice(name).folder
        assert folder is not None
        if not is_lora_alone(folder):
            raise SpeechftError("is not a plain LoRA adapter", where=folder, fix="A bank serves adapter.method=lora.")
        card, config, state = adapters.read_card(folder), adapters.read_config(folder), lora_tensors(folder)
        adapters.refuse_loftq(card, folder)
        refuse_other_base(card, self._base_hashes, folder)
        found, parts = {}, []
        for key, a in state.items():
            if key.endswith(".lora_A.weight"):
                target = key.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
                b = state[key.replace(".lora_A.", ".lora_B.")]
                scale = lora_scale(config | {"r": len(a)} if config.get("rank_pattern") else config)
                parts.append((a, b, scale))
                found[target] = (a.T, b.T.float() * scale)
        refuse_overflow(parts, folder)
        return found

    def _layer(self, target: str) -> BankedLinear:
        """The banked layer of a module; an ordinary one is replaced."""
        if target not in self._layers:
            parent, _, last = target.rpartition(".")
            try:
                module = self.whisper.model.get_submodule(parent)
                layer = BankedLinear(getattr(module, last), self)
            except AttributeError:
                what = f"the base model has no layer '{target}'"
                raise SpeechftError(what, fix="Load the model that the adapter was trained on.") from None
            setattr(module, last, layer)
            self._layers[target] = layer
        return self._layers[target]


def can_serve(folder: Path) -> bool:
    """Whether a bank can serve an adapter: plain LoRA on linear layers of a base with whole weights."""
    return is_lora_alone(folder) and not adapters.loftq_kind(adapters.read_card(folder))


def adapter_in(folder: Path) -> Path | None:
    """A folder that is an adapter, or the adapter that a run left in it."""
    return next((f for f in (folder, folder / "adapter") if (f / CONFIG).is_file()), None)
