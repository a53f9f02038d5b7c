"""YAML documents as Envoy reads them, so that a pasted envoy.yaml means here what it means there.

To Envoy a plain scalar is null, a boolean (y and n among them) or an integer, and everything else
is text: 2026-05-04 is no date and 3.5 no number until a field asks for one. Keys are always text.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

_TAG = "tag:yaml.org,2002:"
_KEPT = {f"{_TAG}{kind}" for kind in ("null", "bool", "merge")}
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*|0[0-7]+|0[xX][0-9a-fA-F]+)$")


class _Loader(yaml.SafeLoader):
    bool_values = yaml.SafeLoader.bool_values | {"y": True, "n": False}
    yaml_implicit_resolvers = {  # noqa: RUF012 (PyYAML's own name and type)
        first: [(tag, pattern) for tag, pattern in resolvers if tag in _KEPT]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        self.flatten_mapping(node)
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                key.tag = f"{_TAG}str"
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(f"{_TAG}bool", re.compile(r"[yYnN]$"), list("yYnN"))
_Loader.add_implicit_resolver(f"{_TAG}int", _INTEGER, list("-+0123456789"))


def load_yaml(text: str) -> Any:
    """The document. Raises yaml.YAMLError."""
    return yaml.load(text, Loader=_Loader)


class _Dumper(yaml.SafeDumper):
    """Quotes what the loader would not take for text; PyYAML leaves y and n bare."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = '"' if text.lower() in ("y", "n") else None
    return dumper.represent_scalar(f"{_TAG}str", text, style=style)


_Dumper.add_representer(str, _text)


def dump_yaml(document: Any) -> str:
    """Text that both Envoy and `load_yaml` read back as `document`."""
    text: str = yaml.dump(document, Dumper=_Dumper, sort_keys=False)
    return text
