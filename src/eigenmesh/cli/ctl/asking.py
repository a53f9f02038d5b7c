"""The commands that ask the solver what would be; nothing is pushed or recorded."""

from __future__ import annotations

from typing import Annotated

import typer

from eigenmesh.cli.ctl import complete, values
from eigenmesh.cli.ctl.session import Session, command

ASK = "Ask"


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
