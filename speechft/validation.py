"""Values checked against a pydantic class; all mistakes are reported in one error."""

from __future__ import annotations

import difflib
import reprlib
from typing import Any

from pydantic import BaseModel, ValidationError

from speechft import complaints
from speechft.errors import SpeechftError

SHORT = reprlib.Repr()
SHORT.maxlevel = 1  # a few aliases of YAML can stand for gigabytes


def validated(kind: type[BaseModel], values: dict[str, Any], where: object = None) -> Any:
    """An instance of a class, its complaints turned into one error a person can act on."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        lines = [_complaint(kind, problem) for problem in error.errors()]
        raise SpeechftError("; ".join(lines), where=where or "recipe", fix="Correct it there.") from None


def _complaint(kind: type[BaseModel], problem: Any) -> str:
    name = complaints.place(problem) or "recipe"
    path = name.split(".")
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(path[-1], _fields(kind, path[:-1]), n=1)
        return f"unknown key '{name}'" + (f", did you mean '{near[0]}'?" if near else "")
    if problem["type"] == "missing":
        return f"'{name}' is missing: set it in the recipe or as {name}=..."
    return f"{name}={SHORT.repr(problem['input'])}: {complaints.sentence(problem)}"


def _fields(kind: Any, path: list[str]) -> list[str]:
    """The keys of the group at a path; none where that is no group."""
    for part in path:
        annotation = kind.model_fields[part].annotation if part in kind.model_fields else None
        options = [annotation, *getattr(annotation, "__args__", ())]
        groups = [o for o in options if isinstance(o, type) and issubclass(o, BaseModel)]
        if not groups:
            return []
        kind = groups[0]
    return list(kind.model_fields)
