"""The recordings a training began with, kept beside it in `training/recordings/`.

What is recorded anew or deleted meanwhile must not change what its before and after are counted on. These are hard
links, so they take no room, and they go with the training. Encrypted voices need none: their job decrypts all of them
into memory at its start.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from speechft.app.store import VoiceFolder

FOLDER, HALF = "recordings", ".recordings"


def freeze(voice: VoiceFolder) -> Path:
    """Link the recordings there are now; the folder of a training that goes on stays as it is."""
    folder = voice.training / FOLDER
    if not folder.is_dir():
        half = voice.training / HALF  # a kill in between must leave no part of them that looks whole
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir(mode=0o700)
        for take in voice.takes():
            for ending in (".wav", ".json"):
                _link(voice.recordings / f"{take.id}{ending}", half)
        os.replace(half, folder)
    return folder


def forget_deleted(voice: VoiceFolder) -> None:
    """Delete the links of recordings that are gone; not for a training at work."""
    folder, left = voice.training / FOLDER, {take.id for take in voice.takes()}
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.stem not in left:
            path.unlink(missing_ok=True)
    shutil.rmtree(voice.training / HALF, ignore_errors=True)


def forget(training: Path) -> None:
    """Delete the links of a training that is done or has failed."""
    shutil.rmtree(training / FOLDER, ignore_errors=True)


def _link(path: Path, folder: Path) -> None:
    try:
        os.link(path, folder / path.name)
    except OSError:  # some file systems have none
        shutil.copy2(path, folder / path.name)
