"""A scenario on a real Envoy, in short. Nothing here depends on time."""

from __future__ import annotations

import asyncio
import math

import numpy as np
import pytest

from bench.scenarios import document, live
from eigenmesh.demo.processes import ProcessError


def test_every_policy_meets_the_same_requests_and_its_own_weights() -> None:
    chosen = ["oracle", "least request of 10", "L3's rule", "Eigenmesh"]
    (one,) = document.parse(
        {
            "about": "b fails from second 2 on.",
            "seconds": 5,
            "warm_up": 1,
            "capacities": {"a": 100, "b": 100},
            "routes": {"shop": ["a", "b"]},
            "load": {"level": 0.3},
            "events": [{"at": 2, "upstream": "b", "fail_after": "5ms"}],
            "policies": chosen,
        },
        "small",
    )
    runs = asyncio.run(live.play(one, 1, beside=4, most_lag=math.inf))
    assert list(runs) == chosen
    sent = [int(((run.due >= 0.0) & (run.due < 5.0)).sum()) for run in runs.values()]
    assert min(sent) > 100
    assert min(sent) > 0.5 * max(sent)  # phases begin when a busy machine lets them
    for run in runs.values():
        assert set(run.arrived) == {"a", "b"}
        assert len(run.times) == len(run.arrived["a"])
    # The oracle leaves b as soon as it fails, least request does not notice.
    assert sum(moved for _, moved in runs["oracle"].moves) == pytest.approx(0.5, abs=0.01)
    failed = {name: int(np.sum(run.status == 503)) for name, run in runs.items()}
    assert failed["oracle"] < failed["least request of 10"]


def test_what_only_the_twin_can_play_is_refused() -> None:
    for name in ("sites", "holes", "fleet"):
        with pytest.raises(ProcessError, match="--twin"):
            asyncio.run(live.play(document.load(name)[0], 1))
