"""How well the estimator knows queues whose truth is known.

    python -m bench.estimator.run [--seeds 100] [--steering-seeds 24] [--hours 1] [--jobs N]

Writes to bench/results: estimator.json (steering), estimator-trials.json,
estimator-demand.json, estimator-events.json and coupling.json (every trial), estimator.md and
coupling.md (tables) and estimator.svg (learned curves against the truth). About ten minutes on
two cores, which others should leave alone only if the clock matters: no figure depends on it.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench.estimator import coupling, events, predict, probing, report, steering
from tests.telemetry import traces

RESULTS = Path(__file__).parents[1] / "results"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Benchmark of the learned latency curves.")
    parser.add_argument("--seeds", type=int, default=100, help="of every predicted case")
    parser.add_argument("--steering-seeds", type=int, default=24, help="0 leaves steering out")
    parser.add_argument("--hours", type=int, default=3, help="of steady traffic, for false alarms")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder")
    return parser.parse_args()


def lines(trials: Iterable[Any]) -> str:
    """A JSON list, a trial a line."""
    rows = ",\n".join(json.dumps(trial) for trial in trials)
    return f"[\n{rows}\n]"


def main() -> None:
    args = arguments()
    trials = predict.trials(args.seeds, args.jobs)
    args.results.mkdir(parents=True, exist_ok=True)
    (args.results / "estimator-trials.json").write_text(f"{lines(trials)}\n")
    (args.results / "estimator.svg").write_text(report.plot(trials))
    forecasts = traces.figures(min(20, args.seeds))
    (args.results / "estimator-demand.json").write_text(json.dumps(forecasts, indent=1) + "\n")
    changes = events.figures(min(20, args.seeds))
    by_event = ",\n".join(f"{json.dumps(name)}: {lines(found)}" for name, found in changes.items())
    (args.results / "estimator-events.json").write_text(f"{{{by_event}}}\n")
    coupled = coupling.figures(min(20, args.seeds), args.jobs)
    (args.results / "coupling.json").write_text(coupling.to_json(coupled))
    (args.results / "coupling.md").write_text(coupling.markdown(coupled))
    print(coupling.markdown(coupled))
    probed = probing.trials(min(20, args.seeds), args.jobs)
    (args.results / "probing.json").write_text(f"{lines(probed)}\n")
    (args.results / "probing.md").write_text(probing.markdown(probed))
    print(probing.markdown(probed))
    text = "\n".join((report.markdown(trials), report.demands(forecasts), events.markdown(changes)))
    (args.results / "estimator.md").write_text(text)
    print(text)
    if args.steering_seeds:
        figures = json.dumps(steering.figures(args.steering_seeds, args.hours), indent=2)
        (args.results / "estimator.json").write_text(figures + "\n")
        print(figures)


if __name__ == "__main__":
    main()
