"""Write answers faster on a CPU: one token's way through a layer in as few calls as possible.

The next token of a small model costs little arithmetic; reading the weights, and calling hundreds of little
operations from Python, take the time. Here the weights that read the same input are one matrix, an adapter is
two thin ones beside it, and nothing is called that a layer of Llama's kind does not need. ``generate`` of
transformers still does everything else: sampling, the cache, when to stop.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn
from torch.nn import functional
from transformers.cache_utils import DynamicLayer

from workbench.inference.products import Way

# What a layer of Llama's kind consists of (Llama, SmolLM2, Qwen2.5, Mistral); one with more is left alone.
PARTS = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}
ATTENTION_PARTS = {"q_proj", "k_proj", "v_proj", "o_proj"}
MLP_PARTS = {"gate_proj", "up_proj", "down_proj", "act_fn"}
# Of the largest logit: what another order of additions, and of rounding, may change.
SAME = {torch.float32: 1e-3, torch.bfloat16: 6e-2}
TRIAL_IDS = (1, 2, 3, 4)
ROOM_TOKENS = 256  # by which a cache that is full grows


class QuickLayers:
    """The layers of a model, which write one token at a time faster while ``use`` lasts.

    Args:
        layers: All decoder layers of a model in evaluation mode; of Llama's kind.
        head: What gives the logits; a linear layer.
        way: How to multiply with their weights.
    """

    def __init__(self, layers: Sequence[Any], head: Any, way: Way) -> None:
        self._layers = layers
        self._head = head
        self._way = way
        for layer in layers:
            _join([layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj])
            _join([layer.mlp.gate_proj, layer.mlp.up_proj])

    @contextmanager
    def use(self, adapter: str | None = None) -> Iterator[None]:
        """Let every layer take the short way, unless the adapter is no plain LoRA.

        Args:
            adapter: The adapter that is on, as strong as its scaling says; ``None`` for none.
        """
        # Some adapters put another module in the place of the attention while they are on.
        if not all(
            _is_llama_layer(layer) and (not adapter or _is_plain_lora(layer, adapter))
            for layer in self._layers
        ):
            yield
            return
        quick = [_QuickLayer(layer, adapter, self._way) for layer in self._layers]
        try:
            for layer, forward in zip(self._layers, quick, strict=True):
                layer.forward = forward
            self._head.forward = _QuickHead(self._head, self._way)
            yield
        finally:
            for module in (*self._layers, self._head):
                module.__dict__.pop("forward", None)


def quick_layers(model: Any, way: Way) -> QuickLayers | None:
    """Return the layers of a model that can take the short way, or ``None`` where they cannot.

    Args:
        model: In evaluation mode, without an adapter that is on.
        way: How to multiply with its weights.
    """
    layers = [module for module in model.modules() if _parts(module) == PARTS]
    head = model.get_output_embeddings()
    if model.device.type != "cpu" or not layers or not all(map(_is_llama_layer, layers)):
        return None
    if type(head) is not nn.Linear or head.weight.dtype != way.dtype:
        return None
    plain = _trial(model)
    made = QuickLayers(layers, head, way)
    with made.use(None):
        difference = (_trial(model) - plain).abs().max()
    in_bf16 = torch.is_autocast_enabled("cpu") or way.dtype == torch.bfloat16
    same = SAME[torch.bfloat16 if in_bf16 else torch.float32]
    return made if difference <= same * plain.abs().max() else None


class _Projection:
    """Linear layers that read the same input, as one, with their part of an adapter."""

    def __init__(self, modules: Sequence[Any], adapter: str | None, way: Way) -> None:
        self._times = way.times
        plain = [_plain(module) for module in modules]
        self._weight = _joined([linear.weight for linear in plain])
        has_bias = plain[0].bias is not None
        self._bias = torch.cat([linear.bias for linear in plain]) if has_bias else None
        self._down, self._up = _adapter(modules, adapter)

    def __call__(self, x: Tensor) -> Tensor:
        y = self._times(self._weight, x)
        if self._bias is not None:
            y = y + self._bias
        if self._down is None:
            return y
        return torch.addmm(y, functional.linear(x, self._down), self._up)


class _QuickHead:
    """The forward pass of the head for one token."""

    def __init__(self, head: nn.Linear, way: Way) -> None:
        self._head = head
        self._times = way.times

    def __call__(self, x: Tensor) -> Tensor:
        if x.shape[:2] != (1, 1):
            return nn.Linear.forward(self._head, x)
        with torch.autocast("cpu", enabled=False):
            logits = self._times(self._head.weight, x[0].float())
        return (logits if self._head.bias is None else logits + self._head.bias)[None]


class _QuickLayer:
    """The forward pass of a decoder layer, in float32 but for the base's weights and the cache.

    More than one token at once take the layer's own way.
    """

    def __init__(self, layer: Any, adapter: str | None, way: Way) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self._layer = layer
        self._index, self._dim, self._scaling = (
            attention.layer_idx,
            attention.head_dim,
            attention.scaling,
        )
        self._qkv = _Projection(
            [attention.q_proj, attention.k_proj, attention.v_proj], adapter, way
        )
        self._out = _Projection([attention.o_proj], adapter, way)
        self._gate_up = _Projection([mlp.gate_proj, mlp.up_proj], adapter, way)
        self._down = _Projection([mlp.down_proj], adapter, way)
        self._act = mlp.act_fn
        self._heads = _plain(attention.q_proj).out_features // self._dim
        self._kv_heads = _plain(attention.k_proj).out_features // self._dim

    def __call__(self, hidden_states: Tensor, **given: Any) -> Any:
        cache = given.get("past_key_values")
        if hidden_states.shape[:2] != (1, 1) or not (cache and cache.get_seq_length(self._index)):
            return type(self._layer).forward(self._layer, hidden_states, **given)
        with torch.autocast("cpu", enabled=False):
            x = hidden_states[0].float()
            x = x + self._out(self._attend(self._norm(self._layer.input_layernorm, x), **given))
            y = self._norm(self._layer.post_attention_layernorm, x)
            gate, up = self._gate_up(y).chunk(2, -1)
            return (x + self._down(self._act(gate) * up))[None]

    def _attend(
        self,
        x: Tensor,
        past_key_values: Any,
        position_embeddings: tuple[Tensor, Tensor],
        attention_mask: Tensor | None = None,
        **unused: Any,
    ) -> Tensor:
        heads, kv_heads, dim = self._heads, self._kv_heads, self._dim
        both = self._qkv(x).view(1, heads + 2 * kv_heads, 1, dim)
        turned, v = both.split((heads + kv_heads, kv_heads), 1)
        cos, sin = position_embeddings
        first, second = turned.chunk(2, -1)
        turned = turned * cos + torch.cat((-second, first), -1) * sin
        cache = past_key_values.layers[self._index]
        q, k = turned.to(cache.keys.dtype).split((heads, kv_heads), 1)
        k, v = _remember(cache, k, v.to(cache.keys.dtype))
        said = functional.scaled_dot_product_attention(
            q, k, v, attn_mask=attention_mask, scale=self._scaling, enable_gqa=heads != kv_heads
        )
        return said.reshape(1, heads * dim).float()

    @staticmethod
    def _norm(module: Any, x: Tensor) -> Tensor:
        weight = module.weight.float()
        return functional.rms_norm(x, weight.shape, weight, module.variance_epsilon)


def _remember(cache: Any, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Add a token to what a layer remembers, and return all of it: (1, heads, tokens, head size) each.

    As the cache's own ``update`` does, which copies all that is there for every token.
    """
    if type(cache) is not DynamicLayer:  # it forgets what is far away
        both: tuple[Tensor, Tensor] = cache.update(k, v)
        return both
    tokens = cache.keys.shape[2]
    room = getattr(cache, "room", None)
    if room is None or room[0].data_ptr() != cache.keys.data_ptr() or room[0].shape[2] == tokens:
        more = cache.keys.new_empty(*k.shape[:2], ROOM_TOKENS, k.shape[3])
        cache.room = room = tuple(
            torch.cat([states, more], 2) for states in (cache.keys, cache.values)
        )
    room[0][:, :, tokens] = k[:, :, 0]
    room[1][:, :, tokens] = v[:, :, 0]
    cache.keys, cache.values = room[0][:, :, : tokens + 1], room[1][:, :, : tokens + 1]
    return cache.keys, cache.values


