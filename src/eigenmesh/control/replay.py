"""What other settings or solvers would have decided on what was recorded.

The decisions are made anew one after the other, each from the plan that the one before it left. The
observations and curves are those of what really ran: had another plan been in force, they would
have been others. So both plans are judged by the same curves, those of the window that followed,
which neither knew when it was made.

As in mode auto with nothing else asked: no pins, promoted canaries, freezes of `ctl`, approvals,
probes or rollbacks.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from eigenmesh.control.journal import Journal
from eigenmesh.control.proposal import (
    LoopSettings,
    guard_solution,
    make_problem,
    with_default_limits,
)
from eigenmesh.guard import calendar, lacking
from eigenmesh.guard.controls import Controls, Mode, effective
from eigenmesh.guard.peaks import Peaks
from eigenmesh.guard.surge import Surge
from eigenmesh.mesh import Action, Candidate, Decision, MeshError, Plan, Topology
from eigenmesh.optimize import portfolio
from eigenmesh.optimize.objective import Objective
from eigenmesh.optimize.problem import Problem, Solution
from eigenmesh.telemetry.forecast import Forecast

SETTLED = (Action.PUSH, Action.HOLD, Action.ROLLBACK)
"""Actions whose decision's plan is the one in force afterwards."""
_PUSHES = 1000
_AUTO = Controls(Mode.AUTO)


@dataclass(frozen=True)
class Side:
    """What was done, or would have been. plan: in force afterwards. objective, latency: seconds per
    request under it, without churn, by the window that followed; None if that cannot be told.
    moved: share of the traffic that changes its cluster. largest: change of one weight. candidates:
    of the solvers that were asked."""

    action: Action
    why: str
    plan: Plan
    objective: float | None
    latency: float | None
    moved: float
    largest: float
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True)
class Turn:
    """One decision twice. demand: requests/s of the mesh."""

    number: int
    time: float
    demand: float
    done: Side
    would: Side


@dataclass(frozen=True)
class Total:
    """Of all turns of one side. latency, objective: seconds, means over requests. moved: of the
    whole traffic, how often over. largest: change of one weight in one push. seconds: mean of what
    the solvers took together. won: part -> solver -> in how many decisions its answer was taken."""

    pushes: int
    latency: float | None
    objective: float | None
    moved: float
    largest: float
    seconds: float | None
    won: Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class Replay:
    """skipped: why, and how many decisions could not be made anew."""

    turns: Sequence[Turn]
    skipped: Mapping[str, int] = field(default_factory=dict)

    @property
    def done(self) -> Total:
        return _total([(turn.demand, turn.done) for turn in self.turns])

    @property
    def would(self) -> Total:
        return _total([(turn.demand, turn.would) for turn in self.turns])


