"""docker-compose.yml: it is what the specification says, it is contained, and its services work
together, started natively by its own words (`topology`)."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import jsonschema
import pytest
import yaml

from eigenmesh.control.settings import load_settings
from eigenmesh.demo.processes import ChildProcess, ProcessError, envoy_binary
from eigenmesh.mesh import Observation
from eigenmesh.telemetry.prometheus import PrometheusSource

from .queries import BOARDS, answer, queries, resolved
from .topology import ROOT, Composed, ComposeError, load_compose, volumes

COMPOSE = load_compose()
SERVICES: dict[str, Any] = COMPOSE["services"]
MESH = "demo"
PATIENCE = 60.0
"""Seconds in which a composed stack must have come to what it comes to."""


def test_it_is_valid_by_the_compose_specification() -> None:
    schema = json.loads((Path(__file__).parent / "compose-spec/compose-spec.json").read_text())
    validator = jsonschema.Draft7Validator(schema)
    validator.validate(COMPOSE)
    broken = {**COMPOSE, "services": {"envoy": {"imagee": "x"}}}
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(broken)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_contained(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert int(service["user"].split(":")[0]) > 0
    limits = service["deploy"]["resources"]["limits"]
    assert {"cpus", "memory"} <= set(limits)
    assert re.search(r":v?\d+\.\d+\.\d+", service["image"]), "pin the version"
    assert "healthcheck" in service
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:")
    assert not ("ports" in service and service.get("network_mode") == "host")
    for source, inside, options in volumes(service):
        if source.startswith("."):
            assert options == "ro", f"{source} can be written"
        else:
            assert source in COMPOSE["volumes"], inside


def test_a_profile_is_chosen_and_others_stay_off() -> None:
    chosen = dict(line.split("=") for line in (ROOT / ".env").read_text().split())
    assert chosen == {"COMPOSE_PROFILES": "demo"}
    profiles = {name: service["profiles"] for name, service in SERVICES.items()}
    assert {p for [p] in profiles.values()} == {"demo", "sidecar", "overlay"}
    assert [name for name, [p] in profiles.items() if p != "demo"] == ["sidecar", "overlay"]


def test_the_image_is_built_of_what_there_is() -> None:
    """And of what .dockerignore lets through."""
    text = (ROOT / "deploy/Dockerfile").read_text()
    allowed = (ROOT / ".dockerignore").read_text().split()
    for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.M):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert f"!{source}" in allowed
    uid = re.findall(r"--uid (\d+)", text)[0]
    assert SERVICES["eigenmesh"]["user"].split(":")[0] == uid
    for image in re.findall(r"^FROM (\S+)", text, re.M):
        assert re.search(r":\d+\.\d+\.\d+-", image), "pin the version"


def test_grafana_finds_its_source_and_its_dashboards() -> None:
    inside = {place: ROOT / source for source, place, _ in volumes(SERVICES["grafana"])}
    provisioning = inside["/etc/grafana/provisioning"]
    [source] = yaml.safe_load((provisioning / "datasources/prometheus.yaml").read_text())[
        "datasources"
    ]
    host, port = source["url"].removeprefix("http://").split(":")
    assert f"--web.listen-address=0.0.0.0:{port}" in SERVICES[host]["command"]
    [provider] = yaml.safe_load((provisioning / "dashboards/eigenmesh.yaml").read_text())[
        "providers"
    ]
    boards = inside[provider["options"]["path"]]
    assert len(list(boards.glob("*.json"))) == len(BOARDS)
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (inside[str(Path(home).parent)] / Path(home).name).exists()


def test_envoy_takes_what_is_mounted() -> None:
    done = subprocess.run(
        [str(envoy_binary()), "--mode", "validate", "-c", str(ROOT / "deploy/envoy.yaml")],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def answers(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), timeout=1.0):
            return True
    except OSError:
        return False


def metrics(stack: Composed, name: str = "eigenmesh") -> dict[str, float]:
    with urlopen(f"http://{stack.addresses[name]}:18002/metrics", timeout=5) as response:
        lines = response.read().decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def prometheus(stack: Composed) -> str:
    return f"http://{stack.addresses['prometheus']}:9090"


def problems(stack: Composed) -> set[str]:
    """What a composed stack that works does not have, some seconds after its start."""
    found = set()
    for name, service in stack.services.items():
        for port in service.get("ports", []) if name != "grafana" else []:
            if not answers(stack.addresses[name], int(port.rpartition(":")[2])):
                found.add(f"{name}: nobody listens on port {port}")
    with urlopen(f"{prometheus(stack)}/api/v1/targets?state=active", timeout=5) as response:
        for target in json.load(response)["data"]["activeTargets"]:
            if target["health"] != "up":
                found.add(f"prometheus: {target['labels']['job']} is not up")
    rows = [row for line in stack.log("load").splitlines()[-8:] for row in rows_of(line)]
    well = [row[1] for row in rows if row[4] == 200]
    # A breaker may turn away a few on a busy machine.
    if len(well) < 0.9 * len(rows) or set(well) != {"shop", "search"}:
        found.add("load: not answered with 200")
    seen = metrics(stack)
    if seen["eigenmesh_observation_missing"] or not seen["eigenmesh_interval_seconds"]:
        found.add("eigenmesh: no data")
    if seen["eigenmesh_xds_nodes"] != 1:
        found.add("eigenmesh: no Envoy")
    if not seen['eigenmesh_decisions_total{action="push"}']:
        found.add("eigenmesh: nothing pushed")
    return found


def rows_of(line: str) -> list[list[Any]]:
    try:
        rows: list[list[Any]] = json.loads(line).get("rows", [])
    except ValueError:
        return []  # being written
    return rows


def comes_to(stack: Composed, expected: set[str]) -> None:
    """Waits until these are its problems, no more and no less."""
    end = time.monotonic() + PATIENCE
    while (found := problems(stack)) != expected:
        if time.monotonic() > end:
            logs = {name: stack.process(name).log_tail(5) for name in ("eigenmesh", "envoy")}
            pytest.fail(f"wanted {expected or 'no problem'}, there is {found}: {logs}")
        time.sleep(0.5)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Composed]:
    """The demo's services, all but Grafana, which has no binary here; Prometheus has the rules for
    fleets, too."""
    file = "deploy/prometheus/prometheus.yml"
    text = (ROOT / file).read_text()
    with_tick = text.replace("[recording.yml, ", "[tick.yml, recording.yml, ")
    assert with_tick != text
    with Composed(COMPOSE, tmp_path_factory.mktemp("demo"), files={file: with_tick}) as stack:
        stack.up(without=["grafana"])
        comes_to(stack, set())
        yield stack


def test_every_query_of_every_dashboard_has_data(demo: Composed) -> None:
    asked = [(where, resolved(q, MESH)) for board in BOARDS for where, q in queries(board)]
    assert len(asked) > 60
    end = time.monotonic() + PATIENCE
    while asked:
        asked = [(w, q) for w, q in asked if not answer(prometheus(demo), q, 60.0)]
        if asked and time.monotonic() > end:
            pytest.fail(f"no data for {asked}")
        time.sleep(1.0 if asked else 0.0)


def test_an_annotation_says_what_was_and_what_is_predicted(demo: Composed) -> None:
    [board] = [board for board in BOARDS if board["uid"] == "eigenmesh-mesh"]
    [mark] = [mark for mark in board["annotations"]["list"] if mark["name"] == "Pushed"]
    found = answer(prometheus(demo), resolved(mark["expr"], MESH), 60.0)
    pushed = [series for series in found if any(float(v) > 0 for _, v in series["values"])]
    assert pushed
    for series in pushed:
        assert float(series["metric"]["before"]) > 0
        assert float(series["metric"]["after"]) > 0


def test_every_rule_is_evaluated_and_no_critical_alert_fires(demo: Composed) -> None:
    with urlopen(f"{prometheus(demo)}/api/v1/rules", timeout=5) as response:
        groups = json.load(response)["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) > 40
    assert {rule["name"]: rule["lastError"] for rule in rules if rule.get("lastError")} == {}
    assert {rule["health"] for rule in rules} == {"ok"}
    firing = {
        rule["name"]
        for rule in rules
        if rule.get("state") == "firing" and rule["labels"]["severity"] == "critical"
    }
    assert firing == set()


async def test_recorded_series_tell_a_tick_the_same(demo: Composed) -> None:
    """Loads and latencies by deploy/prometheus/tick.yml are those of the proxies' own series."""
    settings = load_settings(ROOT / "deploy/eigenmesh.yaml")
    routes = settings.groups.route_stats()

    async def observed(job: str) -> Observation:
        source = PrometheusSource(
            [prometheus(demo)], settings.topology, routes, window=15.0, selector=f'job="{job}"'
        )
        try:
            return await source.observe(time.time())
        finally:
            await source.close()

    def agree(own: Observation, recorded: Observation) -> bool:
        return (
            recorded.complete
            and recorded.demands == pytest.approx(own.demands, rel=0.15)
            and all(
                recorded.clusters[name].load == pytest.approx(one.load, rel=0.15)
                and recorded.clusters[name].mean == pytest.approx(one.mean, rel=0.25)
                and set(recorded.clusters[name].quantiles) == set(one.quantiles)
                for name, one in own.clusters.items()
            )
        )

    # Their windows are not the same to the second, and weights may move between them.
    for _ in range(10):
        own, recorded = await observed("envoy"), await observed("eigenmesh-tick")
        if agree(own, recorded):
            return
        await asyncio.sleep(2.0)
    assert agree(own, recorded), (own, recorded)


def test_nothing_is_written_outside_of_volumes(demo: Composed) -> None:
    """Roots are read-only: what is open for writing is in a volume or in /tmp."""
    for name in ("eigenmesh", "prometheus", "envoy", "upstream-a"):
        own = [s for s, *_ in volumes(SERVICES[name]) if not s.startswith(".")]
        places = ("/dev/", *(str(demo.volume(source)) for source in own))
        for path in demo.written(name):
            scratch = "tmpfs" in SERVICES[name] and path.startswith("/tmp/")
            assert path.startswith(places) or (scratch and not demo.inside(path)), name
    assert list(demo.volume("journal").iterdir())
    assert list(demo.volume("metrics").iterdir())


Change = Callable[[dict[str, Any]], None]


def changed(*changes: Change) -> dict[str, Any]:
    """The document, changed; what anchors share is copied before."""
    document: dict[str, Any] = json.loads(json.dumps(COMPOSE))
    for change in changes:
        change(document["services"])
    return document


def put(path: str, value: Any) -> Change:
    """service.key.index = value"""

    def change(services: dict[str, Any]) -> None:
        at: Any = services
        *parents, last = path.split("/")
        for key in parents:
            at = at[int(key) if isinstance(at, list) else key]
        at[int(last) if isinstance(at, list) else last] = value

    return change


