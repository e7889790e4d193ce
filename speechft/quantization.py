"""Frozen weights in 4 or 8 bits (QLoRA), optimisers whose moments take 8, and what merging into such weights costs.

docs/quantization.md explains the number formats. bitsandbytes does the work, on CPUs too.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn

from speechft.config import Optimizer, Quantization
from speechft.errors import SpeechftError
from speechft.precision import inference_dtype

# On import, bitsandbytes tries to fetch a kernel from a hub and logs that it could not: no news to anybody here.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

KINDS, OPTIMIZERS = get_args(Quantization), get_args(Optimizer)


def quantization(kind: str | None, device: torch.device, compute: torch.dtype) -> dict[str, Any]:
    """Arguments for `from_pretrained` that load the frozen weights quantised by bitsandbytes.

    Args:
        kind: None; `nf4` (4-bit NormalFloat in blocks of 64, their scales quantised again: QLoRA, Dettmers et al.,
            2023, arXiv 2305.14314); `nf4-single` (the scales stay fp32); `fp4` (4-bit floats, scales quantised again);
            `int8` (LLM.int8(), Dettmers et al., 2022, arXiv 2208.07339).
        device: where the weights go; both CPU and CUDA work.
        compute: dtype of the matrix products; where fp32 is asked for, what the machine multiplies fastest.

    Raises:
        SpeechftError: no such kind, or bitsandbytes is not there.
    """
    if kind is None:
        return {}
    if kind not in KINDS:
        raise SpeechftError(f"unknown quantisation '{kind}'", fix=f"Use one of {', '.join(KINDS)}, or none.")
    _bitsandbytes()
    from transformers import BitsAndBytesConfig

    if kind == "int8":
        settings = BitsAndBytesConfig(load_in_8bit=True)
    else:
        settings = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=kind.split("-")[0],
            bnb_4bit_use_double_quant=kind != "nf4-single",
            bnb_4bit_compute_dtype=inference_dtype(device) if compute == torch.float32 else compute,
        )
    return {"quantization_config": settings, "device_map": {"": device}}


def keep_differentiable(model: nn.Module) -> None:
    """Stop bitsandbytes from repacking 4-bit weights at the first inference on a CPU: that layout has no backward."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]


def optimizer(kind: str, parameters: Iterable[nn.Parameter], rate: float, weight_decay: float = 0.0) -> Any:
    """AdamW, with its moments in fp32 or in blocks of 8 bits (Dettmers et al., 2021, arXiv 2110.02861).

    Args:
        kind: `adamw`; `adamw-8bit`; `adamw-paged` and `adamw-paged-8bit`, whose moments the GPU pages to main memory
            when its own is short.
        parameters: what is trained.
        rate: learning rate.
        weight_decay: AdamW's.

    Raises:
        SpeechftError: no such optimiser, or a paged one without a GPU.
    """
    parameters = list(parameters)
    if kind not in OPTIMIZERS:
        raise SpeechftError(f"unknown optimiser '{kind}'", fix=f"Use one of {', '.join(OPTIMIZERS)}.")
    if kind == "adamw":
        return torch.optim.AdamW(parameters, rate, weight_decay=weight_decay, fused=True)
    on = {p.device.type for p in parameters}
    if "paged" in kind and on != {"cuda"}:
        raise SpeechftError(
            "a paged optimiser moves its state between GPU and main memory, but there is no GPU",
            fix="Use optimizer=adamw-8bit, or adamw.",
        )
    library = _bitsandbytes().optim
    kinds = {
        "adamw-8bit": library.AdamW8bit,
        "adamw-paged": library.PagedAdamW,
        "adamw-paged-8bit": library.PagedAdamW8bit,
    }
    return kinds[kind](parameters, lr=rate, weight_decay=weight_decay)


@dataclass(frozen=True)
class Size:
    """What a model takes, with what of it is trained.

    Attributes:
        trainable, parameters: numbers trained, and in the whole model (a 4-bit weight counts as one).
        trainable_mb, weights_mb: of memory they take.
    """

    trainable: int
    parameters: int
    trainable_mb: float
    weights_mb: float

    @property
    def share(self) -> float:
        """Of the numbers, those that are trained."""
        return self.trainable / max(1, self.parameters)


def size(model: nn.Module) -> Size:
    """Count a model's numbers and bytes, quantised or not."""
    counts = [(p, p.numel() * (2 if type(p).__name__ == "Params4bit" else 1)) for p in model.parameters()]
    tensors = [*model.parameters(), *model.buffers()]
    stored = [(t, t.numel() * t.element_size() / 1e6) for t in [*tensors, *_block_scales(model)]]
    return Size(
        sum(n for p, n in counts if p.requires_grad),
        sum(n for _, n in counts),
        round(sum(mb for p, mb in stored if p.requires_grad), 3),
        round(sum(mb for _, mb in stored), 3),
    )


