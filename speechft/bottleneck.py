"""Bottleneck adapters: a small two-layer network behind a sublayer, added to what the sublayer gives.

Houlsby et al. (2019, arXiv 1902.00751) put one behind attention and one behind the feed-forward network of each layer;
Pfeiffer et al. (2021, arXiv 2005.00247) only the latter. A sublayer ends in a linear projection, so that is what gets
wrapped. It is written as one more tuner of peft, which brings its life cycle: saving, loading, switching off.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from peft import PeftConfig
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING, PEFT_TYPE_TO_PREFIX_MAPPING, PEFT_TYPE_TO_TUNER_MAPPING
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from torch import Tensor, nn

NAME = "BOTTLENECK"


@dataclass
class BottleneckConfig(PeftConfig):
    """What `adapter_config.json` says of one.

    Attributes:
        target_modules: the linear layers that sublayers end in, as peft takes them.
        size: width of the bottleneck.
        scale: of what is added.
    """

    target_modules: Any = field(default=None)
    exclude_modules: Any = field(default=None)
    size: int = 64
    scale: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = NAME


class BottleneckLayer(nn.Module, BaseTunerLayer):
    """y = W x + scale * up(gelu(down(W x))); `up` is zero at first, so that training starts at the base model."""

    adapter_layer_names = ("bottleneck_down", "bottleneck_up")
    other_param_names = ("scaling",)

    def __init__(self, base_layer: nn.Module, adapter_name: str, config: BottleneckConfig) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.bottleneck_down, self.bottleneck_up = nn.ModuleDict(), nn.ModuleDict()
        self.scaling: dict[str, float] = {}
        self.merged_adapters: list[str] = []
        self._disable_adapters, self._active_adapter = False, adapter_name
        self.update_layer(adapter_name, config)

    def update_layer(self, adapter_name: str, config: BottleneckConfig, **kwargs: Any) -> None:
        width: Any = self.get_base_layer().out_features
        down, up = nn.Linear(width, config.size), nn.Linear(config.size, width)
        nn.init.zeros_(up.weight)
        nn.init.zeros_(up.bias)
        self.bottleneck_down[adapter_name], self.bottleneck_up[adapter_name] = down, up
        self.scaling[adapter_name] = config.scale
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        y = self.base_layer(x, *args, **kwargs)
        if self.disable_adapters:
            return y
        for name in self.active_adapters:
            if name in self.bottleneck_down:
                down, up = self.bottleneck_down[name], self.bottleneck_up[name]
                x = y if torch.is_autocast_enabled(y.device.type) else y.to(down.weight.dtype)
                inner = nn.functional.gelu(down(x))
                y = y + (up(inner) * self.scaling[name]).to(y.dtype)
        return y


class BottleneckModel(BaseTuner):
    """peft's handle on all such layers of a model."""

    prefix = "bottleneck_"
    tuner_layer_cls = BottleneckLayer
    target_module_mapping = {}  # noqa: RUF012 (as peft declares it)

    def _create_and_replace(
        self,
        peft_config: Any,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        if isinstance(target, BottleneckLayer):
            target.update_layer(adapter_name, peft_config)
        else:
            new = BottleneckLayer(target, adapter_name, peft_config)
            if adapter_name not in self.active_adapters:
                new.requires_grad_(False)
            self._replace_module(parent, target_name, new, target)


# peft's own `register_peft_method` takes names of its enumeration only
PEFT_TYPE_TO_CONFIG_MAPPING[NAME] = BottleneckConfig  # type: ignore[index]
PEFT_TYPE_TO_TUNER_MAPPING[NAME] = BottleneckModel  # type: ignore[index]
PEFT_TYPE_TO_PREFIX_MAPPING[NAME] = BottleneckModel.prefix  # type: ignore[index]
