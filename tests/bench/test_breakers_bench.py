"""The scenarios of the breakers run and write what they say. Nothing here depends on time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def quick(scenario: str, folder: Path) -> dict[str, Any]:
    """The raw figures of a few seconds of it; its table and picture are there too."""
    options = ["--quick", "--results", str(folder), "--pictures", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", f"bench.breakers.{scenario}", *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    document: dict[str, Any] = json.loads((folder / f"breakers_{scenario}.json").read_text())
    # The machine of a test may be too busy to count, which the table then says.
    table = (folder / f"breakers_{scenario}.md").read_text()
    (one,) = document["repetitions"]
    assert one["idle"]["mean"] > 0.9 * min(service for _, service in document["upstreams"].values())
    assert ("No repetition counts." in table) == (not one["counts"])
    for name, raw in one["variants"].items():
        assert (f"| {name} |" in table) == one["counts"]
        windows = raw["windows"]
        for sent, *became in zip(
            *(windows[n] for n in ("sent", "answered", "blocked", "errors")), strict=True
        ):
            assert sent == sum(became)
        assert sum(windows["answered"]) >= sum(windows["good"]) >= 0
        assert sum(windows["answered"]) > 0
    assert (folder / f"breakers_{scenario}.svg").read_text().startswith("<?xml")
    return document


def test_every_variant_meets_the_same_load_and_its_own_limits(tmp_path: Path) -> None:
    variants = quick("capacity", tmp_path)["repetitions"][0]["variants"]
    sent = {name: sum(raw["windows"]["sent"]) for name, raw in variants.items()}
    assert max(sent.values()) - min(sent.values()) <= 0.05 * max(sent.values())
    first = {name: raw["samples"]["limit 1 a"][0] for name, raw in variants.items()}
    assert first["Envoy's defaults"] == 1024
    assert first["static, the knee"] < first["static, 3 knees"] < 1024
    assert sum(variants["static, the knee"]["windows"]["blocked"]) > 0
    assert sum(variants["Envoy's defaults"]["windows"]["blocked"]) == 0


def test_a_failing_upstream_draws_what_least_request_sends(tmp_path: Path) -> None:
    variants = quick("faults", tmp_path)["repetitions"][0]["variants"]
    errors = {name: sum(raw["windows"]["errors"]) for name, raw in variants.items()}
    assert errors["one cluster, LEAST_REQUEST"] > errors["one cluster, outlier detection"] > 0
    assert errors["weighted clusters, defaults"] > 0


def test_every_proxy_shows_its_own_limit_until_it_dies(tmp_path: Path) -> None:
    variants = quick("fleet", tmp_path)["repetitions"][0]["variants"]
    samples = variants["a third of the limit each"]["samples"]
    whole = variants["the same limit on every proxy"]["samples"]["limit 1 a"][0]
    assert [samples[f"limit {proxy} a"][0] for proxy in (1, 2, 3)] == [whole // 3] * 3
    assert samples["limit 3 a"][-1] is None
    assert samples["limit 1 a"][-1] == whole // 3


def test_retries_reach_the_upstream_and_a_light_load_is_left_alone(tmp_path: Path) -> None:
    variants = quick("retries", tmp_path)["repetitions"][0]["variants"]
    stormy = variants["retries unlimited"]
    reached = sum(
        values[-1] - values[0]
        for name, values in stormy["samples"].items()
        if name.startswith("arrived ")
    )
    assert reached > sum(stormy["windows"]["sent"])
    quiet = quick("harmless", tmp_path)["repetitions"][0]["variants"]
    assert sum(quiet["Envoy's defaults"]["windows"]["blocked"]) == 0


@pytest.mark.parametrize("smoothing", [0.9, 0.95])
def test_the_published_rule_settles_where_the_p95_is_the_target(smoothing: float) -> None:
    from bench.breakers.rule import Rule

    rule = Rule.at(200.0, smoothing, 0.1)
    for _ in range(300):
        rule = rule.after(0.002 * rule.limit)  # so the target is met by a limit of 50
    assert rule.limit == pytest.approx(50.0, rel=1e-3)
    for _ in range(300):
        rule = rule.after(100.0)
    assert rule.limit == pytest.approx(1.0)
    for _ in range(1000):
        rule = rule.after(0.001)
    assert rule.limit == pytest.approx(1024.0)
