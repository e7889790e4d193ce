"""The PEFT core, for speech and text alike: attach, save, load, merge, switch off.

An adapter is a standard PEFT folder that plain `transformers` + `peft` loads. What we know besides (context policy,
base model and its hash, normaliser, training data, licence, our version) is a file of ours beside it, `speechft.json`.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from speechft import __version__
from speechft.adapter_files import CARD as CARD  # read and written here alike, so that callers need one module
from speechft.adapter_files import CONFIG, FROM_DATA, changes_base
from speechft.adapter_files import base_of as base_of
from speechft.adapter_files import is_plain_lora as is_plain_lora
from speechft.adapter_files import loftq_kind as loftq_kind
from speechft.adapter_files import own_card as own_card
from speechft.adapter_files import read_card as read_card
from speechft.adapter_files import read_config as read_config
from speechft.adapter_files import read_object as read_object
from speechft.adapter_files import refuse_loftq as refuse_loftq
from speechft.adapter_files import task_of as task_of
from speechft.distributed import placed_like, whole
from speechft.errors import SpeechftError, readable
from speechft.files import new_folder
from speechft.peft_methods import is_placed, peft_config
from speechft.precision import refuse_non_finite
from speechft.quantization import start_from_loss
from speechft.weights_hash import base_hash as base_hash
from speechft.weights_hash import hashes_of as hashes_of

VOICE_LICENCE = "not stated; made from a person's recordings, so ask that person before you share it"


def default_device() -> torch.device:
    """CUDA, then Apple's GPU, then the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps") if torch.backends.mps.is_available() else torch.device("cpu")


def attach(
    model: Any,
    *,
    method: str = "lora",
    rank: int = 32,
    alpha: float | None = None,
    dropout: float = 0.0,
    placement: str = "both",
    encoder_from: int = 0,
    projections: list[str] | None = None,
    rslora: bool = False,
    dora: bool = False,
    init: str = "zero",
    virtual_tokens: int = 16,
) -> Any:
    """Freeze a transformers model and make trainable what a method trains; docs/methods.md compares them.

    Args:
        model: any transformers model, quantised or not.
        method: `lora` (Hu et al., 2021, arXiv 2106.09685), `adalora`, `vera`, `ia3`, `oft`, `boft`, `houlsby`,
            `pfeiffer`, `bitfit`, `norms`, `prompt` and `prefix` (causal language models), or `full`: every weight of
            the placement.
        rank: of the added matrices; width of a bottleneck; largest block of oft and boft.
        alpha: the scale of LoRA is alpha / rank (alpha / sqrt(rank) with `rslora`); 2 * rank unless told.
        dropout: on their input.
        placement: `encoder`, `decoder` or `both`.
        encoder_from: encoder layers below this number get none; `full` leaves what comes before them as it is, too.
        projections: last names of the linear layers that get them; q_proj and v_proj unless told. Of ia3, houlsby,
            pfeiffer and norms the layers are part of the method.
        rslora: a scale for large ranks (Kalajdzievski, 2023, arXiv 2312.03732).
        dora: weight-decomposed LoRA (Liu et al., 2024, arXiv 2402.09353).
        init: what LoRA starts at: `zero`, a change of nothing; `pissa`, the main directions of the weights (Meng et
            al., 2024, arXiv 2404.02948); `loftq`, what quantisation lost of them (Li et al., 2023, arXiv 2310.08659);
            `eva`, those of the layers' inputs: call `eva.initialise_from_data` next.
        virtual_tokens: of prompt and prefix tuning.

    Returns:
        a `PeftModel` whose adapter weights are fp32, whatever the base is; of `full`, the model itself.

    Raises:
        SpeechftError: no such method, or not for this model.
    """
    from peft import get_peft_model

    if method == "full":
        whole = not getattr(model.config, "is_encoder_decoder", False)  # it has one place only
        for name, parameter in model.named_parameters():
            sinusoids = "encoder.embed_positions" in name  # Whisper's: not weights, by definition
            parameter.requires_grad_(not sinusoids and (whole or is_placed(name, placement, encoder_from)))
        return model
    model.requires_grad_(False)
    with _quiet():
        config = peft_config(
            model, method, rank=rank, alpha=alpha, dropout=dropout, placement=placement, encoder_from=encoder_from,
            projections=projections or ["q_proj", "v_proj"], rslora=rslora, dora=dora, init=init,
            virtual_tokens=virtual_tokens,
        )  # fmt: skip
        adapted = get_peft_model(model, config)
        if init == "loftq" and method == "lora":
            start_from_loss(adapted, Path(model.config._name_or_path))
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    if init == "pissa" and method == "lora":
        adapted.start = trainable_state(adapted)  # the frozen weights are without this now
    return adapted


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings of peft that are no user's business: of attributes that transformers is about to rename,
    and of ways that we take on purpose."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        for message in (
            "base layer has no bias",
            "low_cpu_mem_usage",
            "Unsupported layer type",
            "[fF][bB][dD]",
            "fan_in_fan_out is set to False",  # peft sees a Conv1D and does what is right
            ".*butterfly",
        ):
            warnings.filterwarnings("ignore", message=f".*{message}")
        yield


