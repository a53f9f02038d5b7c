"""What can be wrong with a journal."""

from __future__ import annotations


class JournalError(Exception):
    """The journal file cannot be used; the message names the file, the cause and the remedy."""


class JournalWriteError(JournalError):
    """A write was refused (full or read-only disk); nothing was changed."""
