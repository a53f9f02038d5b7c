"""What `ctl` says and how it ends when it cannot do what was asked: 1 refused, 2 usage, 3 not
reached, 4 not allowed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from typer.testing import CliRunner, Result

from eigenmesh.cli.main import app
from tests.certificates import make_authority, make_certificate
from tests.cli.api import Api, serving

Ctl = Callable[..., Result]
Code = grpc.StatusCode


def refusal(code: Code, message: str, *details: Message) -> tuple[Code, str, bytes]:
    status = status_pb2.Status(code=code.value[0], message=message)
    for one in details:
        packed = any_pb2.Any()
        packed.Pack(one)
        status.details.append(packed)
    return code, message, status.SerializeToString()


def test_a_bad_field_is_a_line_with_what_to_do(api: Api, ctl: Ctl) -> None:
    violation = error_details_pb2.BadRequest.FieldViolation
    bad = error_details_pb2.BadRequest(
        field_violations=[
            violation(field="values.max_step", description="7.0: use more than 0, at most 1"),
            violation(field="values.min\x1b[gain", description="-1.0: use 0 to 1"),
        ]
    )
    api.refusals["SetPolicy"] = refusal(Code.INVALID_ARGUMENT, "two fields", bad)
    done = ctl("policy", "max_step=7", "min_gain=-1")
    assert done.exit_code == 1
    assert done.stderr.splitlines() == [
        "eigenmesh: values.max_step: 7.0: use more than 0, at most 1",
        "eigenmesh: values.min�[gain: -1.0: use 0 to 1",
    ]
    assert not done.stdout


@pytest.mark.parametrize(
    ("code", "details", "exit_code", "said"),
    [
        (Code.FAILED_PRECONDITION, None, 1, "eigenmesh: the reason"),
        (Code.NOT_FOUND, error_details_pb2.ResourceInfo(), 1, "eigenmesh: the reason"),
        (Code.UNAVAILABLE, error_details_pb2.RetryInfo(), 1, "eigenmesh: the reason"),
        (Code.DATA_LOSS, None, 1, "eigenmesh: the reason"),
        (Code.UNAVAILABLE, None, 3, "is `eigenmesh run` up"),
        (Code.DEADLINE_EXCEEDED, None, 3, "raise --timeout"),
        (Code.UNIMPLEMENTED, None, 3, "another version of Eigenmesh"),
        (Code.UNAUTHENTICATED, error_details_pb2.ErrorInfo(), 4, "--token-file"),
        (Code.PERMISSION_DENIED, error_details_pb2.ErrorInfo(), 4, "role is write"),
    ],
)
def test_exit_status(
    code: Code, details: Message | None, exit_code: int, said: str, api: Api, ctl: Ctl
) -> None:
    api.refusals["Pause"] = (
        (code, "the reason", None) if details is None else refusal(code, "the reason", details)
    )
    done = ctl("pause")
    assert done.exit_code == exit_code
    [line] = done.stderr.splitlines()
    assert "the reason" in line
    assert said in line


def test_details_that_contradict_the_status_are_no_details(api: Api, ctl: Ctl) -> None:
    status = status_pb2.Status(code=code_pb2.NOT_FOUND, message="other")
    api.refusals["Pause"] = (Code.ABORTED, "the reason", status.SerializeToString())
    done = ctl("pause")
    assert done.exit_code == 1
    assert done.stderr == "eigenmesh: the reason\n"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("freeze", "give a duration"),
        ("freeze 2h --until 2026-12-24T18:00Z", "give a duration"),
        ("freeze 2", "90s, 30m"),
        ("freeze --until tomorrow", "write a time"),
        ("pin shop", "Missing argument"),
        ("pin shop a", "cluster=0.7"),
        ("policy max_step", "max_step=0.05"),
        ("explain last", "latest or pending"),
        ("rollback", "Missing argument"),
        ("rollback 0", "Invalid value"),
        ("mode on", "observe"),
        ("mode auto --route r --cluster c", "not both"),
        ("whatif --demand shop", "route=300"),
        ("whatif --scale -1", "Invalid value"),
        ("status --cert /dev/null", "go together"),
        ("status --token-file /nowhere", "does not exist"),
        ("status -o xml", "Invalid value"),
        ("nonsense", "No such command"),
    ],
)
def test_usage_is_status_2_and_asks_nothing(command: str, said: str, api: Api, ctl: Ctl) -> None:
    done = ctl(*command.split())
    assert done.exit_code == 2
    assert said in " ".join(done.stderr.replace("│", "").split())
    assert "\x1b" not in done.output
    assert not api.asked


def test_a_slow_answer_is_not_waited_for(api: Api, ctl: Ctl) -> None:
    over = threading.Event()
    api.answers["GetMesh"] = lambda _: over.wait(30.0) and None
    done = ctl("status", "--timeout", "0.2")
    over.set()
    assert done.exit_code == 3
    assert "raise --timeout" in done.stderr


def test_the_token_is_sent_and_never_shown(api: Api, ctl: Ctl, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("s3cret\n")
    api.refusals["Pause"] = (Code.UNAUTHENTICATED, "who are you?", None)
    done = ctl("pause", "--token-file", file)
    assert api.asked[-1][2]["authorization"] == "Bearer s3cret"
    assert done.exit_code == 4
    assert "s3cret" not in done.output


def test_a_certificate_is_shown_to_a_server_that_wants_one(tmp_path: Path) -> None:
    make_authority(tmp_path)
    make_certificate(tmp_path, "server", "IP:127.0.0.1")
    make_certificate(tmp_path, "me", "DNS:me.example")
    pems = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    credentials = grpc.ssl_server_credentials(
        [(pems["server.key"], pems["server.crt"])], pems["ca.crt"], require_client_auth=True
    )
    with serving(credentials) as api:
        status = ["ctl", "status", "-a", api.address, "--ca", str(tmp_path / "ca.crt")]
        own = ["--cert", str(tmp_path / "me.crt"), "--key", str(tmp_path / "me.key")]
        done = CliRunner().invoke(app, [*status, *own])
        assert done.exit_code == 0, done.output
        assert done.stdout.startswith("mesh demo")
        assert CliRunner().invoke(app, status).exit_code == 3
        plain = CliRunner().invoke(app, ["ctl", "status", "-a", api.address])
        assert plain.exit_code == 3
