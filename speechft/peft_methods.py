"""Which weights a method trains: each as peft's configuration of it, and what some need beyond that.

`adapters.attach` is the door; docs/methods.md says which method works with which model.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, get_args

import torch
from torch import Tensor, nn

from speechft.config import AdapterSettings, Initialisation, Method, Placement
from speechft.errors import SpeechftError

METHODS, INITS, PLACEMENTS = get_args(Method), get_args(Initialisation), get_args(Placement)
TEXT_ONLY = ("prompt", "prefix")
# last names of layers in Whisper and in Llama-like models
ATTENTION_ENDS, FEED_FORWARD_ENDS = ["out_proj", "o_proj"], ["fc2", "down_proj"]
KEYS_AND_VALUES = ["k_proj", "v_proj"]
# Mamba's kernels take this layer's weights and would pass an adapter by; peft refuses it in these models
READ_BY_KERNELS, MAMBAS = "out_proj", ("falcon_h1", "mamba", "mamba2", "falcon_mamba", "nemotron_h")
ADALORA_WARMUP, ADALORA_FINAL = 0.1, 0.3  # shares of the steps before ranks are taken away, and after
ORTHOGONALITY = 0.1  # weight of AdaLoRA's regularisation


def is_linear(module: nn.Module) -> bool:
    """Whether a layer multiplies by a matrix: torch's, or GPT-2's `Conv1D`, which keeps it the other way round."""
    return isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"


def block_projections(model: Any) -> list[str]:
    """Last names of the linear layers in the numbered blocks of a model, in its order; its head is not among them."""
    names = [name for name, module in model.named_modules() if is_linear(module) and re.search(r"\.\d+\.", name)]
    found = dict.fromkeys(name.rsplit(".", 1)[-1] for name in names)
    if model.config.model_type in MAMBAS:
        found.pop(READ_BY_KERNELS, None)
    return list(found)


def target_pattern(
    model: nn.Module,
    placement: str,
    projections: list[str],
    encoder_from: int = 0,
    wanted: Callable[[nn.Module], bool] = is_linear,
) -> str:
    """The regular expression of module names that get an adapter.

    A plain list such as q_proj, v_proj would match the encoder and both of Whisper's decoder attentions, whatever
    was meant; so names are spelt out. Models without an encoder have one place only.

    Raises:
        SpeechftError: nothing matches; the message lists the names there are.
    """
    if placement not in PLACEMENTS:
        raise SpeechftError(f"unknown placement '{placement}'", fix=f"Use one of {', '.join(PLACEMENTS)}.")
    lower = "|".join(map(str, range(encoder_from)))
    skip = rf"(?!.*encoder\.layers\.(?:{lower})\.)" if encoder_from else ""
    side = "" if placement == "both" else rf"{placement}\."
    pattern = rf"{skip}.*{side}.*\.({'|'.join(map(re.escape, projections))})"
    names = [name for name, module in model.named_modules() if wanted(module)]
    if not any(re.fullmatch(pattern, name) for name in names):
        present = sorted({name.rsplit(".", 1)[-1] for name in names})
        raise SpeechftError(
            f"no layer in '{placement}' is called {' or '.join(projections)}",
            fix=f"This model's layers are called {', '.join(present)}.",
        )
    return pattern


def refuse_beyond_encoder(model: Any, encoder_from: int) -> None:
    """Raises SpeechftError where adapters would start at an encoder layer that a model does not have."""
    layers = getattr(model.config, "encoder_layers", None) or 0
    if layers and encoder_from > layers:
        raise SpeechftError(
            f"encoder_from={encoder_from}, but the model's encoder has {layers} layers",
            fix="Give a smaller number, or placement=decoder for no adapter in the encoder.",
        )


def is_placed(name: str, placement: str, encoder_from: int = 0) -> bool:
    """Whether full fine-tuning trains a parameter of an encoder-decoder model, by its name.

    What comes before an encoder layer is frozen with the layers below it, and an output layer belongs to the decoder.
    """
    if "encoder." not in name:
        return placement != "encoder"
    layer = re.search(r"encoder\.layers\.(\d+)\.", name)
    before = re.search(r"encoder\.(conv\d|embed_)", name)
    number = int(layer[1]) if layer else 0 if before else encoder_from
    return placement != "decoder" and number >= encoder_from


def peft_config(model: Any, settings: AdapterSettings) -> Any:
    """peft's configuration of a method for a model.

    Args:
        settings: as of a recipe; `quantize` and `licence` say nothing here.

    Raises:
        SpeechftError: no such method, or not for this model.
    """
    method = settings.method
    if method not in METHODS or method == "full":
        raise SpeechftError(f"unknown method '{method}'", fix=f"Use one of {', '.join(METHODS)}.")
    if method in TEXT_ONLY:
        return _prompt_config(model, settings)
    if method == "lora":
        return _lora_config(model, settings)
    if method in ("adalora", "vera"):
        return _low_rank_config(model, settings)
    if method in ("oft", "boft"):
        return _rotation_config(model, settings)
    if method in ("houlsby", "pfeiffer"):
        return _bottleneck_config(model, settings)
    return _vector_config(model, settings)


def _prompt_config(model: Any, settings: AdapterSettings) -> Any:
    """Prompt and prefix tuning: tokens that nobody wrote, before the text."""
    import peft

    if getattr(model.config, "is_encoder_decoder", False) or not hasattr(model, "prepare_inputs_for_generation"):
        raise SpeechftError(
            f"{settings.method} tuning needs a causal language model", fix="Use another adapter.method, such as lora."
        )
    kind = peft.PromptTuningConfig if settings.method == "prompt" else peft.PrefixTuningConfig
    return kind(task_type="CAUSAL_LM", num_virtual_tokens=settings.virtual_tokens)


def _lora_config(model: Any, settings: AdapterSettings) -> Any:
    import peft

    if settings.init == "pissa" and settings.dora:
        raise SpeechftError("PiSSA and DoRA cannot be combined", fix="Use one of the two.")
    pattern = target_pattern(model, settings.placement, settings.projections, settings.encoder_from)
    if settings.init != "zero":
        _refuse_large_rank(model, pattern, settings.rank, settings.init)
    return peft.LoraConfig(
        r=settings.rank, lora_alpha=_alpha(settings), lora_dropout=settings.dropout, use_rslora=settings.rslora,
        use_dora=settings.dora, target_modules=pattern, **_initialisation(model, settings.init),
        # no task_type: SEQ_2_SEQ_LM makes peft ask Whisper for input_ids it does not have
    )  # fmt: skip


def _low_rank_config(model: Any, settings: AdapterSettings) -> Any:
    """AdaLoRA and VeRA."""
    import peft

    targets = _targets(model, settings, settings.projections, is_linear)
    if settings.method == "vera":
        return peft.VeraConfig(r=settings.rank, vera_dropout=settings.dropout, target_modules=targets)
    return peft.AdaLoraConfig(
        target_r=settings.rank, init_r=math.ceil(1.5 * settings.rank), lora_alpha=_alpha(settings),
        lora_dropout=settings.dropout, total_step=1 << 30, target_modules=targets,
        orth_reg_weight=0.0,  # `RankSchedule` adds it: peft's own is in a forward pass that we do not call
    )  # fmt: skip


def _rotation_config(model: Any, settings: AdapterSettings) -> Any:
    """OFT and BOFT: their blocks divide the width of every layer."""
    import peft

    size = _block(model, settings.projections, settings.rank)
    targets = _targets(model, settings, settings.projections)
    if settings.method == "oft":
        return peft.OFTConfig(r=0, oft_block_size=size, module_dropout=settings.dropout, target_modules=targets)
    return peft.BOFTConfig(boft_block_size=size, boft_dropout=settings.dropout, target_modules=targets)


def _bottleneck_config(model: Any, settings: AdapterSettings) -> Any:
    """Houlsby's after attention and feed-forward network, Pfeiffer's after the latter."""
    from speechft.bottleneck import BottleneckConfig

    ends = FEED_FORWARD_ENDS if settings.method == "pfeiffer" else ATTENTION_ENDS + FEED_FORWARD_ENDS
    return BottleneckConfig(target_modules=_targets(model, settings, ends), size=settings.rank)


def _vector_config(model: Any, settings: AdapterSettings) -> Any:
    """(IA)3's factors, and biases or norms that are there already."""
    import peft

    if settings.method == "ia3":
        targets = _targets(model, settings, KEYS_AND_VALUES + FEED_FORWARD_ENDS)
        return peft.IA3Config(target_modules=targets, feedforward_modules=_targets(model, settings, FEED_FORWARD_ENDS))
    if settings.method == "bitfit":
        biased = [name for name in settings.projections if _all_biased(model, name)]
        return peft.BeftConfig(target_modules=_targets(model, settings, biased or settings.projections))
    norms = [name.rsplit(".", 1)[-1] for name, module in model.named_modules() if _is_norm(module)]
    return peft.LNTuningConfig(target_modules=_targets(model, settings, sorted(set(norms)), _is_norm))


