"""Marks on the fields of recipes, each where its field is declared, and what they are read for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from speechft.files import expanded

Move = Callable[[Path], Path]
AnyRecipe = TypeVar("AnyRecipe", bound=BaseModel)


class Mark(Enum):
    """What else is said of a field.

    Attributes:
        NOT_IN_WEIGHTS: a run's weights do not depend on it, or only by what its fingerprint holds anyway, such as rows.
        PRIVATE: it is not shared with the adapter; where something lies never is.
    """

    NOT_IN_WEIGHTS = "not in weights"
    PRIVATE = "private"


@dataclass(frozen=True)
class Place:
    """Marks a field that says where something lies.

    Attributes:
        moved: the value with the path in it moved; names of hubs, bundles and the like stay as they are.
    """

    moved: Callable[[str, Move], str]


def _moved_model(name: str, move: Move) -> str:
    path = move(expanded(name))
    return str(path) if name and (path.is_dir() or (path.suffix == ".gguf" and path.is_file())) else name


FILE = Place(lambda path, move: path and str(move(expanded(path))))
MODEL = Place(_moved_model)


def marked(kind: type[BaseModel], *marks: Mark | Place) -> set[str]:
    """The fields of a recipe's class that have one of these marks."""
    return {key for key, field in kind.model_fields.items() if any(mark in field.metadata for mark in marks)}


def without(recipe: BaseModel, *marks: Mark | Place) -> dict[str, Any]:
    """A recipe as JSON, without the fields that have one of these marks."""
    return recipe.model_dump(mode="json", exclude=marked(type(recipe), *marks))


def places(kind: type[BaseModel]) -> dict[str, Place]:
    """The fields of a recipe's class that say where something lies."""
    found = {
        key: [mark for mark in field.metadata if isinstance(mark, Place)] for key, field in kind.model_fields.items()
    }
    return {key: marks[0] for key, marks in found.items() if marks}


def with_absolute_paths(recipe: AnyRecipe) -> AnyRecipe:
    """A recipe that means the same to a process that stands elsewhere."""
    given = {key: (place, getattr(recipe, key)) for key, place in places(type(recipe)).items()}
    paths = {key: type(value)(place.moved(str(value), Path.resolve)) for key, (place, value) in given.items() if value}
    return recipe.model_copy(update=paths)
