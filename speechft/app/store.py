"""Voices on disk: one folder a person, with everything that is theirs in it, so that deleting it deletes them.

    DATA/voices/ID/
        voice.json          name, consent and its date
        phrases.json        what they want to practise
        recordings/R.wav    a recording, and R.json beside it: its sentence; whole or absent, both
        training/           a run that is not finished, and the recordings it began with (`snapshot`)
        run/                the last finished run, with its adapter

R.json is written after R.wav: a recording counts when both are there, and only then the page says "saved".
All of it but how far a training is can be encrypted (`vault`).
"""

from __future__ import annotations

import contextlib
import datetime
import os
import re
import secrets
import shutil
import threading
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechft.adapter_files import CONFIG
from speechft.app.records import About, Phrases, Result, Said, Shape, json_text, parsed
from speechft.app.vault import Vault
from speechft.audio import Seconds
from speechft.errors import SpeechftError
from speechft.manifest import Manifest, Utterance

FORMAT = 1
ID = re.compile(r"[a-z0-9][a-z0-9-]{0,59}")
MOST_TEXT = 500  # characters of a sentence
MOST_NAME = 80
FREE = "free"  # a recording of what is no prompt: an upload, a correction
REPORTS = ("report.html", "report.md")  # of a run; they hold the recordings that were kept aside, and their sentences


@dataclass(frozen=True)
class Take:
    """One recording.

    Attributes:
        id: of its files.
        text: what was read.
        prompt: number of the sentence it belongs to, or `FREE`.
        seconds: of sound.
        recorded: date and time.
    """

    id: str
    text: str
    prompt: str
    seconds: Seconds
    recorded: str

    @classmethod
    def of(cls, identity: str, data: bytes) -> Take:
        """From what R.json holds. Raises SpeechftError if it is damaged."""
        return cls(id=identity, **parsed(data, Said, f"{identity}.json"))


