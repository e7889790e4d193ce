"""The described form of a result is that of real results, and the description on disk is of this version."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from speechft.config import SpeechRecipe
from speechft.manifest import Manifest
from speechft.pipeline import evaluate, train
from speechft.result_schema import FORMAT, EvaluationResult, TrainingResult, schema

ROOT = Path(__file__).parents[1]


def test_the_description_on_disk_is_of_this_version() -> None:
    on_disk = json.loads((ROOT / "docs" / "result.schema.json").read_text(encoding="utf-8"))
    assert on_disk == schema(), "python -m speechft.result_schema > docs/result.schema.json"
    assert f"format {FORMAT}" in on_disk["title"]


def test_a_result_file_is_what_the_description_says(voice: Manifest, tmp_path: Path) -> None:
    train(SpeechRecipe(manifest=voice.path, output_dir=tmp_path, max_steps=1, min_steps=0, dev_clips=1, batch_size=2))
    result = json.loads((tmp_path / "result.json").read_text(encoding="utf-8"))
    TrainingResult.model_validate(result)
    assert len(result["adapter_sha256"] or "0" * 64) == 64
    for key in (key for key, field in TrainingResult.model_fields.items() if field.is_required()):
        with pytest.raises(ValidationError, match=key):
            TrainingResult.model_validate({k: v for k, v in result.items() if k != key})
    evaluate(voice[:2], out=tmp_path / "test")
    EvaluationResult.model_validate_json((tmp_path / "test" / "result.json").read_text(encoding="utf-8"))
