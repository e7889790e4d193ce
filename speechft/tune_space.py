"""What a study varies: recipe keys with the values or the range each may take."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from speechft.config import Search, SearchRange, rate_of_method
from speechft.errors import SpeechftError
from speechft.marks import FILE, marked, with_absolute_paths
from speechft.recipes import Recipe
from speechft.text.config import DATA, REWARD
from speechft.validation import validated

SPEECH_SPACE: Search = {
    "learning_rate": SearchRange(low=1e-4, high=4e-3, log=True),
    "batch_size": [4, 8, 16],
    "adapter.rank": [8, 16, 32, 64],
    "adapter.placement": ["both", "encoder"],
    "adapter.encoder_from": [0, 2],
    "augment": [None, {}, {"share": 1.0}],
}
TEXT_SPACE: Search = {
    "learning_rate": SearchRange(low=2e-5, high=2e-3, log=True),
    "batch_size": [2, 4, 8],
    "adapter.rank": [8, 16, 32],
    "schedule": ["linear", "cosine", "constant"],
}
OF_THE_OBJECTIVE = ("beta", "loss", "kl", "reward", "reward_label", "judge", "rubric")  # of text: give it another unit
WITHOUT_RANK = ("full", "bitfit", "norms", "ia3", "prompt", "prefix")


def default_space(recipe: Recipe) -> Search:
    """What is varied where a recipe names nothing; learning rates about the one that suits its method.

    How long a run is is not: more is better for most, and a search would pay for it in every trial.
    """
    space = SPEECH_SPACE if recipe.task == "speech" else TEXT_SPACE
    rates, factor = cast(SearchRange, space["learning_rate"]), rate_of_method(recipe.adapter)
    if recipe.adapter.method in WITHOUT_RANK:
        space = {key: choice for key, choice in space.items() if key != "adapter.rank"}
    return space | {"learning_rate": SearchRange(low=rates.low * factor, high=rates.high * factor, log=True)}


class Space:
    """The recipes a study may try.

    Attributes:
        recipe: what the values are put into.
        choices: as in a recipe's `search`, with the recipe's own values among them.
        own: the recipe's own values, as Optuna knows them.
    """

    def __init__(self, recipe: Recipe, search: Search) -> None:
        """
        Raises:
            SpeechftError: a key or a value that no recipe may have, or one that changes nothing, or the objective.
        """
        if {"adapter.method", "adapter.init", "adapter.rslora"} & search.keys() and "learning_rate" not in search:
            raise SpeechftError(
                "methods want different learning rates", where="search", fix="Search learning_rate with them."
            )
        if "epochs" in search and recipe.task != "speech" and recipe.max_steps:
            raise SpeechftError(
                "max_steps decides how long a run is, so epochs changes nothing", where="search",
                fix="Set max_steps=null, or search max_steps instead.",
            )  # fmt: skip
        if unit := next((key for key in search if key in OF_THE_OBJECTIVE and recipe.task != "speech"), None):
            raise SpeechftError(
                f"'{unit}' changes what is measured on dev, so trials cannot be compared", where="search",
                fix=f"Leave it out, or run a study for each {unit}.",
            )  # fmt: skip
        self.recipe = recipe
        self.choices: Search = {}
        self.own: dict[str, Any] = {}
        for key, choice in search.items():
            ends = [choice.low, choice.high] if isinstance(choice, SearchRange) else choice
            tried = [with_values(recipe, {key: value}) for value in ends]
            own: Any = recipe.model_dump(mode="json")
            for part in key.split("."):
                own = own.get(part) if isinstance(own, dict) else None
            if not isinstance(choice, SearchRange):
                same = [value for value, found in zip(choice, tried, strict=True) if found == recipe]
                self.choices[key] = choice if same else [own, *choice]
                self.own[key] = _word((same or [own])[0])
            elif isinstance(own, int | float):
                if choice.log and own <= 0:
                    raise SpeechftError(
                        f"'{key}' is {own!r} in the recipe, which log: true does not allow", where="search",
                        fix="Give the recipe a value above 0, or leave log out.",
                    )  # fmt: skip
                low, high = min(choice.low, own), max(choice.high, own)
                self.choices[key] = SearchRange(low=low, high=high, log=choice.log)
                self.own[key] = own
            else:
                what = f"'{key}' is {own!r} in the recipe, but a range needs a number there"
                raise SpeechftError(what, where="search", fix="Set a number in the recipe, or list the choices.")

    def ask(self, trial: Any) -> dict[str, Any]:
        """The values Optuna proposes for a trial."""
        found: dict[str, Any] = {}
        for key, choice in self.choices.items():
            if not isinstance(choice, SearchRange):
                found[key] = trial.suggest_categorical(key, [_word(value) for value in choice])
            elif isinstance(choice.low, int) and isinstance(choice.high, int):
                found[key] = trial.suggest_int(key, choice.low, choice.high, log=choice.log)
            else:
                found[key] = trial.suggest_float(key, choice.low, choice.high, log=choice.log)
        return found

    def at(self, params: Mapping[str, Any]) -> Recipe:
        """The recipe with the values of a trial."""
        values = {}
        for key, value in params.items():
            choice = self.choices[key]
            if not isinstance(choice, SearchRange):
                value = next(known for known in choice if _word(known) == value)
            values[key] = value
        return with_values(self.recipe, values)


def fingerprint(space: Space, data: Sequence[str]) -> str:
    """A hash of all that a study's trials depend on; a journal with another one is not gone on with.

    Args:
        data: hashes of the rows that are trained and judged on.
    """
    recipe = with_absolute_paths(space.recipe)
    settings = recipe.model_dump(mode="json", exclude=marked(type(recipe), FILE, DATA, REWARD) | {"tracking", "test"})
    besides = {key: value for key in ("other_domain", "reward") if (value := getattr(recipe, key, None))}
    choices = [[key, getattr(choice, "__dict__", choice)] for key, choice in space.choices.items()]
    parts = [settings, besides, data, *choices]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def with_values(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """The recipe with other values, their keys dotted for groups.

    Raises:
        SpeechftError: an unknown key, or a value or combination that no recipe may have.
    """
    raw = recipe.model_dump(mode="json")
    for key, value in values.items():
        *groups, last = key.split(".")
        inner = raw
        for group in groups:
            inner = inner.setdefault(group, {})
            if not isinstance(inner, dict):
                what = f"'{key}' sets a key of '{group}', which is not a group here"
                raise SpeechftError(what, where="search", fix=f"Leave it out, or make '{group}' a group in the recipe.")
        inner[last] = value
    return validated(type(recipe), raw, "search")


def _word(value: Any) -> Any:
    """Optuna's categories are words and numbers; a group of settings or a list is called by its JSON."""
    return value if value is None or isinstance(value, bool | int | float | str) else json.dumps(value)
