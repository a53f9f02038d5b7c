"""The definitions of Envoy's messages, out of the operator's own Envoy.

An Envoy may be newer than the API that is known here, or be built with extensions of its maker's
own. Like every protobuf program it carries the definitions of all its messages, serialised, among
its constants: the last word on what it will understand.

Source: google/protobuf/descriptor.proto.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_database import DescriptorDatabase
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError

from eigenmesh.xds.protos import KNOWN_HERE, OperatorError, message_type

_SETTING = "envoy_descriptors"
_START = re.compile(rb"\n([\x01-\x7f])([A-Za-z0-9_./-]+?\.proto)(?=[\x12\x1a\x22\x2a])")
"""A FileDescriptorProto begins with its file's name; its package, imports or types follow."""
_FIELDS = frozenset(f.number for f in FileDescriptorProto.DESCRIPTOR.fields)
_VARINT, _DELIMITED = 0, 2


def read_definitions(file: Path) -> DescriptorPool:
    """The definitions in Envoy's executable, or in a FileDescriptorSet such as
    `protoc --descriptor_set_out` and `buf build` write.

    What `file` lacks is taken from what is known here, so a set need hold only what that lacks.
    Raises OperatorError if it cannot be read or defines nothing.
    """
    try:
        found = _definitions(file)
    except (OSError, ValueError, DecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "empty or damaged"
        raise OperatorError(_SETTING, str(file), f"cannot be read: {reason}") from error
    if not found:
        remedy = "defines no messages; give Envoy's executable itself, or a FileDescriptorSet"
        raise OperatorError(_SETTING, str(file), remedy)
    return DescriptorPool(_Database(found))


def _definitions(file: Path) -> list[FileDescriptorProto]:
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if data[0] == FileDescriptorSet.FILE_FIELD_NUMBER << 3 | _DELIMITED:
            return list(FileDescriptorSet.FromString(data[:]).file)
        return list(_in_program(data))


def _in_program(data: mmap.mmap) -> Iterator[FileDescriptorProto]:
    for match in _START.finditer(data):
        if match[1][0] != len(match[2]):
            continue
        found = FileDescriptorProto()
        try:
            found.ParseFromString(data[match.start() : _end(data, match.start())])
        except DecodeError:
            continue
        if found.name == match[2].decode():
            yield found


def _end(data: mmap.mmap, at: int) -> int:
    """Where the FileDescriptorProto at `at` ends: at what is no field of one, or out of order."""
    last = 0
    while True:
        try:
            tag, after = _varint(data, at)
            length, after = _varint(data, after)
        except IndexError:
            return at
        number, kind = tag >> 3, tag & 7
        # Its name comes once; the others may be repeated.
        if number not in _FIELDS or number < max(last, 2 if last else 1):
            return at
        if kind == _DELIMITED:
            after += length
        elif kind != _VARINT:
            return at
        last, at = number, after


def _varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    """The number at `at`, and where it ends."""
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        if data[at] < 0x80:
            return value, at + 1
        at, shift = at + 1, shift + 7


class _Database(DescriptorDatabase):
    """What was found, then what is known here. A pool asks it for a file when it needs one."""

    def __init__(self, found: list[FileDescriptorProto]) -> None:
        super().__init__()
        # Envoy has some files twice, once without options; shortest first, so that the full one
        # is the one that stays.
        files = {f.name: f for f in sorted(found, key=FileDescriptorProto.ByteSize)}
        for file in files.values():
            self.Add(file)

    def FindFileByName(self, name: str) -> FileDescriptorProto:  # noqa: N802
        try:
            return super().FindFileByName(name)
        except KeyError:
            # A file stands in the folder of its package: looking for any type there loads it.
            message_type(name.removesuffix(".proto").replace("/", "."))
            return _proto(KNOWN_HERE.FindFileByName(name))

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptorProto:  # noqa: N802
        try:
            return super().FindFileContainingSymbol(symbol)
        except KeyError:
            message_type(symbol)
            return _proto(KNOWN_HERE.FindFileContainingSymbol(symbol))


def _proto(file: FileDescriptor) -> FileDescriptorProto:
    return FileDescriptorProto.FromString(file.serialized_pb)
