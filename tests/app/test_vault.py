"""Encrypted voices: nothing of them on disk can be read without the passphrase, and everything still works with it."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from app.test_app import BASE, trained, wav

from speechft.app import phrases, training
from speechft.app.opening import damaged, opened
from speechft.app.outcome import words_for
from speechft.app.records import Process, read_json
from speechft.app.store import FREE, Store, VoiceFolder
from speechft.app.transfer import export_voice, import_voice
from speechft.app.vault import MEMORY, TOKEN, seal
from speechft.errors import SpeechftError
from speechft.manifest import Manifest

SECRET = "words in a row"
SENTENCE = "Where did Mira put the blue scarf?"


def ask(new: bool) -> str:
    return SECRET


def plain_files(folder: Path) -> list[str]:
    """Names of the files of voices that are not encrypted."""
    files = [path for path in (folder / "voices").rglob("*") if path.is_file()]
    return [path.name for path in files if not path.read_bytes().startswith(TOKEN)]


def fill(store: Store) -> VoiceFolder:
    anna = store.create("Anna", "I agree")
    anna.add(wav(), SENTENCE, FREE, 2.0)
    phrases.set_skipped(anna, "Good morning.", True)
    trained(anna)  # as a run without encryption leaves it
    if store.vault.key:
        seal(store.vault, anna.run)
    return anna


def test_a_new_store_keeps_nothing_plain(tmp_path: Path) -> None:
    with opened(tmp_path, ask, encrypted=True) as store:
        anna = fill(store)
        assert plain_files(tmp_path) == []
        assert "anna" not in anna.id
        assert anna.about["name"] == "Anna"
        assert [take.text for take in anna.takes()] == [SENTENCE]
        assert store.vault.read(anna.sound(anna.takes()[0].id)) == wav()
        adapter = store.adapters()[anna.id]
        assert adapter.is_relative_to(store.vault.work or "")
        assert (adapter / "adapter_model.safetensors").stat().st_size > 0
        assert store.adapters()[anna.id] == adapter  # not copied again
        assert (store.vault.work or Path()).stat().st_mode & 0o777 == 0o700
        store.delete(anna.id)
        assert not adapter.exists()
    assert list((tmp_path / "voices").iterdir()) == []
    assert not (store.vault.work or Path()).exists()


def test_voices_from_before_are_encrypted_and_need_the_passphrase(tmp_path: Path) -> None:
    with opened(tmp_path, ask) as store:
        identity = fill(store).id
    voice = tmp_path / "voices" / identity
    (voice / "training.jsonl").write_text(SENTENCE)
    for name in ("request.json", "report.md", "checkpoints/latest/state.json"):  # a training that was killed
        (voice / "training" / name).parent.mkdir(parents=True, exist_ok=True)
        (voice / "training" / name).write_text(SENTENCE)
    assert len(plain_files(tmp_path)) >= 6
    with pytest.raises(SpeechftError, match="shorter"), opened(tmp_path, lambda new: "short", encrypted=True):
        pass
    with opened(tmp_path, ask, encrypted=True):
        assert plain_files(tmp_path) == ["request.json"]
    with pytest.raises(SpeechftError, match="not the passphrase"), opened(tmp_path, lambda new: SECRET + "!"):
        pass
    with opened(tmp_path, ask) as store:
        assert [take.text for take in store.voice(identity).takes()] == [SENTENCE]
    stored = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert SECRET.encode() not in stored


def test_a_crash_while_encrypting_is_made_up_for(tmp_path: Path) -> None:
    with opened(tmp_path, ask, encrypted=True) as store:
        path = store.voices_folder / "half" / "recordings" / "r.wav"
        path.parent.mkdir(parents=True)
        path.write_bytes(wav())
    with opened(tmp_path, ask) as store:
        assert plain_files(tmp_path) == []
        assert store.vault.read(path) == wav()
        path.write_bytes(path.read_bytes()[:-9])
        with pytest.raises(SpeechftError, match="damaged"):
            store.vault.read(path)


@pytest.mark.parametrize("encrypted", [False, True])
def test_a_lost_vault_is_a_sentence_and_all_stays(tmp_path: Path, encrypted: bool) -> None:
    with opened(tmp_path, ask, encrypted=True) as store:
        fill(store)
    (tmp_path / "vault.json").unlink()
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    with (
        pytest.raises(SpeechftError, match=r"vault\.json: is missing.*copy of this file back"),
        opened(tmp_path, ask, encrypted),
    ):
        pass
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


def test_half_a_copy_of_an_adapter_is_not_taken_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with opened(tmp_path, ask, encrypted=True) as store:
        adapter = fill(store).run / "adapter"
        with monkeypatch.context() as patched:
            patched.setattr(Path, "write_bytes", full)
            with pytest.raises(OSError, match="No space"):
                store.vault.plain(adapter)
        copy = store.vault.plain(adapter)
        assert store.vault.read(adapter / "speechft.json") == (copy / "speechft.json").read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        lambda about: "",
        lambda about: json.dumps(about)[:-20],
        lambda about: json.dumps([about]),
        lambda about: json.dumps({**about, "salt": None}),
        lambda about: json.dumps({**about, "salt": "?"}),
        lambda about: json.dumps({**about, "salt": about["salt"][:8]}),
        lambda about: json.dumps({**about, "word": about["word"][:-4]}),
        lambda about: json.dumps({**about, "cost": -1}),
        lambda about: json.dumps({**about, "cost": 2**60}),
        lambda about: json.dumps({**about, "cost": 1000}),
        lambda about: json.dumps({"salt": about["salt"], "cost": about["cost"]}),
    ],
)
def test_a_damaged_vault_is_a_sentence_and_stays(tmp_path: Path, change: Callable[[Any], str]) -> None:
    with opened(tmp_path, ask, encrypted=True) as store:
        store.create("Anna", "I agree")
    path = tmp_path / "vault.json"
    path.write_text(change(json.loads(path.read_text())))
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    with pytest.raises(SpeechftError, match=r"vault\.json: is damaged.*copy of this file back"), opened(tmp_path, ask):
        pass
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()} == before


def test_a_damaged_file_of_an_encrypted_voice_is_named(tmp_path: Path) -> None:
    with opened(tmp_path, ask, encrypted=True) as store:
        anna, ben = store.create("Anna", "I agree"), store.create("Ben", "I agree")
    path = anna.path / "voice.json"
    path.write_bytes(path.read_bytes()[:-9])
    with opened(tmp_path, ask) as store:
        assert {voice.about["name"] for voice in store.voices()} == {anna.id, "Ben"}
        (fault,) = damaged(store)
        assert fault.where == str(path)
        assert store.voice(ben.id).about["consent"]["by"] == "Ben"


def test_an_encrypted_voice_moves(tmp_path: Path) -> None:
    with opened(tmp_path / "here", ask, encrypted=True) as here, opened(tmp_path / "there", ask, True) as there:
        anna = fill(here)
        moved = import_voice(there, export_voice(anna, recordings=True), BASE)
        assert [take.text for take in moved.takes()] == [SENTENCE]
        assert moved.about["consent"] == anna.about["consent"]
        assert moved.id in there.adapters()
        assert plain_files(tmp_path / "there") == []


def test_what_was_decrypted_goes_with_the_process(tmp_path: Path) -> None:
    code = "import time\nfrom speechft.app.vault import memory_folder\n"
    code += "with memory_folder() as f:\n (f / 'a.wav').write_bytes(b'x'); print(f, flush=True); time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    folder = Path(process.stdout.readline().strip())
    assert (folder / "a.wav").is_file()
    process.kill()
    process.wait()
    wait_until(lambda: not folder.exists())


def test_a_killed_training_leaves_nothing_plain(tmp_path: Path, voice: Manifest) -> None:
    with opened(tmp_path, ask, encrypted=True) as store:
        ben = in_training(store, voice)
        work = wait_until(lambda: decrypted(ben))
        os.kill(read_json(ben.training / "process.json", Process)["pid"], 9)
        wait_until(lambda: not work.exists() and not training.is_running(ben))
        # a kill in mid-write leaves `.NAME-hex.part`, which holds no more than NAME would
        names = {re.sub(r"^\.(.+)-[0-9a-f]{8}\.part$", r"\1", path.name) for path in ben.training.iterdir()}
        assert names <= set(training.STATUS_FILES)
        assert training.resume_all(store) == [ben.id]
        work = wait_until(lambda: decrypted(ben))
        training.stop(ben)
        wait_until(lambda: not work.exists())
        assert plain_files(tmp_path) == []


@pytest.mark.slow
def test_an_encrypted_voice_is_trained(tmp_path: Path, voice: Manifest) -> None:
    with opened(tmp_path, ask, encrypted=True) as store:
        ben = in_training(store, voice)
        wait_until(lambda: not training.is_running(ben), 600)
        assert training.status(ben) is None
        assert ben.result
        assert words_for(ben.result, ben.takes())["sentences"]
        assert plain_files(tmp_path) == []
        assert decrypted(ben) is None


def in_training(store: Store, recorded: Manifest) -> VoiceFolder:
    """A new voice with these recordings, whose training has just begun."""
    ben = store.create("Ben", "I agree")
    for u in recorded:
        ben.add(u.audio.read_bytes(), u.text, FREE, u.duration_s or 0.0)
    training.start(store, ben, BASE)
    return ben


def decrypted(voice: VoiceFolder) -> Path | None:
    """The memory folder that a training of this voice works in."""
    first = voice.takes()[0].id
    return next((path.parent.parent for path in MEMORY.glob(f"speechft-*/recordings/{first}.wav")), None)


def wait_until(condition: Callable[[], Any], seconds: float = 300.0) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found
