"""Answer with the likeliest tokens: many prompts together, or a few of them quickly."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache, StoppingCriteria

from workbench.asking.quick import Factors, QuickModel, QuickRow
from workbench.compute import Compute
from workbench.models.rendering import same_start, stop_ids
from workbench.training.attention import runs_padding_free


def greedy_answers(
    model: Any,
    tokenizer: Any,
    compute: Compute,
    prompts: Sequence[list[int]],
    most_tokens: int,
    stopping: Sequence[StoppingCriteria] = (),
) -> list[list[int]]:
    """Answer prompts together, always with the likeliest token; shorter ones are filled up on the left.

    Args:
        model: In evaluation mode, with the attention of transformers.
        tokenizer: Its tokenizer.
        compute: Device and precision.
        prompts: Token ids, at least one prompt.
        most_tokens: Longest answer.
        stopping: Asked after every token.

    Returns:
        The new token ids of each prompt: an end of the answer where the model wrote one, and then padding
        up to the longest answer.
    """
    lengths = sorted({len(prompt) for prompt in prompts})
    config = getattr(model, "active_peft_config", None)
    # PEFT puts virtual tokens before the padding, where they would be in the wrong place.
    if len(lengths) > 1 and config is not None and config.is_prompt_learning:
        found: dict[int, list[int]] = {}
        for length in lengths:
            places = [place for place, prompt in enumerate(prompts) if len(prompt) == length]
            alike = [prompts[place] for place in places]
            said = greedy_answers(model, tokenizer, compute, alike, most_tokens, stopping)
            found.update(zip(places, said, strict=True))
        return [found[place] for place in range(len(prompts))]
    shared = _shared_start(model, prompts)
    pad_id = tokenizer.pad_token_id or 0
    width = lengths[-1]
    ids, mask = [], []
    for row in prompts:  # what all begin with, then what fills up, then the rest
        padding = width - len(row)
        ids.append([*row[:shared], *[pad_id] * padding, *row[shared:]])
        mask.append([1] * shared + [0] * padding + [1] * (len(row) - shared))
    # Not inference mode: what a model in training keeps of this must still take part in gradients.
    with torch.no_grad(), compute.autocast():
        made = model.generate(
            input_ids=torch.tensor(ids, device=compute.device),
            attention_mask=torch.tensor(mask, device=compute.device),
            **_read_start(model, prompts, shared),
            max_new_tokens=most_tokens,
            do_sample=False,
            repetition_penalty=1.0,  # whatever the model's generation_config.json says
            use_cache=True,
            eos_token_id=stop_ids(tokenizer),
            pad_token_id=pad_id,
            stopping_criteria=list(stopping),
        ).cpu()
    # Where virtual tokens stand in front, only the new tokens may come back.
    has_prompts = made[:, :width].tolist() == ids
    return (made[:, width:] if has_prompts else made).tolist()


def _shared_start(model: Any, prompts: Sequence[list[int]]) -> int:
    """Return how many tokens all prompts begin with that need to be read only once; each keeps one of its own."""
    shared = same_start(prompts)
    return shared if len(prompts) > 1 and shared and runs_padding_free(model) else 0


def _read_start(model: Any, prompts: Sequence[list[int]], shared: int) -> dict[str, DynamicCache]:
    """Let the model read what all prompts begin with, once; return what it remembers, as often as there are rows."""
    if not shared:
        return {}
    cache = DynamicCache(config=model.config)
    start = torch.tensor([list(prompts[0][:shared])], device=model.device)
    model(input_ids=start, past_key_values=cache, use_cache=True, logits_to_keep=1)
    cache.batch_repeat_interleave(len(prompts))
    return {"past_key_values": cache}


def quick_answers(
    model: Any,
    quick: QuickModel,
    factors: Sequence[Factors],
    tokenizer: Any,
    compute: Compute,
    prompts: Sequence[list[int]],
    most_tokens: int,
) -> list[list[int]]:
    """Answer a few prompts on a CPU as ``greedy_answers`` does, the short way: each is read alone, then all go on together.

    Args:
        model: As for ``greedy_answers``; reads the prompts.
        quick: The short way through it.
        factors: What its adapter adds there now, from ``QuickModel.prepare``.
        tokenizer: Its tokenizer.
        compute: Device and precision.
        prompts: Token ids.
        most_tokens: Longest answer.

    Returns:
        The new token ids of each prompt, with the end of the answer where the model wrote one.
    """
    ends = set(stop_ids(tokenizer))
    answers: list[list[int]] = []
    caches = []
    with torch.no_grad(), compute.autocast():
        for prompt in prompts:
            ids = torch.tensor([prompt])
            read = model(input_ids=ids, use_cache=True, logits_to_keep=1)
            answers.append([int(read.logits[0, -1].argmax())])
            caches.append(read.past_key_values)
        while going := [
            place
            for place, answer in enumerate(answers)
            if answer[-1] not in ends and len(answer) < most_tokens
        ]:
            rows = [QuickRow(answers[place][-1], caches[place], factors) for place in going]
            for place, token in zip(going, quick.step(rows).argmax(-1).tolist(), strict=True):
                answers[place].append(token)
    return answers