def trainable(model: nn.Module) -> list[tuple[str, nn.Parameter]]:
    """Names and parameters that training changes."""
    return [(name, p) for name, p in model.named_parameters() if p.requires_grad]


def store_frozen(model: nn.Module, dtype: torch.dtype) -> None:
    """Keep the frozen matrices in the dtype autocast multiplies them in: half the memory, the same products.

    Norms, biases and positions stay in fp32; so do quantised weights as they are.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Embedding) and not name.endswith("embed_positions"):
            weight = module.weight
            if not weight.requires_grad and weight.dtype == torch.float32:
                weight.data = weight.data.to(dtype)


def trainable_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of what training changes, on the CPU; where a model is sharded, every process has to ask for it."""
    return {name: whole(p.detach()).to("cpu", copy=True) for name, p in trainable(model)}


def load_trainable_state(model: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Put a state from `trainable_state` back.

    Raises:
        SpeechftError: it belongs to other layers.
    """
    parameters = dict(trainable(model))
    if parameters.keys() != state.keys():
        raise SpeechftError(
            "the saved state belongs to another model or other adapter settings",
            fix="Go on with those, or begin in a new output_dir.",
        )
    with torch.no_grad():
        for name, value in state.items():
            parameters[name].copy_(placed_like(value, parameters[name]))


def save(model: Any, out: str | Path, card: dict[str, Any], base_name: str, base_folder: Path) -> Path:
    """Save an adapter (or, after full fine-tuning, the model) so that the folder is whole or absent.

    Args:
        model: a `PeftModel` or a transformers model.
        out: the folder; an older one is replaced.
        card: what to know besides, written to `speechft.json`.
        base_name: hub id or name of the base model, for `adapter_config.json`.
        base_folder: its files; a whole model gets copies of all but the weights, to be complete.
    """
    out = Path(out)
    refuse_foreign(out)
    with new_folder(out) as work:
        if hasattr(model, "peft_config"):
            model.peft_config["default"].base_model_name_or_path = base_name
            model.peft_config["default"].inference_mode = True
            model.save_pretrained(work, save_embedding_layers=False)  # else peft asks a hub for the base's config
            model.peft_config["default"].inference_mode = False
            (work / "README.md").unlink(missing_ok=True)  # peft's empty template
            if hasattr(model, "start"):
                _without_start(work, model.start)
        else:
            _say_if_untied(model)
            model.save_pretrained(work)
            for path in base_folder.iterdir():
                if path.suffix in (".json", ".txt") and not _is_of_weights(path) and not (work / path.name).exists():
                    shutil.copy(path, work)
        card = {"speechft": __version__} | card
        (work / CARD).write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return out


def _say_if_untied(model: Any) -> None:
    """Else the output layer would be replaced by the embeddings when the model is loaded."""
    head, words = model.get_output_embeddings(), model.get_input_embeddings()
    if head is not None and head.weight is not words.weight:
        model.config.tie_word_embeddings = False


def _is_of_weights(path: Path) -> bool:
    """Whether a file describes only the weights of its own folder: shards, an adapter, measurements."""
    return path.name.endswith(".index.json") or path.name in (CONFIG, "export_check.json")


def _without_start(folder: Path, start: dict[str, torch.Tensor]) -> None:
    """Make a saved PiSSA adapter one for the weights as they were before it took its start out of them.

    What it adds to those is B A - B0 A0: LoRA again, of twice the rank.
    """
    path, config_path = folder / "adapter_model.safetensors", folder / "adapter_config.json"
    state, config = load_file(path), json.loads(config_path.read_text(encoding="utf-8"))
    first = {name.replace(".default.", "."): value for name, value in start.items()}
    both = {
        name: torch.cat([value, first[name]]) if ".lora_A." in name else torch.cat([value, -first[name]], dim=1)
        for name, value in state.items()
    }
    save_file(both, path)
    growth = 2**0.5 if config["use_rslora"] else 2
    config |= {"r": 2 * config["r"], "lora_alpha": growth * config["lora_alpha"], "init_lora_weights": True}
    config_path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def refuse_foreign(folder: Path) -> None:
    """Raises SpeechftError where a folder holds something else than what `save` writes, which it would replace."""
    if folder.exists() and not (folder / CARD).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise SpeechftError(f"was not made by speechft: it has no {CARD}", where=folder, fix="Choose another folder.")


def load(model: Any, folder: str | Path, base_folder: Path | None = None) -> Any:
    """Put a saved adapter on a model.

    Args:
        model: the base, without adapters.
        folder: a PEFT adapter, ours or another's.
        base_folder: of the base's weights; if given, an adapter of ours made for other weights is refused.

    Raises:
        SpeechftError: not an adapter, damaged, pickled, or for another base model.
    """
    from peft import PeftModel, get_peft_model_state_dict

    import speechft.bottleneck  # noqa: F401 (peft learns of it)

    folder = Path(folder)
    card, config = read_card(folder), read_config(folder)
    if (init := str(config.get("init_lora_weights"))).lower().startswith(FROM_DATA):
        raise SpeechftError(
            f"starts at values ({init}) that its files do not hold",
            where=folder,
            fix="Save it with peft's path_initial_model_for_weight_conversion, which makes plain LoRA of it.",
        )
    if not (folder / "adapter_model.safetensors").is_file():
        raise SpeechftError("has no adapter_model.safetensors", where=folder, fix="Pickled adapters are not read.")
    made_for = card.get("base_sha256")
    if base_folder is not None and made_for and made_for not in hashes_of(base_folder):
        raise SpeechftError(
            f"was trained on '{card.get('model')}', not on these weights",
            where=folder,
            fix=f"Load it with --model {card.get('model')}.",
        )
    try:
        with readable(folder, "It is damaged, or belongs to another model."), _quiet():
            with safe_open(folder / "adapter_model.safetensors", "pt") as file:
                saved = set(file.keys())
            adapted = PeftModel.from_pretrained(model, str(folder), use_safetensors=True).eval()
    except RuntimeError as error:
        raise SpeechftError(
            f"cannot be loaded ({str(error).splitlines()[0][:160]})",
            where=folder,
            fix="It is damaged, or belongs to another model.",
        ) from None
    loaded = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    refuse_non_finite(loaded.values(), folder, "Train it again.")
    lost = saved - loaded.keys() - adapted.state_dict().keys()  # which also has what peft can save of the base itself
    for names, problem in ((loaded.keys() - saved, "does not have"), (lost, "has, but the model has no place for")):
        if names:
            raise SpeechftError(
                f"{problem} {len(names)} tensors, such as '{min(names)}'",
                where=folder,
                fix="It is damaged, or belongs to another model.",
            )
    return adapted


def mergeable(model: Any) -> bool:
    """Whether what a model was given can become part of its weights, so that the result has the layers of the base."""
    config = getattr(model, "peft_config", {}).get("default")
    if config is None:
        return True
    if config.is_prompt_learning or config.peft_type == "BOTTLENECK":
        return False
    if config.peft_type == "BEFT":
        return all(m.get_base_layer().bias is not None for m in model.modules() if hasattr(m, "beft_bias"))
    return True


def merge(model: Any) -> Any:
    """Add the adapter into the weights for good; returns the plain transformers model.

    Raises:
        SpeechftError: the method adds layers or tokens, which no weight can take in.
    """
    if not mergeable(model):
        kind = getattr(model.peft_config["default"].peft_type, "value", model.peft_config["default"].peft_type)
        raise SpeechftError(
            f"an adapter of the kind {kind} cannot be merged into this model",
            fix="Use it as it is, or train one whose row in docs/methods.md says that it merges.",
        )
    return model.merge_and_unload() if hasattr(model, "merge_and_unload") else model


def unload(model: Any) -> Any:
    """Take the adapter off; returns the base model as it was."""
    if not hasattr(model, "peft_config"):
        return model
    if model.peft_config["default"].is_prompt_learning:
        return model.get_base_model()
    if hasattr(model, "start"):  # PiSSA: what it took out of the weights goes back
        load_trainable_state(model, model.start)
        return model.merge_and_unload()
    _refuse_changed_base(model)
    return model.unload()


def _refuse_changed_base(model: Any) -> None:
    if changes_base(vars(model.peft_config["default"])):
        raise SpeechftError(
            "an adapter that took its initial values out of the weights cannot be taken off",
            fix="Load the base model by itself; what speechft trains with init=pissa comes off.",
        )


@contextlib.contextmanager
def disabled(model: Any) -> Iterator[None]:
    """Run the base model without its adapter for a while: the reference of a comparison, at no cost in memory."""
    if hasattr(model, "start"):  # PiSSA: its start is part of the base model
        now = trainable_state(model)
        load_trainable_state(model, model.start)
        try:
            yield
        finally:
            load_trainable_state(model, now)
    elif hasattr(model, "disable_adapter"):
        _refuse_changed_base(model)
        with model.disable_adapter():
            yield
    else:
        yield
