"""Which field is the question, which the answer? Recognised by name where only one reading is possible.

Where two are, or none, nobody guesses: the page asks with a form, the command line with an option.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from workbench.data.formats import CONTENT_KEYS, ROLE_KEYS, Mapping
from workbench.errors import WorkbenchError

# Spellings seen in datasets on the Hugging Face Hub and in the issue trackers of fine-tuning tools.
CONVERSATIONS = ("messages", "conversations", "conversation", "dialogue", "dialog", "turns", "chat")
ANSWERS = ("output", "response", "answer", "completion", "target", "reply", "assistant")
QUESTIONS = ("instruction", "prompt", "question", "query", "user", "human")
INPUTS = ("input", "context")
SYSTEMS = ("system", "system_prompt")
HISTORIES = ("history",)
# Columns of tables for sorting texts; looked at only where there is no name from above.
TEXTS = ("text", "sentence", "review", "comment", "message")
LABELS = ("label", "category", "class", "sentiment")

# Where these stand together the row is of that kind, whatever stands beside them.
EXACT = {
    ("instruction", "output"): "alpaca",
    ("prompt", "completion"): "prompt-completion",
    ("question", "answer"): "question-answer",
}


@dataclass(frozen=True)
class Detection:
    """What was recognised.

    Attributes:
        format: ``alpaca``, ``sharegpt``, ``openai``, ``prompt-completion``, ``question-answer``,
            ``text-label``, ``mapped`` (told by a person) or ``unknown``.
        mapping: How to read the rows; ``None`` when that has to be asked.
        question: What to ask then, as a sentence.
    """

    format: str
    mapping: Mapping | None
    question: str = ""


def field_names(rows: Iterable[Any]) -> list[str]:
    """Return every field of the rows, in the order of their first appearance."""
    return list(dict.fromkeys(str(name) for row in rows if isinstance(row, dict) for name in row))


def detect(rows: Sequence[Any], *, with_answers: bool = True) -> Detection:
    """Recognise the fields from some rows.

    Args:
        rows: The first rows of a file, as read.
        with_answers: There must be answers; else the questions are enough.
    """
    names = field_names(rows)
    if not names:  # nothing in the file is a row, which the check will say of each
        return Detection("unknown", Mapping("instruction", "output", "input", "system", "history"))
    by_name = {_normal(name): name for name in reversed(names)}

    def present(spellings: Sequence[str]) -> list[str]:
        return [by_name[spelling] for spelling in spellings if spelling in by_name]

    talks = [name for name in present(CONVERSATIONS) if _holds_turns(rows, name)]
    exact = [(pair, kind) for pair, kind in EXACT.items() if len(present(pair)) == 2]
    if len(talks) + len(exact) > 1:
        found = [*talks, *(f"{pair[0]} and {pair[1]}" for pair, _ in exact)]
        return _ask(names, f"Several readings are possible: {', or '.join(found)}.")
    # An optional field may first appear far down the file, under its usual name.
    system = next(iter(present(SYSTEMS)), "system")
    if talks:
        kind = "sharegpt" if _uses_key(rows, talks[0], "from") else "openai"
        return Detection(kind, Mapping(messages=talks[0], system=system))
    history = next(iter(present(HISTORIES)), "history")
    inputs = present(INPUTS)
    if exact:
        (question, answer), kind = present(exact[0][0]), exact[0][1]
    else:
        labels_only = not present(ANSWERS)
        answers = present(LABELS) if labels_only else present(ANSWERS)
        questions = present(QUESTIONS) or present(TEXTS)
        if not questions and len(inputs) == 1:
            questions, inputs = inputs, []
        if not with_answers:
            answers = answers[:1] or [""]  # which of several does not matter: none is read
        if len(answers) != 1 or len(questions) != 1:
            return _ask(names, _doubt(questions, answers))
        question, answer = questions[0], answers[0]
        kind = "text-label" if labels_only else "question-answer"
    if len(inputs) > 1:
        return _ask(names, f"Both {' and '.join(_quoted(inputs))} could belong to the question.")
    return Detection(
        kind,
        Mapping(
            question=question,
            answer=answer,
            input=next(iter(inputs), "input" if kind == "alpaca" else ""),
            system=system,
            history=history,
        ),
    )


def check_mapping(mapping: Mapping, names: Sequence[str]) -> None:
    """Refuse a mapping that cannot be used with these fields.

    Raises:
        WorkbenchError: Question or answer is not named, or a named field does not exist.
    """
    if not mapping.messages and not (mapping.question and mapping.answer):
        raise WorkbenchError(
            "Choose the column with the questions and the column with the answers.",
            "Or the one column that holds whole conversations.",
        )
    missing = [name for name in mapping.fields if name not in names]
    if missing:
        raise WorkbenchError(
            f"There is no column {', '.join(_quoted(missing))}.",
            f"Columns there are: {', '.join(_quoted(names))}.",
        )
    if len(set(mapping.fields)) < len(mapping.fields):
        raise WorkbenchError("One column is chosen twice.", "Choose another one, or none.")


def parse_mapping(pairs: Iterable[str]) -> Mapping | None:
    """Read ``question=FIELD answer=FIELD …`` as given on the command line; ``None`` when empty.

    Raises:
        WorkbenchError: No ``=``, or a word that means nothing.
    """
    known = [field.name for field in fields(Mapping) if field.type == "str"]
    values: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or name not in known:
            raise WorkbenchError(
                f"--map {pair!r} is not understood.",
                f"Write --map question=COLUMN answer=COLUMN; names: {', '.join(known)}.",
            )
        values[name] = value
    return Mapping(**values) if values else None


def _normal(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def _holds_turns(rows: Sequence[Any], name: str) -> bool:
    """Say whether the first value of a field is a list of turns."""
    values = (row[name] for row in rows if isinstance(row, dict) and row.get(name))
    value = next(values, None)
    if not isinstance(value, list) or not value or not isinstance(value[0], dict):
        return False
    return any(key in value[0] for key in ROLE_KEYS) and any(k in value[0] for k in CONTENT_KEYS)


def _uses_key(rows: Sequence[Any], name: str, key: str) -> bool:
    value = next(row[name] for row in rows if isinstance(row, dict) and row.get(name))
    return key in value[0]


def _doubt(questions: list[str], answers: list[str]) -> str:
    if len(answers) > 1:
        return f"Both {' and '.join(_quoted(answers))} could be the answer."
    if len(questions) > 1:
        return f"Both {' and '.join(_quoted(questions))} could be the question."
    missing = [part for part, found in (("question", questions), ("answer", answers)) if not found]
    return f"No column has a name that says it is the {' or the '.join(missing)}."


def _ask(names: list[str], doubt: str) -> Detection:
    shown = ", ".join(_quoted(names[:12])) or "none"
    return Detection(
        "unknown", None, f"{doubt} Columns: {shown}{', …' if len(names) > 12 else ''}."
    )


def _quoted(names: Iterable[str]) -> list[str]:
    return [f"`{name[:60]}`" for name in names]
