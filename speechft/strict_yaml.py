"""Safe YAML that refuses duplicate keys and numbers too large for whatever reads them."""

from __future__ import annotations

from typing import Any

import yaml


class OneKeyOnce(yaml.SafeLoader):
    """A duplicate key is an error here, where PyYAML takes the last value; so is an integer beyond 64 bits."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        names = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        if twice := next((str(name) for name in names if names.count(name) > 1), None):
            raise yaml.YAMLError(f"'{twice}' appears twice")
        return super().construct_mapping(node, deep)

    def construct_whole(self, node: yaml.ScalarNode) -> int:
        value = self.construct_yaml_int(node)
        if abs(value) >= 2**63:
            raise yaml.YAMLError(f"{node.value[:20]}... is too large for a number")
        return value


OneKeyOnce.add_constructor("tag:yaml.org,2002:int", OneKeyOnce.construct_whole)


def parsed(text: str) -> Any:
    """What YAML says.

    Raises:
        yaml.YAMLError: it cannot be read; also where its library has no error of its own for that, as for the 31st of
            February and for a thousand brackets in one another.
    """
    try:
        return OneKeyOnce(text).get_single_data()
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise yaml.YAMLError(f"{type(error).__name__}: {error}") from None