def put_in(path: str, old: str, new: str) -> Change:
    """Another word in a text."""

    def change(services: dict[str, Any]) -> None:
        at: Any = services
        for key in path.split("/"):
            at = at[int(key) if isinstance(at, list) else key]
        assert old in at
        put(path, at.replace(old, new))(services)

    return change


STOPPED = {
    "a file that is not there": ("eigenmesh", put("eigenmesh/volumes/0", "./deploy/no.yaml:/e:ro")),
    "a file in another place": (
        "eigenmesh",
        put_in("eigenmesh/volumes/0", "/etc/eigenmesh/", "/etc/other/"),
    ),
    "a volume that is not declared": ("eigenmesh", put_in("eigenmesh/volumes/1", "journal", "x")),
    "a flag that is none": ("upstream-a", put("upstream-a/command/0", "--slotz")),
    "a flag that is none of Prometheus": (
        "prometheus",
        put_in("prometheus/command/2", "retention.time", "retention.tame"),
    ),
    "a configuration that is not mounted": (
        "prometheus",
        put_in("prometheus/command/0", "prometheus.yml", "prometheus.yaml"),
    ),
    "another port than is asked": ("upstream-a", put("upstream-a/entrypoint/6", "8081")),
    "a module that is none": ("upstream-a", put("upstream-a/entrypoint/2", "eigenmesh.demo.up")),
    "a service that is not there": ("envoy", put("envoy/depends_on", {"eigen": {}})),
    "a version of Envoy that is not tested": (
        "envoy",
        put("envoy/image", "envoyproxy/envoy:v1.0.0"),
    ),
}


@pytest.mark.parametrize("wrong", STOPPED)
def test_what_is_wrong_in_a_service_stops_it(wrong: str, tmp_path: Path) -> None:
    name, change = STOPPED[wrong]
    with (
        Composed(changed(change), tmp_path, patience=4.0) as stack,
        pytest.raises((ComposeError, ProcessError)),
    ):
        stack.order()
        stack.start(name)


