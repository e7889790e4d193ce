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
from safetensors.torch import save_file

from speechft.adapter_files import (
    CARD,
    CONFIG,
    FROM_DATA,
    WEIGHTS,
    base_of,
    changes_base,
    is_plain_lora,
    is_whole_model,
    loftq_kind,
    own_card,
    read_card,
    read_config,
    read_object,
    refuse_loftq,
    refuse_other_base,
    task_of,
)  # fmt: skip
from speechft.adapter_places import placed_config
from speechft.config import AdapterSettings
from speechft.errors import SpeechftError, readable
from speechft.files import holds_something, new_folder
from speechft.lora_sums import lora_parts, lora_tensors, refuse_overflow, side_by_side
from speechft.merging import disabled, merge, mergeable, unload
from speechft.peft_methods import is_placed, peft_config, refuse_beyond_encoder
from speechft.precision import refuse_non_finite
from speechft.quantization import start_from_loss
from speechft.trainable_weights import load_trainable_state, store_frozen, trainable, trainable_state
from speechft.version import __version__
from speechft.weights_hash import base_hash, hashes_of

__all__ = [  # all that callers need for adapters, wherever it is written
    "CARD", "CONFIG", "VOICE_LICENCE", "attach", "base_hash", "base_of", "changes_base", "disabled", "hashes_of",
    "is_plain_lora", "is_whole_model", "load", "load_trainable_state", "loftq_kind", "merge", "mergeable", "own_card",
    "read_card", "read_config", "read_object", "refuse_foreign", "refuse_loftq", "save", "store_frozen", "task_of",
    "trainable", "trainable_state", "unload",
]  # fmt: skip

VOICE_LICENCE = "not stated; made from a person's recordings, so ask that person before you share it"


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

    refuse_beyond_encoder(model, encoder_from)
    if method == "full":
        whole = not getattr(model.config, "is_encoder_decoder", False)  # it has one place only
        for name, parameter in model.named_parameters():
            sinusoids = "encoder.embed_positions" in name  # Whisper's: not weights, by definition
            parameter.requires_grad_(not sinusoids and (whole or is_placed(name, placement, encoder_from)))
        return model
    model.requires_grad_(False)
    settings = AdapterSettings.model_construct(  # unchecked: it may be meant for another model than a recipe's
        method=method, rank=rank, alpha=alpha, dropout=dropout, placement=placement, encoder_from=encoder_from,
        projections=projections or ["q_proj", "v_proj"], rslora=rslora, dora=dora, init=init,
        virtual_tokens=virtual_tokens,
    )  # fmt: skip
    with _quiet():
        config = peft_config(model, settings)
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
    config_path = folder / CONFIG
    state, config = lora_tensors(folder), json.loads(config_path.read_text(encoding="utf-8"))
    first = {name.replace(".default.", "."): value for name, value in start.items()}
    save_file(side_by_side([state, first], [1, -1]), folder / WEIGHTS)
    growth = 2**0.5 if config["use_rslora"] else 2
    config |= {"r": 2 * config["r"], "lora_alpha": growth * config["lora_alpha"], "init_lora_weights": True}
    config_path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def refuse_foreign(folder: Path) -> None:
    """Raises SpeechftError where a folder holds something else than what `save` writes, which it would replace."""
    if not (folder / CARD).is_file() and holds_something(folder):
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
    if not (folder / WEIGHTS).is_file():
        raise SpeechftError(f"has no {WEIGHTS}", where=folder, fix="Pickled adapters are not read.")
    if base_folder is not None:
        refuse_other_base(card, hashes_of(base_folder), folder)
    try:
        with readable(folder, "It is damaged, or belongs to another model."), _quiet():
            with safe_open(folder / WEIGHTS, "pt") as file:
                saved = set(file.keys())
            # no memory for what the file does not hold, unless initial values are needed, or weights that are tied: a
            # file with embeddings has the base's too, which would replace one of two that are the same
            own = changes_base(config) or any("embed" in name or ".base_layer." in name for name in saved)
            adapted = PeftModel.from_pretrained(
                model, str(folder), config=placed_config(folder, model, saved), use_safetensors=True,
                low_cpu_mem_usage=not own, torch_device=str(model.device),
            ).eval()  # fmt: skip
    except RuntimeError as error:
        raise SpeechftError(
            f"cannot be loaded ({str(error).splitlines()[0][:160]})",
            where=folder,
            fix="It is damaged, or belongs to another model.",
        ) from None
    loaded = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    lost = saved - loaded.keys() - adapted.state_dict().keys()  # which also has what peft can save of the base itself
    for names, problem in ((loaded.keys() - saved, "does not have"), (lost, "has, but the model has no place for")):
        if names:
            raise SpeechftError(
                f"{problem} {len(names)} tensors, such as '{min(names)}'",
                where=folder,
                fix="It is damaged, or belongs to another model.",
            )
    refuse_non_finite(loaded.values(), folder, "Train it again.")
    refuse_overflow(lora_parts(adapted), folder)
    return adapted
