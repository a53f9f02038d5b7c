"""The embedded journal: one SQLite file that a restart resumes from (`docs/journal.md`)."""

from eigenmesh.control.journal.errors import JournalError, JournalWriteError
from eigenmesh.control.journal.journal import Journal, Resumed, Summary
from eigenmesh.control.journal.retention import Retention
from eigenmesh.control.journal.schema import SCHEMA_VERSION

__all__ = [
    "SCHEMA_VERSION",
    "Journal",
    "JournalError",
    "JournalWriteError",
    "Resumed",
    "Retention",
    "Summary",
]
