"""Settings that change while Eigenmesh runs: read anew at SIGHUP, and when the file changes.

The file is looked at once a second, not watched: a ConfigMap is swapped by a link in a folder
above, an editor replaces the file or writes into it, a network file system tells nobody, and
stat(2) shows all of them. What changed is read once it has stood still for a look, since half of a
document may be a valid one.

Valid settings are applied between two ticks, without a restart of anything; others, and those that
only a restart can put in force, are refused as a whole with what `eigenmesh check` says. The old
ones then stay.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import structlog
from pydantic import BaseModel

from eigenmesh.control.groups import Groups
from eigenmesh.control.journal import JournalError
from eigenmesh.control.metrics import Metrics
from eigenmesh.control.settings import Settings, SettingsError, load_settings
from eigenmesh.mesh import MeshError, Plan

log = structlog.get_logger(__name__)

LOOK = 1.0
"""Seconds between two looks at the file."""

AT_START = ("mesh", "xds", "api", "http", "journal", "overlay", "runtime_layer")
"""What the process has bound, opened or told Envoy once and for all."""


class Reloader:
    """Keeps the settings in force in step with their file.

    apply: puts valid settings in force, or raises and changes nothing. `refused`: the complaints
    about the file as it was last read, one a line; none if it is in force. `since`: unix seconds at
    which the settings in force came to be.
    """

    def __init__(
        self,
        settings: Settings,
        apply: Callable[[Settings], Awaitable[None]],
        metrics: Metrics,
        *,
        look: float = LOOK,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self.refused: tuple[str, ...] = ()
        self.since = clock()
        self._apply = apply
        self._metrics = metrics
        self._look = look
        self._clock = clock
        self._asked = asyncio.Event()
        self._read = _stamp(Path(settings.file))
        self._show()

    def ask(self) -> None:
        """Reads the file at the next turn of the event loop, changed or not (SIGHUP)."""
        self._asked.set()

    async def run(self) -> None:
        """Until cancelled."""
        file = Path(self.settings.file)
        before = self._read
        while True:
            try:
                async with asyncio.timeout(self._look):
                    await self._asked.wait()
            except TimeoutError:
                pass
            now = _stamp(file)
            if self._asked.is_set() or (now == before != self._read):
                self._asked.clear()
                self._read = now
                await self.reload()
            before = now

    async def reload(self) -> bool:
        """Reads the file once. Says whether it is in force now."""
        try:
            # Parsing a large mesh takes seconds.
            settings = await asyncio.to_thread(load_settings, self.settings.file)
            if lines := list(needs_restart(self.settings, settings)):
                raise SettingsError([f"{settings.file}: {line}" for line in lines])
            await self._apply(settings)
        except SettingsError as error:
            self._refuse(*error.lines)
        except (JournalError, MeshError) as error:
            self._refuse(str(error))
        except Exception as error:
            # A bug must not end the watching; `apply` has changed nothing.
            log.exception("settings not applied")
            self._refuse(f"{self.settings.file}: {type(error).__name__}: {error}")
        else:
            names = sorted(changed(self.settings, settings))
            self.settings, self.refused, self.since = settings, (), self._clock()
            log.info("settings applied", file=settings.file, changed=names)
            for line in settings.warnings:
                log.warning("settings", warning=line)
            self._metrics.settings_reloads.labels("applied").inc()
            self._show()
            return True
        return False

    def _refuse(self, *lines: str) -> None:
        for line in lines:
            log.error("settings refused; those before stay in force", complaint=line)
        self.refused = lines
        self._metrics.settings_reloads.labels("refused").inc()
        self._show()

    def _show(self) -> None:
        self._metrics.settings_since.set(self.since)
        self._metrics.settings_refused.set(float(bool(self.refused)))


def changed(old: Settings, new: Settings) -> set[str]:
    """The document's own settings (its first level) that differ."""
    fields = type(old.model).model_fields
    return {name for name in fields if getattr(old.model, name) != getattr(new.model, name)}


def needs_restart(old: Settings, new: Settings) -> Iterator[str]:
    """A line `field: value: remedy` for each setting that cannot be put in force live."""
    for field in AT_START:
        before, after = getattr(old.model, field), getattr(new.model, field)
        for name, value, kept in _differences(field, before, after):
            yield f"{name}: {value}: takes a restart to change; restart, or keep {kept}"
    if old.groups.grouping != new.groups.grouping:
        yield "groups: which Envoy is of which group takes a restart to change; restart"


def carried(plan: Plan, old: Groups, new: Groups) -> Plan:
    """The plan in force, for another configuration of the operator's.

    A route that has the clusters that it had keeps its weights, and a cluster its limits. What is
    new begins with the operator's own, and what was the operator's own stays that.
    """
    before, after = old.original_plan(), new.original_plan()
    weights = {
        route: mine
        if (mine := plan.weights.get(route)) is not None
        and mine.keys() == own.keys()
        and mine != before.weights.get(route)
        else own
        for route, own in after.weights.items()
    }
    limits = dict(after.limits)
    for cluster in new.topology().steered_clusters:
        mine_limits = plan.limits.get(cluster)
        if mine_limits is not None and mine_limits != before.limits.get(cluster):
            limits[cluster] = mine_limits
    return Plan(weights, limits)


def _differences(name: str, old: Any, new: Any) -> Iterator[tuple[str, object, object]]:
    """(field, new value, old value) of the innermost settings that differ."""
    if old == new:
        return
    if not isinstance(old, BaseModel) or type(old) is not type(new):
        yield name, _shown(new), _shown(old)
        return
    for field in type(old).model_fields:
        yield from _differences(f"{name}.{field}", getattr(old, field), getattr(new, field))


def _shown(value: object) -> object:
    """Whole sections are not quoted: they may hold what nobody should read in a log."""
    return value if isinstance(value, str | int | float | Path | None) else "(another one)"


def _stamp(file: Path) -> tuple[int, ...] | None:
    """Differs when the file was replaced or written to. Links are followed."""
    try:
        found = file.stat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
