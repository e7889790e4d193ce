"""What the JSON files of an adapter say, once the fields that we use are what they should be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from speechft import complaints
from speechft.errors import SpeechftError
from speechft.files import read_text


class Fields(BaseModel):
    """Of `speechft.json` and peft's `adapter_config.json`; all others stay as they are."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    model: str = ""
    task: str = ""
    base_sha256: str = ""
    context: str = ""
    language: str | None = None
    normalizer: str = ""
    recipe: dict[str, Any] = {}
    peft_type: str = ""
    base_model_name_or_path: str | None = None
    r: int = 1
    lora_alpha: float = 1.0
    rank_pattern: dict[str, Any] | None = None
    alpha_pattern: dict[str, Any] | None = None


def read_object(path: Path) -> dict[str, Any]:
    """The object in a JSON file of an adapter.

    Raises:
        SpeechftError: it holds none, or a field that we use is of the wrong kind.
    """
    fix = "Copy the adapter again."
    try:
        found = json.loads(read_text(path))
        Fields.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        name = complaints.place(first) or "it"
        raise SpeechftError(f"is damaged ('{name}' {complaints.sentence(first)})", where=path, fix=fix) from None
    except (ValueError, RecursionError):
        raise SpeechftError("is damaged", where=path, fix=fix) from None
    return dict(found)
