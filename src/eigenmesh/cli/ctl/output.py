"""Tables for people, the proto's JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from contextlib import nullcontext
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from rich.console import Console, RenderableType
    from rich.table import Table
    from rich.text import Text

T = TypeVar("T", bound="Message")


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


_WIDE = 10_000
"""Columns of a pipe: what reads it has lines, not a screen."""


def console(*, stderr: bool = False) -> Console:
    """No colours where it is piped or NO_COLOR is set, and no line is broken in a pipe."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(
        stderr=stderr, width=None if stream.isatty() else _WIDE, highlight=False, markup=False
    )


def show(*parts: RenderableType) -> None:
    """Prints each on standard output; text is no markup, since names may have brackets."""
    out = console()
    with nullcontext() if out.is_terminal else out.capture() as captured:
        for part in parts:
            out.print(part, soft_wrap=isinstance(part, str))
    if captured is not None:
        # Tables fill their last column with blanks, which nothing in a pipe wants.
        lines = captured.get().split("\n")
        sys.stdout.write("\n".join(line.rstrip() for line in lines))


def heading(title: str) -> Text:
    """Above a table that is not the first."""
    from rich.text import Text

    return Text(f"\n{title}", "bold")


def table(text: Iterable[str], figures: Iterable[str] = (), last: Iterable[str] = ()) -> Table:
    """Columns of text, of figures (aligned on the right), and of text again."""
    from rich.table import Table

    made = Table(header_style="dim", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for name in text:
        made.add_column(name)
    for name in figures:
        made.add_column(name, justify="right")
    for name in last:
        made.add_column(name)
    return made


_CONTROLS = dict.fromkeys((*range(9), *range(11, 32), *range(127, 160)), "�")


def harmless(text: str) -> str:
    """Without control characters: a node may call itself anything, and a terminal would obey."""
    return text.translate(_CONTROLS)


def printable(message: T) -> T:
    """The same with harmless texts."""
    from google.protobuf.json_format import MessageToDict, ParseDict

    return ParseDict(_cleaned(MessageToDict(message)), type(message)())


def _cleaned(value: Any) -> Any:
    match value:
        case str():
            return harmless(value)
        case list():
            return [_cleaned(one) for one in value]
        case dict():
            return {_cleaned(key): _cleaned(one) for key, one in value.items()}
    return value


def document(message: Message) -> dict[str, Any]:
    """The proto's JSON, with the fields that are not set: programs find all of them."""
    from google.protobuf.json_format import MessageToDict

    found: dict[str, Any] = MessageToDict(message, always_print_fields_with_no_presence=True)
    return found


def dump(message: Message, form: Format, *, line: bool = False) -> str:
    """line: one of many; JSON is then one line, YAML a document of its own."""
    if form is Format.JSON:
        indent = None if line else 2
        return json.dumps(document(message), indent=indent) + "\n"
    import yaml

    text: str = yaml.safe_dump(
        document(message), sort_keys=False, allow_unicode=True, explicit_start=line
    )
    return text
