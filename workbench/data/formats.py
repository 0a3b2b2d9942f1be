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
written for it teach the same thing here. Which field is which is told by a ``Mapping``; ``detect``
finds one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

Role = Literal["system", "user", "assistant"]

# What ShareGPT, OpenAI and the tools in between call the same three.
ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "chatbot": "assistant",
    "chatgpt": "assistant",
}
ROLE_KEYS = ("role", "from")
CONTENT_KEYS = ("content", "value", "text")

# C0 and C1 controls other than tab and line ends, the sign for "undecodable", what is no character,
# and halves of a pair that no encoding can write.
NO_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufffd-\uffff\ud800-\udfff]")
HALF_CHARACTER = re.compile("[\ud800-\udfff]")


class Message(TypedDict):
    """One turn."""

    role: Role
    content: str


class Conversation(TypedDict):
    """One example: what was said, in order; it ends on the answer to learn."""

    messages: list[Message]


@dataclass(frozen=True)
class Mapping:
    """Which field of a row is what; a field that a row does not have counts as empty there.

    Attributes:
        question: Field with the question or instruction; empty when ``messages`` is given.
        answer: Field with the answer to learn.
        input: Field with the text the question is about; follows it.
        system: Field with the system prompt.
        history: Field with earlier turns, as a list of question and answer.
        messages: Field with a whole conversation, as a list of turns.
        prefix: Text put before every question, on a line of its own.
    """

    question: str = ""
    answer: str = ""
    input: str = ""
    system: str = ""
    history: str = ""
    messages: str = ""
    prefix: str = ""

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that are read."""
        named = (self.question, self.input, self.answer, self.system, self.history, self.messages)
        return tuple(name for name in named if name)


@dataclass(frozen=True)
class Repairs:
    """What to mend in a row while it is read.

    Attributes:
        convert: Take numbers and true/false for text.
        cut_unanswered: Leave out what was said after the last answer.
        trim: Leave out characters that are no text, and space around every message.
    """

    convert: bool = False
    cut_unanswered: bool = False
    trim: bool = False


NO_REPAIRS = Repairs()


class RowProblem(ValueError):
    """What is wrong with one row, as words that continue "row 7 (line 31): …".

    Attributes:
        code: Which of ``problems.KINDS`` it is.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


def convert(row: Any, mapping: Mapping, repairs: Repairs = NO_REPAIRS) -> Conversation:
    """Turn one row into a conversation.

    Raises:
        RowProblem: The row cannot teach anything: no question, no answer, or a wrong type.
    """
    if not isinstance(row, dict):
        raise RowProblem(
            "not-a-row",
            f"{describe_type(row)} where a row was expected. "
            'Write it as {"instruction": "…", "output": "…"}.',
        )
    messages = _turns(row, mapping, repairs) if mapping.messages else _pair(row, mapping, repairs)
    if repairs.trim:
        messages = _trimmed(messages)
    _check_characters(messages)
    return {"messages": messages}


def _trimmed(messages: list[Message]) -> list[Message]:
    """Return messages without space around them and without characters that are no text."""
    trimmed: list[Message] = [
        {"role": message["role"], "content": NO_TEXT.sub("", message["content"]).strip()}
        for message in messages
    ]
    for message in trimmed:
        _check_words(message, "what is said holds nothing but characters that are no text.")
    return [message for message in trimmed if message["content"]]


def _check_words(message: Message, detail: str) -> None:
    """Refuse a question or an answer that says nothing; a system prompt may."""
    if message["role"] != "system" and not message["content"].strip():
        code = "empty-answer" if message["role"] == "assistant" else "empty-question"
        raise RowProblem(code, detail)


def convert_question(row: Any, mapping: Mapping) -> list[Message]:
    """Return what a row asks, with what was said before; an answer that follows is passed over.

    Raises:
        RowProblem: The row asks nothing, or has a wrong type.
    """
    if not isinstance(row, dict):
        raise RowProblem("not-a-row", f"{describe_type(row)} where a question was expected.")
    messages = (
        _said(row, mapping, NO_REPAIRS) if mapping.messages else _asked(row, mapping, NO_REPAIRS)
    )
    while messages and messages[-1]["role"] == "assistant":
        messages.pop()
    if not messages or messages[-1]["role"] != "user":
        raise RowProblem("empty-question", "nobody asks anything in it.")
    _check_order([*messages, {"role": "assistant", "content": ""}])
    _check_characters(messages)
    return messages


def _check_characters(messages: list[Message]) -> None:
    for message in messages:
        text = message["content"]
        if not text.isascii() and HALF_CHARACTER.search(text):
            raise RowProblem(
                "broken-character", "half of a character, which no encoding can write."
            )


def _pair(row: dict[str, Any], mapping: Mapping, repairs: Repairs) -> list[Message]:
    """Read question and answer from fields of their own."""
    messages = _asked(row, mapping, repairs)
    answer = _text(row, mapping.answer, repairs)
    if not answer:
        code = "empty-answer" if mapping.answer in row else "missing-answer"
        raise RowProblem(code, f"no answer. {_state(row, mapping.answer)}.")
    return [*messages, {"role": "assistant", "content": answer}]


def _asked(row: dict[str, Any], mapping: Mapping, repairs: Repairs) -> list[Message]:
    """Read the question, and what was said before it."""
    parts = (_text(row, mapping.question, repairs), _text(row, mapping.input, repairs))
    question = "\n".join(part for part in parts if part)
    if not question:
        raise RowProblem("empty-question", f"no question. {_state(row, mapping.question)}.")
    if mapping.prefix:
        question = f"{mapping.prefix}\n{question}"
    messages: list[Message] = []
    if system := _text(row, mapping.system, repairs):
        messages.append({"role": "system", "content": system})
    messages += _history(row.get(mapping.history), mapping.history)
    messages.append({"role": "user", "content": question})
    return messages


