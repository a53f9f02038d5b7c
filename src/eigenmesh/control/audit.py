"""Who asked for what, and when: an entry for each write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class AuditEntry:
    """One write of somebody.

    number: counted from 1; 0: not recorded yet. time: unix seconds. who: the name of a token or of
    a certificate, or how else the asker is known. action: the name of the call, as in the API's
    proto. detail: what was asked, JSON-ready. outcome: "ok", or why it was refused.
    """

    time: float
    who: str
    action: str
    detail: Mapping[str, Any] = field(default_factory=dict)
    outcome: str = "ok"
    number: int = 0
