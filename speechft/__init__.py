"""speechft: adapt speech recognition to the voices it fails.

>>> import speechft
>>> result = speechft.train(manifest="me/manifest.jsonl", output_dir="runs/me")    # doctest: +SKIP
>>> speechft.load(adapter="runs/me/adapter").transcribe("new.m4a").text             # doctest: +SKIP
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from speechft.errors import SpeechftError
from speechft.version import __version__

if TYPE_CHECKING:
    from speechft.config import SpeechRecipe
    from speechft.error_rate import ErrorRate
    from speechft.manifest import Manifest, Utterance
    from speechft.pipeline import evaluate
    from speechft.recipes import load_recipe
    from speechft.recogniser import Recogniser, load

_HOMES = {
    "ErrorRate": "error_rate",
    "Manifest": "manifest",
    "Recogniser": "recogniser",
    "SpeechRecipe": "config",
    "Utterance": "manifest",
    "evaluate": "pipeline",
    "load": "recogniser",
    "load_recipe": "recipes",
}
__all__ = [
    "ErrorRate",
    "Manifest",
    "Recogniser",
    "SpeechRecipe",
    "SpeechftError",
    "Utterance",
    "__version__",
    "evaluate",
    "load",
    "load_recipe",
    "train",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `import speechft` needs no torch."""
    if name in _HOMES:
        return getattr(import_module(f"speechft.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'speechft' has no attribute {name!r}")


def train(recipe: SpeechRecipe | None = None, **settings: Any) -> dict[str, Any]:
    """Train an adapter and report; see `speechft.pipeline.train`.

    Args:
        recipe: a `SpeechRecipe`; or give its fields as keyword arguments.
    """
    from speechft.config import SpeechRecipe
    from speechft.pipeline import train as run
    from speechft.validation import validated

    return run(recipe or validated(SpeechRecipe, settings))


class _Package(ModuleType):
    """This package: its functions keep their names when modules of the same name, such as train.py, are imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in __all__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