def _state(row: dict[str, Any], field: str) -> str:
    if field in row:
        return f"`{field}` is {'null' if row[field] is None else 'empty'}"
    found = ", ".join(f"`{name}`" for name in list(row)[:8]) or "none"
    return f"`{field}` is missing (fields found: {found})"


def _text(row: dict[str, Any], field: str, repairs: Repairs) -> str:
    """Return the text of a field; nothing where it is missing, null or blank."""
    value = row.get(field) if field else None
    if type(value) is str:
        return value if value and not value.isspace() else ""
    if value is None:
        return ""
    if repairs.convert and isinstance(value, bool | int | float):
        return str(value).lower() if isinstance(value, bool) else str(value)
    raise RowProblem("wrong-type", f"`{field}` is {describe_type(value)}, not text.")


def _history(value: Any, field: str) -> list[Message]:
    if not value:
        return []
    messages: list[Message] = []
    for pair in value if isinstance(value, list) else [value]:
        if not (isinstance(pair, list) and len(pair) == 2 and all(type(t) is str for t in pair)):
            raise RowProblem(
                "wrong-type",
                f"`{field}` must be a list of [question, answer] pairs of text, such as "
                '[["Hi", "Hello!"]].',
            )
        messages.append({"role": "user", "content": pair[0]})
        messages.append({"role": "assistant", "content": pair[1]})
    for message in messages:
        _check_words(message, f"`{field}` has a turn that is empty.")
    return messages


def _turns(row: dict[str, Any], mapping: Mapping, repairs: Repairs) -> list[Message]:
    """Read a list of turns that ends on an answer."""
    messages = _said(row, mapping, repairs)
    if repairs.cut_unanswered:
        while messages and messages[-1]["role"] != "assistant":
            messages.pop()
    _check_order(messages)
    if mapping.prefix:
        last = next(m for m in reversed(messages) if m["role"] == "user")
        last["content"] = f"{mapping.prefix}\n{last['content']}"
    return messages


def _said(row: dict[str, Any], mapping: Mapping, repairs: Repairs) -> list[Message]:
    """Read a list of turns, as ShareGPT and OpenAI write it."""
    turns = row.get(mapping.messages)
    if not isinstance(turns, list) or not turns:
        what = "an empty list" if turns == [] else describe_type(turns)
        raise RowProblem("wrong-type", f"`{mapping.messages}` is {what}, not a list of turns.")
    messages: list[Message] = []
    if system := _text(row, mapping.system, repairs):
        messages.append({"role": "system", "content": system})
    return messages + [_turn(turn, place, repairs) for place, turn in enumerate(turns, start=1)]


def _turn(turn: Any, position: int, repairs: Repairs) -> Message:
    if not isinstance(turn, dict):
        raise RowProblem("wrong-type", f"turn {position} is {describe_type(turn)}, not an object.")
    role = next((turn[key] for key in ROLE_KEYS if key in turn), None)
    content = next((turn[key] for key in CONTENT_KEYS if key in turn), None)
    known = ROLES.get(role.lower()) if isinstance(role, str) else None
    if known is None:
        shown = f"“{role[:40]}”" if isinstance(role, str) else describe_type(role)
        raise RowProblem(
            "unknown-role",
            f"turn {position} is by {shown}; only system, user and assistant take part.",
        )
    if isinstance(content, list):
        content = _text_parts(content)
    if repairs.convert and isinstance(content, bool | int | float):
        content = str(content)
    if not isinstance(content, str):
        raise RowProblem(
            "wrong-type", f"turn {position}: what was said is {describe_type(content)}, not text."
        )
    said: Message = {"role": known, "content": content}
    _check_words(said, f"what is said in turn {position} is empty.")
    return said


def _text_parts(parts: list[Any]) -> str | None:
    """Join OpenAI's list of text parts; ``None`` when there is a picture or sound among them."""
    texts = [part.get("text") if isinstance(part, dict) else None for part in parts]
    return "".join(texts) if texts and all(isinstance(text, str) for text in texts) else None  # type: ignore[arg-type]


def _check_order(messages: list[Message]) -> None:
    roles = [message["role"] for message in messages]
    if "assistant" not in roles:
        raise RowProblem("missing-answer", "no answer: the assistant says nothing in it.")
    if roles[-1] != "assistant":
        raise RowProblem("no-final-answer", "it does not end on an answer of the assistant.")
    spoken = roles[1:] if roles[0] == "system" else roles
    if spoken != ["user", "assistant"] * (len(spoken) // 2):
        raise RowProblem(
            "turn-order",
            f"question and answer do not take turns ({', '.join(roles[:6])}"
            f"{', …' if len(roles) > 6 else ''}).",
        )


def as_record(conversation: Conversation) -> dict[str, Any]:
    """Return a conversation as a row in Alpaca's form, for a file that other tools read too."""
    messages = conversation["messages"]
    record: dict[str, Any] = {
        "instruction": messages[-2]["content"],
        "output": messages[-1]["content"],
    }
    turns = messages[:-2]
    if turns and turns[0]["role"] == "system":
        record["system"] = turns[0]["content"]
        turns = turns[1:]
    if turns:
        texts = [message["content"] for message in turns]
        record["history"] = [list(pair) for pair in zip(texts[::2], texts[1::2], strict=True)]
    return record


def describe_type(value: Any) -> str:
    """Say what kind of JSON value something is, as a beginner may know it."""
    if value is None:
        return "null"
    names = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list"}
    return names.get(type(value), "an object" if isinstance(value, dict) else "something else")
