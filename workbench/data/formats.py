"""Turn rows into conversations, the only shape past this edge.

Alpaca in::

    {"instruction": "Translate to French", "input": "Good morning", "output": "Bonjour",
     "system": "You are a translator.", "history": [["Hi", "Hello!"]]}

conversation out::

    {"messages": [{"role": "system", "content": "You are a translator."},
                  {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"},
                  {"role": "user", "content": "Translate to French\\nGood morning"},
                  {"role": "assistant", "content": "Bonjour"}]}

Instruction and input are joined with a newline, as in LLaMA-Factory's Alpaca reader, so that files
written for it teach the same thing here.
"""

from __future__ import annotations

from typing import Any, Literal, TypedDict

ALPACA_FIELDS = ("instruction", "input", "output", "system", "history")


class Message(TypedDict):
    """One turn."""

    role: Literal["system", "user", "assistant"]
    content: str


class Conversation(TypedDict):
    """One example: what was said, in order; it ends on the answer to learn."""

    messages: list[Message]


class RowProblem(ValueError):
    """What is wrong with one row, as words that continue "row 7 (line 31): …"."""


def alpaca_conversation(row: Any) -> Conversation:
    """Convert one Alpaca row.

    Raises:
        RowProblem: The row cannot teach anything: no question, no answer, or a wrong type.
    """
    if not isinstance(row, dict):
        raise RowProblem(
            f"{_describe_type(row)} where an example was expected. "
            'Write it as {"instruction": "…", "output": "…"}.'
        )
    question = "\n".join(part for part in (_text(row, "instruction"), _text(row, "input")) if part)
    if not question:
        raise RowProblem(
            "no question. `instruction` is missing or empty. Fill it in or delete the row."
        )
    messages: list[Message] = []
    if system := _text(row, "system"):
        messages.append({"role": "system", "content": system})
    messages += _history(row.get("history"))
    messages.append({"role": "user", "content": question})
    messages.append({"role": "assistant", "content": _answer(row)})
    return {"messages": messages}


def unknown_fields(row: Any) -> list[str]:
    """Return the names in an Alpaca row that mean nothing here and are ignored."""
    return [str(name) for name in row if name not in ALPACA_FIELDS] if isinstance(row, dict) else []


def _answer(row: dict[str, Any]) -> str:
    answer = _text(row, "output")
    if answer.strip():
        return answer
    if "output" in row:
        raise RowProblem("no answer. `output` is empty. Fill it in or delete the row.")
    found = ", ".join(f"`{name}`" for name in row) or "none"
    raise RowProblem(
        f"no answer. `output` is missing (fields found: {found}). Add it or delete the row."
    )


def _text(row: dict[str, Any], field: str) -> str:
    value = row.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise RowProblem(
            f"`{field}` is {_describe_type(value)}, not text. Put quotation marks around it."
        )
    return value if value.strip() else ""


def _history(value: Any) -> list[Message]:
    if value is None:
        return []
    pairs = value if isinstance(value, list) else [value]
    messages: list[Message] = []
    for pair in pairs:
        if not (
            isinstance(pair, list)
            and len(pair) == 2
            and all(isinstance(text, str) for text in pair)
        ):
            raise RowProblem(
                '`history` must be a list of [question, answer] pairs of text, such as [["Hi", "Hello!"]].'
            )
        messages.append({"role": "user", "content": pair[0]})
        messages.append({"role": "assistant", "content": pair[1]})
    return messages


def _describe_type(value: Any) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list"}
    return names.get(type(value), "an object" if isinstance(value, dict) else "null")
