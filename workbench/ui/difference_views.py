"""Two answers side by side with the words marked that differ, as HTML of escaped values. No gradio."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from workbench.differences import Piece, mark_differences

SAME_WORDS = "Both answers are the same, word for word."
HELP = "Underlined is what the other answer does not have there."


def differences_html(left_name: str, left: str, right_name: str, right: str) -> str:
    """Draw two answers under the names of who gave them."""
    left_pieces, right_pieces = mark_differences(left, right)
    differ = any(is_marked for _, is_marked in (*left_pieces, *right_pieces))
    return (
        f'<p class="wb-help">{HELP if differ else SAME_WORDS}</p><div class="wb-differences">'
        f"{_side_html(left_name, left_pieces)}{_side_html(right_name, right_pieces)}</div>"
    )


def _side_html(name: str, pieces: Sequence[Piece]) -> str:
    text = "".join(
        f"<mark>{escape(piece)}</mark>" if is_marked else escape(piece)
        for piece, is_marked in pieces
    )
    return f"<div><b>{escape(name)}</b><p>{text}</p></div>"
