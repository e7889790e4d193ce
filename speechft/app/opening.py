"""The app's data folder, opened: as it is, or unlocked with a passphrase."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from speechft.app.store import Store
from speechft.app.training import MANIFEST, is_running
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
            _leave_nothing_plain(store.vault, path)
        yield store


def _leave_nothing_plain(vault: Vault, voice: Path) -> None:
    """Encrypt a voice's files; what only a training without encryption needs is deleted."""
    (voice / MANIFEST).unlink(missing_ok=True)
    for left in (Path("run", "checkpoints"), CACHE):
        shutil.rmtree(voice / left, ignore_errors=True)
    if (voice / "training" / "checkpoints").exists():  # it would go on from them; now it has to begin anew
        shutil.rmtree(voice / "training")
    for folder in voice.iterdir():
        if folder.name != "training":  # the rest of it says how far a training is, and nothing else
            seal(vault, folder)
