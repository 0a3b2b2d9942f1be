"""A ``Modelfile`` for Ollama: the chat template, which is Jinja in a model, rewritten as a Go template.

Ollama runs no Jinja. What a chat template writes around system prompt, question and answer is found by rendering it,
and the result is compared with the template on conversations of every kind before it is used.
https://docs.ollama.com/modelfile and https://pkg.go.dev/text/template
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError

from workbench.data.formats import Message
from workbench.errors import WorkbenchError
from workbench.export.gguf_tokenizer import adds_bos
from workbench.models.rendering import stop_ids

GGUF_NAME = "model.gguf"
Render = Callable[[Sequence[Message]], str]


@dataclass(frozen=True)
class Turns:
    """What stands around the turns of a conversation.

    Attributes:
        opening: Before everything: the token that the tokenizer puts there by itself, or nothing.
        default_system: After that where there is no system prompt; some models bring one of their own.
        system: Before and after a system prompt.
        user: Before and after a question; after it the model answers.
        answer: Before and after an answer that was given; what the model begins with itself is not in it.
    """

    opening: str
    default_system: str
    system: tuple[str, str]
    user: tuple[str, str]
    answer: tuple[str, str]

    def render(self, messages: Sequence[Message]) -> str:
        """Write a conversation as Ollama will; for comparing."""
        has_system = any(message["role"] == "system" for message in messages)
        text = self.opening + ("" if has_system else self.default_system)
        for message in messages:
            before, after = {
                "system": self.system,
                "user": self.user,
                "assistant": self.answer,
            }[message["role"]]
            text += before + message["content"] + after
        return text

    def go_template(self) -> str:
        """Return it as Ollama wants it: without the opening. ``.System`` is all system prompts together."""
        words = {name: _literal(text) for name, text in self._pieces().items()}
        return (
            "{{{{ if not .System }}}}{default_system}{{{{ end }}}}"
            "{{{{ range .Messages }}}}"
            '{{{{ if eq .Role "system" }}}}{system_before}{{{{ .Content }}}}{system_after}'
            '{{{{ else if eq .Role "user" }}}}{user_before}{{{{ .Content }}}}{user_after}'
            '{{{{ else if eq .Role "assistant" }}}}{answer_before}{{{{ .Content }}}}{answer_after}'
            "{{{{ end }}}}{{{{ end }}}}"
        ).format(**words)

    def _pieces(self) -> dict[str, str]:
        return {
            "default_system": self.default_system,
            "system_before": self.system[0],
            "system_after": self.system[1],
            "user_before": self.user[0],
            "user_after": self.user[1],
            "answer_before": self.answer[0],
            "answer_after": self.answer[1],
        }


def modelfile(tokenizer: Any, template_space: bool = False) -> str:
    """Return the text of a ``Modelfile`` beside ``model.gguf``.

    Args:
        tokenizer: With its chat template.
        template_space: The template in the GGUF file writes a space before everything.

    Raises:
        WorkbenchError: The chat template does more than put texts around turns.
    """

    def render(messages: Sequence[Message]) -> str:
        text: str = tokenizer.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=True
        )
        return " " + text if template_space else text

    # Ollama puts the first token before every text by itself where the GGUF file says so.
    stops = [tokenizer.convert_ids_to_tokens(index) for index in stop_ids(tokenizer)]
    turns = find_turns(render, stops, tokenizer.bos_token if adds_bos(tokenizer) else "")
    return modelfile_text(turns.go_template(), stops)


def modelfile_text(template: str, stops: Sequence[str]) -> str:
    """Write the file.

    Raises:
        WorkbenchError: Something in the template would end it early.
    """
    if '"""' in template or any('"' in stop or "\n" in stop for stop in stops):
        raise _cannot_be_written()
    lines = [f"FROM ./{GGUF_NAME}", f'TEMPLATE """{template}"""']
    lines += [f'PARAMETER stop "{stop}"' for stop in stops]
    return "\n".join(lines) + "\n"


def find_turns(render: Render, stops: Sequence[str], opening: str = "") -> Turns:
    """Find what a chat template writes around turns.

    Args:
        render: Writes a conversation that ends on a question, up to where the answer begins.
        stops: Tokens that end an answer.
        opening: As in ``Turns``.

    Raises:
        WorkbenchError: It cannot be said that way.
    """
    try:
        turns = _guess(render, stops, opening)
        if all(turns.render(messages) == render(messages) for messages in _samples()):
            return turns
    except (ValueError, TemplateError):
        pass
    raise _cannot_be_written()


def _guess(render: Render, stops: Sequence[str], opening: str) -> Turns:
    """Render one conversation with a system prompt and one without, and cut both at their texts."""
    system, first, answer, second = "⟦S⟧", "⟦U1⟧", "⟦A⟧", "⟦U2⟧"
    talk: list[Message] = [
        {"role": "user", "content": first},
        {"role": "assistant", "content": answer},
        {"role": "user", "content": second},
    ]
    begin, to_first, after_user, to_second, end = _cut(
        render([{"role": "system", "content": system}, *talk]), (system, first, answer, second)
    )
    plain_begin, *_ = _cut(render(talk), (first, answer, second))
    if not after_user.startswith(end):
        raise ValueError("an answer begins differently later on")
    begin, plain_begin = begin.removeprefix(opening), plain_begin.removeprefix(opening)
    user_before = _common_end(_common_end(to_first, to_second), plain_begin)
    user_before = _after_stop(user_before, stops)
    return Turns(
        opening=opening,
        default_system=plain_begin.removesuffix(user_before),
        system=(begin, to_first.removesuffix(user_before)),
        user=(user_before, end),
        answer=(after_user.removeprefix(end), to_second.removesuffix(user_before)),
    )


def _after_stop(text: str, stops: Sequence[str]) -> str:
    """Return what comes after the last token that ends a turn, and the line break after that."""
    ends = [text.rfind(stop) + len(stop) for stop in stops if stop in text]
    return text[max(ends) :].lstrip("\n") if ends else text


def _cut(text: str, marks: Sequence[str]) -> list[str]:
    """Return what stands before, between and after the marks.

    Raises:
        ValueError: A mark is missing or out of order.
    """
    pieces = []
    for mark in marks:
        before, found, text = text.partition(mark)
        if not found:
            raise ValueError(f"{mark} is missing")
        pieces.append(before)
    return [*pieces, text]


def _common_begin(one: str, other: str) -> str:
    pairs = enumerate(zip(one, other, strict=False))
    count = next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))
    return one[:count]


def _common_end(one: str, other: str) -> str:
    return _common_begin(one[::-1], other[::-1])[::-1]


def _samples() -> list[list[Message]]:
    """Return conversations of every kind: with and without system prompt, short and long, with signs that hurt."""
    system: Message = {"role": "system", "content": 'Be "brief" {{ .X }}.'}
    questions: list[Message] = [
        {"role": "user", "content": f"Question {number}?\nSecond line"} for number in range(3)
    ]
    answers: list[Message] = [
        {"role": "assistant", "content": f"Answer {number}."} for number in range(2)
    ]
    short = [questions[0]]
    long = [questions[0], answers[0], questions[1], answers[1], questions[2]]
    return [short, long, [system, *short], [system, *long]]


def _literal(text: str) -> str:
    """Return a text as a Go template writes it unchanged."""
    return text if "{{" not in text else "{{ " + json.dumps(text, ensure_ascii=False) + " }}"


def _cannot_be_written() -> WorkbenchError:
    return WorkbenchError(
        "This model's chat template does more than Ollama's templates can say.",
        "Export the GGUF file, and use it with llama.cpp or LM Studio, which read the template as it is.",
    )
