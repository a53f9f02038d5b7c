"""Writes docs/api.md from the comments of proto/: `make docs-api`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)
from grpc_tools import protoc

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "api.md"
PROTO = ROOT / "proto"
FILES = [
    PROTO / "eigenmesh" / "v1" / name
    for name in ("mesh_service.proto", "operations_service.proto", "mesh.proto")
]

# Numbers of fields in descriptor.proto, of which the paths to comments are made.
_MESSAGES, _ENUMS, _SERVICES, _SYNTAX = 4, 5, 6, 12
_FIELDS, _NESTED, _NESTED_ENUMS, _METHODS, _VALUES = 2, 3, 4, 2, 2

Place = tuple[int, ...]

INTRODUCTION = """# The gRPC API

<!-- Written by `make docs-api`. -->

`eigenmesh ctl` and programs talk to a running Eigenmesh through two services, `MeshService` (role
`read`) and `OperationsService` (role `write`), on `api.listen` (127.0.0.1:18001). The standard
health and reflection services are there too: `grpcurl -plaintext 127.0.0.1:18001 describe` works.

## Who may call

On loopback anybody may do anything, until the settings name somebody. Beyond loopback somebody has
to be named, or `eigenmesh check` refuses the settings:

```yaml
api:
  listen: 0.0.0.0:18001
  tls:
    certificate: /etc/eigenmesh/api.crt
    private_key: /etc/eigenmesh/api.key
    # Callers need a certificate; without these two lines tokens alone tell who calls.
    client_ca: /etc/eigenmesh/ca.crt
    roles: {"spiffe://mesh.example/ops/*": write, board.example: read}
  tokens:
    - {name: ann, role: write, file: /run/secrets/ann}
    - {name: grafana, role: read, env: GRAFANA_TOKEN}
  # anonymous: read      # what those may who show nothing
```

A token is shown as `authorization: Bearer TOKEN`. It is read from its file at every call, and
certificates whenever their files change: renewing or removing one needs no restart. Roles go by the
DNS and URI subject alternative names of a certificate; `*` stands for text without a slash. Whoever
has several roles has the best of them, and is called by its name in the audit: that of the token or
of the certificate, `local`, or `anonymous`. Calls that are not let in are logged, and counted in
`eigenmesh_api_calls_total` with the code `UNAUTHENTICATED` or `PERMISSION_DENIED`.

## From Python

```python
from eigenmesh.api.client import MeshClient

async with MeshClient("127.0.0.1:18001") as mesh:
    print((await mesh.get_mesh()).plan_in_force)
    forecast = await mesh.what_if({"shop": 300.0}, without=["b"])
    await mesh.pin("shop", {"a": 0.7})
    async for decision in mesh.watch_decisions():
        print(decision.number, decision.why)
```

`MeshClient(address, token=..., tls=ClientTls(ca=...))` shows a token over TLS; `details_of(error)`
in `eigenmesh.api.errors` gives the google.rpc details of what was refused.

## Lists

