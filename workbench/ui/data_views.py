"""What the Data tab says: pure functions from a report to text. Imports no gradio.

HTML is made from our own words and escaped values only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

from workbench.data.conversations import StoredRow
from workbench.data.hub import HubListing
from workbench.data.report import Finding, Problem, Report
from workbench.models.tokens import TokenReport
from workbench.tokenizing import TokenPreview
from workbench.ui.views import plain

CELL_CHARACTERS = 200
SHOWN_LABELS = 8
RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]")  # their blocks in Unicode

PART_WORDS = {
    "question": "question",
    "input": "text it is about",
    "answer": "answer",
    "system": "system prompt",
    "history": "earlier turns",
    "messages": "conversation",
}


def report_html(report: Report) -> str:
    """Draw what the check found: a verdict, what the file is, and every kind of problem."""
    errors = "".join(_problem_html(problem) for problem in report.problems)
    return (
        f'<div class="wb-report" data-usable="{str(report.is_usable).lower()}">'
        f'<div class="wb-headline">{escape(report.name)}: {verdict(report)}</div>'
        f"<p>{_file_words(report)}</p>{_labels_html(report)}{errors}</div>"
    )


def verdict(report: Report) -> str:
    """Say in a few words whether the model can learn from it."""
    rows = f"{report.usable_rows:,} {'example' if report.usable_rows == 1 else 'examples'}"
    if report.mapping is None:
        return "which column is what?"
    if report.errors:
        return f"not ready yet, {report.usable_rows:,} of {report.rows:,} rows can be used"
    warnings = len(report.problems)
    if not warnings:
        return f"{rows}, all in order"
    return f"{rows}, ready, with {warnings} {'note' if warnings == 1 else 'notes'}"


def checking_html(name: str) -> str:
    """Say that a file is being checked."""
    return (
        f'<div class="wb-report"><div class="wb-headline">Checking every row of {escape(name)} …'
        '</div><div class="wb-bar wb-unknown"><div></div></div></div>'
    )


def length_words(report: TokenReport, rows: int, limit_tokens: int) -> str:
    """Say how long the examples are, as Markdown."""
    if report.over_limit:
        share = report.over_limit / rows
        fate = (
            f"**{report.over_limit:,} {'example is' if report.over_limit == 1 else 'examples are'} "
            f"({share:.1%}) longer than {limit_tokens:,} tokens**, the maximum length in Configure."
        )
    else:
        fate = f"All fit into the maximum length of {limit_tokens:,} tokens."
    return (
        f"An example has {report.min:,} to {report.max:,} tokens, half of them at most "
        f"{report.median:,}; {report.total:,} in all. {fate}"
    )


def fate_words(row: int, preview: TokenPreview) -> str:
    """Say what becomes of one example, as Markdown."""
    words = {
        "kept": "",
        "cut": " It was longer and is **cut** to the maximum length.",
        "dropped": " It is too long and is **left out**; Configure → Advanced can cut such rows instead.",
    }
    return (
        f"**Row {row:,}** is {preview.tokens:,} tokens; the model learns to write "
        f"{preview.supervised_tokens:,} of them.{words[preview.fate]}"
    )


def listing_words(listing: HubListing) -> str:
    """Say what a dataset of the Hub has, as Markdown."""
    count = len(listing.files)
    words = f"{count:,} {'file' if count == 1 else 'files'} that can be read."
    words += f" Licence: {plain(listing.licence) if listing.licence else 'not stated'}."
    if listing.gated:
        words += " It is gated: accept its licence on its page first, and set HF_TOKEN."
    return words


def rows_table(rows: Sequence[StoredRow]) -> tuple[list[str], list[list[str]]]:
    """Return headers and rows of the table of examples, shortened, as text."""
    has_system = any(row.messages[0]["role"] == "system" for row in rows)
    has_history = any(len(_spoken(row)) > 2 for row in rows)
    headers = ["Row", "Question", "Answer"]
    headers += ["Turns before"] if has_history else []
    headers += ["System prompt"] if has_system else []
    table = []
    for row in rows:
        first, spoken = row.messages[0], _spoken(row)
        cells = [str(row.row), spoken[-2], spoken[-1]]
        cells += [str(len(spoken) - 2)] if has_history else []
        cells += [first["content"] if first["role"] == "system" else ""] if has_system else []
        table.append([shorten(cell) for cell in cells])
    return headers, table


def shorten(text: str) -> str:
    """Cut a text for a cell of a table; Arabic and Hebrew run from right to left in it."""
    flat = " ".join(text[: 2 * CELL_CHARACTERS].split())
    cut = flat if len(flat) <= CELL_CHARACTERS else f"{flat[:CELL_CHARACTERS]}…"
    return f"\u2068{cut}\u2069" if RIGHT_TO_LEFT.search(cut) else cut


def _spoken(row: StoredRow) -> list[str]:
    return [message["content"] for message in row.messages if message["role"] != "system"]


def _file_words(report: Report) -> str:
    words = f"{report.kind_words}."
    if report.mapping:
        used = [
            f"{PART_WORDS[part]} from <code>{escape(column[:60])}</code>"
            for part in PART_WORDS
            if (column := getattr(report.mapping, part)) in report.fields
        ]
        words += f" Read as: {', '.join(used)}."
    return words


def _labels_html(report: Report) -> str:
    """Draw how often each answer comes, where answers are labels."""
    if not report.labels:
        return ""
    most = max(report.labels.values())
    shown = list(report.labels.items())[:SHOWN_LABELS]
    bars = "".join(
        f'<div class="wb-label"><span>{escape(label)}</span>'
        f'<div><div style="width:{100 * count / most:.0f}%"></div></div><b>{count:,}</b></div>'
        for label, count in shown
    )
    rest = len(report.labels) - len(shown)
    more = f"<p>and {rest} more</p>" if rest else ""
    return f'<div class="wb-labels"><p>The answers are labels:</p>{bars}{more}</div>'


def _problem_html(problem: Problem) -> str:
    kind = "stops training" if problem.severity == "error" else "note"
    places = "".join(f"<li>{_place(first)}</li>" for first in problem.first)
    rest = problem.count - len(problem.first)
    if problem.first and rest > 0:
        places += f"<li>and {rest:,} more</li>"
    summary = f'<span class="wb-tag">{kind}</span> {escape(problem.message)}'
    if not places:
        return f'<div class="wb-problem wb-is-{problem.severity}">{summary}</div>'
    is_open = " open" if problem.severity == "error" else ""
    return (
        f'<details class="wb-problem wb-is-{problem.severity}" data-code="{problem.code}"{is_open}>'
        f"<summary>{summary}</summary><ul>{places}</ul></details>"
    )


def _place(first: Finding) -> str:
    where = f"Row {first.row:,} (line {first.line:,}): " if first.row else ""
    # What stands between backticks is escaped by now, so it stays text.
    return where + re.sub("`([^`]+)`", r"<code>\1</code>", escape(first.detail))