class Store:
    """The data folder of the app.

    Args:
        folder: made when missing, readable by its owner only.
        vault: how files are kept; as they are, unless told.
    """

    def __init__(self, folder: Path, vault: Vault | None = None) -> None:
        self.folder, self.vault = folder, vault or Vault()
        self.voices_folder = folder / "voices"
        self.voices_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.chmod(folder, 0o700)
        self._changing: dict[str, threading.RLock] = {}

    def voices(self) -> list[VoiceFolder]:
        """All voices, by name."""
        paths = [path for path in self.voices_folder.iterdir() if self._has(path)]
        found = [VoiceFolder(path, self.vault) for path in paths]
        return sorted(found, key=lambda voice: voice.about["name"].casefold())

    def voice(self, identity: str) -> VoiceFolder:
        """A voice by its id.

        Raises:
            SpeechftError: there is none; ids are checked, so that none leads out of the folder.
        """
        path = self.voices_folder / identity
        if path.name != identity or not self._has(path):  # "a/../b" has a name that fits
            raise SpeechftError("this voice does not exist any more", fix="Choose another one.")
        return VoiceFolder(path, self.vault)

    @staticmethod
    def _has(path: Path) -> bool:
        return bool(ID.fullmatch(path.name)) and (path / "voice.json").is_file()

    @contextlib.contextmanager
    def changing(self, identity: str) -> Iterator[VoiceFolder]:
        """A voice that nothing else in this process changes meanwhile.

        What is written to a voice while it is deleted would bring its folder back, with nobody to delete it again.

        Raises:
            SpeechftError: as by `voice`.
        """
        self.voice(identity)  # no locks for what strangers make up
        with self._changing.setdefault(identity, threading.RLock()):
            yield self.voice(identity)

    def adapters(self) -> dict[str, Path]:
        """The adapters of all voices that have one, by id, as folders to load them from."""
        found = {}
        for path in sorted(self.voices_folder.iterdir()):
            # one that is just being deleted, or damaged, must not keep the others from being heard
            with contextlib.suppress(OSError, SpeechftError):
                if ID.fullmatch(path.name) and (adapter := VoiceFolder(path, self.vault).adapter):
                    found[path.name] = self.vault.plain(adapter)
        return found

    def create(self, name: str, consent: str, given_by: str = "") -> VoiceFolder:
        """A new voice.

        Args:
            name: of the person, as they want to be called.
            consent: the text they agreed to.
            given_by: who agreed, if it was somebody for them.
        """
        name = tidy(name)[:MOST_NAME]
        if not name:
            raise SpeechftError("the name is empty", fix="Write a name; a nickname will do.")
        if not consent.strip():
            raise SpeechftError("consent is missing", fix="Recording starts when the person has agreed.")
        ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
        slug = "" if self.vault.key else re.sub("[^a-z0-9]+", "-", ascii_name).strip("-")[:40]
        path = self.voices_folder / f"{slug or 'voice'}-{secrets.token_hex(3)}"
        path.mkdir(mode=0o700)
        voice = VoiceFolder(path, self.vault)
        about = {
            "format": FORMAT,
            "name": name,
            "created": now(),
            "consent": {"text": consent, "given": now(), "by": tidy(given_by)[:MOST_NAME] or name},
        }
        try:
            voice.write_json("voice.json", about)
        except BaseException:  # the disk is full: leave no folder that nobody can delete in the app
            shutil.rmtree(path, ignore_errors=True)
            raise
        return voice

    def delete(self, identity: str) -> int:
        """Delete a voice: recordings, features, caches, adapters.

        Returns:
            how many files were deleted.

        Raises:
            SpeechftError: something could not be deleted; the message names it.
        """
        path = self.voice(identity).path
        count = sum(1 for file in path.rglob("*") if not file.is_dir())
        gone = path.with_name(f".deleted-{secrets.token_hex(4)}")
        os.replace(path, gone)  # from here on the voice is not listed, whatever happens
        shutil.rmtree(gone, ignore_errors=True)
        self.vault.forget(path / "run" / "adapter")
        left = [file for file in gone.rglob("*") if not file.is_dir()] if gone.exists() else []
        if left:
            raise SpeechftError(
                f"{len(left)} of {count} files could not be deleted, such as {left[0].relative_to(self.folder)}",
                where=self.folder,
                fix="Delete them by hand.",
            )
        return count

    def finish_deletions(self) -> None:
        """Delete what a crash kept from being deleted, or left of a voice on its way in."""
        for path in (*self.voices_folder.glob(".*"), *self.folder.glob(".import-*")):
            shutil.rmtree(path, ignore_errors=True)


