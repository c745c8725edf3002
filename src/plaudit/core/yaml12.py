"""YAML with the scalars of version 1.2, free of the surprises of 1.1.

`1e-5` is a number; `no`, `12:30` and `2026-01-01` are text; a key that stands twice is an error.
"""

import re
from pathlib import Path
from typing import Any, cast

import yaml
from yaml.constructor import ConstructorError

YAMLError = yaml.YAMLError

_SCALARS = (
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^[-+]?[0-9]+$", list("-+0123456789")),
    (
        "float",
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        list("-+0123456789."),
    ),
)


def parse_yaml(text: str) -> Any:
    """The value of a YAML document. Raises YAMLError."""
    return yaml.load(text, Loader=_Loader)


def parse_scalar(text: str) -> Any:
    """A number, true, false or null if `text` reads as one, otherwise the text as it stands, whatever is in it."""
    return parse_yaml(text) if any(re.match(pattern, text) for _, pattern, _ in _SCALARS) else text


def dump_yaml(tree: dict[str, Any]) -> str:
    """A block-style document, keys in their order."""
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def inline_yaml(value: Any) -> str:
    """A value on one line, as one would type it after `key=`."""
    if isinstance(value, tuple):
        value = list(cast(tuple[Any, ...], value))
    elif isinstance(value, Path):
        value = str(value)
    text = yaml.dump(value, Dumper=_Dumper, default_flow_style=True, allow_unicode=True, width=10**6)
    return text.removesuffix("\n").removesuffix("\n...")


class _Loader(yaml.SafeLoader):
    """Reads plain data only: no tag of the document can build an object."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.value in seen:
                raise ConstructorError(None, None, f"the key {key_node.value!r} is given twice", key_node.start_mark)
            if isinstance(key_node, yaml.ScalarNode):
                seen.add(key_node.value)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Quotes exactly the text that `_Loader` would take for something else."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    # Only double quotes can carry line breaks and control characters on one line, and bring all of them back.
    style = None if text.isprintable() else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)  # pyright: ignore[reportUnknownMemberType]


_Dumper.add_representer(str, _represent_text)


for _class in (_Loader, _Dumper):
    _class.yaml_implicit_resolvers = {}
    for _tag, _pattern, _first in _SCALARS:
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)  # pyright: ignore[reportUnknownMemberType]
