"""Settings changed live: what is applied, what is refused, what a plan keeps."""

from __future__ import annotations

import asyncio
import copy
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from eigenmesh.control.journal import JournalWriteError
from eigenmesh.control.metrics import Metrics
from eigenmesh.control.reload import Reloader, carried, needs_restart
from eigenmesh.control.settings import Settings, SettingsError, load_settings, parse_document
from eigenmesh.control.sidecar import Sidecar
from eigenmesh.demo import stage
from eigenmesh.mesh import BreakerLimits, Plan

LOOK = 0.02


def document(folder: Path) -> dict[str, Any]:
    return stage.settings(stage.Ports(), folder / "journal.sqlite")


def write(file: Path, content: dict[str, Any]) -> None:
    file.write_text(yaml.safe_dump(content))


class Applied:
    """Takes what is applied; `fails`: the next one is not."""

    def __init__(self) -> None:
        self.settings: list[Settings] = []
        self.fails: Exception | None = None

    async def __call__(self, settings: Settings) -> None:
        if self.fails is not None:
            raise self.fails
        self.settings.append(settings)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def counted(metrics: Metrics, outcome: str) -> float:
    return (
        metrics.registry.get_sample_value("eigenmesh_settings_reloads_total", {"outcome": outcome})
        or 0.0
    )


async def watching(
    folder: Path, test: Callable[[Reloader, Path, dict[str, Any], Applied], Awaitable[None]]
) -> Metrics:
    """Runs the test beside a reloader of the stage's settings."""
    file, content, applied, metrics = folder / "e.yaml", document(folder), Applied(), Metrics()
    write(file, content)
    reloader = Reloader(load_settings(file), applied, metrics, look=LOOK)
    task = asyncio.create_task(reloader.run())
    try:
        await test(reloader, file, content, applied)
    finally:
        task.cancel()
    return metrics


async def test_a_file_that_changes_is_applied_and_a_bad_one_refused(tmp_path: Path) -> None:
    async def test(
        reloader: Reloader, file: Path, content: dict[str, Any], applied: Applied
    ) -> None:
        content["guard"]["max_step"] = 0.07
        write(file, content)
        await until(lambda: len(applied.settings) == 1)
        assert reloader.settings.guard.max_step == 0.07

        bad = copy.deepcopy(content)
        bad["guard"]["max_stepp"] = 0.2
        write(file, bad)
        await until(lambda: bool(reloader.refused))
        with pytest.raises(SettingsError) as told:
            load_settings(file)
        assert list(reloader.refused) == told.value.lines, "the words of `eigenmesh check`"
        assert reloader.settings.guard.max_step == 0.07

        file.unlink()
        await until(lambda: "cannot be read" in reloader.refused[0])
        # As an editor does it, and as a ConfigMap is swapped: another file under the same name.
        for number, limit in enumerate((0.08, 0.09)):
            content["guard"]["max_step"] = limit
            behind = tmp_path / f"version-{number}.yaml"
            write(behind, content)
            link = tmp_path / "link"
            link.symlink_to(behind)
            os.replace(link, file)
            await until(lambda wanted=limit: reloader.settings.guard.max_step == wanted)  # type: ignore[misc]
        assert reloader.refused == ()

    metrics = await watching(tmp_path, test)
    assert counted(metrics, "applied") == 3
    assert counted(metrics, "refused") == 2
    assert metrics.registry.get_sample_value("eigenmesh_settings_refused") == 0.0


async def test_a_file_that_is_being_written_is_not_read(tmp_path: Path) -> None:
    async def test(
        reloader: Reloader, file: Path, content: dict[str, Any], applied: Applied
    ) -> None:
        content["guard"]["max_step"] = 0.07
        text = yaml.safe_dump(content)
        with file.open("w") as target:
            for start in range(0, len(text), len(text) // 20):
                target.write(text[start : start + len(text) // 20])
                target.flush()
                await asyncio.sleep(LOOK / 2)
        await until(lambda: len(applied.settings) == 1)
        assert reloader.settings.guard.max_step == 0.07

    metrics = await watching(tmp_path, test)
    assert counted(metrics, "refused") == 0


async def test_a_signal_has_it_read_even_if_it_stands_still(tmp_path: Path) -> None:
    async def test(
        reloader: Reloader, file: Path, content: dict[str, Any], applied: Applied
    ) -> None:
        await asyncio.sleep(5 * LOOK)
        assert not applied.settings
        reloader.ask()
        await until(lambda: len(applied.settings) == 1)
        # What could not be applied is refused, and the next one is tried all the same.
        for error in (JournalWriteError("journal: x: disk is full"), ZeroDivisionError("a bug")):
            applied.fails = error
            reloader.ask()
            await until(lambda wanted=str(error): wanted in " ".join(reloader.refused))  # type: ignore[misc]
        applied.fails = None
        reloader.ask()
        await until(lambda: len(applied.settings) == 2)
        assert reloader.refused == ()

    await watching(tmp_path, test)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"xds": {"listen": "127.0.0.1:1"}}, "xds.listen: 127.0.0.1:1: takes a restart to change"),
        ({"api": {"listen": "127.0.0.1:2"}}, "api.listen: 127.0.0.1:2: takes a restart to change"),
        (
            {"journal": "elsewhere.sqlite"},
            "journal.path: elsewhere.sqlite: takes a restart to change",
        ),
        ({"overlay": True}, "overlay: True: takes a restart to change; restart, or keep False"),
        ({"mesh": "other"}, "mesh: other: takes a restart to change; restart, or keep demo"),
        ({"unknown_nodes": "refuse"}, "groups: which Envoy is of which group takes a restart"),
        (
            {"groups": [{"name": "inner", "match": {"cluster": "inner"}}]},
            "groups: which Envoy is of which group takes a restart",
        ),
    ],
)
def test_what_takes_a_restart_is_refused_with_that_remedy(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    before = document(tmp_path)
    if "overlay" in change:
        for listener in before["envoy"]["static_resources"]["listeners"]:
            manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
            for host in manager["route_config"]["virtual_hosts"]:
                for route in host["routes"]:
                    if route["name"] in stage.ROUTES:
                        route["stat_prefix"] = route["name"]
                        route["route"]["weighted_clusters"]["runtime_key_prefix"] = route["name"]
    [line] = needs_restart(parse_document(before), parse_document({**before, **change}))
    assert words in line


def test_everything_else_is_changed_live(tmp_path: Path) -> None:
    before = document(tmp_path)
    after = before | {
        "mode": "auto",
        "interval": "9s",
        "solver": "classical",
        "solve_timeout": "3s",
        "objective": {"slo": "80ms"},
        "guard": {"max_step": 0.01},
        "clusters": {"a": {"host": "one"}, "b": {"host": "one"}},
        "telemetry": {"envoy": {"admin": ["http://127.0.0.1:9"]}},
        "circuits": {"shots": 64},
    }
    assert list(needs_restart(parse_document(before), parse_document(after))) == []


def resources(settings: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = settings["envoy"]["static_resources"]
    return found


def routes(settings: dict[str, Any]) -> list[dict[str, Any]]:
    manager = resources(settings)["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    found: list[dict[str, Any]] = manager["route_config"]["virtual_hosts"][0]["routes"]
    return found


def test_a_plan_is_carried_over_to_another_configuration(tmp_path: Path) -> None:
    before = document(tmp_path)
    after = copy.deepcopy(before)
    # `search` gets a fourth cluster, c limits of its own, and there is a new route.
    resources(after)["clusters"].append({**resources(after)["clusters"][0], "name": "d"})
    for cluster in resources(after)["clusters"]:
        if cluster["name"] in ("b", "c"):
            cluster["circuit_breakers"] = {"thresholds": [{"max_requests": 77}]}
    [search] = [r for r in routes(after) if r["name"] == "search"]
    weighted = search["route"]["weighted_clusters"]["clusters"]
    weighted.append({"name": "d", "weight": 10_000})
    routes(after).insert(0, {**copy.deepcopy(search), "name": "new", "match": {"prefix": "/new"}})
    after["steer"] = [*before["steer"], "new"]
    old, new = parse_document(before).groups, parse_document(after).groups

    shop = {"a": 0.5, "b": 0.3, "c": 0.2}
    own = new.original_plan()
    limits = {"a": BreakerLimits.around(100), "b": BreakerLimits.around(50)}
    plan = carried(Plan({"shop": shop, "search": shop}, limits), old, new)
    assert plan.weights["shop"] == shop
    assert plan.weights["search"] == own.weights["search"]
    assert plan.weights["new"] == own.weights["new"]
    assert plan.limits["a"].max_requests == 100
    assert plan.limits["b"].max_requests == 50
    assert plan.limits["c"].max_requests == 77

    # And back: what is gone is gone, what was the operator's stays the operator's.
    back = carried(plan, new, old)
    assert back.weights.keys() == {"shop", "search"}
    assert back.weights["search"] == old.original_plan().weights["search"]
    assert back.limits == limits


@given(st.lists(st.floats(0.01, 1.0), min_size=3, max_size=3))
def test_nothing_changes_for_the_same_configuration(weights: list[float]) -> None:
    split = dict(zip("abc", (w / sum(weights) for w in weights), strict=True))
    plan = Plan({"shop": split, "search": split}, {"a": BreakerLimits.around(20)})
    assert carried(plan, GROUPS, GROUPS) == plan


GROUPS = parse_document(document(Path("/nowhere"))).groups


async def test_a_full_disk_refuses_another_mesh_and_leaves_the_old_one_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = document(tmp_path)
    after = copy.deepcopy(before)
    for route in routes(after):
        if route["name"] == "search":
            del route["route"]["weighted_clusters"]["clusters"][-1]
    sidecar = Sidecar(parse_document(before))
    await sidecar.start()
    try:
        plan, served = sidecar.loop.plan, sidecar.xds.published()

        def full(*_: object) -> None:
            raise JournalWriteError("disk is full")

        with monkeypatch.context() as patch:
            patch.setattr(sidecar.journal, "put_in_force", full)
            with pytest.raises(JournalWriteError):
                await sidecar.apply(parse_document(after))
        assert sidecar.loop.plan == plan
        assert sidecar.xds.published() is served
        await sidecar.apply(parse_document(after))
        assert sidecar.loop.plan.weights["search"].keys() == {"a", "b"}
        assert sidecar.xds.published() != served
    finally:
        await sidecar.stop()
