"""Write answers faster on a CPU: one token's way through a model in as few calls as possible, for several answers at once.

The next token of a small model costs little arithmetic; reading the weights, and calling hundreds of little
operations from Python, take the time. Here the weights that read the same input are one matrix, an adapter is
two thin ones beside it, and nothing is called that a layer of Llama's kind does not need. The next tokens of
several answers read the weights once, whichever adapter each has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn
from torch.nn import functional
from transformers.cache_utils import DynamicLayer

from workbench.asking.products import Way

# What a layer of Llama's kind consists of (Llama, SmolLM2, Qwen2.5, Mistral); one with more is left alone.
PARTS = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}
ATTENTION_PARTS = {"q_proj", "k_proj", "v_proj", "o_proj"}
MLP_PARTS = {"gate_proj", "up_proj", "down_proj", "act_fn"}
# Of the largest logit: what another order of additions, and of rounding, may change.
SAME = {torch.float32: 1e-3, torch.bfloat16: 6e-2}
# Ordinary tokens, and enough of them: of the starter model's first marks alone (1 to 4), one rounding in bf16 changed a logit
# by a quarter of the largest; with these, two ways differ by 0.012 at most (measured).
TRIAL_IDS = tuple(range(10, 26))
ROOM_TOKENS = 256  # by which a cache that is full grows

Factors = (
    tuple[Tensor, Tensor] | None
)  # of an adapter: float32 (ranks, inputs) and (ranks, outputs)


@dataclass(frozen=True)
class QuickRow:
    """An answer to which a token is added.

    Attributes:
        token: The last one that was written.
        cache: What the model remembers of all before it.
        factors: What the adapter adds to each projection of each layer, from ``QuickModel.prepare``.
    """

    token: int
    cache: Any
    factors: Sequence[Factors]


class QuickModel:
    """A model of Llama's kind that goes on with answers, a token each.

    Args:
        decoder: Embeddings, layers and the last norm of a model in evaluation mode.
        head: What gives the logits; a linear layer.
        way: How to multiply with their weights.
    """

    def __init__(self, decoder: Any, head: Any, way: Way) -> None:
        self._decoder, self._head, self._way = decoder, head, way
        for layer in decoder.layers:
            _join([layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj])
            _join([layer.mlp.gate_proj, layer.mlp.up_proj])
        self._layers: list[_QuickLayer] = []

    def prepare(self, adapter: str | None) -> list[Factors] | None:
        """Look up the weights again, and return what an adapter adds; must come before ``step``.

        Weights may have moved since the last answer.

        Args:
            adapter: The adapter that is on; ``None`` for none.

        Returns:
            Its factors, as strong as its scaling says now; ``None`` unless it is a plain LoRA.
        """
        layers = self._decoder.layers
        if type(self._decoder.embed_tokens) is not nn.Embedding:  # something adapts it
            return None
        # Some adapters put another module in the place of the attention while they are on.
        if not all(
            _is_llama_layer(layer) and (not adapter or _is_plain_lora(layer, adapter))
            for layer in layers
        ):
            return None
        self._layers = [_QuickLayer(layer, self._way) for layer in layers]
        return [
            _factors(projection.modules, adapter)
            for layer in self._layers
            for projection in layer.projections
        ]

    def step(self, rows: Sequence[QuickRow]) -> Tensor:
        """Add the last token of each answer to its cache.

        Returns:
            The logits of the next ones, float32 (rows, vocabulary).
        """
        decoder = self._decoder
        with torch.autocast("cpu", enabled=False):
            x = decoder.embed_tokens(torch.tensor([row.token for row in rows])).float()
            position_ids = torch.tensor([[row.cache.get_seq_length()] for row in rows])
            rotary = decoder.rotary_emb(x, position_ids)  # cos and sin, (rows, 1, head size) each
            for layer in self._layers:
                x = layer(x, rows, rotary)
            logits = self._way.times(self._head.weight, _norm(decoder.norm, x))
            return logits if self._head.bias is None else logits + self._head.bias


def quick_model(model: Any, way: Way) -> QuickModel | None:
    """Return the short way through a model, or ``None`` where there is none.

    Args:
        model: In evaluation mode, without an adapter that is on.
        way: How to multiply with its weights.
    """
    plain = model.get_base_model() if isinstance(model, PeftModel) else model
    decoder, head = plain.get_decoder(), plain.get_output_embeddings()
    layers = getattr(decoder, "layers", [])
    if plain.device.type != "cpu" or not layers or not all(map(_is_llama_layer, layers)):
        return None
    if any(_parts(layer) != PARTS for layer in layers) or _reads_otherwise(model, decoder):
        return None
    if type(head) is not nn.Linear or head.weight.dtype != way.dtype:
        return None
    if type(decoder.embed_tokens) is not nn.Embedding:
        return None
    usual = _trial(plain)
    made = QuickModel(decoder, head, way)
    difference = (_trial(plain, made) - usual).abs().max()
    in_bf16 = torch.is_autocast_enabled("cpu") or way.dtype == torch.bfloat16
    same = SAME[torch.bfloat16 if in_bf16 else torch.float32]
    return made if difference <= same * usual.abs().max() else None


def _reads_otherwise(model: Any, decoder: Any) -> bool:
    """Say whether a token sees others than its answer's cache says, or sees them rotated otherwise beside long answers."""
    begins_with_more = isinstance(model, PeftModel) and model.active_peft_config.is_prompt_learning
    forgets = bool(getattr(decoder.config, "sliding_window", None))
    rope_type = getattr(decoder.rotary_emb, "rope_type", "default")
    return (begins_with_more and forgets) or rope_type in ("dynamic", "longrope")


