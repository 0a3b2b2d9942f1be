"""Train as you chat: the one place where a conversation becomes token ids.

The trainer, the playground and later the preview and the evaluation all come here, and always use
the model's own chat template.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from workbench.data.formats import Message
from workbench.errors import WorkbenchError

IGNORED = -100  # the label that torch's cross_entropy does not count


@dataclass(frozen=True)
class TokenizedExample:
    """One conversation as the model sees it.

    Attributes:
        input_ids: Token ids, without padding.
        labels: As long as ``input_ids``; the token id where the loss counts, else ``-100``.
    """

    input_ids: list[int]
    labels: list[int]

    @property
    def supervised_tokens(self) -> int:
        return sum(label != IGNORED for label in self.labels)


def prompt_ids(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """Return the ids after which the model writes its answer."""
    return _ids(tokenizer, _prompt_text(tokenizer, messages))


def tokenize_example(tokenizer: Any, messages: Sequence[Message]) -> TokenizedExample:
    """Tokenize a conversation; every answer is supervised, with the token that ends its turn.

    Question and answer are tokenized apart, so the ids before an answer are those of
    ``prompt_ids`` in the playground. What a template puts after the last turn's end is left out.

    Where a template rewrites earlier turns (thinking models do), only the last answer is supervised.

    Args:
        tokenizer: A fast ``transformers`` tokenizer with a chat template.
        messages: Ends on an ``assistant`` message.
    """
    turns = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    spans = [_answer_span(tokenizer, messages[: index + 1]) for index in turns]
    whole = spans[-1][0] + spans[-1][1]
    if not all(whole.startswith(prompt + answer) for prompt, answer in spans):
        spans = spans[-1:]
    input_ids: list[int] = []
    labels: list[int] = []
    seen = 0
    for prompt, answer in spans:
        question_ids, answer_ids = _ids(tokenizer, prompt[seen:]), _ids(tokenizer, answer)
        if not answer_ids or not _ends_turn(tokenizer, answer_ids[-1]):
            answer_ids.append(tokenizer.eos_token_id)
        input_ids += question_ids + answer_ids
        labels += [IGNORED] * len(question_ids) + answer_ids
        seen = len(prompt) + len(answer)
    return TokenizedExample(input_ids, labels)


def stop_ids(tokenizer: Any) -> list[int]:
    """Return the ids that end an answer: what the chat template writes after one, and the EOS."""
    messages: list[Message] = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
    ]
    last = tokenize_example(tokenizer, messages).input_ids[-1]
    return sorted({last, tokenizer.eos_token_id})


def _answer_span(tokenizer: Any, messages: Sequence[Message]) -> tuple[str, str]:
    """Return the text before the last answer, and the answer up to the token that ends its turn."""
    prompt = _prompt_text(tokenizer, messages[:-1])
    whole = _template(tokenizer, messages, add_generation_prompt=False)
    if not whole.startswith(prompt):
        raise WorkbenchError(
            "This model's chat template writes a question differently once it is answered, so what is "
            "trained would not be what is asked in the chat.",
            "Choose another model.",
        )
    rest = whole[len(prompt) :]
    encoded = tokenizer(rest, add_special_tokens=False, return_offsets_mapping=True)
    ends = [
        end
        for token, (_, end) in zip(encoded["input_ids"], encoded["offset_mapping"], strict=True)
        if _ends_turn(tokenizer, token)
    ]
    return prompt, rest[: ends[-1]] if ends else rest


def _ends_turn(tokenizer: Any, token_id: int) -> bool:
    return token_id in tokenizer.all_special_ids or token_id in tokenizer.added_tokens_decoder


def _prompt_text(tokenizer: Any, messages: Sequence[Message]) -> str:
    return _template(tokenizer, messages, add_generation_prompt=True)


def _template(tokenizer: Any, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
    if not tokenizer.chat_template:
        raise WorkbenchError(
            "This model has no chat template, so it does not know questions from answers.",
            'Choose an "instruct" or "chat" variant of the model.',
        )
    text: str = tokenizer.apply_chat_template(
        list(messages), tokenize=False, add_generation_prompt=add_generation_prompt
    )
    return text


def _ids(tokenizer: Any, text: str) -> list[int]:
    # The template has already written the special tokens; adding them again would double them.
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids
