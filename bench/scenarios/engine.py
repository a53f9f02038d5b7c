"""A discrete-event simulation of Envoys before upstreams: what the twin is made of.

Events lie in one heap; arrivals, service demands and the choice among weighted clusters are drawn
with numpy, a block at a time, from streams of their own for each route. So two policies of the same
seed meet the same requests at the same times, however often they change their weights. A request
costs one event, its service: of those that wait in a queue only the first one's timeout is one.

What Envoy does, by its documents and sources (see docs/results.md for what that is worth):
weighted clusters are drawn at random; LEAST_REQUEST draws `choice_count` hosts with replacement and
takes the one with the fewest outstanding (extensions/load_balancing_policies/least_request);
endpoint weights are an earliest-deadline schedule, in turns and not at random; `max_requests`
counts, on each proxy, what is outstanding in the cluster, and a rejected request is not tried
again; retries of 5xx and per-try timeouts stay in the cluster, wait a random time of up to
25 ms x (2^n - 1), at most 250 ms (config.route.v3.RetryPolicy), and no more than the breaker's
retry limit or budget are outstanding. Connections are not simulated: pools are warm, and
`max_connections` and `max_pending_requests` never bind, as with the limits that Eigenmesh derives
from `max_requests`.

Upstreams are those of `demo.upstream`: slots, one queue in order of arrival, service that neither
a timeout nor a change of the capacity interrupts.
"""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable, Iterator, Mapping
from heapq import heapify, heappop, heappush, heapreplace
from itertools import count

import numpy as np

from bench.scenarios.model import PATIENCE, Condition, Path, Scenario
from bench.scenarios.parts import Attempt, Course, Gate, Host, Meter, Server, Steering, Stream
from eigenmesh.demo.load import LATE, UNANSWERED
from eigenmesh.mesh import ENVOY_DEFAULT_LIMITS
from eigenmesh.mesh.division import divide, shares

OK, ERROR, UNAVAILABLE, TIMED_OUT, OVERLOADED = 200, 500, 503, 504, -503
"""Statuses; the last one is Envoy's own 503 that says `x-envoy-overloaded`."""

_BACKOFF, _MOST_BACKOFF = 0.025, 0.25


class Engine:
    """Run it from one change to the next. `now`: seconds; `due`, `latency`, `status`, `route`: of
    every request that entered and is done, in the order in which they were."""

    def __init__(
        self,
        scenario: Scenario,
        seed: int,
        *,
        start: float,
        proxies: int = 1,
        one_cluster: bool = False,
    ) -> None:
        """one_cluster: all endpoints of a route share a breaker, as those of one cluster do."""
        self.now = start
        self.scenario = scenario
        self.due, self.latency = array("d"), array("d")
        self.status, self.route = array("h"), array("h")
        self.entered = 0
        self.servers = {
            name: Server(scenario.condition(name, start)) for name in scenario.upstreams
        }
        self.meters = {name: Meter() for name in scenario.ways}
        self._overhead = scenario.overhead
        self._proxies = proxies
        self._chance = random.Random(f"{seed}/engine")
        self._random = self._chance.random
        self._number = count().__next__
        self._heap: list[tuple[float, int, Callable[[Attempt, float], None], Attempt]] = []
        self._gates: dict[str, list[Gate]] = {}
        self._hosts: dict[tuple[str, str], list[Host]] = {}
        self.paths = {
            name: self._path(path, number, seed, one_cluster)
            for number, (name, path) in enumerate(scenario.paths.items())
        }
        self._choices: int | None = None
        self._in_turn = False

    def _path(self, spec: Path, number: int, seed: int, one_cluster: bool) -> Course:
        hosts: list[list[Host]] = [[] for _ in range(self._proxies)]
        for name in spec.ways:
            way = self.scenario.ways[name]
            key = (spec.name, name) if one_cluster else ("", name)
            if key not in self._hosts:
                cluster = spec.name if one_cluster else name
                gates = self._gates.setdefault(cluster, [Gate() for _ in hosts])
                server, meter = self.servers[way.upstream], self.meters[name]
                self._hosts[key] = [
                    Host(proxy, way, server, gate, meter) for proxy, gate in enumerate(gates)
                ]
            for own, host in zip(hosts, self._hosts[key], strict=True):
                own.append(host)
        return Course(spec, number, hosts, Stream([seed, number], self.scenario.shape))

    # ------------------------------------------------------------------ what it is told

    def steer(self, steering: Steering) -> None:
        """The Envoys take this at once."""
        self._choices, self._in_turn = steering.choices, steering.endpoints
        for name, path in self.paths.items():
            split = steering.plan.weights[name]
            weights = np.array([split[way] for way in path.spec.ways])
            path.cumulative = np.cumsum(weights) / weights.sum()
            path.weights = weights.tolist()
            if steering.endpoints:
                # An earliest deadline first schedule that begins anywhere.
                path.turns = [
                    [(self._random() / w, k) for k, w in enumerate(path.weights) if w > 0.0]
                    for _ in range(self._proxies)
                ]
                for turn in path.turns:
                    heapify(turn)
        even = shares({}, [str(proxy) for proxy in range(self._proxies)])
        for cluster, gates in self._gates.items():
            limits = steering.plan.limits.get(cluster)
            own = limits or ENVOY_DEFAULT_LIMITS
            # Our limits are the fleet's; Envoy's defaults are every proxy's own.
            parts = divide(own.max_requests, even) if limits else dict.fromkeys(even, 1024)
            retries = own.max_retries if limits else self._retry_limit(cluster)
            for gate, part in zip(gates, parts.values(), strict=True):
                gate.allow(part, own, retries)

    def _retry_limit(self, cluster: str) -> int:
        paths = self.scenario.paths.values()
        return max(p.retry_limit for p in paths if cluster == p.name or cluster in p.ways)

    def become(self, upstream: str, condition: Condition) -> None:
        """An upstream changes. What is served goes on; what waits is served anew."""
        server = self.servers[upstream]
        server.become(condition)
        while server.waiting and server.busy < server.slots:
            server.busy += 1
            self._next(server, self.now)

    # ------------------------------------------------------------------ time

    def run(self, until: float, rates: Mapping[str, float]) -> None:
        """On to `until` seconds, with these rates (requests/s that enter, by route)."""
        heap, paths = self._heap, list(self.paths.values())
        for due, demand, number, choice in self._arrivals(until, rates):
            while heap and heap[0][0] <= due:
                time, _, action, attempt = heappop(heap)
                self.now = time
                action(attempt, time)
            self.now = due
            path = paths[number]
            path.asked += 1
            attempt = Attempt(path, self._host(path, choice), due, demand, due)
            self.entered += 1
            self._admit(attempt, due)
        while heap and heap[0][0] <= until:
            time, _, action, attempt = heappop(heap)
            self.now = time
            action(attempt, time)
        self.now = until

    def close(self) -> None:
        """Nobody waits any longer: what is not done is UNANSWERED."""
        left = {id(a): a for _, _, _, a in self._heap if not a.over}
        for server in self.servers.values():
            left |= {id(a): a for a in server.waiting if not a.over}
        roots: dict[int, Attempt] = {}
        for attempt in left.values():
            while attempt.parent is not None and not attempt.over:
                attempt = attempt.parent
            if not attempt.over:
                roots[id(attempt)] = attempt
        for attempt in roots.values():
            self._record(attempt, self.now - attempt.due, UNANSWERED)

    def _arrivals(
        self, until: float, rates: Mapping[str, float]
    ) -> Iterator[tuple[float, float, int, int]]:
        """(time, demand, route, host) in the order of time."""
        blocks, numbers, choices = [], [], []
        for name, path in self.paths.items():
            if (rate := rates.get(name, 0.0)) <= 0.0:
                continue
            block = path.stream.take(self.now, until, rate)
            size = block.shape[1]
            blocks.append(block)
            numbers.append(np.full(size, path.number))
            chosen = np.searchsorted(path.cumulative, block[2], side="right")
            choices.append(np.minimum(chosen, path.cumulative.size - 1))
        if not blocks:
            return iter(())
        all_ = np.concatenate(blocks, axis=1)
        order = np.argsort(all_[0], kind="stable")
        return zip(
            all_[0][order].tolist(),
            all_[1][order].tolist(),
            np.concatenate(numbers)[order].tolist(),
            np.concatenate(choices)[order].tolist(),
            strict=True,
        )

    # ------------------------------------------------------------------ Envoy

    def _host(self, path: Course, choice: int, proxy: int | None = None) -> Host:
        """choice: of the weighted cluster. proxy: None: any."""
        if proxy is None:
            proxy = int(self._random() * self._proxies) if self._proxies > 1 else 0
        hosts = path.hosts[proxy]
        if self._in_turn:
            turn = path.turns[proxy]
            at, k = turn[0]
            heapreplace(turn, (at + 1.0 / path.weights[k], k))
            return hosts[k]
        if self._choices is None:
            return hosts[choice]
        size, draw = len(hosts), self._random
        best = hosts[int(draw() * size)]
        for _ in range(self._choices - 1):
            other = hosts[int(draw() * size)]
            if other.active < best.active:
                best = other
        return best

    def _admit(self, attempt: Attempt, now: float) -> None:
        host = attempt.host
        gate, meter, spec = host.gate, host.meter, attempt.path.spec
        if gate.active >= gate.limit:
            meter.rejected += 1
            attempt.over = True
            self._retried(attempt)
            self._respond(attempt, now, OVERLOADED)
            return
        gate.active += 1
        host.active += 1
        meter.active += 1
        meter.came += 1
        attempt.since = now
        deadline = attempt.first + spec.timeout
        if spec.per_try_timeout is not None:
            deadline = min(deadline, now + spec.per_try_timeout)
        attempt.deadline = deadline
        server = host.server
        server.arrived += 1
        if not server.plain:
            self._refuse(attempt, server, now)
        elif server.busy < server.slots:
            server.busy += 1
            self._start(attempt, server, now)
        else:
            waiting = server.waiting
            if waiting and deadline < waiting[-1].deadline:
                self._push(deadline, self._time_out, attempt)  # out of turn: a retry
            waiting.append(attempt)
            if not server.armed:
                server.armed = True
                self._push(deadline, self._expire, attempt)

    def _start(self, attempt: Attempt, server: Server, now: float) -> None:
        end = now + attempt.demand * server.service_time
        heappush(self._heap, (end, self._number(), self._served, attempt))
        if (end > attempt.deadline or attempt.host.calls) and not attempt.over:
            self._push(attempt.deadline, self._time_out, attempt)

    def _next(self, server: Server, now: float) -> None:
        if server.expired:
            server.expired -= 1
        self._start(server.waiting.popleft(), server, now)

    def _expire(self, attempt: Attempt, now: float) -> None:
        """Times out whoever has waited too long in this queue, and looks again when the next one
        will have."""
        server = attempt.host.server
        while server.expired < len(server.waiting):
            first = server.waiting[server.expired]
            if not first.over and first.deadline > now:
                self._push(first.deadline, self._expire, first)
                return
            server.expired += 1
            self._time_out(first, now)
        server.armed = False

    def _refuse(self, attempt: Attempt, server: Server, now: float) -> None:
        """An upstream that fails at once, or never answers."""
        self._push(attempt.deadline, self._time_out, attempt)
        if (soon := server.condition.fail_after) is not None:
            self._push(now + soon, self._failed, attempt)

    def _served(self, attempt: Attempt, now: float) -> None:
        host = attempt.host
        server = host.server
        server.busy -= 1
        if server.waiting and server.busy < server.slots:
            server.busy += 1
            self._next(server, now)
        if attempt.over:
            return  # it had timed out
        rate = server.condition.error_rate
        if rate and self._random() < rate:
            self._answered(attempt, now, ERROR)
        elif host.calls:
            attempt.todo = [
                route for route, ratio in host.calls for _ in range(int(ratio + self._random()))
            ]
            self._call(attempt, now)
        elif host.distance:
            self._push(now + host.distance, self._arrived, attempt)
        else:
            self._answered(attempt, now, OK)

    def _arrived(self, attempt: Attempt, now: float) -> None:
        if not attempt.over:
            self._answered(attempt, now, OK)

    def _failed(self, attempt: Attempt, now: float) -> None:
        if not attempt.over:
            self._answered(attempt, now, UNAVAILABLE)

    def _time_out(self, attempt: Attempt, now: float) -> None:
        if not attempt.over:
            attempt.host.meter.timeouts += 1
            self._answered(attempt, now, TIMED_OUT)

    def _call(self, attempt: Attempt, now: float) -> None:
        """The next one of its calls, or its answer if there is none."""
        if not attempt.todo:
            later = attempt.host.distance
            self._push(now + later, self._arrived, attempt)
            return
        path = self.paths[attempt.todo.pop()]
        path.asked += 1
        choice = int(np.searchsorted(path.cumulative, self._random(), side="right"))
        host = self._host(path, min(choice, path.cumulative.size - 1))
        demand = self._chance.gammavariate(self.scenario.shape, 1.0 / self.scenario.shape)
        self._admit(Attempt(path, host, now, demand, now, parent=attempt), now)

    def _answered(self, attempt: Attempt, now: float, status: int) -> None:
        host = attempt.host
        gate, meter = host.gate, host.meter
        gate.active -= 1
        host.active -= 1
        meter.active -= 1
        meter.completed += 1
        attempt.over = True
        if attempt.tries:
            self._retried(attempt)
        if status == OK:
            meter.took.append(now - attempt.since + self._overhead)
            self._respond(attempt, now, OK)
            return
        meter.errors += 1
        if status != TIMED_OUT:
            meter.took.append(now - attempt.since + self._overhead)
        spec = attempt.path.spec
        ended = now >= attempt.first + spec.timeout
        if attempt.tries < spec.retries and not ended and gate.retries_left:
            gate.retrying += 1
            meter.retries += 1
            tries = attempt.tries + 1
            wait = self._random() * min(_MOST_BACKOFF, _BACKOFF * (2**tries - 1))
            again = Attempt(
                attempt.path,
                self._again(attempt),
                attempt.due,
                attempt.demand,
                attempt.first,
                tries,
                attempt.parent,
            )
            self._push(now + wait, self._admit, again)
        else:
            self._respond(attempt, now, status)

    def _again(self, attempt: Attempt) -> Host:
        """Where a retry goes: to the same cluster, of which LEAST_REQUEST chooses anew."""
        if self._choices is None and not self._in_turn:
            return attempt.host
        return self._host(attempt.path, 0, attempt.host.proxy)

    def _retried(self, attempt: Attempt) -> None:
        if attempt.tries:
            attempt.host.gate.retrying -= 1

    def _respond(self, attempt: Attempt, now: float, status: int) -> None:
        """The request is done, whatever its tries came to."""
        parent = attempt.parent
        if parent is None:
            self._record(attempt, now - attempt.due + self._overhead, status)
        elif not parent.over:
            if status == OK:
                self._call(parent, now)
            else:
                self._answered(parent, now, ERROR)

    def _record(self, attempt: Attempt, latency: float, status: int) -> None:
        if latency > PATIENCE and status == OK:
            status = LATE
        self.due.append(attempt.due)
        self.latency.append(latency)
        self.status.append(status)
        self.route.append(attempt.path.number)

    def _push(
        self, time: float, action: Callable[[Attempt, float], None], attempt: Attempt
    ) -> None:
        heappush(self._heap, (time, self._number(), action, attempt))

    @property
    def outstanding(self) -> int:
        """Attempts that the proxies wait for."""
        return sum(meter.active for meter in self.meters.values())
