"""Envoy's own message types, out of its binary: an understanding of its files that does not depend
on the library under test, nor on that library's version of the API.

Every protobuf program carries the serialised descriptors of its messages. They begin with the
file's name (google/protobuf/descriptor.proto: FileDescriptorProto.name is field 1) and are read
field by field until something that is no field of a FileDescriptorProto.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import yaml
from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message import DecodeError, Message

from eigenmesh.demo.processes import envoy_binary

_START = re.compile(rb"\n([\x08-\x7f])([a-z][a-z0-9_]*/[A-Za-z0-9_/.-]+?\.proto)(?=[\x12\x1a])")
_FIELDS = {f.number for f in FileDescriptorProto.DESCRIPTOR.fields}
_DELIMITED, _VARINT = 2, 0

Plain = dict[str, Any]
"""A message as plain data, fields by their proto names, what Anys hold spelt out."""


@cache
def pool() -> descriptor_pool.DescriptorPool:
    """The descriptors of every message that the embedded Envoy knows."""
    files = {f.name: f for f in _descriptors()}
    own = descriptor_pool.DescriptorPool()
    added: set[str] = set()

    def add(name: str) -> None:
        if name in added:
            return
        added.add(name)
        if name not in files:
            known = descriptor_pool.Default().FindFileByName(name)
            files[name] = FileDescriptorProto.FromString(known.serialized_pb)
        for dependency in files[name].dependency:
            add(dependency)
        own.AddSerializedFile(files[name].SerializeToString())

    for name in list(files):
        if name.startswith(("envoy/", "xds/", "google/protobuf/")):
            try:
                add(name)
            except (KeyError, TypeError):
                # A service's definition that nothing in a bootstrap can name.
                continue
    return own


def read(data: Mapping[str, Any], type_name: str) -> Plain:
    """Plain data as Envoy understands it: spelling, aliases and defaults made one.

    Raises ParseError for what Envoy would not understand either.
    """
    message = _new(type_name)
    json_format.ParseDict(dict(data), message, descriptor_pool=pool())
    return _plain(message)


def unpack(data: bytes, type_name: str) -> Plain:
    """The same for a serialised message."""
    message = _new(type_name)
    message.ParseFromString(data)
    return _plain(message)


def _new(type_name: str) -> Message:
    return message_factory.GetMessageClass(pool().FindMessageTypeByName(type_name))()


def _plain(message: Message) -> Plain:
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, descriptor_pool=pool()
    )


class _Loader(yaml.SafeLoader):
    """YAML as Envoy reads it: a scalar is null, a boolean (y and n too), an integer, or else text:
    dates, base 60 and fractions are text. A key is text whatever it looks like."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        pairs = ((key.value, self.construct_object(value, deep=True)) for key, value in node.value)
        return dict(pairs)


_NULL, _BOOL, _INT = (f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int"))
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*|0[0-7]+|0[xX][0-9a-fA-F]+)$")
_Loader.bool_values = _Loader.bool_values | {"y": True, "n": False}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag in (_NULL, _BOOL)]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOL, re.compile(r"[yYnN]$"), list("yYnN"))
_Loader.add_implicit_resolver(_INT, _INTEGER, list("-+0123456789"))


def load_yaml(text: str) -> Plain:
    """An Envoy file as Envoy's own reader takes it."""
    document = yaml.load(text, Loader=_Loader)
    assert isinstance(document, dict)
    return document


def _descriptors() -> Iterator[FileDescriptorProto]:
    with (
        envoy_binary().open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        for match in _START.finditer(data):
            if match[1][0] != len(match[2]):
                continue
            descriptor = FileDescriptorProto()
            try:
                descriptor.ParseFromString(data[match.start() : _end(data, match.start())])
            except DecodeError:
                continue
            if descriptor.name == match[2].decode():
                yield descriptor


def _end(data: mmap.mmap, start: int) -> int:
    at = start
    while True:
        try:
            tag, after = _varint(data, at)
            number, kind = tag >> 3, tag & 7
            if number not in _FIELDS or (number == 1 and at != start):
                return at
            value, after = _varint(data, after)
        except IndexError:
            return at
        if kind == _DELIMITED:
            after += value
        elif kind != _VARINT:
            return at
        at = after


def _varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
