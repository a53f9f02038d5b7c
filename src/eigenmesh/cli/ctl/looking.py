"""The commands that show what is or would be, and change nothing. Each needs the role `read`."""

from __future__ import annotations

from typing import Annotated

import typer

from eigenmesh.cli.ctl import complete, values
from eigenmesh.cli.ctl.session import Session, command

LOOK = "Look"
ASK = "Ask"

MostOption = Annotated[int, typer.Option("--limit", "-n", min=1, help="How many, at most.")]


@command(LOOK)
def status(session: Session) -> None:
    """Shows mode, what holds it back, weights, limits, curves and the latest decision.

    Example: `eigenmesh ctl status --address 127.0.0.1:18001`
    """
    from eigenmesh.cli.ctl.views.mesh import mesh_view

    session.show(session.call(lambda client: client.get_mesh()), mesh_view)


@command(LOOK)
def watch(session: Session) -> None:
    """Shows the mesh live until `q`; in a pipe, a line for each decision.

    Example: `eigenmesh ctl watch`, `eigenmesh ctl watch -o json | jq .why`
    """
    from eigenmesh.cli.ctl.watch import watch_mesh

    watch_mesh(session)


@command(LOOK)
def nodes(session: Session) -> None:
    """Lists the Envoys: what each asked for, was sent, has accepted or refused.

    Example: `eigenmesh ctl nodes`
    """
    from eigenmesh.cli.ctl.views.lists import nodes_view
    from eigenmesh.v1 import mesh_service_pb2 as reads

    found = session.list(lambda client: client.list_nodes())
    session.show(reads.ListNodesResponse(nodes=found), nodes_view)


@command(LOOK)
def routes(session: Session) -> None:
    """Lists the steered routes: demand, weights, and what holds them.

    Example: `eigenmesh ctl routes`
    """
    from eigenmesh.cli.ctl.views.lists import routes_view
    from eigenmesh.v1 import mesh_service_pb2 as reads

    found = session.list(lambda client: client.list_routes())
    session.show(reads.ListRoutesResponse(routes=found), routes_view)


@command(LOOK)
def clusters(session: Session) -> None:
    """Lists the steered clusters: load, latency, limit, curve, and each Envoy's part of the limit.

    Example: `eigenmesh ctl clusters -o yaml`
    """
    from eigenmesh.cli.ctl.views.lists import clusters_view
    from eigenmesh.v1 import mesh_service_pb2 as reads

    found = session.list(lambda client: client.list_clusters())
    session.show(reads.ListClustersResponse(clusters=found), clusters_view)


@command(LOOK)
def decisions(session: Session, limit: MostOption = 20) -> None:
    """Lists decisions, the newest first; `-o json` has all that each rests on.

    Example: `eigenmesh ctl decisions --limit 50`
    """
    from eigenmesh.cli.ctl.output import Format
    from eigenmesh.cli.ctl.views.lists import decisions_view
    from eigenmesh.v1 import mesh_service_pb2 as reads

    full = session.output is not Format.TABLE
    found = session.list(lambda client: client.list_decisions(most=limit, full=full))
    session.show(reads.ListDecisionsResponse(decisions=found), decisions_view)


@command(LOOK)
def explain(
    session: Session,
    number: Annotated[
        str,
        typer.Argument(
            help="Number of the decision, `latest`, or `pending`: the one that waits for a yes.",
            autocompletion=complete.decisions,
        ),
    ] = "latest",
) -> None:
    """Explains a decision: what was asked and seen, curves, candidates, winners, cuts.

    Example: `eigenmesh ctl explain 17`
    """
    from eigenmesh.cli.ctl.views.explain import decision_view

    wanted = values.decision(number)
    session.show(session.call(lambda client: client.get_decision(wanted)), decision_view)


@command(LOOK)
def audit(session: Session, limit: MostOption = 20) -> None:
    """Lists who asked for what, the newest first, and what the state of the mesh forbade.

    Example: `eigenmesh ctl audit --limit 50`
    """
    from eigenmesh.cli.ctl.views.lists import audit_view
    from eigenmesh.v1 import mesh_service_pb2 as reads

    found = session.list(lambda client: client.list_audit_entries(most=limit))
    session.show(reads.ListAuditEntriesResponse(audit_entries=found), audit_view)


@command(ASK)
def propose(session: Session) -> None:
    """Shows what would be decided now, whatever the mode.

    Example: `eigenmesh ctl propose`
    """
    from eigenmesh.cli.ctl.views.explain import decision_view

    session.show(session.call(lambda client: client.propose()), decision_view)


@command(ASK)
def whatif(
    session: Session,
    demand: Annotated[
        list[str] | None,
        typer.Option(
            "--demand",
            metavar="route=requests/s",
            help="Of one route; may be repeated. Others stay as they are, times --scale.",
            autocompletion=complete.demands,
        ),
    ] = None,
    scale: Annotated[float, typer.Option(min=0.0, help="Factor on all other demands.")] = 1.0,
    without: Annotated[
        list[str] | None,
        typer.Option(
            metavar="cluster",
            help="A cluster that is gone; may be repeated.",
            autocompletion=complete.clusters,
        ),
    ] = None,
    capacity: Annotated[
        list[str] | None,
        typer.Option(
            metavar="cluster=factor",
            help="Factor on a cluster's learned capacity; may be repeated.",
            autocompletion=complete.capacities,
        ),
    ] = None,
) -> None:
    """Shows the plan, latencies and losses to expect at another demand or without a cluster.

    Example: `eigenmesh ctl whatif --demand shop=300 --scale 1.5 --without b --capacity a=0.5`
    """
    from eigenmesh.cli.ctl.views.forecast import whatif_view

    demands = values.figures(demand or (), "route=300")
    capacities = values.figures(capacity or (), "cluster=0.5")
    found = session.call(
        lambda client: client.what_if(
            demands, scale=scale, without=without or (), capacities=capacities
        )
    )
    session.show(found, whatif_view)
