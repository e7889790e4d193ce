"""What an adapter's files say of it, checked where they are read: peft's `adapter_config.json`, and our card.

Whoever uses a value from here can rely on its type; keys that we do not know are left as they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from speechft.context import Context
from speechft.errors import SpeechftError
from speechft.files import read_text
from speechft.sources import is_hub_id
from speechft.validation import validated

CARD = "speechft.json"
CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
# Initial values that peft takes out of the base's weights, when an adapter is loaded too; and those made of data,
# whose files do not say what to take out. What speechft saves has none of them.
FROM_WEIGHTS = ("pissa", "olora", "loftq")
FROM_DATA = ("corda", "lora_ga")
# Settings of peft with which a LoRA adapter is more than a B A to be added to each weight
MORE_THAN_LORA = (
    "use_dora", "alpha_pattern", "modules_to_save", "lora_bias", "trainable_token_indices", "target_parameters",
    "layer_replication", "use_qalora", "alora_invocation_tokens", "use_bdlora", "kasa_config", "arrow_config",
    "velora_config", "monteclora_config",
)  # fmt: skip
MOST = 8192  # of a rank, a block, virtual tokens: several times what recipes and averages of adapters have
LORA_DEFAULTS = {"r": 8, "lora_alpha": 8}  # of peft, for a file that does not say


def _known(policy: str) -> str:
    try:
        return Context(policy).policy
    except SpeechftError as error:
        raise ValueError(str(error)) from None


def _simple(pattern: str) -> str:
    """peft tries these names as expressions on every layer's name, and some would take it for ever."""
    if not re.fullmatch(r"[\w.^$\\*+-]*", pattern) or sum(map(pattern.count, "*+")) > 1:
        raise ValueError("a layer's name is wanted, with one * or + at most")
    return pattern


Simple = Annotated[str, AfterValidator(_simple)]
Size = Annotated[int, Field(le=MOST)]