class VoiceFolder:
    """One voice; see the module for what lies where."""

    def __init__(self, path: Path, vault: Vault | None = None) -> None:
        self.path, self.vault = path, vault or Vault()
        self.recordings, self.training, self.run = path / "recordings", path / "training", path / "run"

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def about(self) -> dict[str, Any]:
        """What voice.json says."""
        return self.read_json("voice.json", About, {"name": self.id})

    @property
    def adapter(self) -> Path | None:
        """The adapter of the last finished training, if it helped."""
        path = self.run / "adapter"
        return path if (path / CONFIG).is_file() else None

    @property
    def result(self) -> dict[str, Any] | None:
        """What the last finished training found."""
        return self.read_json("run/result.json", Result, None)

    def takes(self, folder: Path | None = None) -> list[Take]:
        """All recordings, oldest first; or those of another folder like `recordings`."""
        found, folder = [], folder or self.recordings
        for path in folder.glob("*.json") if folder.is_dir() else ():
            with contextlib.suppress(OSError, SpeechftError):
                take = Take.of(path.stem, self.vault.read(path))
                if path.with_suffix(".wav").is_file():
                    found.append(take)
        return sorted(found, key=lambda take: (take.recorded, take.id))

    def add(self, wav: bytes, text: str, prompt: str, seconds: Seconds) -> Take:
        """Keep a recording; when this returns it is on disk.

        Args:
            wav: the file.
            text: what was read.
            prompt: its sentence's number; an older recording of the same sentence is replaced.
            seconds: of sound.
        """
        text = tidy(text)
        if not text or len(text) > MOST_TEXT:
            raise SpeechftError(f"the sentence has to have 1 to {MOST_TEXT} characters", fix="Write another.")
        older = [take for take in self.takes() if take.prompt == prompt and prompt != FREE]
        take = Take(secrets.token_hex(8), text, prompt, round(seconds, 2), now())
        self.put(take, wav)
        for old in older:
            self.remove(old.id)
        return take

    def put(self, take: Take, wav: bytes) -> None:
        """Write the two files of a recording."""
        self.recordings.mkdir(exist_ok=True, mode=0o700)
        self.vault.write(self.recordings / f"{take.id}.wav", wav)
        said = {"text": take.text, "prompt": take.prompt, "seconds": take.seconds, "recorded": take.recorded}
        self.write_json(f"recordings/{take.id}.json", said)

    def remove(self, take: str) -> None:
        """Delete a recording, and the reports, which may hold its sound."""
        self.sound(take)
        for ending in (".json", ".wav"):
            (self.recordings / f"{take}{ending}").unlink(missing_ok=True)
        forget_reports(self.run, self.training)

    def sound(self, take: str) -> Path:
        """The file of a recording.

        Raises:
            SpeechftError: there is none.
        """
        path = self.recordings / f"{take}.wav"
        if not ID.fullmatch(take) or not path.is_file():
            raise SpeechftError("this recording does not exist any more")
        return path

    def phrases(self) -> dict[str, Any]:
        """`sets`: name to sentences; `skipped`: sentences to leave alone."""
        return self.read_json("phrases.json", Phrases, {"sets": {}, "skipped": []})

    def save_phrases(self, sets: dict[str, list[str]], skipped: list[str]) -> None:
        """Keep the sentences to practise."""
        clean: dict[str, list[str]] = {}
        for name, lines in sets.items():  # two names may be the same once they are tidy
            clean.setdefault(tidy(name)[:MOST_NAME], []).extend(t for line in lines if (t := tidy(line)[:MOST_TEXT]))
        path = self.path / "phrases.json"
        if path.exists() and self.read_json(path.name, Phrases, None) is None:  # damaged: somebody may yet mend it
            os.replace(path, path.with_name(f"phrases-{secrets.token_hex(3)}.damaged"))
        self.write_json("phrases.json", {"sets": clean, "skipped": [tidy(text) for text in skipped]})

    def manifest(self, out: Path, folder: Path | None = None) -> Manifest:
        """Write the manifest of all recordings, for training.

        Args:
            out: the file; encrypted recordings are decrypted into a folder beside it.
            folder: of the recordings, where it is not the voice's own.

        Raises:
            SpeechftError: there are no recordings.
        """
        takes = self.takes(folder)
        if not takes:
            raise SpeechftError("there are no recordings yet", fix="Record some sentences first.")
        sounds = folder or self.recordings
        if self.vault.key:
            sounds = out.parent / "recordings"
            sounds.mkdir()
            for take in takes:
                (sounds / f"{take.id}.wav").write_bytes(self.vault.read(self.sound(take.id)))
        rows = [Utterance(sounds / f"{t.id}.wav", t.text, t.id, self.id, duration_s=t.seconds) for t in takes]
        return Manifest(rows, out).save(out)

    def read_json(self, name: str, shape: type[Shape], default: Any) -> Any:
        """A JSON file of the voice; `default` where it is missing or damaged."""
        try:
            return parsed(self.vault.read(self.path / name), shape, self.path / name)
        except (OSError, SpeechftError):
            return default

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file of the voice."""
        self.vault.write(self.path / name, json_text(value).encode())


def forget_reports(*runs: Path) -> None:
    """Delete the reports of runs."""
    for run in runs:
        for name in REPORTS:
            (run / name).unlink(missing_ok=True)


def tidy(text: str) -> str:
    """One line, without control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in unicodedata.normalize("NFC", text)).split())


def now() -> str:
    return datetime.datetime.now().astimezone().isoformat(timespec="milliseconds")


def default_folder() -> Path:
    """Where the app keeps voices unless told: the user's data folder of the XDG base directory specification."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "speechft"
