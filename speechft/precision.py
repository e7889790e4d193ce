"""In which number format a machine multiplies fastest: bf16 where it has the circuits, else fp32 or fp16."""

from __future__ import annotations

import torch


def inference_dtype(device: torch.device) -> torch.dtype:
    """bf16 where the machine multiplies it natively, else fp32 (fp16 on older GPUs)."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
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
    """The precision accelerate computes in: `no`, `bf16` or `fp16`."""
    if wanted == "auto":
        return {torch.bfloat16: "bf16", torch.float16: "fp16"}.get(inference_dtype(device), "no")
    return "no" if wanted == "fp32" else wanted
