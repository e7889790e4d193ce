"""The app's data folder, opened: as it is, or unlocked with a passphrase."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from speechft.app.store import Store, VoiceFolder
from speechft.app.training import MANIFEST, STATUS_FILES, is_running
from speechft.app.vault import Vault, encrypt, is_encrypted, memory_folder, seal, unlock
from speechft.cache import FOLDER as CACHE
from speechft.errors import SpeechftError


@contextlib.contextmanager
def opened(folder: Path, ask: Callable[[bool], str], encrypted: bool = False) -> Iterator[Store]:
    """The store of a data folder.

    Args:
        folder: made when missing.
        ask: gives the passphrase, where one is needed; its argument says that it is a new one.
        encrypted: encrypt the folder if it is not yet; it stays so.

    Raises:
        SpeechftError: the passphrase is wrong, or a voice is being trained while it should be encrypted.
    """
    store = Store(folder)
    if is_encrypted(folder):
        key = unlock(folder, ask(False))
    elif encrypted:
        if any(map(is_running, store.voices())):
            raise SpeechftError("a voice is being trained", fix="Encrypt when it is done.")
        key = encrypt(folder, ask(True))
    else:
        yield store
        return
    with memory_folder() as work:
        store = Store(folder, Vault(key, work))
        for path in store.voices_folder.iterdir():
            if path.is_dir():
                _leave_nothing_plain(VoiceFolder(path, store.vault))
        yield store


def _leave_nothing_plain(voice: VoiceFolder) -> None:
    """Encrypt a voice's files; what only a training without encryption needs is deleted, and it begins anew."""
    (voice.path / MANIFEST).unlink(missing_ok=True)
    gone = [voice.run / "checkpoints", voice.path / CACHE]
    if voice.training.is_dir() and not is_running(voice):
        gone += [path for path in voice.training.iterdir() if path.name not in STATUS_FILES]
    for path in gone:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for path in voice.path.iterdir():
        if path.name != "training":
            seal(voice.vault, path)
