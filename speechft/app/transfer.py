"""A voice as one file, to move it to another machine: adapter, card and consent; recordings only where asked for."""

from __future__ import annotations

import io
import json
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from speechft import adapters
from speechft.app.store import ID, Store, VoiceFolder, tidy, write_json
from speechft.errors import SpeechftError
from speechft.recogniser import load
from speechft.sources import resolve

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", "speechft.json")
MOST_FILES = 20_000
MOST_BYTES = 4_000_000_000  # unpacked


def export_voice(voice: VoiceFolder, recordings: bool) -> bytes:
    """The voice as a zip file.

    Args:
        recordings: also the recordings and their sentences.

    Raises:
        SpeechftError: there is nothing to export yet.
    """
    if not voice.adapter and not recordings:
        raise SpeechftError("this voice has not been trained yet", fix="Train it, or export the recordings too.")
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(voice.path / "voice.json", "voice.json")
        if voice.adapter:
            for name in ADAPTER_FILES:
                archive.write(voice.adapter / name, f"adapter/{name}")
            archive.write(voice.run / "result.json", "result.json")
        if recordings:
            for take in voice.takes():
                for ending in ("wav", "json"):
                    archive.write(voice.recordings / f"{take.id}.{ending}", f"recordings/{take.id}.{ending}")
    return file.getvalue()


def import_voice(store: Store, data: bytes, model: str) -> VoiceFolder:
    """Make a voice of an exported file.

    Args:
        data: the zip file; what is not part of an export is refused.
        model: the base model of this machine, which the adapter must be for.

    Raises:
        SpeechftError: it is no export, damaged, hostile, or for another base model.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = {name: archive.getinfo(name) for name in archive.namelist()}
            _check(members)
            about = json.loads(archive.read("voice.json"))
            with tempfile.TemporaryDirectory(dir=store.folder, prefix=".import-") as work:
                for name in members:
                    target = Path(work) / name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with archive.open(name) as source, target.open("wb") as out:
                        shutil.copyfileobj(source, out)
                return _place(store, Path(work), about, model)
    # of zipfile: NotImplementedError is a compression it does not know, RuntimeError an encrypted file
    except (zipfile.BadZipFile, ValueError, KeyError, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        raise SpeechftError(
            f"this file is no exported voice, or it is damaged ({type(error).__name__})",
            fix="Export the voice again.",
        ) from None


def _check(members: dict[str, zipfile.ZipInfo]) -> None:
    """Only names that an export has, and not more than a disk should take: paths cannot lead anywhere else."""
    for name in members:
        folder, _, file = name.rpartition("/")
        stem, _, ending = file.rpartition(".")
        known = (
            name in ("voice.json", "result.json")
            or (folder == "adapter" and file in ADAPTER_FILES)
            or (folder == "recordings" and ID.fullmatch(stem) and ending in ("wav", "json"))
        )
        if not known:
            raise SpeechftError("this file holds things that no exported voice has", fix="Export the voice again.")
    if len(members) > MOST_FILES or sum(info.file_size for info in members.values()) > MOST_BYTES:
        raise SpeechftError("this file unpacks to more than is reasonable")


def _place(store: Store, work: Path, about: dict[str, Any], model: str) -> VoiceFolder:
    """Move what was unpacked into a new voice, once it is known to be right."""
    if (work / "adapter").is_dir():
        card = adapters.read_card(work / "adapter")
        if card.get("base_sha256") != adapters.base_hash(resolve(model)):
            raise SpeechftError(
                f"this voice was trained on '{tidy(str(card.get('model')))[:80]}', and this app uses '{model}'",
                fix="Start the app with that model.",
            )
        load(model, work / "adapter")  # damaged or hostile weights are refused here
    consent = about.get("consent") or {}
    voice = store.create(str(about["name"]), str(consent.get("text") or "imported"), str(consent.get("by") or ""))
    try:
        write_json(voice.path / "voice.json", {**voice.about, "consent": consent or voice.about["consent"]})
        if (work / "recordings").is_dir():
            (work / "recordings").rename(voice.recordings)
        if (work / "adapter").is_dir():
            voice.run.mkdir(mode=0o700)
            if (work / "result.json").is_file():
                (work / "result.json").rename(voice.run / "result.json")
            (work / "adapter").rename(voice.run / "adapter")
    except OSError:
        store.delete(voice.id)
        raise
    return voice
