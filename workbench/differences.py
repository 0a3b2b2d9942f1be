"""Where two texts differ, word by word. Pure."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

Piece = tuple[str, bool]  # a part of a text, and whether the other text has something else there
EXACT_WORDS = 500

# Scripts that put no spaces between words: Chinese, Japanese, Thai, Lao, Khmer and Burmese.
_NO_SPACES = (
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    r"\U00020000-\U0003ffff"
)
_MARKS = r".,:;!?…()\[\]{}<>\"“”„«»。、，：；！？「」『』《》（）"  # noqa: RUF001 - they are meant
_WORD = re.compile(
    rf"\s*(?:[{_NO_SPACES}]|[{_MARKS}]"
    rf"|(?:[^\s{_NO_SPACES}{_MARKS}]|(?<=\d)[.,:](?=\d))+)"  # 3.50 and 3,000 are one word each
)


def mark_differences(left: str, right: str) -> tuple[list[Piece], list[Piece]]:
    """Cut both texts into what they share and what they do not.

    Words are compared, and single characters in scripts without spaces between words. White space is none.

    Returns:
        The pieces of each text; put together again they are the text.
    """
    lefts, rights = _WORD.findall(left), _WORD.findall(right)
    # Exactly, a text that repeats itself takes a time that grows with the cube of its length.
    is_long = max(len(lefts), len(rights)) > EXACT_WORDS
    matcher = difflib.SequenceMatcher(None, _compared(lefts), _compared(rights), autojunk=is_long)
    left_pieces: list[Piece] = []
    right_pieces: list[Piece] = []
    for tag, left_from, left_to, right_from, right_to in matcher.get_opcodes():
        left_pieces += _pieces(lefts[left_from:left_to], tag != "equal")
        right_pieces += _pieces(rights[right_from:right_to], tag != "equal")
    return left_pieces + _rest(left), right_pieces + _rest(right)


def _compared(words: Sequence[str]) -> list[str]:
    return [word.lstrip() for word in words]


def _pieces(words: Sequence[str], differs: bool) -> list[Piece]:
    """Return words as one piece; the white space before those that differ belongs to neither text's words."""
    text = "".join(words)
    space = text[: len(text) - len(text.lstrip())] if differs else ""
    return [piece for piece in ((space, False), (text[len(space) :], differs)) if piece[0]]


def _rest(text: str) -> list[Piece]:
    """Return the white space after the last word."""
    space = text[len(text.rstrip()) :]
    return [(space, False)] if space else []
