"""Is it still the same model? What it says of a few prompts before and after, as numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from workbench.compute import Compute
from workbench.data.conversations import read_stored_rows
from workbench.data.formats import Message
from workbench.models.rendering import prompt_ids, stop_ids, tokenize_example
from workbench.runs.store import Run

PROMPTS, PROMPT_TOKENS, POSITIONS, ANSWER_TOKENS = 4, 256, 64, 16
FALLBACK: list[list[Message]] = [
    [
        {"role": "user", "content": "Who are you?"},
        {"role": "assistant", "content": "I am an assistant."},
    ]
]


@dataclass(frozen=True)
class Prompt:
    """A row of the run's data as the model reads it: all of it, and only what is asked."""

    messages: list[Message]
    ids: list[int]
    asked_ids: list[int]


@dataclass(frozen=True)
class Said:
    """What a model says of prompts.

    Attributes:
        logits: For each prompt, fp32 on the CPU, positions by vocabulary, the mean of each position taken out: a
            constant changes no probability.
        answers: For each prompt the ids of a greedy answer, where they were asked for.
    """

    logits: list[torch.Tensor]
    answers: list[list[int]]


def choose_prompts(run: Run, tokenizer: Any) -> list[Prompt]:
    """Return a few rows of the run's data, held-back ones where they are a dataset; a made-up one when it is gone."""
    path = Path((run.data.validation or run.data.parts[0]).path)
    rows = FALLBACK
    if path.is_file() and path.suffix == ".jsonl":
        rows = [row.messages for row in read_stored_rows(path, 0, PROMPTS)] or FALLBACK
    return [_prompt(tokenizer, messages) for messages in rows]


def _prompt(tokenizer: Any, messages: list[Message]) -> Prompt:
    ids = tokenize_example(tokenizer, messages).input_ids[:PROMPT_TOKENS]
    return Prompt(messages, ids, prompt_ids(tokenizer, messages[:-1])[-PROMPT_TOKENS:])


def say(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    compute: Compute,
    *,
    with_answers: bool = True,
) -> Said:
    """Return what a model says; writing answers takes far longer than the logits of what is there."""
    model.eval()
    model.config.use_cache = True
    with torch.inference_mode(), compute.autocast():
        return Said(
            [_logits(model, prompt.ids, compute.device) for prompt in prompts],
            [
                _answer(model, tokenizer, prompt.asked_ids, compute.device)
                for prompt in prompts
                if with_answers
            ],
        )


def _logits(model: Any, ids: list[int], device: str) -> torch.Tensor:
    input_ids = torch.tensor([ids], device=device)
    logits = model(input_ids=input_ids, attention_mask=torch.ones_like(input_ids)).logits
    found = logits[0, -POSITIONS:].float().cpu()
    return found - found.mean(dim=-1, keepdim=True)


def _answer(model: Any, tokenizer: Any, ids: list[int], device: str) -> list[int]:
    input_ids = torch.tensor([ids], device=device)
    stops = stop_ids(tokenizer)
    written = model.generate(
        input_ids=input_ids,
        attention_mask=torch.ones_like(input_ids),
        max_new_tokens=ANSWER_TOKENS,
        do_sample=False,
        repetition_penalty=1.0,
        eos_token_id=stops,
        pad_token_id=stops[0],
    )
    return list(written[0, len(ids) :].tolist())


def distance(found: Said, expected: Said) -> float:
    """Return how far logits are from the expected ones, as a share of how much those vary; 0 is the same.

    It is the norm of the difference over the norm of what is expected, over all positions together. What is no
    number counts as infinitely far.
    """
    difference = sum(
        float((one - other).square().sum())
        for one, other in zip(found.logits, expected.logits, strict=True)
    )
    size = sum(float(one.square().sum()) for one in expected.logits)
    share = (difference / size) ** 0.5 if size else math.inf
    return math.inf if math.isnan(share) else share


def same_answers(found: Said, expected: Said) -> int:
    """Return how many greedy answers are the same, token for token."""
    return sum(one == other for one, other in zip(found.answers, expected.answers, strict=True))
