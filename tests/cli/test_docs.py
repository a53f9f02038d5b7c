"""docs/cli.md is what the commands say of themselves."""

from __future__ import annotations

from docs.write_cli import PAGE, page


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "run `make docs-cli`"
