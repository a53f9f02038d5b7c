"""`journal` in the settings: where it is, and how much of it is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from eigenmesh.control.journal import Retention
from eigenmesh.control.strict import Strict


class JournalSettings(Strict):
    """See Retention. A path alone will do."""

    path: Path = Path("eigenmesh.sqlite")
    """The SQLite file, on a local disk."""
    keep_decisions: Annotated[int, Field(ge=1)] = Retention.decisions
    """The newest ones. Unit: decisions."""
    keep_days: Annotated[float, Field(gt=0)] = Retention.days
    """Decisions and audit. Unit: days."""
    max_megabytes: Annotated[float, Field(ge=1)] = Retention.megabytes
    """Of the file; its write-ahead log comes on top, a few more. Unit: MB."""

    @model_validator(mode="before")
    @classmethod
    def _path_alone(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str | Path) else value

    def retention(self) -> Retention:
        return Retention(self.keep_decisions, self.keep_days, self.max_megabytes)
