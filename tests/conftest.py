"""For all tests: in CI hypothesis takes the same examples every time, so that a failure tells of
the change and not of luck. On a developer's machine it goes on looking."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")