class _Projection:
    """Linear layers that read the same input, as one."""

    def __init__(self, modules: Sequence[Any], index: int, way: Way) -> None:
        self.modules = modules
        self._index, self._times = index, way.times
        plain = [_plain(module) for module in modules]
        self._weight = _joined([linear.weight for linear in plain])
        has_bias = plain[0].bias is not None
        self._bias = torch.cat([linear.bias for linear in plain]) if has_bias else None

    def __call__(self, x: Tensor, rows: Sequence[QuickRow]) -> Tensor:
        y = self._times(self._weight, x)
        if self._bias is not None:
            y = y + self._bias
        for place, row in enumerate(rows):
            if (pair := row.factors[self._index]) is not None:
                one = slice(place, place + 1)
                y[one].addmm_(functional.linear(x[one], pair[0]), pair[1])
        return y


class _QuickLayer:
    """A decoder layer for one token of each row, in float32 but for the base's weights and the caches."""

    def __init__(self, layer: Any, way: Way) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self._norms = layer.input_layernorm, layer.post_attention_layernorm
        self._index, self._dim, self._scaling = (
            attention.layer_idx,
            attention.head_dim,
            attention.scaling,
        )
        self._act = mlp.act_fn
        self._heads = _plain(attention.q_proj).out_features // self._dim
        self._kv_heads = _plain(attention.k_proj).out_features // self._dim
        parts = [
            [attention.q_proj, attention.k_proj, attention.v_proj],
            [attention.o_proj],
            [mlp.gate_proj, mlp.up_proj],
            [mlp.down_proj],
        ]
        first = self._index * len(parts)
        self.projections = [
            _Projection(modules, first + place, way) for place, modules in enumerate(parts)
        ]

    def __call__(
        self, x: Tensor, rows: Sequence[QuickRow], rotary: tuple[Tensor, Tensor]
    ) -> Tensor:
        qkv, out, gate_up, down = self.projections
        before, after = self._norms
        x = x + out(self._attend(qkv(_norm(before, x), rows), rows, rotary), rows)
        gate, up = gate_up(_norm(after, x), rows).chunk(2, -1)
        return x + down(self._act(gate) * up, rows)

    def _attend(
        self, qkv: Tensor, rows: Sequence[QuickRow], rotary: tuple[Tensor, Tensor]
    ) -> Tensor:
        heads, kv_heads, dim = self._heads, self._kv_heads, self._dim
        cos, sin = rotary
        qk, v = qkv.view(len(rows), -1, dim).split((heads + kv_heads, kv_heads), 1)
        first, second = qk.chunk(2, -1)
        qk = qk * cos + torch.cat((-second, first), -1) * sin  # now rotated
        q, k = qk.split((heads, kv_heads), 1)
        attended = [
            self._attend_to_cache(row.cache.layers[self._index], q[place], k[place], v[place])
            for place, row in enumerate(rows)
        ]
        return attended[0] if len(attended) == 1 else torch.cat(attended)

    def _attend_to_cache(self, cache: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Let one token look at what its answer remembers; (heads, head size) each, to (1, width)."""
        dtype = cache.keys.dtype
        keys, values = _append_to_cache(
            cache, k[None, :, None].to(dtype), v[None, :, None].to(dtype)
        )
        attended = functional.scaled_dot_product_attention(
            q[None, :, None].to(dtype),
            keys,
            values,
            scale=self._scaling,
            enable_gqa=self._heads != self._kv_heads,
        )
        return attended.reshape(1, -1).float()


def _norm(module: Any, x: Tensor) -> Tensor:
    weight = module.weight.float()
    return functional.rms_norm(x, weight.shape, weight, module.variance_epsilon)


def _append_to_cache(cache: Any, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Add a token to what a layer remembers, and return all of it: (1, heads, tokens, head size) each.

    As the cache's own ``update`` does, which copies all that is there for every token.
    """
    if type(cache) is not DynamicLayer:  # it forgets what is far away
        keys_and_values: tuple[Tensor, Tensor] = cache.update(k, v)
        return keys_and_values
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
    if not _parts(layer) >= PARTS:
        return False
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
        if isinstance(module, LoraLinear)
    )


def _parts(module: nn.Module) -> set[str]:
    return {name for name, _ in module.named_children()}


def _plain(module: Any) -> Any:
    """Return the layer of the base model, without the adapter around it."""
    return module.base_layer if isinstance(module, LoraLinear) else module


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


def _factors(modules: Sequence[Any], name: str | None) -> Factors:
    """Return both factors of an adapter of some layers, each layer's ranks beside the others'."""
    pairs = [
        (module.lora_A[name].weight, module.lora_B[name].weight * module.scaling[name])
        if isinstance(module, LoraLinear) and name in module.lora_A
        else None
        for module in modules
    ]
    if not any(pairs):
        return None
    downs, ups = [], []
    for module, pair in zip(modules, pairs, strict=True):
        plain = _plain(module)
        if pair is None:
            pair = torch.zeros(0, plain.in_features), torch.zeros(plain.out_features, 0)
        downs.append(pair[0].float())
        ups.append(pair[1].float())
    return torch.cat(downs), torch.block_diag(*ups).T.contiguous()


def _trial(model: Any, quick: QuickModel | None = None) -> Tensor:
    """Return the logits after the last of some tokens, which comes when those before it are remembered."""
    *before, last = TRIAL_IDS
    # Not inference mode: what a model in training keeps of this must still take part in gradients.
    with torch.no_grad():
        cache = model(input_ids=torch.tensor([before]), use_cache=True).past_key_values
        if quick:
            row = QuickRow(last, cache, quick.prepare(None) or [])
            return quick.step([row])[0]
        ids = torch.tensor([[last]])
        logits: Tensor = model(input_ids=ids, past_key_values=cache, use_cache=True).logits
    return logits[0, -1].float()
