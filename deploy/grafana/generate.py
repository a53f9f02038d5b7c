"""Grafana's dashboards as code: `make dashboards` writes them into `dashboards/`.

A dashboard (`boards`) is a list of rows, a row a list of panels, a panel a list of queries. The
data source and the mesh are variables; the matcher of a mesh without a name matches series without
such a label.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueTextMode,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    VariableRefresh,
)

from deploy.grafana.boards import BOARDS, Mark, Panel

FOLDER = Path(__file__).with_name("dashboards")
SOURCE = DataSourceRef("prometheus", "${source}")
STEP = "10s"
"""How finely annotations are looked for; Prometheus should scrape twice in it."""
WIDTH, HEIGHT = 24, 8


def _query(text: str) -> str:
    return text.replace("@", 'mesh="$mesh"').replace("'", '"')


def _panel(panel: Panel, width: int, place: int) -> Any:
    numbers = panel.kind in ("number", "name")
    made: Any = stat.Panel() if numbers else timeseries.Panel()
    made = made.title(panel.title).description(panel.says).unit(panel.unit).datasource(SOURCE)
    made = made.id(place).span(width).height(HEIGHT // 2 if numbers else HEIGHT)
    if numbers:
        mode = BigValueTextMode.NAME if panel.kind == "name" else BigValueTextMode.AUTO
        made = made.text_mode(mode).color_mode(BigValueColorMode.NONE)
    else:
        legend = common.VizLegendOptions().show_legend(True)
        legend = legend.display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM)
        tooltip = common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI)
        made = made.legend(legend).tooltip(tooltip).fill_opacity(8)
        made = made.axis_centered_zero(True) if panel.kind == "signed" else made.min(0)
    if panel.kind == "stacked":
        made = made.stacking(common.StackingConfig().mode(StackingMode.NORMAL)).fill_opacity(40)
    for letter, (query, legend_text) in zip("ABCDEF", panel.queries, strict=False):
        target = prometheus.Dataquery().expr(_query(query)).legend_format(legend_text)
        made = made.with_target(target.ref_id(letter).datasource(SOURCE))
    return made


def board(uid: str) -> dict[str, Any]:
    """The dashboard as Grafana reads it."""
    title, rows, marks = BOARDS[uid]
    link = dashboard.DashboardLink("Eigenmesh").type(DashboardLinkType.DASHBOARDS)
    made = (
        dashboard.Dashboard(f"Eigenmesh: {title}")
        .uid(f"eigenmesh-{uid}")
        .tags(["eigenmesh"])
        .refresh("5s")
        .time("now-15m", "now")
        .timezone("browser")
        .readonly()
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .link(link.tags(["eigenmesh"]).include_vars(True).keep_time(True))
        .with_variable(
            dashboard.DatasourceVariable("source").label("Data source").type("prometheus")
        )
        .with_variable(
            dashboard.QueryVariable("mesh")
            .label("Mesh")
            .datasource(SOURCE)
            .query("label_values(eigenmesh_build_info, mesh)")
            .refresh(VariableRefresh.ON_DASHBOARD_LOAD)
        )
    )
    place = 0
    for name, panels in rows:
        place += 1
        made = made.with_row(dashboard.Row(name).id(place))
        columns = len(panels) if panels[0].kind in ("number", "name") else 2
        for panel in panels:
            place += 1
            made = made.with_panel(_panel(panel, WIDTH // columns, place))
    document: dict[str, Any] = json.loads(json.dumps(made.build(), cls=JSONEncoder))
    document["annotations"] = {"list": list(_annotations(marks))}
    return document


def _annotations(marks: Sequence[Mark]) -> Iterator[dict[str, Any]]:
    # What Prometheus' annotations need is not in the SDK's model of them.
    for mark in marks:
        yield {
            "name": mark.name,
            "datasource": {"type": SOURCE.type_val, "uid": SOURCE.uid},
            "enable": True,
            "iconColor": mark.color,
            "expr": _query(mark.query).replace("$step", STEP),
            "step": STEP,
            "titleFormat": mark.name,
            "textFormat": mark.text,
        }


def written() -> dict[str, str]:
    """File name -> content."""
    return {f"{uid}.json": json.dumps(board(uid), indent=1) + "\n" for uid in BOARDS}


if __name__ == "__main__":
    for name, text in written().items():
        (FOLDER / name).write_text(text)
