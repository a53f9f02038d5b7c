"""Everything that the demo has seen so far: what the live view and the report show."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from eigenmesh.demo import stage
from eigenmesh.demo.loadgen import Record
from eigenmesh.demo.messages import action, better, contests
from eigenmesh.demo.phases import Phase
from eigenmesh.v1 import mesh_pb2 as pb

RECENT = 2.0
"""Seconds of requests that the live figures are made of."""


@dataclass(frozen=True, slots=True)
class Event:
    """time: unix seconds. kind: phase, eigenmesh, upstream or push."""

    time: float
    kind: str
    says: str


@dataclass(frozen=True)
class Sample:
    """What was in force at `time` (unix seconds). weights: route -> cluster -> fraction, as
    Eigenmesh has it. limits: cluster -> max_requests, as Envoy enforces it. loads, in_flight:
    requests/s and requests outstanding by cluster, by Envoy's own counters."""

    time: float
    weights: Mapping[str, Mapping[str, float]]
    limits: Mapping[str, int]
    loads: Mapping[str, float]
    in_flight: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Span:
    """A phase as it was played; unix seconds. reference: another policy held the traffic."""

    name: str
    start: float
    end: float
    reference: bool


@dataclass
class Scene:
    """Grows while the demo runs; drawn, never changed, by the views."""

    total: float
    started: float = field(default_factory=time.time)
    phase: Phase | None = None
    phase_began: float = 0.0
    behind: float = 0.0
    """Seconds of the script in phases that are over."""
    status: str = "starting"
    mode: str = "observe"
    events: list[Event] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    decisions: list[pb.Decision] = field(default_factory=list)
    wins: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(part of the plan, solver or TIE) -> in how many contests it scored better."""
    latencies: deque[float] = field(default_factory=lambda: deque(maxlen=60))
    """Mean seconds of each past half second."""
    _recent: deque[Record] = field(default_factory=deque)
    _half: list[float] = field(default_factory=list)
    _half_began: float = 0.0

    def enter(self, phase: Phase) -> None:
        self.leave()
        self.phase = phase
        self.phase_began = time.time()
        self.status = phase.says
        self.note("phase", f"{phase.name}: {phase.says}")

    def leave(self) -> None:
        """The phase is over."""
        if self.phase is None:
            return
        reference = self.phase.host != stage.STEERED
        self.spans.append(Span(self.phase.name, self.phase_began, time.time(), reference))
        self.behind += self.phase.settle + self.phase.seconds
        self.phase = None

    def note(self, kind: str, says: str) -> None:
        self.events.append(Event(time.time(), kind, says))

    def take(self, record: Record) -> None:
        """A request was answered, failed or given up."""
        self._recent.append(record)
        now = record.due + record.latency
        while self._recent and self._recent[0].due + self._recent[0].latency < now - RECENT:
            self._recent.popleft()
        if not record.overloaded:
            self._half.append(record.latency)
        if now - self._half_began >= 0.5:
            if self._half:
                self.latencies.append(sum(self._half) / len(self._half))
            self._half, self._half_began = [], now

    def decided(self, decision: pb.Decision) -> None:
        """Take a new decision; one seen before is ignored."""
        if self.decisions and decision.number <= self.decisions[-1].number:
            return
        self.decisions.append(decision)
        self.wins.update((part, better(met)) for part, met in contests(decision))
        if action(decision) == "push":
            self.note("push", f"decision {decision.number}: {decision.why}")

    @property
    def decision(self) -> pb.Decision | None:
        return self.decisions[-1] if self.decisions else None

    @property
    def sample(self) -> Sample | None:
        return self.samples[-1] if self.samples else None

    @property
    def pushes(self) -> int:
        return sum(action(d) == "push" for d in self.decisions)

    def recent(self) -> tuple[float, float, float, int]:
        """Answers/s, mean seconds, p99 seconds and errors of the last two seconds."""
        latencies = [r.latency for r in self._recent if not r.overloaded]
        if not latencies:
            return 0.0, float("nan"), float("nan"), 0
        p99 = float(np.percentile(latencies, 99))
        bad = sum(not r.ok for r in self._recent)
        return len(self._recent) / RECENT, float(np.mean(latencies)), p99, bad
