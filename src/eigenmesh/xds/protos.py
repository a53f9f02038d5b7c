"""Envoy's messages from and to plain data, with every extension loaded only when it is named.

xds-protos has some 600 modules; importing them all takes seconds. A type's modules are found from
its name instead: `envoy.extensions.filters.http.router.v3.Router` is in the package
`envoy.extensions.filters.http.router.v3`.

A message belongs to the descriptor pool that its class came from, and so does all that is in it:
xds-protos' own, or one with an Envoy's definitions (`definitions`).
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from typing import Any, TypeVar, cast

from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message

from eigenmesh.mesh import MeshError

M = TypeVar("M", bound=Message)

_ANY = "google.protobuf.Any"
_KNOWN_ROOTS = ("envoy", "google", "udpa", "xds", "opencensus", "opentelemetry", "cel")
_BYTE_LIMIT = 120


class OperatorError(MeshError):
    """The operator's Envoy configuration cannot be used; names the YAML path."""


KNOWN_HERE = descriptor_pool.Default()
"""The pool into which xds-protos' modules put their definitions when they are imported."""


@cache
def message_type(full_name: str, pool: DescriptorPool = KNOWN_HERE) -> type[Message] | None:
    """The class of a message type; None if the pool has no such type."""
    if pool is KNOWN_HERE and not _has(pool, full_name):
        _load_package(full_name)
    if not _has(pool, full_name):
        return None
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(full_name))


def _has(pool: DescriptorPool, full_name: str) -> bool:
    try:
        pool.FindMessageTypeByName(full_name)
    except (KeyError, TypeError):  # TypeError: the file that defines it is not sound
        return False
    return True


def _load_package(full_name: str) -> None:
    """Imports every generated module of the type's package."""
    package = full_name.rpartition(".")[0]
    if package.partition(".")[0] not in _KNOWN_ROOTS:
        return
    try:
        path = importlib.import_module(package).__path__
    except (ImportError, AttributeError):
        return
    for module in pkgutil.iter_modules(path):
        if module.name.endswith("_pb2"):
            importlib.import_module(f"{package}.{module.name}")


def _pool(descriptor: Any) -> DescriptorPool:
    """Where a message or enum is defined."""
    pool: DescriptorPool = descriptor.file.pool
    return pool


def type_name(type_url: str) -> str:
    return type_url.rpartition("/")[2]


def parse(data: object, cls: type[M], path: str) -> M:
    """A message from its YAML or JSON form. Raises OperatorError with the path of the mistake."""
    pool = _pool(cls.DESCRIPTOR)
    for at, name in _named_types(data, path):
        if message_type(name, pool) is None:
            remedy = f"no such type is known; check its spelling{_newer(pool)}"
            raise OperatorError(f"{at}.@type", name, remedy)
    message = cls()
    try:
        json_format.ParseDict(cast(dict[str, Any], data), message, descriptor_pool=pool)
    except (json_format.ParseError, TypeError, ValueError, AttributeError, KeyError) as error:
        for mistake in _mistakes(data, cls.DESCRIPTOR, path):
            raise mistake from error
        raise OperatorError(path, _short(data), _one_line(error)) from error
    return message


def unpack(message: AnyMessage) -> Message | None:
    """What an Any holds; None if its type is unknown or its bytes are not of that type."""
    cls = message_type(type_name(message.type_url), _pool(message.DESCRIPTOR))
    if cls is None:
        return None
    try:
        return cls.FromString(message.value)
    except DecodeError:
        return None


Visit = Callable[[Message, str], bool | None]
"""Called with a message and its path; False: do not look inside."""


def walk(message: Message, path: str, visit: Visit) -> None:
    """Visits a message and all in it, what Anys hold included, parents first.

    `visit` may change what it is given. Every Any of a known type is packed again in canonical
    form: the bytes that an Any holds are hashed, and maps in it have no order of their own.
    """
    if message.DESCRIPTOR.full_name == _ANY:
        packed = cast(AnyMessage, message)
        if (inner := unpack(packed)) is not None:
            walk(inner, path, visit)
            packed.value = inner.SerializeToString(deterministic=True)
        return
    if visit(message, path) is False:
        return
    for field, value in message.ListFields():
        for at, child in _children(field, value, f"{path}.{field.name}"):
            walk(child, at, visit)


