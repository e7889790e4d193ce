"""Weights in other forms, converted once into the user's cache: a CTranslate2 `model.bin`, a GGUF.

The folder of a conversion is named by the hash of all that it is made from. It is whole or absent, and one that was
changed or damaged since is made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from speechft.errors import SpeechftError
from speechft.files import read_text, refuse_special, replace_folder, write_json, write_text

LOG = logging.getLogger(__name__)
FORMAT = 1  # goes up when what conversions write changes
MADE = "made.speechft"  # in a folder of the cache: size, time and hash of the files in it


def cache_dir() -> Path:
    """Where converted weights and cached activations live: $SPEECHFT_CACHE, or the user's cache folder."""
    base = os.environ.get("SPEECHFT_CACHE")
    if base:
        return Path(base)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "speechft"


def of_ctranslate2(label: str, parts: list[Path], folder: Path, expected: tuple[str, str | None] | None = None) -> Path:
    """The Hugging Face folder of a CTranslate2 model.

    Args:
        label: what the folder's name begins with.
        parts: of the weights, joined in order.
        folder: where `tokenizer.json` and `config.json` lie.
        expected: SHA-256 of the weights and of the tokenizer, of a model that is known.

    Raises:
        SpeechftError: a file is missing, or not what it should be.
    """
    tokenizer, config = folder / "tokenizer.json", folder / "config.json"
    for path in [*parts, tokenizer, config]:
        if not path.is_file():
            raise SpeechftError(
                f"has no {path.name}",
                where=folder,
                fix="A CTranslate2 Whisper folder needs it; copy it there.",
            )
    weights_hash = _sha256_cached(parts)
    if expected and (weights_hash != expected[0] or _sha256_cached([tokenizer]) != expected[1]):
        raise _changed(folder)

    def write(out: Path) -> None:
        from speechft.ctranslate2_weights import write_hf_folder

        write_hf_folder(parts, folder, out)

    return _written_once(_named(label, weights_hash, _sha256_cached([tokenizer]), _sha256([config])), write)


def of_gguf(file: Path, label: str = "", expected: str | None = None) -> Path:
    """The Hugging Face folder of a GGUF file; arguments and errors as of `of_ctranslate2`."""
    weights_hash = _sha256_cached([file])
    if expected and weights_hash != expected:
        raise _changed(file.parent)

    def write(out: Path) -> None:
        from speechft.gguf_weights import write_hf_folder

        write_hf_folder(file, out)

    return _written_once(_named(label or file.stem, weights_hash), write)


def _named(label: str, *hashes: str) -> str:
    """The cache folder of a conversion, by all that it is made from."""
    return f"{label}-{hashlib.sha256(json.dumps([FORMAT, *hashes]).encode()).hexdigest()[:16]}"


def _changed(folder: Path) -> SpeechftError:
    return SpeechftError(
        "does not hold the contents that this version of speechft was made for",
        where=folder,
        fix="Reinstall it: pip install --force-reinstall --no-deps, with the version pinned in the extra.",
    )


def _written_once(name: str, write: Callable[[Path], None]) -> Path:
    """A folder of the cache, made by `write` unless it is there as it was made; whole or absent."""
    target = cache_dir() / "models" / name
    if is_as_made(target):
        return target
    if (target / MADE).is_file():
        LOG.warning("%s: was changed or damaged after it was made, so it is being made again.", target)
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".converting-", dir=target.parent))
    try:
        write(work)
        write_json(work / MADE, {path.name: _state(path) | {"sha256": _sha256([path])} for path in work.iterdir()})
        try:
            if not is_as_made(target):  # another process may have finished first
                replace_folder(work, target)
        except OSError:  # or do so now
            if not is_as_made(target):
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def is_as_made(folder: Path) -> bool:
    """Whether all files have the size and time that were written down when they were made.

    One of the same size and another time, as of a cache that was copied, is hashed, and its time written down: hashing
    at every start would cost 0.1 s and more.
    """
    try:
        made = json.loads(read_text(folder / MADE))
        found = {name: _state(folder / name) for name in made}
        if any(found[name]["size"] != was["size"] for name, was in made.items()):
            return False
        others = [name for name, was in made.items() if found[name]["mtime_ns"] != was["mtime_ns"]]
        if any(_sha256([folder / name]) != made[name]["sha256"] for name in others):
            return False
        if others:
            with contextlib.suppress(OSError):  # a cache may be for reading only
                write_json(folder / MADE, {name: was | found[name] for name, was in made.items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    return bool(made)


def _state(path: Path) -> dict[str, int]:
    stat = path.stat()
    return {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns}


def _sha256(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with refuse_special(path).open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _sha256_cached(paths: list[Path]) -> str:
    """SHA-256 of files joined, remembered by size and time of change: hashing costs 0.1 s at every start."""
    stamp = json.dumps([[str(p.resolve()), p.stat().st_size, p.stat().st_mtime_ns] for p in paths])
    memo = cache_dir() / "hashes" / hashlib.sha256(stamp.encode()).hexdigest()
    if memo.is_file() and len(known := memo.read_text()) == 64:
        return known
    value = _sha256(paths)
    write_text(memo, value)
    return value
