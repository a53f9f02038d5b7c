"""For all tests: in CI hypothesis takes the same examples every time, so that a failure tells of
the change and not of luck. On a developer's machine it goes on looking. No example fails for being
slow: the machine may be busy."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("eigenmesh", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("eigenmesh")
