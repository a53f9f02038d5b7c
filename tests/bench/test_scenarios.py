"""Scenario files: what they mean, what is refused, and what the figures of a run are."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.scenarios import document, policies, report
from bench.scenarios.figures import Run, verdicts
from bench.scenarios.model import Condition, Load, Target
from eigenmesh.control.settings import SettingsError
from eigenmesh.demo.load import LATE
from eigenmesh.demo.oracle import Upstream, best_weights

ROOT = Path(__file__).parents[2]
SMALL: dict[str, Any] = {
    "about": "Two upstreams.",
    "capacities": {"a": 400, "b": 200},
    "routes": {"shop": ["a", "b"]},
}


def complaint(changes: dict[str, Any] | None = None, *told: str) -> str:
    with pytest.raises(SettingsError) as caught:
        document.parse({**SMALL, **(changes or {})}, "small", told)
    (line,) = caught.value.lines
    return line


def test_every_file_is_valid_and_says_what_is_asked_of_eigenmesh() -> None:
    names = document.names()
    assert len(names) >= 12
    for name in names:
        for case in document.load(name):
            assert case.targets, name
            assert "Eigenmesh" in case.policies
            assert case.demands(case.load.level)


def test_capacities_are_exact_and_can_be_told_on_the_command_line() -> None:
    (one,) = document.parse(SMALL, "small", ["capacities.a=330", "load.level=0.5"])
    assert one.upstreams["a"].capacity == pytest.approx(330.0)
    assert one.upstreams["a"].slots == 7
    assert one.demands(one.load.level) == {"shop": pytest.approx(0.5 * 530.0)}


def test_what_varies_makes_cases_and_what_is_told_varies_no_more() -> None:
    varied = {"vary": {"load.level": [0.3, 0.7], "capacities.b": [100, 200, 300]}}
    assert len(document.parse({**SMALL, **varied}, "small")) == 6
    cases = document.parse({**SMALL, **varied}, "small", ["capacities.b=50"])
    assert [dict(case.case) for case in cases] == [{"load.level": 0.3}, {"load.level": 0.7}]
    assert {case.upstreams["b"].capacity for case in cases} == {50.0}


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"capacitys": {}}, ["capacitys", "unknown key", "capacities"]),
        ({"capacities": {"a": -1}}, ["capacities.a", "-1", "greater than 0"]),
        ({"routes": {"shop": ["a", "c"]}}, ["routes.shop.clusters", "'c'", "a, b"]),
        ({"events": [{"at": 1, "upstream": "x"}]}, ["events[0].upstream", "'x'", "a, b"]),
        ({"spans": {"late": [10, 500]}}, ["spans.late", "500", "120"]),
        ({"targets": [{"figure": "mean"}]}, ["targets[0]", "either most or least"]),
        ({"targets": [{"figure": "men", "most": 1}]}, ["targets[0].figure", "'men'", "mean"]),
        ({"policies": ["lucky"]}, ["policies", "'lucky'", "oracle"]),
        ({"seconds": "soon"}, ["seconds", "'soon'", "2s"]),
        ({"mesh": {"clusters": 4, "routes": 2, "capacities": [1]}}, ["mesh", "leave out"]),
    ],
)
def test_a_complaint_names_field_value_and_remedy(
    changes: dict[str, Any], names: list[str]
) -> None:
    line = complaint(changes)
    assert all(name in line for name in names), line


def test_a_change_that_is_none_is_refused() -> None:
    assert "KEY=VALUE" in complaint({}, "capacities.a")
    assert "capacities.a" in complaint({}, "capacities.a=many")


def test_events_add_up_until_an_upstream_is_healthy_again() -> None:
    events = [
        {"at": 10, "upstream": "a", "capacity": 0.5},
        {"at": 20, "upstream": "a", "fail_after": "5ms"},
        {"at": 30, "upstream": "a", "healthy": True},
    ]
    (one,) = document.parse({**SMALL, "events": events}, "small")
    assert one.condition("a", 5.0) == Condition(8, 0.02)
    assert one.condition("a", 15.0).capacity == pytest.approx(200.0)
    assert one.condition("a", 25.0).capacity == 0.0
    assert one.condition("a", 30.0) == one.condition("a", 5.0)
    assert one.condition("b", 25.0).capacity == pytest.approx(200.0)


@pytest.mark.parametrize("shape", ["steady", "bursty", "swing"])
def test_shapes_have_the_level_as_their_mean(shape: Any) -> None:
    steps = Load(shape=shape, high=1.8, busy=2.0, calm=8.0).steps(-15.0, 5000.0, seed=3)
    times = np.array([at for at, _ in steps] + [5000.0])
    factors = np.array([factor for _, factor in steps])
    assert times[0] == -15.0
    assert (factors > 0.0).all()
    mean = float((np.diff(times) * factors).sum() / (times[-1] - times[0]))
    assert mean == pytest.approx(1.0, abs=0.03)


def test_the_oracle_agrees_with_the_one_of_the_demo() -> None:
    capacities = {"a": 400, "b": 200, "c": 100}
    (one,) = document.parse(
        {**SMALL, "capacities": capacities, "routes": {"shop": ["a", "b", "c"]}}, "small"
    )
    split = policies.oracle(one, 0.0).plan.weights["shop"]
    truth = best_weights([Upstream(n, round(c / 50), 0.02) for n, c in capacities.items()], 490.0)
    assert split == pytest.approx(truth.weights, abs=2e-3)


def test_the_oracle_keeps_what_others_need_out_of_the_way() -> None:
    (one,) = document.load("shared", ["load.level=0.6"])
    together = policies.oracle(one, 0.0).plan.weights
    alone = policies.greedy(one, 0.0).plan.weights
    assert together["cart"]["fast"] < alone["cart"]["fast"] - 0.1


def test_l3s_rule_prefers_the_quick_and_flees_failures() -> None:
    from eigenmesh.mesh import ClusterObservation

    quick = ClusterObservation(100.0, 100.0, 0.01, 1.0)
    slow = ClusterObservation(100.0, 100.0, 0.1, 10.0)
    failing = ClusterObservation(100.0, 100.0, 0.01, 1.0, upstream_errors=50.0)
    assert policies.l3_weight(quick) > policies.l3_weight(slow) > policies.l3_weight(failing)
    # 100 / ((10/100 + 1)^2 * 0.1) by hand.
    assert policies.l3_weight(slow) == pytest.approx(826.446, rel=1e-5)


def test_whoever_answers_least_is_not_the_quickest() -> None:
    run = Run(
        due=np.array([0.5, 0.6, 1.5, 1.6]),
        latency=np.array([0.01, 0.03, 6.0, 0.002]),
        status=np.array([200, 200, LATE, -503]),
        overloaded=np.array([0, 0, 0, 1]),
        times=[0.0, 2.0],
        arrived={"a": [0, 3], "b": [0, 0]},
        moves=[(0.5, 0.1), (3.0, 0.5)],
    )
    found = run.figures(0.0, 2.0, 0.02)
    assert found["answered"] == 0.5
    assert found["blocked"] == 0.25
    assert found["goodput"] == 0.5
    assert found["mean"] == pytest.approx((0.01 + 0.03 + 5.0) / 3.0, rel=1e-4)
    assert found["share a"] == 1.0
    assert found["churn"] == pytest.approx(3.0)
    windows = run.windows(2.0, 0.02)
    assert windows["answered"] == [2.0, 0.0]
    assert math.isinf(windows["mean"][1])


def test_targets_are_judged_within_each_repetition() -> None:
    def one(mine: float, rivals: float) -> dict[str, Any]:
        return {"Eigenmesh": {"run": {"mean": mine}}, "oracle": {"run": {"mean": rivals}}}

    target = Target("mean", "run", most=1.05, against="oracle", where={"load.level": 0.7})
    runs = [one(1.0, 1.0), one(2.2, 2.0), one(3.0, 3.0)]
    (found,) = verdicts([target], {"load.level": 0.7}, runs)
    assert [found.value, found.low, found.high] == pytest.approx([1.0, 1.0, 1.1])
    assert found.met
    assert not verdicts([target], {"load.level": 0.3}, runs)
    (missed,) = verdicts([Target("mean", "run", most=1.5)], {}, runs)
    assert not missed.met


def test_a_quick_run_of_one_scenario_fills_the_tables(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "bench.scenarios", "capacities", "--twin"),
            *("--repetitions", "2", "--results", str(tmp_path), "--pictures", str(tmp_path)),
            *("--set", "load.level=0.7", "--set", "seconds=6", "--set", "warm_up=4"),
            *("--set", "spans={first minute: [0, 3], settled: [2, 6]}"),
            *("--policies", "equal,least request,oracle,Eigenmesh"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "scenarios.json").read_text())
    (case,) = found["twin"]["capacities"]["cases"]
    assert len(case["repetitions"]) == 2
    assert case["repetitions"][0] != case["repetitions"][1]
    table = (tmp_path / "scenarios.md").read_text()
    assert "simulated" in table.lower()
    assert "| settled | Eigenmesh |" in table
    assert report.summary(found).count("| simulated |") == len(report.judged(case))
    assert (tmp_path / "scenario_capacities.svg").read_text().startswith("<?xml")
