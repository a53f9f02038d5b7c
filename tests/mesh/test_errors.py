"""Errors keep their parts when they cross a process boundary."""

from __future__ import annotations

import pickle

from eigenmesh.mesh import MeshError


def test_an_error_survives_pickling() -> None:
    error = pickle.loads(pickle.dumps(MeshError("curve.t0", -1.0, "must be above 0")))
    assert (error.field, error.value, error.remedy) == ("curve.t0", -1.0, "must be above 0")
    assert str(error) == "curve.t0: -1.0: must be above 0"
