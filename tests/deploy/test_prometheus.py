"""What Prometheus is given: it takes it, every alert fires when it should, and has its runbook."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from eigenmesh.control.metrics import Metrics
from eigenmesh.mesh import Cluster, Route, Topology
from eigenmesh.telemetry.catalogue import CLUSTER_STATS, ROUTE_STATS, TIME, Catalogue

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/prometheus"
ALERTS = [
    rule
    for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]


def promtool(*arguments: str | Path) -> None:
    binary = shutil.which("promtool")
    assert binary, "promtool comes with Prometheus; `make test` installs it"
    done = subprocess.run(
        [binary, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_its_configuration_and_the_rules_that_it_names() -> None:
    promtool("check", "config", FOLDER / "prometheus.yml")
    promtool("check", "rules", *sorted(FOLDER.glob("[!p]*.yml")))


def test_alerts_fire_and_are_quiet_when_they_should() -> None:
    promtool("test", "rules", Path(__file__).with_name("alerts_test.yml"))


def test_every_alert_is_tested_both_ways() -> None:
    tests = yaml.safe_load(Path(__file__).with_name("alerts_test.yml").read_text())["tests"]
    tried = {
        (re.findall(r'alertname="(\w+)"', check["expr"])[0], check["exp_samples"][0]["value"])
        for test in tests
        for check in test["promql_expr_test"]
        if "ALERTS" in check["expr"]
    }
    assert tried == {(alert["alert"], value) for alert in ALERTS for value in (0, 1)}


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: str(alert["alert"]))
def test_an_alert_says_what_it_is_and_where_to_read_on(alert: dict[str, Any]) -> None:
    said = alert["annotations"]
    assert alert["labels"]["severity"] in {"critical", "warning", "info"}
    assert said["summary"]
    assert said["description"]
    page, _, anchor = said["runbook_url"].partition("#")
    assert anchor == alert["alert"].lower()
    headings = re.findall(r"^### (.+)$", (ROOT / page).read_text(), re.M)
    assert alert["alert"] in headings


def test_rules_ask_for_metrics_that_eigenmesh_has() -> None:
    known = set()
    for family in Metrics().families.all:
        suffixes = ("_bucket", "_sum", "_count") if family.kind == "histogram" else ("",)
        known |= {family.name + suffix for suffix in suffixes}
    for file in ("alerts.yml", "recording.yml"):
        for group in yaml.safe_load((FOLDER / file).read_text())["groups"]:
            for rule in group["rules"]:
                asked = set(re.findall(r"(?<![:\w])eigenmesh_\w+", rule["expr"]))
                assert asked <= known, rule


def test_the_scrape_of_envoy_keeps_what_eigenmesh_reads() -> None:
    """Envoy's names of every statistic that the source wants pass the filter of the scrape."""
    [job] = [
        job
        for job in yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"]
        if job["job_name"] == "envoy"
    ]
    [pattern] = job["params"]["filter"]
    wanted = ["server.uptime", "cluster.a.circuit_breakers.default.rq_open"]
    wanted += [f"cluster.a.{stat}" for stat in CLUSTER_STATS]
    wanted += [f"vhost.demo.route.shop.{stat}" for stat in ROUTE_STATS]
    for name in wanted:
        assert re.search(pattern, name), name
    assert not re.search(pattern, "cluster.a.upstream_cx_length_ms")


def test_the_rules_for_fleets_record_all_that_eigenmesh_reads() -> None:
    """Under Envoy's own names, with the labels by which it knows them."""
    [group] = yaml.safe_load((FOLDER / "tick.yml").read_text())["groups"]
    topology = Topology((Cluster("a"),), (Route("shop", ("a",)),))
    catalogue = Catalogue(topology, {"shop": ("demo", "shop")})
    labels = {
        "envoy_cluster_name": "a",
        "envoy_virtual_host": "demo",
        "envoy_route": "shop",
        "envoy_response_code_class": "5",
        "envoy_response_code": "503",
        "le": "100",
    }
    found = set()
    for rule in group["rules"]:
        name, kept = rule["record"], re.findall(r"by \(([^)]+)\)", rule["expr"])[0].split(", ")
        assert f"({name}{{" in rule["expr"]
        slot = catalogue.slot(name, {k: v for k, v in labels.items() if k in kept})
        assert slot is not None, name
        found.add((slot.owner.kind, slot.stat))
    histogram = {f"{TIME}{suffix}" for suffix in ("_sum", "_count", "_bucket")}
    wanted = {("cluster", stat) for stat in {*CLUSTER_STATS, *histogram} - {TIME}}
    assert found == wanted | {("route", stat) for stat in ROUTE_STATS} | {("server", "uptime")}
