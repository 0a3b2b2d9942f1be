"""Train as you chat: the one place where a conversation becomes token ids.

The trainer, the playground and later the preview and the evaluation all come here, and always use
the model's own chat template.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from workbench.data.formats import Message
from workbench.errors import WorkbenchError
from workbench.models.thoughts import CLOSE as THOUGHT_ENDS
from workbench.models.thoughts import before_thought, thought_of

IGNORED = -100  # the label that torch's cross_entropy does not count
BATCH_EXAMPLES = 1_000
# For base models, which have none: words that every vocabulary has, and the model's own end of text.
FALLBACK_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'system' %}{{ message['content'] }}\n\n"
    "{% elif message['role'] == 'user' %}User: {{ message['content'] }}\n"
    "{% else %}Assistant: {{ message['content'] }}{{ eos_token }}\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)


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


def same_start(rows: Sequence[list[int]]) -> int:
    """Return how many token ids all rows begin with, the last one of a row aside: each keeps one of its own."""
    # What the first and the last in order begin with, all between them begin with too.
    pairs = zip(min(rows), max(rows), strict=False)
    same = len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)))
    return min(same, min(map(len, rows)) - 1)


def load_tokenizer(model_dir: Path) -> Any:
    """Load a model's tokenizer; no code from the model's folder is run."""
    from transformers import AutoTokenizer  # takes seconds, and brings torch along

    tokenizer = AutoTokenizer.from_pretrained(model_dir, trust_remote_code=False)
    if not tokenizer.chat_template and tokenizer.eos_token:
        tokenizer.chat_template = FALLBACK_TEMPLATE
    return tokenizer


def has_fallback_template(tokenizer: Any) -> bool:
    """Say whether the model itself knows no chat, so that it is written in our plain way."""
    return bool(tokenizer.chat_template == FALLBACK_TEMPLATE)


def prompt_ids(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """Return the ids after which the model writes its answer."""
    return _ids_of_all(tokenizer, [prompt_text(tokenizer, messages)])[0]


def tokenize_example(tokenizer: Any, messages: Sequence[Message]) -> TokenizedExample:
    """Tokenize one conversation as ``tokenize_examples`` does."""
    return tokenize_examples(tokenizer, [messages])[0]


def tokenize_examples(
    tokenizer: Any, conversations: Sequence[Sequence[Message]]
) -> list[TokenizedExample]:
    """Tokenize conversations; every answer is supervised, with the token that ends its turn.

    Question and answer are tokenized apart, so the ids before an answer are those of
    ``prompt_ids`` in the playground. What a template puts after the last turn's end is left out.

    Where a template rewrites earlier turns (thinking models do), only the last answer is supervised.

    Args:
        tokenizer: A fast ``transformers`` tokenizer with a chat template.
        conversations: Each ends on an ``assistant`` message.

    Raises:
        WorkbenchError: The chat template refuses one of them, or there is none.
    """
    turn_ends = _TurnEnds(tokenizer)
    examples: list[TokenizedExample] = []
    for start in range(0, len(conversations), BATCH_EXAMPLES):
        batch = conversations[start : start + BATCH_EXAMPLES]
        spans = [
            _spans(tokenizer, turn_ends, messages, start + index)
            for index, messages in enumerate(batch)
        ]
        # One call for all texts: the tokenizer works on them in parallel.
        ids = iter(
            _ids_of_all(tokenizer, [text for pairs in spans for pair in pairs for text in pair])
        )
        examples += [
            _example(turn_ends, [(next(ids), next(ids)) for _ in pairs]) for pairs in spans
        ]
    return examples


def _example(
    turn_ends: _TurnEnds, pairs: Sequence[tuple[list[int], list[int]]]
) -> TokenizedExample:
    input_ids: list[int] = []
    labels: list[int] = []
    for question_ids, answer_ids in pairs:
        answer = turn_ends.close(answer_ids)
        input_ids += question_ids + answer
        labels += [IGNORED] * len(question_ids) + answer
    return TokenizedExample(input_ids, labels)


def _spans(
    tokenizer: Any, turn_ends: _TurnEnds, messages: Sequence[Message], index: int
) -> list[tuple[str, str]]:
    """Cut a conversation, as the template writes it, into what is asked and what is answered."""
    turns = [turn for turn, message in enumerate(messages) if message["role"] == "assistant"]
    try:
        spans = [_answer_span(tokenizer, turn_ends, messages[: turn + 1]) for turn in turns]
    except TemplateError as error:
        raise WorkbenchError(
            f"This model's chat template refuses example {index + 1:,}: {error}",
            "Leave the example out, or choose another model.",
        ) from error
    whole = spans[-1][0] + spans[-1][1]
    if not all(whole.startswith(prompt + answer) for prompt, answer in spans):
        spans = spans[-1:]
    pairs, seen = [], 0
    for prompt, answer in spans:
        pairs.append((prompt[seen:], answer))
        seen = len(prompt) + len(answer)
    return pairs


class _TurnEnds:
    """Knows the tokens that can end a turn: those a tokenizer never splits."""

    def __init__(self, tokenizer: Any) -> None:
        added = {index: str(token) for index, token in tokenizer.added_tokens_decoder.items()}
        special = dict(zip(tokenizer.all_special_ids, tokenizer.all_special_tokens, strict=True))
        tokens = added | special
        self._ids = frozenset(tokens)
        self._eos_id = tokenizer.eos_token_id
        longest_first = sorted(map(str, tokens.values()), key=len, reverse=True)
        self._texts = re.compile("|".join(re.escape(text) for text in longest_first) or "(?!)")

    def cut(self, text: str) -> str:
        """Return the text up to the last such token, all of it when there is none."""
        ends = [match.end() for match in self._texts.finditer(text)]
        return text[: ends[-1]] if ends else text

    def is_closed(self, text: str) -> bool:
        """Say whether a text ends on such a token."""
        return any(match.end() == len(text) for match in self._texts.finditer(text))

    def close(self, answer_ids: list[int]) -> list[int]:
        """Return the ids of an answer with a token that ends its turn."""
        if answer_ids and answer_ids[-1] in self._ids:
            return answer_ids
        return [*answer_ids, self._eos_id]


def token_pieces(tokenizer: Any, messages: Sequence[Message]) -> list[tuple[str, bool]]:
    """Return the text of every token of a conversation, and whether the loss counts it.

    Joined, the pieces are the text as the chat template writes it. Tokens that share a character (rare
    ones, such as emoji, take several tokens) are one piece.
    """
    turn_ends = _TurnEnds(tokenizer)
    pieces: list[tuple[str, bool]] = []
    for question, answer in _spans(tokenizer, turn_ends, messages, 0):
        for text, is_supervised in ((question, False), (answer, True)):
            pieces += [(piece, is_supervised) for piece in _pieces(tokenizer, text)]
        if not turn_ends.is_closed(answer):
            pieces.append((tokenizer.eos_token, True))
    return pieces


def _pieces(tokenizer: Any, text: str) -> Iterator[str]:
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    begin = 0
    for _, end in [*encoded["offset_mapping"], (len(text), len(text))]:
        if end > begin:
            yield text[begin:end]
            begin = end


def stop_ids(tokenizer: Any) -> list[int]:
    """Return the ids that end an answer: what the chat template writes after one, and the EOS."""
    messages: list[Message] = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
    ]
    last = tokenize_example(tokenizer, messages).input_ids[-1]
    return sorted({last, tokenizer.eos_token_id})


def _answer_span(
    tokenizer: Any, turn_ends: _TurnEnds, messages: Sequence[Message]
) -> tuple[str, str]:
    """Return the text before the last answer, and the answer up to the token that ends its turn."""
    prompt = prompt_text(tokenizer, messages[:-1])
    whole = _template(tokenizer, messages, add_generation_prompt=False)
    if not whole.startswith(prompt):
        if answer := _answer_after_thought(prompt, whole, messages[-1]["content"]):
            return prompt, turn_ends.cut(answer)
        raise WorkbenchError(
            "This model's chat template writes a question differently once it is answered, so what is "
            "trained would not be what is asked in the chat.",
            "Choose another model.",
        )
    return prompt, turn_ends.cut(whole[len(prompt) :])


def _answer_after_thought(prompt: str, whole: str, content: str) -> str:
    """Return what a model writes whose template opens a thought for it, and leaves thoughts out once it answered.

    DeepSeek's R1 models have such a template. Asked in the chat, they must close the thought themselves.

    Args:
        prompt: As the template writes it for the chat.
        whole: The conversation with its answer, as the template writes it.
        content: The answer, perhaps with a thought of its own.

    Returns:
        Thought, end of the thought, answer and what ends the turn; empty for other templates.
    """
    start = before_thought(prompt)
    if start is None or not whole.startswith(start) or THOUGHT_ENDS in whole[len(start) :]:
        return ""
    return f"{thought_of(content)}\n{THOUGHT_ENDS}\n\n{whole[len(start) :].lstrip()}"


def prompt_text(tokenizer: Any, messages: Sequence[Message]) -> str:
    """Return the text after which the model writes its answer."""
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


def _ids_of_all(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    # The template has already written the special tokens; adding them again would double them.
    ids: list[list[int]] = tokenizer(
        texts, add_special_tokens=False, return_attention_mask=False, return_token_type_ids=False
    )["input_ids"]
    return ids
