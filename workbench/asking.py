"""Load a model to ask it, and ask it many questions at once.

Imports torch, so only the child processes may import this.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    DynamicCache,
    StoppingCriteria,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

from workbench.compute import Compute
from workbench.models.rendering import same_start, stop_ids
from workbench.training.attention import runs_padding_free


def standard_attention(model_class: Any) -> str:
    """Return the attention of transformers that a model can use; some (Gemma 2) have no fused one."""
    return "sdpa" if getattr(model_class, "_supports_sdpa", False) else "eager"


def squeezing(quantization: BitsAndBytesConfig | None) -> dict[str, Any]:
    """Return the argument that squeezes a model while it is loaded.

    Without one a model is loaded as its files hold it; ``None`` would undo what its config.json says of that.
    """
    return {"quantization_config": quantization} if quantization else {}


def load_to_ask(
    directory: Path,
    compute: Compute,
    dtype: torch.dtype,
    quantization: BitsAndBytesConfig | None = None,
) -> Any:
    """Load a model in evaluation mode, on the device, with the attention of transformers.

    Args:
        directory: A folder with config.json and safetensors.
        compute: Where it goes.
        dtype: Number format of its weights.
        quantization: How it is squeezed.
    """
    architecture = AutoConfig.from_pretrained(directory, trust_remote_code=False)
    model_class = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(architecture), None)
    model = AutoModelForCausalLM.from_pretrained(
        directory,
        # A checkpoint remembers the attention it was trained with.
        attn_implementation=standard_attention(model_class),
        dtype=dtype,
        **squeezing(quantization),
        device_map={"": compute.device},
        trust_remote_code=False,
        use_safetensors=True,
    ).eval()
    model.config.use_cache = True  # as does this
    return model


def can_scale(model: Any) -> bool:
    """Say whether a model's adapter is a sum with the base. DoRA's is not: it also has a length of its own."""
    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    return bool(layers) and not any(layer.lora_variant for layer in layers)


def scale_adapter(model: Any, name: str, strength: float) -> list[tuple[LoraLayer, float]]:
    """Let a part of an adapter count, or more than all of it.

    Args:
        model: With the adapter loaded.
        name: Which one.
        strength: 1 is as trained, 0 as without it.

    Returns:
        Every layer with the scaling it had.

    Raises:
        ValueError: The adapter is no sum with the base.
    """
    if strength == 1:
        return []
    if not can_scale(model):
        raise ValueError("only an adapter that is a sum with the base has a strength")
    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    before = [(layer, layer.scaling[name]) for layer in layers if name in layer.scaling]
    for layer, scaling in before:
        layer.scaling[name] = scaling * strength
    return before


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
