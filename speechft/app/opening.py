"""The app's data folder, opened: as it is, or unlocked with a passphrase."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from speechft.app.records import About, Phrases, Request, Said, Shape, parsed
from speechft.app.store import ID, Store, VoiceFolder
from speechft.app.training import MANIFEST, STATUS_FILES, is_running, keep_status_only
from speechft.app.vault import Vault, encrypt, is_encrypted, memory_folder, refuse_lost, seal, unlock
from speechft.cache import FOLDER as CACHE
from speechft.errors import SpeechftError
from speechft.files import read_bytes

_BACK = "Put a copy of it back; it was left as it is."
FILES: dict[str, tuple[type[Shape], str]] = {  # of a voice, and what to do where one is damaged
    "voice.json": (About, f"{_BACK} Until then the voice goes by its folder's name."),
    "phrases.json": (Phrases, f"{_BACK} Until then its sentences are those that come with the app."),
    "recordings/*.json": (Said, f"{_BACK} Until then this recording is not used."),
    "training/request.json": (Request, "Train the voice again; its recordings and its last adapter are as they were."),
}


@contextlib.contextmanager
def opened(folder: Path, ask: Callable[[bool], str], encrypted: bool = False) -> Iterator[Store]:
    """The store of a data folder.

    Args:
        folder: made when missing.
        ask: gives the passphrase, where one is needed; its argument says that it is a new one.
        encrypted: encrypt the folder if it is not yet; it stays so.

    Raises:
        SpeechftError: the passphrase is wrong, a voice is being trained while it should be encrypted, or the
            vault.json of encrypted voices is missing.
    """
    store = Store(folder)
    refuse_lost(folder)
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


def damaged(store: Store) -> list[SpeechftError]:
    """What is wrong with each voice's files; other voices and files stay usable."""
    found = []
    for path in sorted(store.voices_folder.iterdir()):
        if path.name.startswith(".") or not path.is_dir():
            continue
        if not ID.fullmatch(path.name):
            fix = "The voice is shown when its folder is renamed: small letters, digits and hyphens."
            found.append(SpeechftError("is no name that the app can use for a voice", where=path, fix=fix))
            continue
        for name, (shape, fix) in FILES.items():
            for file in [path / name] if name == "voice.json" else sorted(path.glob(name)):
                try:
                    # how far a training is is never encrypted
                    parsed(read_bytes(file) if file.name in STATUS_FILES else store.vault.read(file), shape, file)
                except SpeechftError as error:
                    found.append(SpeechftError(error.what, where=file, fix=fix))
                except OSError as error:
                    found.append(SpeechftError(f"cannot be read ({error.strerror})", where=file, fix=fix))
    return found


def _leave_nothing_plain(voice: VoiceFolder) -> None:
    """Encrypt a voice's files; what only a training without encryption needs is deleted, and it begins anew."""
    (voice.path / MANIFEST).unlink(missing_ok=True)
    for path in (voice.run / "checkpoints", voice.path / CACHE):
        if path.is_dir():
            shutil.rmtree(path)
    if voice.training.is_dir() and not is_running(voice):
        keep_status_only(voice)
    for path in voice.path.iterdir():
        if path.name != "training":
            seal(voice.vault, path)
