"""Models that think first: what they write between <think> and </think> before an answer."""

from __future__ import annotations

import re

OPEN, CLOSE = "<think>", "</think>"
# Some templates open the thought for the model, so it need not begin with the tag.
_EMPTY = re.compile(rf"\A\s*(?:{OPEN})?\s*{CLOSE}\s*")
_OPENED = re.compile(rf"{OPEN}\s*\Z")


def answer_of(text: str) -> str:
    """Return what follows a model's thoughts: the whole text where there are none, or they have no end."""
    return text.rpartition(CLOSE)[2].strip() if CLOSE in text else text


def without_empty_thought(text: str) -> str:
    """Return a text without the thought before its answer if nothing is thought; empty where that is not over yet."""
    begun = "".join(text.split())
    if begun and ((OPEN + CLOSE).startswith(begun) or CLOSE.startswith(begun)):
        return ""
    return _EMPTY.sub("", text, count=1)


def thought_of(text: str) -> str:
    """Return the thoughts before an answer; empty where there are none."""
    return text.rpartition(CLOSE)[0].replace(OPEN, "").strip()


def before_thought(prompt: str) -> str | None:
    """Return a prompt without the tag that opens the model's thought at its end; ``None`` where there is none."""
    opened = _OPENED.search(prompt)
    return prompt[: opened.start()] if opened else None
