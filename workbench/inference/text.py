"""From token ids to text, piece by piece. Pure: knows a tokenizer, but no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

UNFINISHED = "\ufffd"  # what a tokenizer writes for half of a character


class TextPieces:
    """Turns the ids of an answer into text as they come, and looks for stop sequences.

    A character of several tokens is held back until it is whole, and so is what may be the beginning
    of a stop sequence. Joined, the pieces are the whole answer.

    Args:
        tokenizer: Any ``transformers`` tokenizer; special tokens are not shown.
        stop: Texts that end the answer; they are no part of it.
    """

    def __init__(self, tokenizer: Any, stop: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._stop = [text for text in stop if text]
        self._ids: list[int] = []
        # Ids from ``first`` on are decoded, those to ``shown`` were shown.
        self._first, self._shown = 0, 0
        self._held = ""
        self.is_stopped = False

    def add(self, token: int) -> str:
        """Return what can be shown now; perhaps nothing."""
        self._ids.append(token)
        # Some tokenizers write a token differently at the beginning: decode with those before it.
        before = self._decode(self._first, self._shown)
        text = self._decode(self._first, len(self._ids))
        if text.endswith(UNFINISHED) or len(text) <= len(before):
            return ""
        self._first, self._shown = self._shown, len(self._ids)
        return self._until_stop(text[len(before) :])

    def end(self) -> str:
        """Return what was held back; the answer is complete."""
        rest = self._decode(self._first, len(self._ids))
        rest = rest[len(self._decode(self._first, self._shown)) :]
        self._shown = len(self._ids)
        shown = self._until_stop(rest)
        if self.is_stopped:
            return shown
        held, self._held = self._held, ""
        return shown + held

    def _decode(self, first: int, end: int) -> str:
        text: str = self._tokenizer.decode(self._ids[first:end], skip_special_tokens=True)
        return text

    def _until_stop(self, text: str) -> str:
        if self.is_stopped:
            return ""
        text = self._held + text
        places = [place for stop in self._stop if (place := text.find(stop)) >= 0]
        if places:
            self.is_stopped, self._held = True, ""
            return text[: min(places)]
        kept = max((_overlap(text, stop) for stop in self._stop), default=0)
        self._held = text[len(text) - kept :]
        return text[: len(text) - kept]


def _overlap(text: str, stop: str) -> int:
    """Return how many of the last characters may be the beginning of a stop sequence."""
    for count in range(min(len(text), len(stop) - 1), 0, -1):
        if stop.startswith(text[-count:]):
            return count
    return 0
