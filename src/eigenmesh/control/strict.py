"""The base of every part of the settings: what is not known is refused, and nothing changes.

What each setting means stands below its field, for docs/settings.md (`make docs-settings`); of a
number that is neither seconds nor a fraction it ends with "Unit: ...".
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
