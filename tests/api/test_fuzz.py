"""Whatever is sent, the server has an answer that is no defect of its own, and stays up.

Messages are made from the proto's own descriptors: a new field or call is fuzzed without a word
here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eigenmesh.api.client import MeshClient
from eigenmesh.control.operations import LIVE
from eigenmesh.v1 import mesh_service_pb2, operations_service_pb2

from .stage import Stage, serving

METHODS = [
    method
    for file in (mesh_service_pb2, operations_service_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]

ANSWERS = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNAVAILABLE,
    # Larger than gRPC lets in.
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}

# What is right often enough for the rest of a message to be looked at.
RESOURCES = st.sampled_from(
    [
        *["meshes/-"] * 6,
        *["meshes/-/routes/shop"] * 6,
        *("meshes/shop-mesh", "meshes/-/clusters/a", "meshes/-/nodes/e1"),
        *("meshes/-/decisions/1", "meshes/-/decisions/pending", "meshes/-/decisions/latest"),
    ]
)
IDS = st.sampled_from(["shop", "a", "b", "c", *LIVE])
ANYTHING = st.one_of(
    st.text(),
    st.text().map(lambda t: f"meshes/-/decisions/{t}"),
    # Long for people, for a header, and for gRPC, which takes 4 MB.
    st.sampled_from([600, 9_000, 2_500_000]).map(lambda n: "ä" * n),
)
TEXTS = st.integers(0, 9).flatmap(lambda n: ANYTHING if n == 0 else IDS)
NAMES = st.integers(0, 9).flatmap(lambda n: ANYTHING if n == 0 else RESOURCES)
NUMBERS = st.one_of(
    st.floats(),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0, 1000),
    st.sampled_from([0.0, -0.0, 1e308, -1e308, 5e-324, float("nan"), float("inf")]),
)


def integers(bits: int, signed: bool) -> st.SearchStrategy[int]:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return st.one_of(st.integers(low, high), st.sampled_from([low, 0, 1, high]))


KINDS: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.TYPE_STRING: TEXTS,
    FieldDescriptor.TYPE_DOUBLE: NUMBERS,
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_INT32: integers(32, True),
    FieldDescriptor.TYPE_INT64: integers(64, True),
    FieldDescriptor.TYPE_UINT32: integers(32, False),
    FieldDescriptor.TYPE_UINT64: integers(64, False),
    FieldDescriptor.TYPE_ENUM: integers(32, True) | st.integers(0, 4),
}


def one(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        return messages(field.message_type)
    return KINDS[field.type]


def values(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        key, value = (field.message_type.fields_by_name[n] for n in ("key", "value"))
        return st.dictionaries(one(key), one(value), max_size=4)
    return st.lists(one(field), max_size=4) if field.is_repeated else one(field)


def messages(descriptor: Descriptor) -> st.SearchStrategy[Message]:
    fields = {field.name: values(field) for field in descriptor.fields}
    named = {name: NAMES for name in ("name", "parent") if fields.pop(name, None) is not None}
    kind = GetMessageClass(descriptor)
    return st.fixed_dictionaries(named, optional=fields).map(lambda given: kind(**given))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[asyncio.Runner, Stage]]:
    """One server for all examples, on a loop of its own, since hypothesis is not asynchronous."""
    folder: Path = tmp_path_factory.mktemp("fuzz")
    with asyncio.Runner() as runner:
        served = serving(folder)
        stage = runner.run(served.__aenter__())
        yield runner, stage
        runner.run(served.__aexit__(None, None, None))


async def answer(stage: Stage, method: Any, request: Message) -> grpc.StatusCode:
    async with grpc.aio.insecure_channel(stage.address) as channel:
        path = f"/{method.containing_service.full_name}/{method.name}"
        parse = GetMessageClass(method.output_type).FromString
        try:
            if method.server_streaming:
                call = channel.unary_stream(path, None, parse)
                async for _ in call(request.SerializeToString(), timeout=20.0):
                    break
            else:
                unary = channel.unary_unary(path, None, parse)
                await unary(request.SerializeToString(), timeout=20.0)
        except grpc.aio.AioRpcError as error:
            return error.code()
        return grpc.StatusCode.OK


@pytest.mark.parametrize("method", METHODS, ids=[m.name for m in METHODS])
def test_any_message_has_an_answer(running: tuple[asyncio.Runner, Stage], method: Any) -> None:
    runner, stage = running

    @settings(max_examples=40, suppress_health_check=list(HealthCheck))
    @given(messages(method.input_type))
    def fuzz(request: Message) -> None:
        assert runner.run(answer(stage, method, request)) in ANSWERS

    fuzz()

    async def alive() -> str:
        async with MeshClient(stage.address, timeout=20.0) as client:
            mesh = await client.get_mesh()
            await stage.simulation.tick()
            return mesh.id

    assert runner.run(alive()) == "shop-mesh"


@given(raw=st.binary(max_size=200))
@settings(max_examples=100, suppress_health_check=list(HealthCheck))
def test_any_bytes_have_an_answer(running: tuple[asyncio.Runner, Stage], raw: bytes) -> None:
    runner, stage = running

    async def send() -> grpc.StatusCode:
        async with grpc.aio.insecure_channel(stage.address) as channel:
            call = channel.unary_unary("/eigenmesh.v1.MeshService/WhatIf", None, None)
            try:
                await call(raw, timeout=20.0)
            except grpc.aio.AioRpcError as error:
                return error.code()
            return grpc.StatusCode.OK

    assert runner.run(send()) in ANSWERS
