"""The one query of a tick, and the operator's own in its place.

`$matchers` stands for the label matchers of the series that are needed, `$window` for how far back
samples are wanted. Whatever else an operator writes must give those series under their own names,
as samples over a range: a range selector, or a subquery for series that were renamed.
"""

from __future__ import annotations

from types import ModuleType

DEFAULT = "{$matchers}[$window]"

_STAND_INS = {"$matchers": 'env="xyz"', "$window": "60000ms"}
"""As long as what they stand for, so that columns are the template's."""


def resolve(template: str, matchers: str, window: float) -> str:
    """The PromQL to send; window: seconds."""
    return template.replace("$matchers", matchers).replace("$window", f"{round(window * 1000)}ms")


def check_query(template: str) -> None:
    """Raises ValueError with the place and the remedy when it cannot serve as the query."""
    promql_parser = _parser()
    text = template
    for name, stand_in in _STAND_INS.items():
        text = text.replace(name, stand_in)
    _check(text)
    if "$window" not in template:
        raise ValueError("has no $window; end it with [$window], which is widened when need be")
    expression = promql_parser.parse(text)
    while isinstance(expression, promql_parser.ParenExpr):
        expression = expression.expr
    if not isinstance(expression, promql_parser.MatrixSelector | promql_parser.SubqueryExpr):
        raise ValueError("gives no samples over a range; end it with [$window] or [$window:1s]")


def check_selector(selector: str) -> None:
    """Raises ValueError with the place when these are no label matchers."""
    if not selector.strip().strip("{}").strip(", "):
        return
    bare = not selector.lstrip().startswith("{")
    _check(f"{{{selector}}}" if bare else selector, before=int(bare))


def _check(text: str, before: int = 0) -> None:
    """before: characters that are not the operator's."""
    if (problem := _problem(text)) is None:
        return
    # The parser does not say where: it is where the same complaint first comes up.
    end = next(n for n in range(1, len(text) + 1) if _problem(text[:n]) == problem)
    column = min(max(1, end - before), len(text) - 2 * before)
    raise ValueError(f"column {column}: {problem}; see the PromQL documentation")


def _parser() -> ModuleType:
    """Only who writes queries of their own needs it."""
    try:
        import promql_parser
    except ImportError as error:
        raise ValueError(
            "cannot be checked here; pip install 'eigenmesh[prometheus]', or leave it out"
        ) from error
    return promql_parser


def _problem(text: str) -> str | None:
    promql_parser = _parser()
    try:
        promql_parser.parse(text)
    except ValueError as error:
        return " ".join(str(error).split())
    return None