def replay(
    journal: Journal,
    settings: LoopSettings,
    count: int,
    *,
    solve: Callable[[Problem], Solution] = portfolio.solve,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Replay:
    """Makes the newest `count` decisions anew. Raises JournalError on damage, MeshError if there is
    nothing to go on from."""
    numbers = [one.number for one in reversed(journal.page(count))]
    if not numbers:
        raise MeshError("journal", str(journal.path), "it has no decisions; run Eigenmesh first")
    start = _in_force_before(journal, numbers[0])
    if start is None:
        raise MeshError(
            "decisions", count, "the plan before the first one is not known; ask for fewer"
        )
    if settings.solver != "classical":
        portfolio.warm_up()  # or the first decision would take as long as PennyLane's import
    player = _Player(settings, start, solve)
    skipped: Counter[str] = Counter()
    turns = []
    for at, (decision, after) in enumerate(_pairs(journal, numbers), start=1):
        progress(at, len(numbers))
        if (why := _unfit(decision, settings.topology)) is not None:
            skipped[why] += 1
            continue
        turns.append(player.turn(decision, after))
    return Replay(turns, skipped)


def _in_force_before(journal: Journal, number: int) -> Plan | None:
    """The plan that this decision found in force."""
    before = number
    while page := journal.page(100, before):
        for one in page:
            if one.action in SETTLED:
                decision = journal.decision(one.number)
                return decision.plan if decision else None
        before = page[-1].number
    first = journal.decision(number)
    if first is not None and first.action is Action.HOLD:
        return first.plan
    return journal.originals()


def _pairs(journal: Journal, numbers: Iterable[int]) -> Iterator[tuple[Decision, Decision | None]]:
    """Each decision with the next one."""
    # Some may be forgotten meanwhile.
    found = (d for n in numbers if (d := journal.decision(n)) is not None)

    def ended() -> Iterator[Decision | None]:
        yield from found
        yield None

    for decision, after in pairwise(ended()):
        if decision is not None:
            yield decision, after


def _unfit(decision: Decision, topology: Topology) -> str | None:
    if decision.observation is None:
        return "its observation is not kept"
    routes = {route.name: set(route.clusters) for route in topology.routes}
    if {route: set(split) for route, split in decision.plan.weights.items()} != routes:
        return "it is of other routes"
    return None


class _Player:
    """Both plans in force, and what the loop remembers from one tick to the next."""

    def __init__(
        self, settings: LoopSettings, start: Plan, solve: Callable[[Problem], Solution]
    ) -> None:
        self._settings = settings
        self._done = self._would = start
        self._solve = solve
        self._forecast, self._surge, self._peaks = Forecast(), Surge(), Peaks()
        self._pushes: deque[float] = deque(maxlen=_PUSHES)

    def turn(self, decision: Decision, after: Decision | None) -> Turn:
        assert decision.observation is not None
        done, would = self._done, self._would
        if decision.action in SETTLED:
            self._done = decision.plan
        action, why, candidates = self._decide(decision)
        judge = self._judge(after) or self._judge(decision)
        demands = decision.observation.demands
        return Turn(
            decision.number,
            decision.time,
            decision.observation.total_demand,
            _side(
                decision.action, decision.why, done, self._done, decision.candidates, demands, judge
            ),
            _side(action, why, would, self._would, candidates, demands, judge),
        )

    def _decide(self, decision: Decision) -> tuple[Action, str, tuple[Candidate, ...]]:
        """The tick of the loop, without what people and probes do in it."""
        settings, seen = self._settings, decision.observation
        assert seen is not None
        policy = effective(settings.guard, _AUTO, self._would)
        expected = self._forecast.update(seen.demands, seen.window)
        growth = self._surge.update(seen.demands)
        self._peaks.update(seen.demands, seen.time, seen.window)
        why = lacking(settings.topology, seen, decision.curves, policy, decision.time)
        if why is not None:
            return Action.HOLD, why, ()
        try:
            problem = make_problem(
                settings,
                _learned(settings.topology, decision.couplings),
                self._would,
                policy,
                demands=expected,
                observation=seen,
                curves=decision.curves,
                seed=decision.number,
            )
        except MeshError as error:
            return Action.HOLD, str(error), ()
        solution = self._solve(problem)
        guarded = guard_solution(
            Objective(problem),
            solution,
            settings.topology,
            decision.curves,
            growth,
            self._peaks.over(problem.demands),
            self._peaks.means(problem.demands),
            policy,
        )
        why, made = guarded.why, solution.candidates
        if not guarded.moves:
            return Action.HOLD, why, made
        if (stop := calendar.stops(policy, self._pushes, decision.time)) is not None:
            return Action.RECOMMEND, f"{stop}, nothing pushed; {why}", made
        self._would = guarded.plan
        self._pushes.append(decision.time)
        return Action.PUSH, why, made

    def _judge(self, decision: Decision | None) -> Callable[[Plan], tuple[float, float]] | None:
        """Of a plan: objective and latency by what this decision knew; None if that is not
        enough. Churn is not among it: both sides pay theirs from another plan."""
        settings = self._settings
        if decision is None or _unfit(decision, settings.topology) is not None:
            return None
        seen = decision.observation
        assert seen is not None
        if lacking(settings.topology, seen, decision.curves, settings.guard, decision.time):
            return None
        free = replace(settings.objective, churn_price=0.0, limit_churn_price=0.0)
        try:
            problem = make_problem(
                replace(settings, objective=free),
                _learned(settings.topology, decision.couplings),
                self._would,
                settings.guard,
                demands=seen.demands,
                observation=seen,
                curves=decision.curves,
                seed=0,
            )
        except MeshError:
            return None
        objective = Objective(problem)

        def judge(plan: Plan) -> tuple[float, float]:
            whole = with_default_limits(plan, settings.topology)
            return objective.of_plan(whole), objective.predicted_latency(whole)

        return judge


def _learned(topology: Topology, strengths: Mapping[str, float]) -> Topology:
    """With what was known of hosts and calls then (`Topology.strengths`)."""
    couplings = {h: strengths.get(f"host {h}") for h in topology.couplings}
    ratios = {
        (c.name, call.route): strengths.get(f"{c.name} calls {call.route}")
        for c in topology.clusters
        for call in c.calls
    }
    return topology.with_learned(
        {name: value for name, value in couplings.items() if value is not None},
        {key: value for key, value in ratios.items() if value is not None},
    )


def _side(
    action: Action,
    why: str,
    before: Plan,
    plan: Plan,
    candidates: tuple[Candidate, ...],
    demands: Mapping[str, float],
    judge: Callable[[Plan], tuple[float, float]] | None,
) -> Side:
    objective, latency = judge(plan) if judge else (None, None)
    total = sum(demands.values())
    moved = sum(
        demands.get(route, 0.0) * abs(weight - before.weights.get(route, {}).get(cluster, 0.0))
        for route, split in plan.weights.items()
        for cluster, weight in split.items()
    )
    share = moved / 2.0 / total if total > 0.0 else 0.0
    return Side(action, why, plan, objective, latency, share, plan.distance(before), candidates)


def _total(sides: Sequence[tuple[float, Side]]) -> Total:
    judged = [
        (demand, side.latency, side.objective)
        for demand, side in sides
        if side.latency is not None and side.objective is not None
    ]
    requests = sum(demand for demand, _, _ in judged)
    known = requests > 0.0
    asked = [side.candidates for _, side in sides if side.candidates]
    won: dict[str, dict[str, int]] = {}
    for winner in (c for candidates in asked for c in candidates if c.won):
        part = won.setdefault(winner.part, {})
        part[winner.solver] = part.get(winner.solver, 0) + 1
    return Total(
        pushes=sum(side.action in (Action.PUSH, Action.ROLLBACK) for _, side in sides),
        latency=sum(d * latency for d, latency, _ in judged) / requests if known else None,
        objective=sum(d * value for d, _, value in judged) / requests if known else None,
        moved=sum(side.moved for _, side in sides),
        largest=max((side.largest for _, side in sides), default=0.0),
        seconds=sum(c.seconds for each in asked for c in each) / len(asked) if asked else None,
        won=won,
    )
