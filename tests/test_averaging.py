"""Means of weights are what they say, and the model has its own back afterwards."""

from __future__ import annotations

import copy

import pytest
import torch

from speechft import adapters
from speechft.averaging import RunningMean, in_place, mean_with_base
from speechft.whisper import Whisper

LAYER = "model.decoder.layers.1.self_attn.q_proj.weight"


def adapted(tiny: Whisper):
    model = adapters.attach(copy.deepcopy(tiny.model), rank=4)
    for name, parameter in adapters.trainable(model):
        if "lora_B" in name:
            parameter.data.normal_(0, 0.05, generator=torch.Generator().manual_seed(len(name)))
    return model


def merged(model) -> torch.Tensor:
    return adapters.merge(copy.deepcopy(model)).state_dict()[LAYER]


def test_the_mean_with_the_base_lies_half_way_in_the_weights(tiny: Whisper) -> None:
    model = adapted(tiny)
    base, whole = tiny.model.state_dict()[LAYER], merged(model)
    before = adapters.trainable_state(model)
    with in_place(model, mean_with_base(before)):
        torch.testing.assert_close(merged(model), (base + whole) / 2)
    after = adapters.trainable_state(model)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not torch.allclose(base, whole)


def test_the_running_mean_is_of_the_states_it_was_given(tiny: Whisper) -> None:
    model = adapted(tiny)
    parameters = dict(adapters.trainable(model))
    mean = RunningMean(parameters)
    name = next(name for name in parameters if "lora_B" in name)
    states = [parameters[name].detach().clone() + i for i in range(3)]
    for state in states:
        parameters[name].data.copy_(state)
        mean.add()
    torch.testing.assert_close(mean.values[name], torch.stack(states).mean(0))


def test_the_model_has_its_own_weights_back_after_an_error(tiny: Whisper) -> None:
    model = adapted(tiny)
    before = adapters.trainable_state(model)
    with pytest.raises(KeyboardInterrupt), in_place(model, mean_with_base(before)):
        raise KeyboardInterrupt
    after = adapters.trainable_state(model)
    assert all(torch.equal(before[name], after[name]) for name in before)
