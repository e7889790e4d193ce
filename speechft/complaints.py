"""What pydantic finds wrong with a value, for people who need not know Python: where, and in plain words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

GROUP = "should be a group of keys with values"
WORDS = {
    "missing": "is missing",
    "json_invalid": "is not JSON",
    "path_type": "should be a path",
    "string_type": "should be a text",
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "should be a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "should be a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "should be true or false"),
    "list_type": "should be a list",
    "tuple_type": "should be a list",
    "dict_type": GROUP,
    "model_type": GROUP,
    "model_attributes_type": GROUP,
}
# How pydantic names the branch of a union it tried: not a key of anybody's.
BRANCH = re.compile(r"[\w-]+\[.*\]|int|float|str|bool")


def place(problem: Mapping[str, Any]) -> str:
    """The keys that lead to the value, with dots between; "" for the whole."""
    *path, last = map(str, problem["loc"] or [""])
    kept = [part for part in path if not BRANCH.fullmatch(part)]
    return ".".join(kept if path and problem["type"] != "extra_forbidden" and BRANCH.fullmatch(last) else [*kept, last])


def sentence(problem: Mapping[str, Any]) -> str:
    """What is wrong, a clause that begins with a small letter."""
    said = WORDS.get(problem["type"]) or re.sub("^(Value error,|Input|String|List) ", "", problem["msg"])
    return said[:1].lower() + said[1:]
