"""What the pages say is tested is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAMED = re.compile(r"`((?:tests|bench|docs)/[\w./-]+\.(?:py|md|json))`")


@pytest.mark.parametrize("page", ["faults.md", "live-settings.md"])
def test_files_that_a_page_names_are_there(page: str) -> None:
    named = NAMED.findall((ROOT / "docs" / page).read_text())
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []
