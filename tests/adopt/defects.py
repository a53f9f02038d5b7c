"""What adoption is known not to do yet, by test and corpus file.

A strict mark: a test that begins to pass fails the run until its line here is taken out.
"""

from __future__ import annotations

from typing import Any

import pytest

from .corpus import NAMES

_SKEW = "a type or field that Envoy 1.40 has and the installed xds-protos has not is refused"

KNOWN: dict[str, dict[str, str]] = {
    test: {"recent": _SKEW} for test in ("traffic", "steered", "resources", "steering", "bootstrap")
}


def known(test: str) -> list[Any]:
    """The corpus for this test, what is known to fail in it marked."""
    marks = {
        name: [pytest.mark.xfail(reason=reason, strict=True)]
        for name, reason in KNOWN[test].items()
    }
    return [pytest.param(name, marks=marks.get(name, ())) for name in NAMES]
