"""Credentials, TLS, retries and failover, before a real Prometheus."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from pathlib import Path

import pytest
import yaml

from eigenmesh.demo.processes import PrometheusProcess, free_port
from eigenmesh.telemetry.access import Access, Secret, Tls
from eigenmesh.telemetry.prometheus import PrometheusSource

from ..certificates import make_authority, make_certificate
from .bed import ROUTES, TOPOLOGY
from .gateway import Gateway
from .scraped import Scraped, until

pytestmark = pytest.mark.asyncio(loop_scope="package")

PASSWORD = "open sesame"
HASHED = "$2b$04$abcdefghijklmnopqrstuu/LVz6MZlItEy42I2juLihZ66HnQx/cy"


def nowhere() -> str:
    return f"http://127.0.0.1:{free_port()}"


def secret(folder: Path, text: str) -> Secret:
    file = folder / "secret"
    file.write_text(text + "\n")
    return Secret(file=file)


async def answer(source: PrometheusSource) -> str:
    """The reason that there is no data."""
    seen = await source.observe(time.time())
    await source.close()
    return seen.missing["a"]


async def test_a_prometheus_with_mutual_tls_and_a_password(tmp_path: Path) -> None:
    make_authority(tmp_path)
    make_authority(tmp_path, "other")
    make_certificate(tmp_path, "server", "DNS:prometheus.example")
    make_certificate(tmp_path, "client", "DNS:eigenmesh.example")
    web = {
        "tls_server_config": {
            "cert_file": "server.crt",
            "key_file": "server.key",
            "client_ca_file": "ca.crt",
            "client_auth_type": "RequireAndVerifyClientCert",
        },
        "basic_auth_users": {"eigenmesh": HASHED},
    }
    (tmp_path / "web.yaml").write_text(yaml.safe_dump(web))
    server = PrometheusProcess(
        [], free_port(), extra=[f"--web.config.file={tmp_path / 'web.yaml'}"]
    )
    server.ready_path = None
    url = f"https://127.0.0.1:{server.port}"
    ours = Tls(
        tmp_path / "ca.crt",
        tmp_path / "client.crt",
        tmp_path / "client.key",
        server_name="prometheus.example",
    )

    def asking(tls: Tls | None, password: str) -> PrometheusSource:
        access = Access(username="eigenmesh", password=secret(tmp_path, password), tls=tls)
        return PrometheusSource([url], TOPOLOGY, ROUTES, timeout=5.0, retries=0, access=access)

    async with server:
        async with asyncio.timeout(30.0):
            while "status 503" in (said := await answer(asking(ours, PASSWORD))):
                await asyncio.sleep(0.1)  # it listens before it is ready
        assert said == "Prometheus: no samples in the last 6 s"
        assert "status 401, the credentials were refused" in await answer(asking(ours, "x"))
        anonymous = Tls(ours.ca, server_name=ours.server_name)
        assert "cannot be read" in await answer(asking(anonymous, PASSWORD))
        stranger = Tls(tmp_path / "other.crt", ours.certificate, ours.private_key, ours.server_name)
        assert "certificate verify failed" in await answer(asking(stranger, PASSWORD))
        misnamed = Tls(ours.ca, ours.certificate, ours.private_key)
        assert "certificate" in await answer(asking(misnamed, PASSWORD))

        # A certificate that was renewed in its files is taken up without a restart.
        source = asking(ours, PASSWORD)
        make_certificate(tmp_path, "client", "DNS:eigenmesh.example", authority="other")
        assert "cannot be read" in (await source.observe(time.time())).missing["a"]
        make_certificate(tmp_path, "client", "DNS:eigenmesh.example")
        assert "no samples" in (await source.observe(time.time())).missing["a"]
        await source.close()


async def test_a_token_is_read_anew_and_a_tenant_is_named(
    scraped: Scraped, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    required = {"Authorization": "Bearer t0ken-1", "X-Scope-OrgID": "shop"}
    tenant = {"X-Scope-OrgID": "shop"}
    async with Gateway(scraped.server.url, required).running() as gateway:
        source = scraped.source(
            gateway.url, access=Access(headers=tenant, bearer=secret(tmp_path, "t0ken-0"))
        )
        refused = await source.observe(time.time())
        assert refused.missing["a"].endswith("the credentials were refused; check bearer or basic")
        secret(tmp_path, "t0ken-1")
        await until(source, lambda o: o.complete)
        await source.close()
        monkeypatch.setenv("TOKEN", "t0ken-1")
        source = scraped.source(
            gateway.url, access=Access(headers=tenant, bearer=Secret(env="TOKEN"))
        )
        await until(source, lambda o: o.complete)
        await source.close()
        asked = gateway.asked
        without = scraped.source(gateway.url, access=Access(bearer=Secret(env="TOKEN")))
        assert "refused" in await answer(without)
        # Who is refused does not knock again.
        assert gateway.asked == asked + 1


async def test_no_secret_is_ever_shown(
    scraped: Scraped, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    required = {"Authorization": "Bearer another"}
    async with Gateway(scraped.server.url, required).running() as gateway:
        shown = []
        for access in (
            Access(headers={"X-Key": "hunter2"}, bearer=secret(tmp_path, "hunter2")),
            Access(username="u", password=secret(tmp_path, "hunter2")),
            Access(bearer=secret(tmp_path, "hunter2\nhunter2")),
        ):
            for url in (gateway.url, nowhere()):
                source = scraped.source(url, access=access)
                shown.append(str(await source.observe(time.time())) + repr(access))
                await source.close()
    assert "hunter2" not in "".join(shown) + caplog.text
    assert "secret: has more than one line" in shown[-1]


async def test_what_is_busy_for_a_moment_is_asked_again_within_the_time(scraped: Scraped) -> None:
    async with Gateway(scraped.server.url, trouble=lambda n: [503, 429, None][n % 3]).running() as (
        gateway
    ):
        source = scraped.source(gateway.url)
        await until(source, lambda o: o.complete)
        assert gateway.asked % 3 == 0
        gateway.trouble = lambda n: 503
        asked = gateway.asked
        seen = await source.observe(time.time())
        assert seen.missing["a"] == "Prometheus: status 503, and not JSON"
        assert gateway.asked == asked + 3
        gateway.trouble = lambda n: 302
        seen = await source.observe(time.time())
        assert "give the address that it redirects to" in seen.missing["a"]
        await source.close()


async def test_the_server_that_answers_is_kept_to_and_named(scraped: Scraped) -> None:
    store = scraped.server.url
    async with Gateway(store).running() as first, Gateway(store).running() as second:
        source = scraped.source(dead := nowhere(), first.url, second.url, retries=0)
        seen = await source.observe(time.time())
        assert seen.source.startswith(f"{first.url}; not {dead}: cannot be read")
        assert (await source.observe(time.time())).source == first.url
        first.trouble = lambda n: 503
        seen = await source.observe(time.time())
        assert seen.source == f"{second.url}; not {first.url}: status 503, and not JSON"
        first.trouble = lambda n: None
        assert (await source.observe(time.time())).source == second.url
        # A slow one leaves time for the others.
        second.delay = 60.0
        seen = await source.observe(time.time())
        assert seen.source.startswith(f"{first.url}; not {second.url}: no answer within 1 s")
        await source.close()


async def test_an_empty_store_is_not_kept_to(scraped: Scraped) -> None:
    empty = b'{"status":"success","data":{"resultType":"matrix","result":[]}}'
    async with Gateway(scraped.server.url, change=lambda body: empty).running() as gateway:
        source = scraped.source(gateway.url, scraped.server.url)
        assert "no samples" in (await source.observe(time.time())).missing["a"]
        seen = await source.observe(time.time())
        assert seen.source == scraped.server.url
        assert seen.clusters
        await source.close()


async def test_when_nobody_answers_every_reason_is_given(scraped: Scraped) -> None:
    one, two = nowhere(), nowhere()
    why = await answer(scraped.source(one, two, retries=1))
    assert why.startswith(f"Prometheus: {one}: cannot be read: ")
    assert f"; {two}: cannot be read: " in why


async def test_the_connections_are_closed(scraped: Scraped) -> None:
    def sockets() -> int:
        links = (os.path.join("/proc/self/fd", fd) for fd in os.listdir("/proc/self/fd"))
        return sum(os.path.lexists(link) and "socket" in os.readlink(link) for link in links)

    before = sockets()
    source = scraped.source()
    await until(source, lambda o: o.complete)
    assert sockets() > before
    await source.close()
    await asyncio.sleep(0)
    assert sockets() == before