def _alpha(settings: AdapterSettings) -> Any:
    return settings.alpha if settings.alpha is not None else 2 * settings.rank


def _targets(
    model: nn.Module,
    settings: AdapterSettings,
    names: list[str],
    wanted: Callable[[nn.Module], bool] = lambda module: isinstance(module, nn.Linear),
) -> str:
    """`target_pattern` of those of the names that the model has."""
    kinds: dict[str, type] = {name.rsplit(".", 1)[-1]: type(m) for name, m in model.named_modules() if is_linear(m)}
    present = {name.rsplit(".", 1)[-1] for name, module in model.named_modules() if wanted(module)}
    if not present.intersection(names) and (unknown := [kinds[name] for name in names if name in kinds]):
        what = f"{settings.method} has no place in layers of the kind {unknown[0].__name__}"
        raise SpeechftError(what, fix="Use adapter.method=lora.")
    found = [name for name in names if name in present] or names
    return target_pattern(model, settings.placement, found, settings.encoder_from, wanted)


def has_reference(method: str, init: str = "zero") -> bool:
    """Whether peft can switch the adapter off and leave the model before training: what preference losses need."""
    return method not in ("full", *TEXT_ONLY) and init != "pissa"


def _refuse_large_rank(model: nn.Module, pattern: str, rank: int, init: str) -> None:
    """A layer's weights, and what it is fed, have no more directions than its smaller side is long."""
    for name, layer in model.named_modules():
        if is_linear(layer) and re.fullmatch(pattern, name):
            sides = (layer.in_features, layer.out_features) if isinstance(layer, nn.Linear) else layer.weight.shape
            most = min(sides)
            if rank > most:
                raise SpeechftError(
                    f"init={init} can start at most {most} directions of {name}, and adapter.rank is {rank}",
                    fix=f"Set adapter.rank={most} or less, or init=zero.",
                )