UNWELL = {
    "another port": ("eigenmesh", put_in("eigenmesh/healthcheck/test/3", "18002", "18003")),
    "another path": ("prometheus", put_in("prometheus/healthcheck/test/5", "/ready", "/redy")),
    "another program": ("prometheus", put("prometheus/healthcheck/test/1", "false")),
    "another path of Envoy": ("envoy", put_in("envoy/healthcheck/test/3", "/ready", "/nothing")),
    "another port of Envoy": ("envoy", put_in("envoy/healthcheck/test/3", "9901", "9902")),
    "another port of an upstream": (
        "upstream-a",
        put_in("upstream-a/healthcheck/test/3", "80", "70"),
    ),
}


@pytest.mark.parametrize("wrong", UNWELL)
def test_a_wrong_health_check_fails_on_a_service_that_is_well(wrong: str, demo: Composed) -> None:
    name, change = UNWELL[wrong]
    assert demo.healthy(name)
    kept = demo.services[name]
    demo.services[name] = changed(change)["services"][name]
    try:
        assert not demo.healthy(name)
    finally:
        demo.services[name] = kept


BETWEEN: dict[str, tuple[tuple[Change, ...], dict[str, tuple[str, str]], set[str]]] = {
    "ports and names": (
        (
            put("eigenmesh/ports/0", "127.0.0.1:18001:18011"),
            put("load/entrypoint/6", "10001"),
        ),
        {
            "deploy/prometheus/prometheus.yml": ("eigenmesh:18002", "eigenmesh:18003"),
            "deploy/eigenmesh.yaml": ("http://prometheus:9090", "http://prometheuz:9090"),
        },
        {
            "eigenmesh: nobody listens on port 127.0.0.1:18001:18011",
            "load: not answered with 200",
            "prometheus: eigenmesh is not up",
            "eigenmesh: no data",
            "eigenmesh: nothing pushed",
        },
    ),
    "an upstream's name": (
        (),
        {
            "deploy/eigenmesh.yaml": ("address: upstream-c,", "address: upstream-q,"),
            "deploy/prometheus/prometheus.yml": ("envoy:9901", "envoy:9902"),
        },
        {
            "load: not answered with 200",
            "prometheus: envoy is not up",
            "eigenmesh: no data",
            "eigenmesh: nothing pushed",
        },
    ),
}


@pytest.mark.parametrize("wrong", BETWEEN)
def test_what_is_wrong_between_services_is_seen(wrong: str, tmp_path: Path) -> None:
    changes, replaced, expected = BETWEEN[wrong]
    files = {}
    for file, (old, new) in replaced.items():
        text = (ROOT / file).read_text()
        assert old in text
        files[file] = text.replace(old, new)
    with Composed(changed(*changes), tmp_path, files=files) as stack:
        stack.up(without=["grafana"])
        comes_to(stack, expected)


@pytest.mark.parametrize("profile", ["sidecar", "overlay"])
def test_eigenmesh_serves_an_envoy_of_the_operators_own(profile: str, tmp_path: Path) -> None:
    with Composed(COMPOSE, tmp_path, profile=profile) as stack:
        stack.up()
        address = stack.addresses[profile]
        settings = tmp_path / profile / "etc/eigenmesh/eigenmesh.yaml"
        printed = bootstrap(settings, *(["--overlay"] if profile == "overlay" else []))
        own = tmp_path / "envoy.yaml"
        more = []
        if profile == "overlay":
            admin = {"socket_address": {"address": address, "port_value": 9901}}
            theirs = yaml.safe_load(settings.read_text())["envoy"]
            theirs |= {"admin": {"address": admin}, "node": {"id": "envoy-1", "cluster": "edge"}}
            own.write_text(yaml.safe_dump(theirs))
            more = ["--config-yaml", printed]
        else:
            own.write_text(printed)
        argv = [str(envoy_binary()), "-c", str(own), "--disable-hot-restart", *more]
        with ChildProcess("envoy", argv, log=tmp_path / "envoy.log") as envoy:
            end = time.monotonic() + PATIENCE
            while metrics(stack, profile)["eigenmesh_xds_nodes"] != 1 or not answers(
                address, 10000
            ):
                assert time.monotonic() < end, envoy.log_tail()
                time.sleep(0.2)


def bootstrap(settings: Path, *options: str) -> str:
    command = [sys.executable, "-m", "eigenmesh", "bootstrap", "-c", str(settings), *options]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
