"""Optional encryption of what the app keeps: one key, made from a passphrase that is stored nowhere.

    DATA/vault.json     salt and cost of the key's derivation, and a sealed word to try a passphrase on

Files keep their names. Each is a token of Fernet (AES-128-CBC and HMAC-SHA256, by the `cryptography` package): whole
and as it was written, or refused. What must be a plain file for a while, an adapter in use or recordings in training,
lies in a `memory_folder`.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from speechft.app.records import Lock, parsed
from speechft.errors import SpeechftError, missing_extra
from speechft.files import read_bytes, write_bytes, write_text

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

NAME = "vault.json"
WORD = b"speechft"
COST = 2**17  # of scrypt: 128 MB and half a second a guess
MOST_COST = 2**20  # of another version of the app
SALT, SEALED = 16, 73  # bytes of the salt, and of a Fernet token for `WORD`
BACK = "Put a copy of this file back: without it nobody can read these voices, which are as they were."
LEAST = 10  # characters of a passphrase
TOKEN = b"gAAAA"  # how every Fernet token begins: the version and the upper bytes of a date
MEMORY = Path("/dev/shm")  # noqa: S108 - only a folder of our own in it is used
REMOVER = "import shutil, sys; sys.stdin.read(); shutil.rmtree(sys.argv[1], ignore_errors=True)"


class Vault:
    """Reads and writes files: as they are without a key, sealed with one.

    Args:
        key: of Fernet; None keeps files as they are.
        work: a `memory_folder`, for `plain`.
    """

    def __init__(self, key: bytes | None = None, work: Path | None = None) -> None:
        self.key, self.work = key, work
        self._fernet = _fernet(key) if key else None
        self._lock = threading.RLock()  # what is forgotten while it is copied must not come back

    def read(self, path: Path) -> bytes:
        """What was written to a file.

        Raises:
            OSError: it cannot be read.
            SpeechftError: it was damaged, or sealed with another key.
        """
        data = read_bytes(path)
        if self._fernet is None:
            return data
        from cryptography.fernet import InvalidToken

        try:
            return self._fernet.decrypt(data)
        except InvalidToken:
            raise SpeechftError(
                "this file is damaged and cannot be decrypted", where=path, fix="Put a copy of it back."
            ) from None

    def write(self, path: Path, data: bytes) -> None:
        """Write a file; a reader, or a crash, meets the old contents or the new."""
        write_bytes(path, self._fernet.encrypt(data) if self._fernet else data)

    def plain(self, folder: Path) -> Path:
        """A folder whose files other modules can read: itself without a key, else a copy in memory.

        The copy is made again when a file in the folder was written again, in another place.
        """
        if self._fernet is None:
            return folder
        with self._lock:
            files = sorted(path for path in folder.iterdir() if path.is_file())
            version = hashlib.sha256(repr([(f.name, f.stat().st_mtime_ns) for f in files]).encode()).hexdigest()[:16]
            place = self._place(folder) / version
            if not place.is_dir():
                self.forget(folder)
                contents = {path.name: self.read(path) for path in files}
                half = place.with_name("half")  # not taken for the copy where memory is full
                half.mkdir(parents=True)
                for name, data in contents.items():
                    (half / name).write_bytes(data)
                half.rename(place)
        return place

    def forget(self, folder: Path) -> None:
        """Delete the copy of a folder."""
        if self.work:
            with self._lock:
                shutil.rmtree(self._place(folder), ignore_errors=True)

    def _place(self, folder: Path) -> Path:
        assert self.work
        return self.work / hashlib.sha256(str(folder).encode()).hexdigest()[:16]


def is_encrypted(data: Path) -> bool:
    """Whether a data folder needs a passphrase."""
    return (data / NAME).exists()


def refuse_lost(data: Path) -> None:
    """Raises SpeechftError where voices are encrypted and vault.json is missing.

    A new one would have another key, and what is recorded without one would be plain.
    """
    for path in (data / "voices").glob("*/voice.json") if not is_encrypted(data) else ():
        with contextlib.suppress(OSError):
            if read_bytes(path).startswith(TOKEN):
                raise SpeechftError("is missing", where=data / NAME, fix=f"{BACK} Or choose another folder.")


def unlock(data: Path, passphrase: str) -> bytes:
    """The key of an encrypted data folder.

    Raises:
        SpeechftError: it is the wrong passphrase, or the folder's vault.json is damaged.
    """
    from cryptography.fernet import InvalidToken

    salt, cost, word = _read_lock(data / NAME)
    key = _key(passphrase, salt, cost)
    try:
        _fernet(key).decrypt(word)
    except InvalidToken:
        raise SpeechftError("this is not the passphrase of these voices", fix="Try again.") from None
    return key


def _read_lock(path: Path) -> tuple[bytes, int, bytes]:
    """Salt, cost and sealed word of a vault.json, each as long as `encrypt` makes it."""
    try:
        about = parsed(read_bytes(path), Lock, path)
    except (SpeechftError, OSError) as error:
        what = error.what if isinstance(error, SpeechftError) else f"cannot be read ({error.strerror})"
        raise SpeechftError(what, where=path, fix=BACK) from None
    cost, lengths = about["cost"], (0, 0)
    with contextlib.suppress(ValueError):
        salt, word = base64.b64decode(about["salt"], validate=True), base64.urlsafe_b64decode(about["word"])
        lengths = len(salt), len(word)
    if lengths != (SALT, SEALED) or not 2 <= cost <= MOST_COST or cost & (cost - 1):
        raise SpeechftError("is damaged (its values cannot be right)", where=path, fix=BACK)
    return salt, cost, about["word"].encode()


def encrypt(data: Path, passphrase: str) -> bytes:
    """Make a data folder an encrypted one; `seal` then encrypts what is there already.

    Raises:
        SpeechftError: the passphrase is too short.
    """
    if len(passphrase) < LEAST:
        raise SpeechftError(f"the passphrase is shorter than {LEAST} characters", fix="Use some words in a row.")
    salt = secrets.token_bytes(SALT)
    key = _key(passphrase, salt, COST)
    about = {
        "format": 1,
        "salt": base64.b64encode(salt).decode(),
        "cost": COST,
        "word": _fernet(key).encrypt(WORD).decode(),
    }
    write_text(data / NAME, json.dumps(about, indent=1) + "\n")
    return key


def seal(vault: Vault, place: Path) -> None:
    """Encrypt a file, or all of a folder, where not done yet: everything at first, some after a crash in between."""
    for path in [place, *sorted(place.rglob("*"))]:
        if path.is_file() and not path.is_symlink():
            data = path.read_bytes()
            if not data.startswith(TOKEN):
                vault.write(path, data)


@contextlib.contextmanager
def memory_folder() -> Iterator[Path]:
    """A folder of this user alone, in memory where the system can (Linux), that is gone when this process is.

    A second process waits for the end of this one, which the system tells it of however it comes, and deletes it.
    """
    folder = Path(tempfile.mkdtemp(prefix="speechft-", dir=MEMORY if os.access(MEMORY, os.W_OK) else None))
    remover = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-c", REMOVER, str(folder)], stdin=subprocess.PIPE, start_new_session=True
    )
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        assert remover.stdin
        remover.stdin.close()
        remover.wait()


def _key(passphrase: str, salt: bytes, cost: int) -> bytes:
    raw = hashlib.scrypt(passphrase.encode(), salt=salt, n=cost, r=8, p=1, maxmem=2 * 128 * 8 * cost, dklen=32)
    return base64.urlsafe_b64encode(raw)


def _fernet(key: bytes) -> Fernet:
    try:
        from cryptography.fernet import Fernet
    except ModuleNotFoundError as error:
        raise missing_extra(str(error.name), "demo") from None
    return Fernet(key)