class _Said(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class _Config(_Said):
    peft_type: Annotated[str, Field(min_length=1, validate_default=True)] = ""
    base_model_name_or_path: str | None = None
    target_modules: str | list[str] | None = None
    modules_to_save: list[Simple] | None = None
    layers_pattern: Simple | list[Simple] | None = None
    layer_replication: Annotated[list[Any], Field(max_length=100)] | None = None
    rank_pattern: dict[Simple, Any] | None = None
    n_frequency_pattern: dict[Simple, Size] | None = None  # FourierFT's
    block_size_pattern: dict[Simple, Size] | None = None  # C3A's
    r: Size | None = None
    init_r: Size | None = None
    target_r: Size | None = None
    size: Size | None = None
    oft_block_size: Size | None = None
    boft_block_size: Size | None = None
    boft_block_num: Size | None = None
    boft_n_butterfly_factor: Size | None = None
    num_virtual_tokens: Size | None = None


class _LoraConfig(_Config):
    r: Annotated[int, Field(ge=1, le=MOST)] = LORA_DEFAULTS["r"]
    lora_alpha: float = LORA_DEFAULTS["lora_alpha"]
    use_rslora: bool = False
    use_dora: bool = False
    rank_pattern: dict[Simple, Size] | None = None
    alpha_pattern: dict[Simple, float] | None = None


class _Traces(_Said):
    speakers: str = ""
    sessions: str = ""
    prompts: str = ""
    texts: str = ""
    speaker_names: str = ""
    prompt_names: str = ""
    audio: Annotated[str, Field(pattern=r"^(?:[\w-]+(?:@\d+\.\d+-(?:\d+\.\d+)?)? ?)*$")] = ""  # `traces.Traces.to_dict`
    nameless: Annotated[int, Field(ge=0)] = 0


class _SeenPart(_Said):
    salt: Annotated[str, Field(min_length=1, validate_default=True)] = ""
    train: _Traces = _Traces()
    dev: _Traces = _Traces()


class _Seen(_Said):
    train: list[str] | None = None
    dev: list[str] | None = None
    parts: list[_SeenPart] | None = None
    complete: bool = False


class _Trained(_Said):
    method: str | None = None
    init: str | None = None
    quantize: str | None = None


class _Recipe(_Said):
    adapter: _Trained = _Trained()


class _Card(_Said):
    speechft: str = ""
    task: str = "speech"
    model: str | None = None
    base_sha256: str | None = None
    context: Annotated[str, AfterValidator(_known)] = "full"
    trained_context: str | None = None
    language: str | None = None
    normalizer: str | None = None
    licence: str | None = None
    train_sha256: str | None = None
    seen: _Seen | None = None
    recipe: _Recipe = _Recipe()
    data: dict[str, Any] = {}


def read_config(folder: str | Path) -> dict[str, Any]:
    """What peft's `adapter_config.json` says; of LoRA always with `r` and `lora_alpha`.

    Raises:
        SpeechftError: the folder is no adapter, or a damaged one, or a value in it is not allowed.
    """
    folder = Path(folder)
    if not (folder / CONFIG).is_file():
        kept_base = folder.parent / "result.json"
        reason = (
            "Training found no adapter better than the base model; result.json beside it says so."
            if not folder.exists() and kept_base.is_file()
            else "Give the folder with adapter_config.json, usually OUT/adapter."
            + (f" If it is on a hub: {folder}@main." if is_hub_id(folder) and not folder.exists() else "")
        )
        raise SpeechftError("is not an adapter", where=folder, fix=reason)
    found = read_object(folder / CONFIG)
    lora = found.get("peft_type") == "LORA"
    validated(_LoraConfig if lora else _Config, found, folder / CONFIG)
    return LORA_DEFAULTS | found if lora else found


def changes_base(config: Mapping[str, Any]) -> bool:
    """Whether a LoRA adapter takes its initial values out of the base's weights: without it they are not the base's."""
    return str(config.get("init_lora_weights")).lower().startswith(FROM_WEIGHTS + FROM_DATA)


def is_plain_lora(config: Mapping[str, Any]) -> bool:
    """Whether all that an adapter does is to add scale * B A to weights, by its `adapter_config.json`."""
    plain = config.get("peft_type") == "LORA" and config.get("bias", "none") == "none" and not changes_base(config)
    return plain and not any(config.get(name) for name in MORE_THAN_LORA)


def loftq_kind(card: dict[str, Any]) -> str | None:
    """How the base model was quantised that a LoftQ adapter makes up for, and has to be used with; None for others."""
    trained = card.get("recipe", {}).get("adapter", {})
    return trained.get("quantize") if trained.get("init") == "loftq" else None


def refuse_loftq(card: dict[str, Any], folder: str | Path) -> None:
    """Raises SpeechftError for an adapter that whole weights must not get."""
    if loftq_kind(card):
        raise SpeechftError("belongs to a quantised base model (LoftQ)", where=folder, fix="Train with init=zero.")


def read_card(folder: str | Path) -> dict[str, Any]:
    """What `speechft.json` of an adapter says; empty for an adapter made by others; errors as of `read_config`."""
    read_config(folder)
    return own_card(folder)


def own_card(folder: str | Path) -> dict[str, Any]:
    """The same for a whole model too; empty where there is no card.

    Raises:
        SpeechftError: it is damaged, or a value in it is not allowed.
    """
    path = Path(folder) / CARD
    if not path.is_file():
        return {}
    found = read_object(path)
    validated(_Card, found, path)
    return found


def task_of(folder: str | Path) -> str:
    """The task that an adapter or a whole model of ours was trained for; `speech` where it does not say."""
    return str(own_card(folder).get("task", "speech"))


def base_of(folder: str | Path) -> str:
    """The base model that an adapter names.

    Raises:
        SpeechftError: it names none, or see `read_card`.
    """
    name = read_card(folder).get("model") or read_config(folder).get("base_model_name_or_path")
    if not name:
        raise SpeechftError("does not name its base model", where=folder, fix="Give it with --model.")
    return str(name)


def is_whole_model(folder: str | Path) -> bool:
    """Whether a folder is of a model with all its weights; one of an adapter may have a `config.json` too."""
    folder = Path(folder)
    return (folder / "config.json").is_file() and not (folder / CONFIG).is_file()


def refuse_other_base(card: Mapping[str, Any], hashes: Collection[str], folder: str | Path) -> None:
    """Raises SpeechftError for an adapter of ours that was trained on other weights than those of these hashes
    (`weights_hash.hashes_of`); others' adapters say nothing."""
    made_for = card.get("base_sha256")
    if made_for and made_for not in hashes:
        raise SpeechftError(
            f"was trained on '{card.get('model')}', not on these weights",
            where=folder,
            fix=f"Load it with --model {card.get('model')}.",
        )


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file; SpeechftError where it holds none."""
    try:
        found = json.loads(read_text(path))
        if isinstance(found, dict):
            return found
    except (ValueError, RecursionError):
        pass
    raise SpeechftError("is damaged", where=path, fix="Copy the adapter again.")