def _block_scales(model: nn.Module) -> list[Tensor]:
    """What quantised weights keep beside their bits: the scale of each block, or of each row."""
    found: list[Tensor] = []
    for module in model.modules():
        weight = getattr(module, "weight", None)
        state, rows = getattr(weight, "quant_state", None), getattr(weight, "SCB", None)
        while state is not None:
            found += [t for t in (state.absmax, state.code, state.offset) if isinstance(t, Tensor)]
            state = state.state2
        if isinstance(rows, Tensor):
            found.append(rows)
    return found


@dataclass(frozen=True)
class MergeError:
    """What rounding to the base's number format took from a merged adapter.

    Attributes:
        layers: that the adapter changes.
        of_weights: Frobenius norm of the error by that of the exact sum of weights and adapter, over all layers.
        of_adapter: the same by the norm of what the adapter adds; above 1, more is lost than was added.
    """

    layers: int
    of_weights: float
    of_adapter: float


def merge_quantized(model: Any) -> tuple[Any, MergeError]:
    """Merge a LoRA adapter into a quantised base, and measure what was lost.

    Each layer is unpacked, the adapter added, and the sum rounded again.

    Returns:
        the merged model, still quantised, and the error.

    Raises:
        SpeechftError: no LoRA adapter, or whole weights.
    """
    from peft.tuners.lora import LoraLayer

    layers = {name: m for name, m in model.named_modules() if isinstance(m, LoraLayer)}
    if not layers or not all(hasattr(m.get_base_layer().weight, "quant_state") or _is_int8(m) for m in layers.values()):
        raise SpeechftError("is not a LoRA adapter on quantised weights", where="model", fix="Use `adapters.merge`.")
    lost = exact = added = 0.0
    for layer in layers.values():
        adapted: Any = layer
        name = adapted.active_adapters[0]
        before = unpacked(layer.get_base_layer())
        delta = adapted.get_delta_weight(name).detach().float()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # peft warns of the rounding that is measured here
            layer.merge()
        wanted = before + delta
        lost += float((unpacked(layer.get_base_layer()) - wanted).square().sum())
        exact += float(wanted.square().sum())
        added += float(delta.square().sum())
    keep_differentiable(model)
    error = MergeError(len(layers), (lost / exact) ** 0.5, (lost / added) ** 0.5 if added else 0.0)
    return model.merge_and_unload(), error


@torch.no_grad()
def start_from_loss(model: Any, folder: Path) -> None:
    """LoftQ: start LoRA at the best low-rank approximation of what 4-bit weights lost (Li et al., 2023, arXiv
    2310.08659, one step of their alternation: the weights stay as they are, so that adapters can share them).

    Args:
        model: from `adapters.attach` on a quantised model.
        folder: of the whole weights, in safetensors.
    """
    from peft.tuners.lora import Linear4bit
    from safetensors import safe_open

    files = [safe_open(path, "pt") for path in sorted(folder.glob("*.safetensors"))]
    places = {name.removeprefix("model."): (file, name) for file in files for name in file.keys()}  # noqa: SIM118
    for name, layer in model.named_modules():
        if isinstance(layer, Linear4bit):
            file, key = places[name.removeprefix("base_model.model.").removeprefix("model.") + ".weight"]
            a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
            lost = file.get_tensor(key).to(a.device, torch.float32) - unpacked(layer.get_base_layer())
            u, s, v = torch.linalg.svd(lost / layer.scaling["default"], full_matrices=False)
            root = s[: len(a)].sqrt()
            a.copy_(root[:, None] * v[: len(a)])
            b.copy_(u[:, : len(a)] * root)


def unpacked(layer: Any) -> Tensor:
    """The weights that a quantised layer stands for, fp32, shape (out, in)."""
    from peft.utils.integrations import dequantize_bnb_weight

    state = getattr(layer, "state", None)
    return dequantize_bnb_weight(layer.weight, state=state).detach().float().clone()


def _is_int8(layer: Any) -> bool:
    return type(layer.get_base_layer()).__name__ == "Linear8bitLt"


def _bitsandbytes() -> Any:
    try:
        import bitsandbytes
    except ImportError:
        raise SpeechftError(
            "bitsandbytes is not installed", fix="There are wheels for x86-64 and ARM: pip install bitsandbytes."
        ) from None
    return bitsandbytes
