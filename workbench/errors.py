"""The one exception whose text is written for the person at the page or the terminal."""

from __future__ import annotations


class WorkbenchError(Exception):
    """A problem the person can understand and act on.

    Raise it anywhere; the page shows it as a notice, the command line as one line on stderr.

    Args:
        message: What is wrong and where, in one sentence.
        hint: What to do about it. May be empty when the message already says so.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class StopRequested(Exception):
    """Raised inside a child process when the person pressed Stop before training had begun."""
