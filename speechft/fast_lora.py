"""LoRA layers in few operations: the same numbers as peft's, computed without its passes over the activations.

peft adds a scaled product of two small matrices to the frozen layer's output: per layer two casts, two products, a
scaling and a sum, each a pass over the activations, and as many backward. Here the second product adds into the output
in place, and the gradient is written out (docs/performance.md has what it saves).
"""

from __future__ import annotations

import types
from typing import Any

import torch
from torch import Tensor, nn


def fuse(model: nn.Module) -> int:
    """Let plain LoRA layers of a `PeftModel` compute this way; the rest stays as it is.

    Left alone: quantised layers, DoRA and other variants, dropout, and a layer while its adapter is merged, switched
    off or one of several.

    Returns:
        how many layers it changed.
    """
    from peft.tuners.lora import Linear

    layers = [m for m in model.modules() if type(m) is Linear and type(m.base_layer) is nn.Linear]
    for layer in layers:
        layer.forward = types.MethodType(_forward, layer)  # type: ignore[method-assign]
    return len(layers)


def _forward(layer: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    active = layer.active_adapters
    name = active[0] if len(active) == 1 else ""
    plain = name in layer.lora_A and isinstance(layer.lora_dropout[name], nn.Identity)
    if not plain or layer.merged or layer.disable_adapters or name in layer.lora_variant or args or kwargs:
        return type(layer).forward(layer, x, *args, **kwargs)
    base = layer.base_layer
    a, b = layer.lora_A[name], layer.lora_B[name]
    if base.weight.requires_grad or a.bias is not None or b.bias is not None:
        return type(layer).forward(layer, x)
    return LoraLinear.apply(x, base.weight, base.bias, a.weight, b.weight, layer.scaling[name])


class LoraLinear(torch.autograd.Function):
    """y = x W' + bias + scale (x A') B', with W and bias frozen (Hu et al., 2021, arXiv 2106.09685, equation 3)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, scale: float) -> Tensor:
        """
        Args:
            x: shape (..., in).
            weight, bias: of the frozen layer, shapes (out, in) and (out).
            a, b: shapes (rank, in) and (out, rank).
        """
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        rows = x.reshape(-1, x.shape[-1]).to(dtype)
        weight, a_cast, b_cast = weight.to(dtype), a.to(dtype), (b * scale).to(dtype)
        low = rows @ a_cast.t()
        y = nn.functional.linear(rows, weight, None if bias is None else bias.to(dtype))
        y.addmm_(low, b_cast.t())
        ctx.save_for_backward(rows, weight, a_cast, b_cast, low)
        ctx.scale, ctx.dtype = scale, x.dtype
        return y.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight, a, b, low = ctx.saved_tensors
        (grad,) = grads
        flat = grad.reshape(-1, grad.shape[-1])
        down = flat @ b
        grad_a = (down.t() @ rows).float()
        grad_b = (flat.t() @ low).float().mul_(ctx.scale)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = (flat @ weight).addmm_(down, a).view(*grad.shape[:-1], -1).to(ctx.dtype)
        return grad_x, None, None, grad_a, grad_b, None
