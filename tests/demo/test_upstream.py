"""The upstream's slots in virtual time, and its HTTP."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator

import pytest

from eigenmesh.demo.processes import ChildProcess, free_port, http_get
from eigenmesh.demo.upstream import Connection, Job, Service


def jobs_of(service: Service) -> list[Job]:
    return list(service._jobs)


def arrive(service: Service, *demands: float) -> list[Job]:
    for demand in demands:
        service.arrive(Connection(service), demand)
    return jobs_of(service)[-len(demands) :]


async def test_requests_wait_for_the_earliest_free_slot() -> None:
    service = Service(slots=2, service_time=10.0)
    first, second, third, fourth = arrive(service, 1.0, 3.0, 1.0, 1.0)
    assert first.finish - first.start == pytest.approx(10.0)
    assert third.start == first.finish
    assert fourth.start == third.finish  # at 20, before the second one ends at 30
    assert fourth.finish == pytest.approx(second.finish, abs=0.1)


async def test_fewer_slots_let_what_runs_finish_and_make_the_rest_wait() -> None:
    service = Service(slots=3, service_time=10.0)
    one, two, three, waiting = arrive(service, 1.0, 2.0, 3.0, 1.0)
    assert waiting.start == one.finish
    service.resize(2, 20.0)
    assert waiting.start == two.finish
    assert waiting.finish == pytest.approx(two.finish + 20.0)
    assert three.finish - three.start == pytest.approx(30.0)  # was already being served


async def test_more_slots_start_what_waits_at_once() -> None:
    service = Service(slots=1, service_time=10.0)
    running, waiting = arrive(service, 1.0, 1.0)
    service.resize(2, 10.0)
    assert waiting.start < running.finish


async def test_reset_frees_every_slot() -> None:
    service = Service(slots=1, service_time=10.0)
    arrive(service, 5.0, 5.0)
    assert service.reset() == 2
    assert jobs_of(service) == []
    (job,) = arrive(service, 1.0)
    assert job.finish - job.start == pytest.approx(10.0)
    assert job.start == pytest.approx(asyncio.get_running_loop().time(), abs=1.0)


@pytest.mark.parametrize("query", ["slots=0", "service_time=0", "speed=2", "slots=many"])
async def test_a_bad_knob_changes_nothing(query: str) -> None:
    service = Service(slots=2, service_time=0.02)
    with pytest.raises(ValueError, match=r"knob|slots|invalid"):
        service.control(query)
    assert (service.slots, service.service_time) == (2, 0.02)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    port = free_port()
    argv = [sys.executable, "-m", "eigenmesh.demo.upstream", "--port", str(port)]
    argv += ["--slots", "4", "--service-time", "0.001"]
    with ChildProcess("upstream", argv, ready_port=port):
        yield port


async def exchange(port: int, data: bytes, answers: int) -> list[bytes]:
    """Status lines of `answers` responses to `data`, sent at once on one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    lines = []
    async with asyncio.timeout(5.0):
        for _ in range(answers):
            head = await reader.readuntil(b"\r\n\r\n")
            lines.append(head.split(b"\r\n")[0])
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
    writer.close()
    return lines


async def test_one_connection_serves_many_requests_with_bodies(port: int) -> None:
    request = b"POST /shop HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\nx-demand: 0.5\r\n\r\nbody"
    assert await exchange(port, request * 3, 3) == [b"HTTP/1.1 200 OK"] * 3


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\nx-demand: often\r\n\r\n", b"400"),
        (b"GET\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", b"411"),
    ],
)
async def test_what_it_does_not_understand_it_refuses(
    port: int, request_: bytes, status: bytes
) -> None:
    (line,) = await exchange(port, request_, 1)
    assert line.split(b" ")[1] == status


async def test_the_knobs_turn_while_it_runs(port: int) -> None:
    def knob(query: str) -> dict[str, float]:
        status, body = http_get(port, f"/_control?{query}")
        assert status == 200, body
        return dict(json.loads(body))

    get = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
    assert knob("slots=6&service_time=0.002")["slots"] == 6
    knob("error_rate=1")
    assert await exchange(port, get, 1) == [b"HTTP/1.1 500 Internal Server Error"]
    knob("error_rate=0&hang=1")
    hanging = asyncio.create_task(exchange(port, get, 1))
    async with asyncio.timeout(5.0):
        while (await asyncio.to_thread(knob, "hang=1"))["in_flight"] == 0:
            pass
    assert not hanging.done()
    assert knob("hang=0&reset=1")["dropped"] == 1
    assert await hanging == [b"HTTP/1.1 503 Service Unavailable"]
    assert await exchange(port, get, 1) == [b"HTTP/1.1 200 OK"]
    assert http_get(port, "/_control?speed=2")[0] == 400
