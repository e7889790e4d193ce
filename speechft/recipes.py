"""Recipes of all kinds, speech and text: from YAML and key=value overrides to settings that have been checked."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from speechft.config import SpeechRecipe
from speechft.errors import SpeechftError, is_utf8
from speechft.files import read_text
from speechft.marks import places
from speechft.strict_yaml import parsed
from speechft.text.config import TEXT_RECIPES, TextRecipe
from speechft.validation import SHORT, validated

Recipe = SpeechRecipe | TextRecipe
RECIPES: dict[str, type[Recipe]] = {"speech": SpeechRecipe, **TEXT_RECIPES}


def load_recipe(path: str | Path | None, overrides: list[str] | None = None) -> Any:
    """Read a recipe and apply `key=value` overrides, dotted for groups: `adapter.rank=16`.

    Paths in the file are relative to the file; paths in overrides to the working directory.

    Args:
        path: YAML; None starts from the defaults of a speech recipe.
        overrides: values are YAML too: numbers, true, null, [a, b].

    Raises:
        SpeechftError: no such file, not YAML, an unknown key (the nearest known one is named) or a wrong value.
    """
    values: dict[str, Any] = {}
    if path is not None:
        path = Path(path)
        if path.exists() and not path.is_file():
            raise SpeechftError("is not a file", where=path, fix="Give a recipe such as recipes/personal_voice.yaml.")
        try:
            values = parsed(read_text(path)) or {}
        except FileNotFoundError:
            raise SpeechftError(
                "does not exist", where=path, fix="Give a recipe such as recipes/personal_voice.yaml."
            ) from None
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            what = f"is not readable as YAML ({str(error).splitlines()[0]})"
            raise SpeechftError(what, where=path, fix="Write it as 'key: value' lines, in UTF-8.") from None
        if not isinstance(values, dict):
            raise SpeechftError("is not a recipe", where=path, fix="A recipe is a list of 'key: value' lines.")
        known = {key: place for kind in RECIPES.values() for key, place in places(kind).items()}
        for key, place in known.items():
            if isinstance(values.get(key), str):
                values[key] = place.moved(values[key], path.parent.joinpath)
    override(values, overrides or [])
    if odd := next((value for value in values.values() if isinstance(value, str) and not is_utf8(value)), None):
        raise SpeechftError("has a name that is not UTF-8", where=odd, fix="Rename it.")
    kind = values.get("task", "speech")
    if not isinstance(kind, str) or kind not in RECIPES:
        raise SpeechftError(f"unknown task {SHORT.repr(kind)}", where=path, fix=f"Known tasks: {', '.join(RECIPES)}.")
    return validated(RECIPES[kind], values, path)


def override(values: dict[str, Any], overrides: Iterable[str]) -> None:
    """Put the values of `key=value` texts into settings, in place.

    Raises:
        SpeechftError: a text of another form, or a value that is not YAML.
    """
    for text in overrides:
        key, sign, value = text.partition("=")
        if not sign or not key.strip():
            raise SpeechftError(f"'{text[:60]}' is not an override", fix="Write key=value, such as epochs=3.")
        if not is_utf8(text):
            raise SpeechftError("has a name that is not UTF-8", where=value, fix="Rename it.")
        try:
            read = parsed(value) if value else None
        except yaml.YAMLError:
            raise SpeechftError(f"'{text[:60]}' has a value that is not YAML", fix="Quote it: key='...'.") from None
        _put(values, key.strip().split("."), read, text)


def _put(values: dict[str, Any], keys: list[str], value: Any, override: str) -> None:
    for key in keys[:-1]:
        inner = values.setdefault(key, {})
        if not isinstance(inner, dict):
            what = f"'{override[:60]}' sets a key of '{key}', which is a value, not a group"
            raise SpeechftError(what, fix=f"Set {key} itself, or leave it out of the recipe.")
        values = inner
    values[keys[-1]] = value