def _children(field: FieldDescriptor, value: Any, path: str) -> Iterator[tuple[str, Message]]:
    if field.message_type is None:
        return
    if field.message_type.GetOptions().map_entry:
        if field.message_type.fields_by_name["value"].message_type is not None:
            for key in sorted(value):
                yield f"{path}[{key}]", value[key]
    elif field.is_repeated:
        for index, child in enumerate(value):
            yield f"{path}[{index}]", child
    else:
        yield path, value


def _named_types(data: object, path: str) -> Iterator[tuple[str, str]]:
    """The (path, type name) of every "@type" in plain data."""
    if isinstance(data, Mapping):
        url = data.get("@type")
        if isinstance(url, str):
            yield path, type_name(url)
        for key, value in data.items():
            yield from _named_types(value, f"{path}.{key}")
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from _named_types(value, f"{path}[{index}]")


def _mistakes(data: object, descriptor: Any, path: str) -> Iterator[OperatorError]:
    """What is wrong with `data`, found by parsing its parts: the deepest mistakes come first."""
    if descriptor.full_name == _ANY and isinstance(data, Mapping):
        url = data.get("@type")
        if not isinstance(url, str):
            yield OperatorError(f"{path}.@type", None, 'an extension needs its "@type"')
            return
        cls = message_type(type_name(url), _pool(descriptor))
        if cls is not None and not cls.DESCRIPTOR.full_name.startswith("google.protobuf."):
            inner = {key: value for key, value in data.items() if key != "@type"}
            yield from _mistakes(inner, cls.DESCRIPTOR, path)
        return
    if descriptor.full_name.startswith("google.protobuf."):
        return
    if not isinstance(data, Mapping):
        yield OperatorError(path, _short(data), f"write a mapping ({descriptor.name})")
        return
    fields = {f.json_name: f for f in descriptor.fields} | dict(descriptor.fields_by_name)
    for key, value in data.items():
        field = fields.get(key)
        if field is None:
            yield OperatorError(f"{path}.{key}", _short(value), _unknown(str(key), descriptor))
        elif value is not None:
            yield from _mistakes_in_field(value, field, key, f"{path}.{key}")


def _mistakes_in_field(
    value: object, field: FieldDescriptor, key: str, path: str
) -> Iterator[OperatorError]:
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        item = kind.fields_by_name["value"].message_type
        if item is not None and isinstance(value, Mapping):
            for name, child in value.items():
                yield from _mistakes(child, item, f"{path}[{name}]")
    elif kind is not None:
        if field.is_repeated and isinstance(value, list):
            for index, child in enumerate(value):
                yield from _mistakes(child, kind, f"{path}[{index}]")
        elif not field.is_repeated:
            yield from _mistakes(value, kind, path)
    # The part is sound inside; does it fit its field?
    assert field.containing_type is not None
    owner = message_factory.GetMessageClass(field.containing_type)()
    try:
        json_format.ParseDict({key: value}, owner, descriptor_pool=_pool(owner.DESCRIPTOR))
    except (json_format.ParseError, TypeError, ValueError, AttributeError, KeyError) as error:
        yield OperatorError(path, _short(value), _expected(value, field, error))


def _expected(value: object, field: FieldDescriptor, error: Exception) -> str:
    is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
    if field.is_repeated and not is_map and not isinstance(value, list):
        return "write a list"
    if field.enum_type is not None:
        names = [v.name for v in field.enum_type.values]
        close = get_close_matches(str(value).upper(), names, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        return f"{hint}use one of: {', '.join(names)}{_newer(_pool(field.enum_type))}"
    if field.message_type is not None and field.message_type.name == "Duration":
        return "write a duration in seconds, such as 0.25s"
    return _one_line(error)


def _unknown(key: str, descriptor: Descriptor) -> str:
    close = get_close_matches(key, [f.name for f in descriptor.fields], n=1)
    remedy = f"did you mean {close[0]}?" if close else "remove it, or check its place"
    return f"{descriptor.name} has no such field; {remedy}{_newer(_pool(descriptor))}"


def _newer(pool: DescriptorPool) -> str:
    """What helps when it was no mistake."""
    if pool is not KNOWN_HERE:
        return ""
    return "; if a newer Envoy has it, let its binary tell: envoy_descriptors, or adopt --envoy"


def _short(data: object) -> object:
    if isinstance(data, str | int | float | bool | None):
        return data
    text = repr(data)
    return text if len(text) <= _BYTE_LIMIT else f"{text[:_BYTE_LIMIT]}..."


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 2 * _BYTE_LIMIT else f"{text[: 2 * _BYTE_LIMIT]}..."