def _initialisation(model: Any, init: str) -> dict[str, Any]:
    import peft

    quantised = getattr(model, "is_quantized", False)
    if init not in INITS:
        raise SpeechftError(f"unknown initialisation '{init}'", fix=f"Use one of {', '.join(INITS)}.")
    if init == "pissa" and quantised:
        raise SpeechftError(
            "PiSSA changes the frozen weights, which cannot be quantised", fix="Use adapter.init=loftq."
        )
    if init == "loftq" and not getattr(model, "is_loaded_in_4bit", False):
        raise SpeechftError(
            "LoftQ makes up for what 4-bit weights lose", fix="Set adapter.quantize=nf4 or fp4 with it."
        )
    if init == "pissa":
        return {"init_lora_weights": "pissa_niter_16"}
    if init == "eva":
        return {"init_lora_weights": "eva", "eva_config": peft.EvaConfig(rho=1.0, adjust_scaling_factors=False)}
    return {}


def _is_norm(module: nn.Module) -> bool:
    return type(module).__name__.endswith("Norm")


def _all_biased(model: nn.Module, name: str) -> bool:
    layers = [m for n, m in model.named_modules() if n.rsplit(".", 1)[-1] == name and isinstance(m, nn.Linear)]
    return bool(layers) and all(layer.bias is not None for layer in layers)


