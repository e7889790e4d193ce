"""The device to compute on, in which number format it multiplies fastest (bf16 where it has the circuits, else fp32 or
fp16), and whether weights are numbers at all."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from speechft.errors import SpeechftError


class NoNumbers(SpeechftError):
    """What a model computes is not finite, though its weights are: there is no transcript to speak of."""

    def __init__(self, where: object) -> None:
        what = "computes numbers that are not finite, so that nothing it writes would be speech"
        super().__init__(what, where=where, fix="Train it again with a lower learning rate, or copy it again.")


def default_device() -> torch.device:
    """CUDA, then Apple's GPU, then the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps") if torch.backends.mps.is_available() else torch.device("cpu")


def inference_dtype(device: torch.device) -> torch.dtype:
    """bf16 where the machine multiplies it natively, else fp32 (fp16 on older GPUs)."""
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)  # T4, V100: emulated, and slow
        return torch.bfloat16 if native else torch.float16
    if device.type == "cpu" and has_native_bf16():
        return torch.bfloat16
    return torch.float32


def has_native_bf16() -> bool:
    """Whether this CPU has bf16 dot products (AVX512-BF16 or AMX); emulated ones are a hundred times slower."""
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    names = ("avx512_bf16", "avx512bf16", "amx_bf16", "amx", "bf16", "arm_bf16")
    if capabilities:
        return any(capabilities.get(name) for name in names)
    return any(getattr(torch.cpu, probe, bool)() for probe in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))


def mixed_precision(wanted: str, device: torch.device) -> str:
    """The precision accelerate computes in: `no`, `bf16` or `fp16`.

    Raises:
        SpeechftError: fp16 on a CPU, which accelerate would leave out without a word.
    """
    if wanted == "fp16" and device.type == "cpu":
        raise SpeechftError("precision=fp16 needs a GPU", fix="Use precision=auto.")
    if wanted == "auto":
        return {torch.bfloat16: "bf16", torch.float16: "fp16"}.get(inference_dtype(device), "no")
    return "no" if wanted == "fp32" else wanted


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether tensors of one device hold neither NaN nor infinity.

    A sum is not finite where one of its numbers is not; that is ten times as fast as to ask each, and only where a sum
    is not finite, which can also be because it is too large, are they asked.
    """
    given = [tensor.detach() for tensor in tensors]
    if not given or bool(torch.stack([tensor.sum(dtype=torch.float32) for tensor in given]).isfinite().all()):
        return True
    return all(bool(tensor.isfinite().all()) for tensor in given)


def refuse_non_finite(tensors: Iterable[Tensor], where: object, fix: str) -> None:
    """Raises SpeechftError where weights are not numbers."""
    if not all_finite(tensors):
        raise SpeechftError("holds weights that are not numbers", where=where, fix=fix)
