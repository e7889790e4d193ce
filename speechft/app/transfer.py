"""A voice as one file, to move it to another machine: adapter, card and consent, and what was said where asked for."""

from __future__ import annotations

import io
import json
import tempfile
import wave
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from speechft import adapters
from speechft.adapter_files import CARD, CONFIG, WEIGHTS
from speechft.app.phrases import save_sets
from speechft.app.records import Result, parsed
from speechft.app.store import ID, MOST_TEXT, Store, Take, VoiceFolder, tidy
from speechft.audio import SAMPLE_RATE
from speechft.errors import SpeechftError
from speechft.recogniser import load
from speechft.server.voices import public_name
from speechft.sources import resolve

ADAPTER_FILES = (CONFIG, WEIGHTS, CARD)
MOST_FILES = 20_000
MOST_BYTES = 4_000_000_000  # unpacked
MOST_OF_ONE = 500_000_000
MOST_JSON = 5_000_000  # bytes of a text, and of a recording, which are held in memory; an hour of sound has 115 MB
MOST_WAV = 150_000_000
_OTHER_SHAPE = (ValueError, KeyError, TypeError, AttributeError, IndexError, wave.Error, zlib.error)


def export_voice(voice: VoiceFolder, recordings: bool) -> bytes:
    """The voice as a zip file.

    Args:
        recordings: also the recordings, their sentences, and those still to practise, which hold names.

    Raises:
        SpeechftError: there is nothing to export yet.
    """
    if not voice.adapter and not recordings:
        raise SpeechftError("this voice has not been trained yet", fix="Train it, or export the recordings too.")
    vault, file = voice.vault, io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:

        def add(path: Path, name: str) -> None:
            archive.writestr(name, vault.read(path))

        add(voice.path / "voice.json", "voice.json")
        if voice.adapter:
            for name in ADAPTER_FILES:
                add(voice.adapter / name, f"adapter/{name}")
            if result := voice.result:  # what the page shows: no paths of this computer, which can name people
                archive.writestr("result.json", json.dumps(result))
        if recordings:
            archive.writestr("phrases.json", json.dumps(voice.phrases()))
            for take in voice.takes():
                for ending in ("wav", "json"):
                    add(voice.recordings / f"{take.id}.{ending}", f"recordings/{take.id}.{ending}")
    return file.getvalue()


def import_voice(store: Store, data: bytes, model: str) -> VoiceFolder:
    """Make a voice of an exported file.

    Args:
        data: the zip file; what is not part of an export is refused.
        model: the base model of this machine, which the adapter must be for.

    Raises:
        SpeechftError: it is no export, damaged, hostile, or for another base model.
        OSError: it cannot be written here.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            _check({name: archive.getinfo(name) for name in archive.namelist()})
            return _place(store, archive, model)
    # of zipfile: NotImplementedError is a version it does not know, RuntimeError an encrypted file
    # of what is in it: JSON of another shape, or too deep
    except (*_OTHER_SHAPE, zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno:  # of this machine's disk, not of a library that reads the file
            raise
        raise SpeechftError(
            f"this file is not an exported voice, or it is damaged ({type(error).__name__})",
            fix="Export the voice again.",
        ) from None


def _check(members: dict[str, zipfile.ZipInfo]) -> None:
    """Only what an export has, and not more than a disk should take: paths cannot lead anywhere else."""
    for name, info in members.items():
        folder, _, file = name.rpartition("/")
        stem, _, ending = file.rpartition(".")
        known = (
            name in ("voice.json", "result.json", "phrases.json")
            or (folder == "adapter" and file in ADAPTER_FILES)
            or (folder == "recordings" and ID.fullmatch(stem) and ending in ("wav", "json"))
        )
        if not known or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise SpeechftError("this file holds things that no exported voice has", fix="Export the voice again.")
    sizes = [info.file_size for info in members.values()]
    if len(sizes) > MOST_FILES or sum(sizes) > MOST_BYTES or max(sizes, default=0) > MOST_OF_ONE:
        raise SpeechftError("this file unpacks to more than is reasonable", fix="Export the voice again.")


def _place(store: Store, archive: zipfile.ZipFile, model: str) -> VoiceFolder:
    """Make a voice of what is in the archive, once it is known to be right."""
    names = set(archive.namelist())
    about = json.loads(_read(archive, "voice.json"))
    consent = {key: str(about["consent"][key]) for key in ("text", "given", "by")}
    with tempfile.TemporaryDirectory(dir=store.vault.work or store.folder, prefix=".import-") as work:
        adapter = [Path(archive.extract(name, work)) for name in sorted(names) if name.startswith("adapter/")]
        if adapter:
            _check_adapter(Path(work) / "adapter", model)
        voice = store.create(str(about["name"]), consent["text"], consent["by"])
        try:
            voice.write_json("voice.json", {**voice.about, "consent": consent})
            for name in sorted(names):
                if name.endswith(".wav") and (said := f"{name[:-4]}.json") in names:
                    voice.put(*_recording(Path(name).stem, _read(archive, said), _read(archive, name)))
            if "phrases.json" in names:
                _place_phrases(voice, json.loads(_read(archive, "phrases.json")))
            for path in adapter:
                store.vault.write(voice.run / "adapter" / path.name, path.read_bytes())
            if adapter and "result.json" in names:
                voice.write_json("run/result.json", _result(_read(archive, "result.json")))
        except BaseException:
            store.delete(voice.id)
            raise
    return voice


def _check_adapter(folder: Path, model: str) -> None:
    card = adapters.read_card(folder)
    if card.get("base_sha256") not in adapters.hashes_of(resolve(model)):
        theirs = tidy(str(card.get("model")))[:80]
        raise SpeechftError(
            f"this voice was trained on '{theirs}', and this app uses '{public_name(model)}'",
            fix="Start the app with that model.",
        )
    load(model, folder)  # damaged or hostile weights are refused here


def _read(archive: zipfile.ZipFile, name: str) -> bytes:
    """A member's bytes, if there are not too many."""
    most = MOST_WAV if name.endswith(".wav") else MOST_JSON
    with archive.open(name) as member:
        data = member.read(most + 1)
    if len(data) > most:
        raise ValueError
    return data


def _recording(identity: str, said: bytes, data: bytes) -> tuple[Take, bytes]:
    """A recording as the app writes them; it lasts as long as its sound does, whatever is said of it."""
    take = Take.of(identity, said)
    with wave.open(io.BytesIO(data)) as sound:
        shape = sound.getnchannels(), sound.getsampwidth(), sound.getframerate()
        samples = len(sound.readframes(sound.getnframes())) // 2
    if shape != (1, 2, SAMPLE_RATE) or not samples or not 0 < len(take.text) <= MOST_TEXT:
        raise ValueError
    return replace(take, seconds=round(samples / SAMPLE_RATE, 2)), data


def _place_phrases(voice: VoiceFolder, said: Any) -> None:
    sets = {str(name): [str(line) for line in lines] for name, lines in said["sets"].items()}
    save_sets(voice, sets, [str(text) for text in said["skipped"]])


def _result(data: bytes) -> dict[str, Any]:
    """A training's result, if the page can show it."""
    result = json.loads(data)
    if "difference" in result:
        parsed(data, Result, "result.json")
    return dict(result)