Lists come in pages (`page_size`, `page_token`). A page begins after the last item of the one
before: decisions that are made meanwhile, or Envoys that come and go, shift nothing. A token is of
one list.
"""


def page() -> str:
    """The whole page."""
    files = [_described(file) for file in FILES]
    *services, resources = files
    lines = [INTRODUCTION]
    for described in services:
        comments = _comments(described)
        for n, service in enumerate(described.service):
            lines += _service(service, described, comments, (_SERVICES, n))
    lines += ["## Messages", "", _comments(resources).get((_SYNTAX,), ""), ""]
    for described in (resources, *services):
        comments = _comments(described)
        for n, enum in enumerate(described.enum_type):
            lines += _enum(enum, comments, (_ENUMS, n))
        for n, message in enumerate(described.message_type):
            if not message.name.endswith("Request"):
                lines += _message(message, comments, (_MESSAGES, n))
    return "\n".join(lines).rstrip() + "\n"


def _described(file: Path) -> FileDescriptorProto:
    """With its comments."""
    with tempfile.NamedTemporaryFile() as out:
        bundled = Path(protoc.__file__).parent / "_proto"
        status = protoc.main(
            [
                *("protoc", f"-I{PROTO}", f"-I{bundled}", "--include_source_info"),
                *(f"--descriptor_set_out={out.name}", str(file)),
            ]
        )
        if status != 0:
            raise RuntimeError(f"{file}: protoc ended with status {status}; run `make proto`")
        [described] = FileDescriptorSet.FromString(Path(out.name).read_bytes()).file
    return described


def _comments(file: FileDescriptorProto) -> dict[Place, str]:
    """Place in the file -> what is said there."""
    found = {}
    for location in file.source_code_info.location:
        # What stands apart at the top is the file's own.
        parts = [*location.leading_detached_comments, location.leading_comments]
        if said := "\n".join(_unindented(part) for part in parts).strip("\n"):
            found[tuple(location.path)] = said
    return found


def _unindented(text: str) -> str:
    return "\n".join(line.removeprefix(" ") for line in text.splitlines())


def _service(
    service: ServiceDescriptorProto,
    file: FileDescriptorProto,
    comments: Mapping[Place, str],
    place: Place,
) -> Iterator[str]:
    requests = {m.name: (n, m) for n, m in enumerate(file.message_type)}
    yield from (f"## {service.name}", "", comments.get(place, ""), "")
    for n, method in enumerate(service.method):
        number, request = requests[_short(method.input_type)]
        answer = f"[{_short(method.output_type)}](#{_short(method.output_type).lower()})"
        stream = "a stream of " if method.server_streaming else ""
        yield from (f"### {method.name}", "", comments.get((*place, _METHODS, n), ""), "")
        yield from (f"Answers with {stream}{answer}.", "")
        yield from _fields(request, comments, (_MESSAGES, number))


def _message(
    message: DescriptorProto, comments: Mapping[Place, str], place: Place
) -> Iterator[str]:
    yield from (f"### {message.name}", "")
    if said := comments.get(place):
        yield from (said, "")
    yield from _fields(message, comments, place)
    for n, enum in enumerate(message.enum_type):
        yield from _enum(enum, comments, (*place, _NESTED_ENUMS, n))


def _enum(enum: EnumDescriptorProto, comments: Mapping[Place, str], place: Place) -> Iterator[str]:
    yield from (f"### {enum.name}", "", comments.get(place, ""), "")
    yield from ("| value | |", "|---|---|")
    for n, value in enumerate(enum.value):
        if said := comments.get((*place, _VALUES, n)):
            yield f"| `{value.name}` | {_line(said)} |"
    yield ""


def _fields(message: DescriptorProto, comments: Mapping[Place, str], place: Place) -> Iterator[str]:
    maps = {m.name: m for m in message.nested_type if m.options.map_entry}
    yield from ("| field | type | |", "|---|---|---|")
    for n, field in enumerate(message.field):
        said = _line(comments.get((*place, _FIELDS, n), ""))
        yield f"| `{field.name}` | {_type(field, maps)} | {said} |"
    yield ""


def _type(field: FieldDescriptorProto, maps: Mapping[str, DescriptorProto]) -> str:
    if (entry := maps.get(_short(field.type_name))) is not None:
        key, value = entry.field
        return f"map of {_type(key, {})} to {_type(value, {})}"
    name = _short(field.type_name) or FieldDescriptorProto.Type.Name(field.type)[5:].lower()
    if field.type_name.startswith(".eigenmesh."):
        name = f"[{name}](#{name.lower()})"
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"list of {name}"
    return f"{name}, optional" if field.proto3_optional else name


def _short(name: str) -> str:
    return name.rpartition(".")[2]


def _line(text: str) -> str:
    """For a cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page())
