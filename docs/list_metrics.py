"""Writes docs/metrics.md from what the process registers: `make metrics-table`."""

from __future__ import annotations

from pathlib import Path

from eigenmesh.control.families import MOST_SERIES
from eigenmesh.control.metrics import Metrics

PAGE = Path(__file__).with_name("metrics.md")

HEAD = f"""\
# Metrics

`/metrics` on the HTTP port (`http.listen`), in Prometheus' text format or, to who accepts it, in
OpenMetrics', with exemplars. This table is generated from the code: `make metrics-table`.

Labels are the operator's own routes and clusters, solvers, and kinds of events. Whatever they are,
a metric has {MOST_SERIES:,} label sets at most; what comes after them is counted in
`eigenmesh_metrics_dropped_total`. A histogram `x` is queried as `x_bucket`, `x_sum` and `x_count`.
The usual `process_*` metrics are there too.

[operate.md](operate.md) says what the alerts on them mean
([deploy/prometheus/alerts.yml](../deploy/prometheus/alerts.yml)); dashboards are in
[deploy/grafana](../deploy/grafana).

| metric | type | labels | meaning |
|---|---|---|---|
"""


def page() -> str:
    rows = (
        f"| `{f.name}` | {f.kind} | {', '.join(f'`{label}`' for label in f.labels)} | {f.help} |\n"
        for f in Metrics().families.all
    )
    return HEAD + "".join(rows)


if __name__ == "__main__":
    PAGE.write_text(page())
