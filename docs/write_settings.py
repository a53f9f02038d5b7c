"""Writes docs/settings.md from the settings' models: `make docs-settings`."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from enum import Enum
from functools import cache
from pathlib import Path, PurePath
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from eigenmesh.control.duration import parse_duration
from eigenmesh.control.settings import Model

PAGE = Path(__file__).with_name("settings.md")

HEAD = """\
# Settings

<!-- Written by `make docs-settings`. -->

One YAML file. Every setting has a default, but for where latency is read (`telemetry`) and Envoy's
own configuration (`envoy`). `eigenmesh check eigenmesh.yaml` has one line for each mistake, and
[live settings](live-settings.md) says which of them change while Eigenmesh runs.

A duration is written as `2s`, `500ms` or `1m30s`; a bare number is seconds. NAME stands for a name
of your own, `[]` for each entry of a list. "Unset" is what holds when a setting is left out.
"""


def page() -> str:
    return HEAD + "".join(_section("", "", Model, None))


def _section(path: str, meaning: str, model: type[BaseModel], whole: Any) -> Iterator[str]:
    """whole: what the section is when it is left out."""
    if path:
        yield f"\n## {path}\n\n{meaning}\n"
    yield "\n| setting | type | unit | default | meaning |\n|---|---|---|---|---|\n"
    inner: list[tuple[str, str, type[BaseModel], Any]] = []
    for name, field in model.model_fields.items():
        said = _meaning(model, name)
        place = f"{path}.{name}" if path else name
        found = model_in(field.annotation)
        if found is None:
            said, _, unit = said.partition(" Unit: ")
            kind, implied = _kind(field.annotation, tuple(field.metadata))
            unit = unit.removesuffix(".") or implied
            if unit == "?":
                raise LookupError(f"{model.__name__}.{name}: end what is said of it with Unit: ...")
        else:
            suffix, part = found
            left_out = None if field.is_required() else field.default
            inner.append((place + suffix, said, part, left_out))
            kind, unit = f"[{_container(suffix)}](#{_anchor(place + suffix)})", ""
        default = _default(field)
        if field.is_required() and isinstance(whole, BaseModel):
            default += f"; without the section `{getattr(whole, name)}`"
        yield f"| `{name}` | {kind} | {unit} | {default} | {_cell(said)} |\n"
    for section in inner:
        yield from _section(*section)


def _meaning(model: type[BaseModel], name: str) -> str:
    """What stands below the field, in the class or in one that it is made of."""
    for base in model.__mro__:
        if (said := _docs(base.__module__).get((base.__name__, name))) is not None:
            return " ".join(said.split())
    raise LookupError(f"{model.__name__}.{name}: say below the field what it means")


@cache
def _docs(module: str) -> dict[tuple[str, str], str]:
    """(class, field) -> the docstring below it, of a module of the settings."""
    if not module.startswith("eigenmesh."):
        return {}
    found: dict[tuple[str, str], str] = {}
    for node in ast.parse(inspect.getsource(sys.modules[module])).body:
        if isinstance(node, ast.ClassDef):
            for field, said in zip(node.body, node.body[1:], strict=False):
                match field, said:
                    case (
                        ast.AnnAssign(target=ast.Name(id=name)),
                        ast.Expr(value=ast.Constant(value=str(text))),
                    ):
                        found[node.name, name] = text
    return found


def model_in(annotation: Any) -> tuple[str, type[BaseModel]] | None:
    """What of the path leads into it, and the model of a section."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "", annotation
    parts = [part for part in get_args(annotation) if part is not NoneType]
    between = {list: "[]", dict: ".NAME"}.get(get_origin(annotation), "")
    if parts and (found := model_in(parts[-1])) is not None:
        return between + found[0], found[1]
    return None


def _container(suffix: str) -> str:
    return {"": "section", "[]": "list of sections", ".NAME": "sections by name"}[suffix]


def _anchor(heading: str) -> str:
    return heading.lower().translate({ord(c): None for c in ".[]"})


def _kind(annotation: Any, metadata: tuple[Any, ...]) -> tuple[str, str]:
    """Type and unit of a value; the unit is "?" where the field has to say it."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(parts[0], (*parts[1:], *metadata))
    if origin in (Union, UnionType):
        [inner] = [part for part in parts if part is not NoneType]
        return _kind(inner, metadata)
    if origin is Literal:
        return ", ".join(f"`{part}`" for part in parts), ""
    if origin is list:
        kind, unit = _kind(parts[0], ())
        return f"list of {kind}", unit
    if origin is dict:
        kind, unit = ("anything", "") if parts[1] is Any else _kind(parts[1], ())
        return f"map of name to {kind}", unit
    if issubclass(annotation, Enum):
        return ", ".join(f"`{member.value}`" for member in annotation), ""
    if annotation in (int, float):
        return _number(annotation, metadata)
    names = {bool: "`true`, `false`", str: "text", PurePath: "path"}
    return next(said for kind, said in names.items() if issubclass(annotation, kind)), ""


def _number(kind: type, metadata: tuple[Any, ...]) -> tuple[str, str]:
    rules = [rule for one in metadata for rule in getattr(one, "metadata", [one])]
    limits = {key: value for rule in rules for key, value in _limits(rule).items()}
    words = {"ge": "{} or more", "gt": "above {}", "le": "at most {}", "lt": "below {}"}
    bounds = " and ".join(words[key].format(limits[key]) for key in words if key in limits)
    if any(getattr(rule, "func", None) is parse_duration for rule in rules):
        return f"duration, {bounds}" if bounds else "duration", "s"
    said = "whole number" if kind is int else "number"
    fraction = kind is float and limits.get("le", limits.get("lt", 2)) <= 1
    return f"{said}, {bounds}" if bounds else said, "fraction" if fraction else "?"


def _limits(rule: Any) -> dict[str, Any]:
    """`Ge(ge=0)` and its like hold what their names say."""
    names = ("ge", "gt", "le", "lt")
    return {name: getattr(rule, name) for name in names if hasattr(rule, name)}


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        return ""
    if value is None or value in ([], {}, ""):
        return "unset" if value is None else "none"
    if isinstance(value, list) and isinstance(value[0], BaseModel):
        value = yaml.safe_dump([one.model_dump() for one in value], default_flow_style=True).strip()
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, float):
        return f"`{value:g}`"
    return f"`{value}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page())
