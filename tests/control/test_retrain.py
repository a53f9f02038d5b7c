"""Angles from a journal: real decisions of the real solvers, a real SQLite file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from eigenmesh.cli.main import app
from eigenmesh.control.journal import Journal
from eigenmesh.control.proposal import with_default_limits
from eigenmesh.control.settings import load_settings
from eigenmesh.mesh import (
    Action,
    ClusterObservation,
    CurveEstimate,
    Decision,
    LatencyCurve,
    Observation,
    Plan,
)
from eigenmesh.optimize.angles import load

SETTINGS = """
journal: {journal}
telemetry: {{envoy: {{admin: ["http://127.0.0.1:9901"]}}}}
objective: {{slo: 50ms}}
envoy:
  listeners:
    - name: edge
      address: {{socket_address: {{address: 127.0.0.1, port_value: 10000}}}}
      filter_chains:
        - filters:
            - name: envoy.filters.network.http_connection_manager
              typed_config:
                "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
                stat_prefix: edge
                http_filters:
                  - name: envoy.filters.http.router
                    typed_config:
                      "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router
                route_config:
                  name: edge
                  virtual_hosts:
                    - name: all
                      domains: ["*"]
                      routes:
                        - name: shop
                          match: {{prefix: /}}
                          route:
                            weighted_clusters:
                              clusters: [{{name: a, weight: 1}}, {{name: b, weight: 1}}, {{name: c, weight: 1}}]
  clusters: [{{name: a}}, {{name: b}}, {{name: c}}]
"""  # noqa: E501


def decision(number: int, demand: float, plan: Plan) -> Decision:
    curves = {"a": (0.02, 400.0), "b": (0.02, 200.0), "c": (0.03, 100.0)}
    seen = ClusterObservation(
        load=demand / 3, throughput=demand / 3, mean=0.02, in_flight=4.0, quantiles={},
        upstream_errors=0.0, breaker_errors=0.0,
    )  # fmt: skip
    return Decision(
        number=number,
        time=1e9 + number,
        action=Action.HOLD,
        why="test",
        plan=plan,
        observation=Observation(1e9 + number, 2.0, dict.fromkeys("abc", seen), {"shop": demand}),
        curves={k: CurveEstimate(LatencyCurve(*v), 0.05, 0.05, 9) for k, v in curves.items()},
    )


@pytest.fixture
def settings_file(tmp_path: Path) -> Path:
    file = tmp_path / "eigenmesh.yaml"
    file.write_text(SETTINGS.format(journal=tmp_path / "journal.sqlite"))
    return file


def test_angles_of_a_journal_suit_its_mesh_better(settings_file: Path, tmp_path: Path) -> None:
    settings = load_settings(settings_file)
    journal = Journal(settings.model.journal.path)
    plan = with_default_limits(Plan.equal(settings.topology), settings.topology)
    for number, demand in enumerate((420, 480, 540, 600, 660, 720, 600), start=1):
        journal.record(decision(number, demand, plan))
    journal.close()
    out = tmp_path / "angles.json"
    arguments = ["train-angles", "-c", str(settings_file), "-o", str(out), "--layers", "3"]
    found = CliRunner().invoke(app, arguments)
    assert found.exit_code == 0, found.output
    assert "6 blocks of 7 decisions" in found.output  # one demand came twice
    shares = [float(w.rstrip("%,")) for w in found.output.split() if w.rstrip(",").endswith("%")]
    _, before, after = shares
    assert after > before
    angles = load(3, "journal", out)
    assert angles.gammas.shape == (3,)
    document = settings_file.read_text() + (
        f"circuits: {{angles: {out}, family: journal, layers: 3}}\n"
    )
    settings_file.write_text(document)
    assert load_settings(settings_file).model.circuits.settings().angles == out
    settings_file.write_text(document.replace("layers: 3", "layers: 4"))
    found = CliRunner().invoke(app, ["check", str(settings_file)])
    assert found.exit_code == 1
    assert "circuits.layers: 4: use one of: 3" in found.output


def test_a_journal_that_teaches_nothing(settings_file: Path, tmp_path: Path) -> None:
    arguments = ["train-angles", "-c", str(settings_file), "-o", str(tmp_path / "a.json")]
    found = CliRunner().invoke(app, arguments)
    assert found.exit_code == 1
    assert "there is no such file" in found.output
    Journal(tmp_path / "journal.sqlite").close()
    found = CliRunner().invoke(app, arguments)
    assert found.exit_code == 1
    assert "0 decisions, none with blocks to learn from" in found.output


@pytest.mark.parametrize("text", ["", "[]", json.dumps({"version": 1, "families": {}})])
def test_a_table_of_angles_that_is_none(settings_file: Path, tmp_path: Path, text: str) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text(text)
    settings_file.write_text(settings_file.read_text() + f"circuits: {{angles: {bad}}}\n")
    found = CliRunner().invoke(app, ["check", str(settings_file)])
    assert found.exit_code == 1
    assert "circuits.angles" in found.output