def _is_llama_layer(layer: Any) -> bool:
    attention, mlp = layer.self_attn, layer.mlp
    if _parts(attention) != ATTENTION_PARTS or _parts(mlp) != MLP_PARTS:
        return False
    linears = [getattr(attention, name) for name in ATTENTION_PARTS]
    linears += [mlp.gate_proj, mlp.up_proj, mlp.down_proj]
    norms = (layer.input_layernorm, layer.post_attention_layernorm)
    return all(type(_plain(module)) is nn.Linear for module in linears) and all(
        hasattr(norm, "variance_epsilon") for norm in norms
    )


def _is_plain_lora(layer: nn.Module, adapter: str) -> bool:
    """Say whether an adapter adds a product of two matrices and nothing else; DoRA's has a length besides."""
    return not any(
        adapter in module.lora_variant or module.lora_bias.get(adapter) or module.merged
        for module in layer.modules()
        if type(module) is LoraLinear
    )


def _parts(module: nn.Module) -> set[str]:
    return {name for name, _ in module.named_children()}


def _plain(module: Any) -> Any:
    """Return the layer of the base model, without the adapter around it."""
    return module.base_layer if type(module) is LoraLinear else module


def _join(modules: Sequence[Any]) -> None:
    """Move the weights into one matrix, of which each layer has a part, so that none is there twice."""
    plain = [_plain(module) for module in modules]
    parts = torch.cat([linear.weight.data for linear in plain]).split(
        [linear.out_features for linear in plain]
    )
    for linear, part in zip(plain, parts, strict=True):
        linear.weight.data = part


