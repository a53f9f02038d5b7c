"""What the pages ask their reader to type, set, run or send, found in their text."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])

_FENCE = re.compile(
    r'^(?P<indent> *)```(?P<language>\w*)(?: title="(?P<title>[^"]+)")?\n'
    r"(?P<text>.*?)^(?P=indent)```$",
    re.M | re.S,
)
_CODE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
_OPERATORS = ("&&", "||", "|", ";")


@dataclass(frozen=True)
class Block:
    """A fenced block. title: the file that its text is or is part of, where the page says so."""

    page: str
    line: int
    language: str
    title: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Command:
    """What a shell would run, without redirections and variables of the environment."""

    where: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.where} {' '.join(self.words)}"


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for found in _FENCE.finditer(text):
        indent = len(found["indent"])
        lines = [line[indent:] for line in found["text"].splitlines()]
        yield Block(
            page.relative_to(ROOT).as_posix(),
            text.count("\n", 0, found.start()) + 1,
            found["language"],
            found["title"] or "",
            "\n".join(lines) + "\n",
        )


def prose(page: Path) -> str:
    """The page without its blocks."""
    return _FENCE.sub("", page.read_text())


def spans(page: Path) -> list[str]:
    """What stands between backticks in the text, each on one line."""
    return [" ".join(code.split()) for code in _CODE.findall(prose(page))]


def typed(block: Block) -> Iterator[Command]:
    """The commands behind `$` in a block of the console."""
    for number, line in enumerate(block.text.splitlines(), block.line + 1):
        if line.startswith("$ "):
            yield from parsed(line[2:], f"{block.page}:{number}")


def parsed(line: str, where: str) -> Iterator[Command]:
    """Raises ValueError for a line that no shell would take."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    for operator, words in groupby(lexer, lambda word: word in _OPERATORS):
        if not operator and (command := _bare([*words])):
            yield Command(where, tuple(command))


def _bare(words: Sequence[str]) -> list[str]:
    if ">" in words:
        words = words[: words.index(">")]
    first = next((n for n, word in enumerate(words) if not re.match(r"[A-Z_]+=", word)), len(words))
    return [*words[first:]]
