"""The commands that change what may be pushed. Each needs the role `write` and leaves an entry in
`ctl audit`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from eigenmesh.cli.ctl import complete, values
from eigenmesh.cli.ctl.session import Session, command

if TYPE_CHECKING:
    from rich.console import RenderableType

    from eigenmesh.v1 import mesh_pb2 as pb

STEER = "Steer"
DECIDE = "Decide"
UNDO = "Undo"

RouteArgument = Annotated[str, typer.Argument(help="The route.", autocompletion=complete.routes)]
PendingArgument = Annotated[
    str,
    typer.Argument(
        help="Number of the decision; `pending`: whichever waits now.",
        autocompletion=complete.pending,
    ),
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask first.")]


def _asks() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def _confirm(question: str, *shown: RenderableType) -> None:
    from eigenmesh.cli.ctl.output import console

    for part in shown:
        console(stderr=True).print(part)
    typer.confirm(question, abort=True, err=True)


def _stand(session: Session, mesh: pb.Mesh) -> None:
    from eigenmesh.cli.ctl.views.mesh import standing

    session.show(mesh, standing)


@command(STEER)
def mode(
    session: Session,
    mode: Annotated[
        Literal["observe", "approve", "auto"],
        typer.Argument(help="observe: push nothing. approve: ask before each. auto: push."),
    ],
    route: Annotated[
        str | None,
        typer.Option(help="Only this route's weights.", autocompletion=complete.routes),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(help="Only this cluster's limits.", autocompletion=complete.clusters),
    ] = None,
) -> None:
    """Sets what may be done with a plan; the one in force stays either way.

    A route or cluster can only be stricter than the mesh.

    Example: `eigenmesh ctl mode auto`, `eigenmesh ctl mode observe --route shop`
    """
    if route is not None and cluster is not None:
        raise typer.BadParameter("give --route or --cluster, not both")
    _stand(
        session,
        session.call(lambda client: client.set_mode(mode, route=route, cluster=cluster)),
    )


@command(STEER)
def pause(
    session: Session,
    why: Annotated[str, typer.Argument(help="Shown to whoever wonders.")] = "",
) -> None:
    """Pushes nothing until `resume`; a retry storm is still damped.

    Example: `eigenmesh ctl pause "load test until 5 pm"`
    """
    _stand(session, session.call(lambda client: client.pause(why)))


@command(STEER)
def resume(session: Session) -> None:
    """Ends a pause, a freeze, and the hold after rollbacks.

    Example: `eigenmesh ctl resume`
    """
    _stand(session, session.call(lambda client: client.resume()))


@command(STEER)
def freeze(
    session: Session,
    duration: Annotated[
        str | None, typer.Argument(help="From now on: 90s, 30m, 2h, 1d or 1h30m.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="A time (ISO 8601), local if it names no zone.")
    ] = None,
) -> None:
    """Pushes nothing for a time, or until one; `resume` ends it before.

    Example: `eigenmesh ctl freeze 2h`, `eigenmesh ctl freeze --until 2026-12-24T18:00Z`
    """
    if (duration is None) == (until is None):
        raise typer.BadParameter("give a duration such as 2h, or --until")
    end = values.duration(duration) if duration else values.moment(until or "")
    _stand(session, session.call(lambda client: client.freeze(end)))


@command(STEER)
def pin(
    session: Session,
    route: RouteArgument,
    weights: Annotated[
        list[str],
        typer.Argument(
            metavar="cluster=weight...",
            help="Fractions or percentages; the route's other clusters share the rest.",
            autocompletion=complete.weights,
        ),
    ],
) -> None:
    """Keeps clusters of a route at exactly these weights, reached by bounded steps.

    Example: `eigenmesh ctl pin shop a=0.7 b=30%`
    """
    pins = values.figures(weights, "cluster=0.7")
    _stand(session, session.call(lambda client: client.pin(route, pins)))


@command(STEER)
def unpin(session: Session, route: RouteArgument) -> None:
    """Frees a route's weights.

    Example: `eigenmesh ctl unpin shop`
    """
    _stand(session, session.call(lambda client: client.unpin(route)))


@command(STEER)
def promote(
    session: Session,
    route: RouteArgument,
    cluster: Annotated[str, typer.Argument(help="The canary.", autocompletion=complete.canaries)],
) -> None:
    """Ends a canary's ceiling (`guard.routes.ROUTE.clusters.CLUSTER.canary`).

    Example: `eigenmesh ctl promote shop v2`
    """
    _stand(session, session.call(lambda client: client.promote(route, cluster)))


@command(STEER)
def policy(
    session: Session,
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[name=value...]",
            help="Settings of `guard` by their names; `name=default`: as the settings file says.",
        ),
    ] = None,
) -> None:
    """Changes settings of the guard while it runs; without any, shows what was changed.

    Example: `eigenmesh ctl policy max_step=0.05 min_gain=default`
    """
    wanted = values.overrides(settings or (), "max_step=0.05")
    _stand(
        session,
        session.call(lambda client: client.set_policy(wanted) if wanted else client.get_mesh()),
    )


@command(DECIDE)
def approve(session: Session, number: PendingArgument = "pending") -> None:
    """Pushes the plan that waits for a yes (mode `approve`).

    Example: `eigenmesh ctl approve 17`
    """
    from eigenmesh.cli.ctl.views.mesh import decision_line

    wanted = values.decision(number)
    session.show(session.call(lambda client: client.approve(wanted)), decision_line)


@command(DECIDE)
def reject(
    session: Session,
    number: PendingArgument = "pending",
    why: Annotated[str, typer.Option(help="For the audit entry.")] = "",
) -> None:
    """Drops the plan that waits for a yes; the next tick may propose another.

    Example: `eigenmesh ctl reject 17 --why "not before the release"`
    """
    from eigenmesh.cli.ctl.views.mesh import decision_line

    wanted = values.decision(number)
    session.show(session.call(lambda client: client.reject(wanted, why)), decision_line)


@command(UNDO)
def rollback(
    session: Session,
    number: Annotated[
        int,
        typer.Argument(
            min=1, help="The decision whose plan is wanted.", autocompletion=complete.decisions
        ),
    ],
    yes: YesOption = False,
) -> None:
    """Goes to the plan of a decision by bounded steps, and pauses there.

    Example: `eigenmesh ctl rollback 12`
    """
    if not yes and _asks():
        from eigenmesh.api.client import MeshClient
        from eigenmesh.cli.ctl.views.plans import plans_table

        async def compare(client: MeshClient) -> dict[str, pb.Plan]:
            wanted = await client.get_decision(number)
            mesh = await client.get_mesh()
            return {"in force": mesh.plan_in_force, f"decision {number}": wanted.plan}

        _confirm(f"Go to the plan of decision {number}?", plans_table(session.call(compare)))
    _stand(session, session.call(lambda client: client.roll_back(number)))


@command(UNDO)
def restore(session: Session, yes: YesOption = False) -> None:
    """Goes to your own weights and limits by bounded steps, and pauses there.

    Example: `eigenmesh ctl restore`
    """
    if not yes and _asks():
        _confirm("Go to the weights and limits of your own configuration?")
    _stand(session, session.call(lambda client: client.restore()))