def _joined(weights: Sequence[Tensor]) -> Tensor:
    """Return the matrix that ``_join`` made of these weights; a copy if one was moved since (PiSSA)."""
    first, place = weights[0].data, weights[0].data_ptr()
    for weight in weights:
        if weight.data_ptr() != place:
            return torch.cat([weight.data for weight in weights])
        place += weight.nbytes
    return first.as_strided((sum(map(len, weights)), first.shape[1]), first.stride())


def _adapter(modules: Sequence[Any], name: str | None) -> tuple[Tensor | None, Tensor | None]:
    """Return both factors of an adapter of some layers, each layer's ranks beside the others'."""
    pairs = [
        (module.lora_A[name].weight, module.lora_B[name].weight * module.scaling[name])
        if type(module) is LoraLinear and name in module.lora_A
        else None
        for module in modules
    ]
    if not any(pairs):
        return None, None
    downs, ups = [], []
    for module, pair in zip(modules, pairs, strict=True):
        plain = _plain(module)
        if pair is None:
            pair = torch.zeros(0, plain.in_features), torch.zeros(plain.out_features, 0)
        downs.append(pair[0].float())
        ups.append(pair[1].float())
    return torch.cat(downs), torch.block_diag(*ups).T.contiguous()


def _trial(model: Any) -> Tensor:
    """Return the logits of a token that is written after others."""
    ids = torch.tensor([TRIAL_IDS])
    with torch.inference_mode():
        before = model(input_ids=ids[:, :-1], use_cache=True)
        after = model(input_ids=ids[:, -1:], past_key_values=before.past_key_values, use_cache=True)
    logits: Tensor = after.logits[0, -1].float()
    return logits