def _block(model: nn.Module, projections: list[str], most: int) -> int:
    """Largest block size up to `most` that divides the width of every layer's input."""
    layers = [m for n, m in model.named_modules() if n.rsplit(".", 1)[-1] in projections and isinstance(m, nn.Linear)]
    common = math.gcd(*(layer.in_features for layer in layers)) or most
    return max(size for size in range(1, most + 1) if common % size == 0)


def attach_rank_schedule(model: Any, optimizer: torch.optim.Optimizer, steps: int) -> RankSchedule | None:
    """Let AdaLoRA see each step of an optimiser; None, and nothing to do, for other methods.

    Args:
        model: from `adapters.attach`.
        optimizer: of the model's trainable parameters.
        steps: it is going to make.
    """
    config = getattr(model, "peft_config", {}).get("default")
    if getattr(config, "peft_type", None) != "ADALORA":
        return None
    schedule = RankSchedule(model, steps)
    optimizer.register_step_pre_hook(lambda *_: schedule.regularise())
    optimizer.register_step_post_hook(lambda *_: schedule.allocate())
    return schedule


class RankSchedule:
    """AdaLoRA's course (Zhang et al., 2023, arXiv 2303.10512): ranks go from where they matter least.

    It hangs on the optimiser, not on the model's forward pass, so every training loop of ours gets it, whatever
    parts of the model that loop calls.

    Attributes:
        done: optimiser steps made.
        kept: for each layer, which of its directions are left; None before the last ones are chosen.
    """

    def __init__(self, model: Any, steps: int) -> None:
        self.tuner, self.config, self.steps = model.base_model, model.peft_config["default"], steps
        self.config.total_step = steps
        self.config.tinit, self.config.tfinal = int(ADALORA_WARMUP * steps), int(ADALORA_FINAL * steps)
        self.config.deltaT = max(1, steps // 50)
        self.done = 0
        self.kept: dict[str, list[bool]] | None = None

    def regularise(self) -> None:
        """Add the gradient of the mean of |A A' - 1| and |B' B - 1|, which keeps the directions apart."""
        terms = []
        with torch.enable_grad():
            for name, p in self.tuner.named_parameters():
                if p.requires_grad and (".lora_A." in name or ".lora_B." in name):
                    gram = p @ p.T if ".lora_A." in name else p.T @ p
                    terms.append(torch.linalg.matrix_norm(gram - torch.eye(len(gram), device=p.device)))
            (ORTHOGONALITY * torch.stack(terms).mean()).backward()

    def allocate(self) -> None:
        """Rate every direction by what the loss would lose with it, and take away those that matter least."""
        self.done += 1
        if self.steps < 4:
            return  # too few to rate anything
        # peft cuts the matrices when it saves a config with a pattern, and a run could not go on from them
        self.config.rank_pattern = self.kept
        self.tuner.update_and_allocate(self.done)
        self.kept, self.config.rank_pattern = self.config.rank_pattern, None

    def state(self) -> dict[str, Tensor]:
        """What a run that goes on needs besides the weights."""
        allocator = self.tuner.rankallocator
        tensors = {"done": torch.tensor(self.done)}
        for kind in ("ipt", "exp_avg_ipt", "exp_avg_unc"):
            tensors |= {f"{kind}/{name}": value.cpu() for name, value in getattr(allocator, kind).items()}
        return tensors | {f"kept/{name}": torch.tensor(mask) for name, mask in (self.kept or {}).items()}

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Go on from `state`."""
        device = next(self.tuner.parameters()).device
        self.done = int(tensors["done"])
        groups: dict[str, dict[str, Tensor]] = {"ipt": {}, "exp_avg_ipt": {}, "exp_avg_unc": {}, "kept": {}}
        for key, value in tensors.items():
            kind, _, name = key.partition("/")
            if name:
                groups[kind][name] = value
        self.kept = {name: mask.tolist() for name, mask in groups.pop("kept").items()} or None
        for kind, values in groups.items():
            setattr(self.tuner.rankallocator, kind, {name: value.to(device) for name, value in values.items()})
