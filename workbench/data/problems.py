"""Everything the data check can find: what it is called, whether it stops training, what helps.

The table in ``docs/data.md`` is made from ``KINDS``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from workbench.data.formats import NO_TEXT

Severity = Literal["error", "warning"]
Fix = Literal["drop-invalid", "deduplicate", "trim", "convert", "cut-unanswered", "drop", "map", ""]


@dataclass(frozen=True)
class Kind:
    """One kind of problem.

    Attributes:
        severity: An ``error`` stops training, a ``warning`` does not.
        one: What it is, after a count: "1 row without an answer"; of a whole file, a sentence.
        many: The same for several; empty for what a file has only once.
        advice: Why it matters or what to do, as a sentence.
        fix: What mends it without a person reading every row; empty when nothing does safely.
    """

    severity: Severity
    one: str
    many: str
    advice: str
    fix: Fix

    def message(self, count: int) -> str:
        """Say it of ``count`` rows, and why it matters."""
        words = f"{count:,} {self.one if count == 1 else self.many}" if self.many else self.one
        return f"{words}. {self.advice}"


def _rows(severity: Severity, words: str, advice: str, fix: Fix) -> Kind:
    return Kind(severity, f"row {words}", f"rows {words}", advice, fix)


KINDS: dict[str, Kind] = {
    "unreadable": Kind(
        "error",
        "The file cannot be read",
        "",
        "Nothing in it can be used.",
        "",
    ),
    "unknown-columns": Kind(
        "error",
        "It is not clear which column is what",
        "",
        "Say which column is the question and which the answer.",
        "map",
    ),
    "broken-row": _rows(
        "error",
        "that cannot be read",
        "The file is not well formed there.",
        "drop-invalid",
    ),
    "not-a-row": _rows("error", "without named fields", "A row needs them.", "drop-invalid"),
    "missing-answer": _rows(
        "error",
        "without an answer",
        "A question alone teaches nothing.",
        "drop-invalid",
    ),
    "empty-answer": _rows(
        "error",
        "with an empty answer",
        "It would teach the model to say nothing.",
        "drop-invalid",
    ),
    "empty-question": _rows(
        "error",
        "without a question",
        "The model would not know what it answers.",
        "drop-invalid",
    ),
    "wrong-type": _rows(
        "error",
        "with something that is not text",
        "Numbers and true/false can be turned into text; lists and objects cannot.",
        "convert",
    ),
    "no-final-answer": _rows(
        "error",
        "not ending on an answer",
        "What follows the last answer teaches nothing.",
        "cut-unanswered",
    ),
    "unknown-role": _rows(
        "error",
        "with an unknown role",
        "Only system, user and assistant take part in a conversation.",
        "drop-invalid",
    ),
    "turn-order": _rows(
        "error",
        "where question and answer do not take turns",
        "Many models refuse such a conversation.",
        "drop-invalid",
    ),
    "broken-character": _rows(
        "error",
        "with half a character",
        "No encoding can write it, so no model can read it.",
        "trim",
    ),
    "control-character": _rows(
        "warning",
        "with characters that are no text",
        "They come from wrong encodings or copying, and the model learns to write them.",
        "trim",
    ),
    "outer-space": _rows(
        "warning",
        "whose answer begins or ends with space",
        "The model learns to write that space.",
        "trim",
    ),
    "duplicate": _rows(
        "warning",
        "repeating an earlier row word for word",
        "The model sees it more often than the others, and may learn it by heart.",
        "deduplicate",
    ),
    "conflicting-answers": _rows(
        "warning",
        "with a question answered differently before",
        "Fine for chatting; for a task with one right answer, one of them is wrong.",
        "drop",
    ),
    "placeholder": _rows(
        "warning",
        "with a placeholder or a canned phrase",
        "Something like {{name}}, TODO or “As an AI language model”; the model learns to write it.",
        "drop",
    ),
    "secret": _rows(
        "warning",
        "with what looks like a password or key",
        "The tuned model may tell it to anybody.",
        "drop",
    ),
    "personal-data": _rows(
        "warning",
        "with what looks like an e-mail address or a phone number",
        "The tuned model may tell it to anybody.",
        "drop",
    ),
    "label-imbalance": Kind(
        "warning",
        "answer far more frequent than the others",
        "answers far more frequent than the others",
        "The model may give it always. Add rows with the other answers.",
        "",
    ),
    "rare-label": Kind(
        "warning",
        "answer in very few rows",
        "answers in very few rows",
        "Is it a misspelling? Otherwise add more rows with it.",
        "",
    ),
    "few-rows": Kind(
        "warning",
        "row in all",
        "rows in all",
        "From about 50 on, a model picks up a style or a name; a task wants a few hundred.",
        "",
    ),
    "unused-column": Kind(
        "warning",
        "column is not used",
        "columns are not used",
        "The model does not see them.",
        "map",
    ),
    "old-encoding": Kind(
        "warning",
        "The file is in an encoding from before Unicode",
        "",
        "Check that the letters below look right; otherwise save it as UTF-8.",
        "",
    ),
    "other-sheets": Kind(
        "warning", "Other sheets of the workbook are left out", "", "Only the first is read.", ""
    ),
}

# Texts of templates nobody filled in, and of assistants that refuse. Cheap to look for: a plain
# search for one of the marks comes first.
_PLACEHOLDERS = re.compile(
    r"\{\{[\w. ]{1,40}\}\}|\bTODO\b|\bFIXME\b|\blorem ipsum\b|"
    r"<(?:your|insert)[ _-][\w -]{1,30}>|\[(?:insert|your) [\w -]{1,30}\]|"
    r"\bas an ai (?:language )?model\b|\bas a large language model\b",
    re.IGNORECASE,
)
_PLACEHOLDER_MARKS = (
    "{{", "todo", "fixme", "lorem ipsum", "an ai ", "a large language", "[insert", "[your",
    "<insert", "<your",
)  # fmt: skip

# Forms published by those who issue the keys (AWS, GitHub, Hugging Face, OpenAI, Slack, Google, ModelScope), as
# secret scanners use them; and private keys in PEM (RFC 7468).
_SECRETS = re.compile(
    r"\bAKIA[0-9A-Z]{16}\b|\bgh[pousr]_[A-Za-z0-9]{36,}|\bgithub_pat_\w{50,}|\bhf_[A-Za-z0-9]{30,}|"
    r"\bsk-[A-Za-z0-9_-]{20,}|\bxox[abprs]-[A-Za-z0-9-]{10,}|\bAIza[0-9A-Za-z_-]{35}|\bms-[0-9a-f]{8}-[0-9a-f-]{27}|"
    r"-----BEGIN [A-Z ]{0,20}PRIVATE KEY-----|\b(?:password|passwd|api[_ ]key)\s{0,3}[:=]\s{0,3}[^\s<{\[]{8,200}",
    re.IGNORECASE,
)
_SECRET_MARKS = (
    "akia", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "hf_", "sk-", "xox", "aiza", "ms-",
    "-----begin", "passw", "api_key", "api key",
)  # fmt: skip

# A person's address, not an example's; a number in international form, in the North American, or a
# mobile one of mainland China. Anything shorter is more often a sum or a date.
_EMAIL = re.compile(r"(?<=[\w+-])@(?!example\.)[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,4}")
_LOCAL_PART = re.compile(r"[\w.+-]{1,64}$")
_INTERNATIONAL = re.compile(r"(?<![\w.+])\+\d{1,3}[ ().-]{0,2}\d(?:[ ().-]{0,2}\d){6,12}(?!\w)")
_NATIONAL = re.compile(
    r"(?<![\w.-])(?:\((?!555)\d{3}\) ?|(?!555)\d{3}[.-])(?!555)\d{3}[.-]\d{4}(?![\w-])|(?<!\d)1[3-9]\d{9}(?!\d)"
)
# What every national number has in it; simple enough to be searched for quickly.
_DASHED, _ELEVEN_DIGITS = re.compile("[0-9]{3}[.-][0-9]{4}"), re.compile("1[3-9][0-9]{9}")
SHOWN_CHARACTERS = 4
# No model reads a longer row; searching one of 50 MB would take minutes.
SEARCHED_CHARACTERS = 300_000


def text_problems(text: str, answer: str) -> Iterator[tuple[str, str]]:
    """Yield code and detail of every warning about the texts of one conversation.

    Args:
        text: All messages; only the beginning of very long ones is searched.
        answer: The last one.
    """
    text = text[:SEARCHED_CHARACTERS]
    # Each search of a regular expression costs as much as reading the row; look cheaply first.
    if (not text.replace("\n", "").isprintable() or "\ufffd" in text) and (
        found := NO_TEXT.search(text)
    ):
        yield "control-character", f"the character U+{ord(found[0]):04X} is no text."
    lower = text.lower()
    if answer[0].isspace() or answer[-1].isspace():
        yield "outer-space", "the answer begins or ends with space or an empty line."
    if _has(lower, _PLACEHOLDER_MARKS) and (found := _PLACEHOLDERS.search(text)):
        yield "placeholder", f"“{found[0]}”."
    if _has(lower, _SECRET_MARKS) and (found := _SECRETS.search(text)):
        yield "secret", f"something like “{_masked(found[0])}”."
    if personal := _personal_data(text):
        yield "personal-data", f"something like “{_masked(personal)}”."


def mask_secrets(text: str) -> str:
    """Return a text without the keys, tokens and passwords that it has in forms which are known."""
    return _SECRETS.sub(lambda found: _masked(found[0]), text)


def _personal_data(text: str) -> str:
    if "@" in text and (found := _EMAIL.search(text)):
        local_part = _LOCAL_PART.search(text, max(0, found.start() - 64), found.start())
        return (local_part[0] if local_part else "") + found[0]
    found = _INTERNATIONAL.search(text) if "+" in text else None
    found = found or (_NATIONAL.search(text) if _may_be_national(text) else None)
    return found[0] if found else ""


def _may_be_national(text: str) -> bool:
    return bool(_DASHED.search(text) or _ELEVEN_DIGITS.search(text))


def _has(text: str, marks: tuple[str, ...]) -> bool:
    for mark in marks:  # noqa: SIM110 - twice as fast as any()
        if mark in text:
            return True
    return False


def _masked(text: str) -> str:
    # The report is kept and shown; it must not be another place where the secret is.
    return f"{text[:SHOWN_CHARACTERS]}…"
