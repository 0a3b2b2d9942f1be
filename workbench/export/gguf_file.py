"""Write a model of the Llama family as a GGUF file, weight by weight.

Which metadata and names: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, and llama.cpp's converter
(MIT, ``conversion/llama.py`` and ``conversion/base.py``). The package ``gguf`` (MIT, by the makers of llama.cpp) has the
names of tensors, the layout of the file and the number formats.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import torch

from workbench.data.formats import Message
from workbench.errors import WorkbenchError
from workbench.export.gguf_sentencepiece import (
    choose_spaces,
    is_sentencepiece,
    sentencepiece_vocabulary,
)
from workbench.export.gguf_tokenizer import GgufVocabulary, adds_bos, gguf_vocabulary
from workbench.export.request import GGUF_EMBEDDING_TYPES, GgufType
from workbench.models.rendering import prompt_ids, prompt_text

# The architectures that we write and check, by ``model_type``, and what llama.cpp calls them.
ARCHITECTURES = {
    "llama": gguf.MODEL_ARCH.LLAMA,
    "mistral": gguf.MODEL_ARCH.LLAMA,
    "qwen2": gguf.MODEL_ARCH.QWEN2,
    "qwen3": gguf.MODEL_ARCH.QWEN3,
}
TYPES = {
    "F16": (gguf.GGMLQuantizationType.F16, gguf.LlamaFileType.MOSTLY_F16),
    "BF16": (gguf.GGMLQuantizationType.BF16, gguf.LlamaFileType.MOSTLY_BF16),
    "Q8_0": (gguf.GGMLQuantizationType.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
    "Q5_0": (gguf.GGMLQuantizationType.Q5_0, gguf.LlamaFileType.MOSTLY_Q5_0),
    "Q4_0": (gguf.GGMLQuantizationType.Q4_0, gguf.LlamaFileType.MOSTLY_Q4_0),
}
# llama.cpp keeps the head, and embeddings that are the head as well, in Q6_K, and in Q8_0 where that does not fit
# (src/llama-quant.cpp, llama_tensor_get_type_impl). `gguf` has no writer for Q6_K.
EMBEDDINGS = ("token_embd.weight", "output.weight")
ROPE_TYPES = ("default", "llama3")
_SPECIAL = ("bos", "eos", "pad", "unk")
# Texts with what tokenizers treat in ways of their own.
_SAMPLES = (
    "Hello, who are you?",
    "  two  spaces and   three ",
    "naïve café, 你好世界! 🙂 👩‍🚀",
    "def f(x):\n    return x[0]\n\n\tdone",
)


@dataclass(frozen=True)
class GgufText:
    """What a GGUF says in words.

    Attributes:
        name: Of the model.
        licence: Of its base, empty where unknown.
    """

    name: str
    licence: str


def check_architecture(config: Any, tokenizer: Any) -> GgufVocabulary:
    """Refuse a model that we cannot write, before anything is merged; return its vocabulary.

    Raises:
        WorkbenchError: What cannot be written.
    """
    rope_type = (config.rope_parameters or {}).get("rope_type", "default")
    if config.model_type not in ARCHITECTURES or rope_type not in ROPE_TYPES:
        known = ", ".join(ARCHITECTURES)
        raise WorkbenchError(
            f"This kind of model ({config.model_type}, positions {rope_type}) cannot be written as GGUF here; "
            f"these can: {known}.",
            "Export the merged model and convert that with llama.cpp's convert_hf_to_gguf.py.",
        )
    contents = json.loads(tokenizer.backend_tokenizer.to_str())
    if not is_sentencepiece(contents):
        return gguf_vocabulary(contents, config.vocab_size)
    vocabulary = sentencepiece_vocabulary(contents, config.vocab_size)
    return choose_spaces(vocabulary, _sample_prompts(tokenizer))


def _sample_prompts(tokenizer: Any) -> list[tuple[str, list[int]]]:
    talks: list[list[Message]] = [[{"role": "user", "content": text}] for text in _SAMPLES]
    answer: Message = {"role": "assistant", "content": "A robot."}
    talks.append([*talks[0], answer, *talks[1]])
    return [(prompt_text(tokenizer, talk), prompt_ids(tokenizer, talk)) for talk in talks]


def write_gguf(
    model: Any,
    tokenizer: Any,
    vocabulary: GgufVocabulary,
    path: Path,
    gguf_type: GgufType,
    text: GgufText,
    advance: Callable[[int], None],
) -> None:
    """Write the file.

    Args:
        model: Whole, of a known architecture.
        tokenizer: With its chat template.
        vocabulary: Its vocabulary.
        path: The file; it is not there yet.
        gguf_type: How weights are kept; norms and biases are always fp32.
        text: Name and licence.
        advance: Told how many weights were written; may raise to end it.
    """
    config = model.config
    architecture = ARCHITECTURES[config.model_type]
    # The name of the path only tells shards apart; the writer opens it when it is told to.
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[architecture])
    try:
        _describe(writer, config, text, TYPES[gguf_type][1])
        _add_tokenizer(writer, tokenizer, vocabulary)
        names = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
        weights = dict(_weights(model, names))
        for name, weight in weights.items():
            _announce(writer, name, weight, gguf_type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for name, weight in weights.items():
            array = _laid_out(name, weight, config).float().cpu().numpy()
            writer.write_tensor_data(gguf.quants.quantize(array, _kept_as(name, weight, gguf_type)))
            advance(weight.numel())
    finally:
        writer.close()


def weight_count(model: Any) -> int:
    """Return how many weights will be written."""
    return sum(weight.numel() for weight in model.parameters())


def _describe(writer: gguf.GGUFWriter, config: Any, text: GgufText, file_type: int) -> None:
    head = _head_size(config)
    writer.add_type("model")
    writer.add_name(text.name)
    if text.licence:
        writer.add_license(text.licence)
    writer.add_file_type(file_type)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(head)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_vocab_size(config.vocab_size)


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: Any, vocabulary: GgufVocabulary) -> None:
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.kinds)
    if vocabulary.merges:
        writer.add_token_merges(vocabulary.merges)
    if vocabulary.scores:
        writer.add_token_scores(vocabulary.scores)
    if vocabulary.model == "llama":
        writer.add_add_space_prefix(vocabulary.space_prefix)
    for name in _SPECIAL:
        index = getattr(tokenizer, f"{name}_token_id")
        if index is not None:
            getattr(writer, f"add_{name}_token_id")(index)
    writer.add_add_bos_token(adds_bos(tokenizer))
    begin = "{{ ' ' }}" if vocabulary.template_space else ""
    writer.add_chat_template(begin + tokenizer.chat_template)


def _weights(model: Any, names: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield every weight under its name in a GGUF; a head that is the embeddings is not written again."""
    state = model.state_dict()
    if model.config.tie_word_embeddings:
        state.pop("lm_head.weight", None)
    for name, weight in state.items():
        stem, _, suffix = name.rpartition(".")
        known = names.get_name(stem)
        if known is None:
            raise WorkbenchError(
                f"The model has weights that GGUF has no name for: {name}.",
                "Export the merged model instead.",
            )
        yield f"{known}.{suffix}", weight
    if (model.config.rope_parameters or {}).get("rope_type") == "llama3":
        yield "rope_freqs.weight", _rope_factors(model)


def _rope_factors(model: Any) -> torch.Tensor:
    """Return by how much each frequency of the positions is slowed down, as llama.cpp divides by it."""
    config, head = model.config, _head_size(model.config)
    plain = 1.0 / config.rope_parameters["rope_theta"] ** (torch.arange(0, head, 2).float() / head)
    return plain / model.model.rotary_emb.inv_freq.float().cpu()


def _announce(
    writer: gguf.GGUFWriter, name: str, weight: torch.Tensor, gguf_type: GgufType
) -> None:
    kept_as = _kept_as(name, weight, gguf_type)
    block, block_bytes = gguf.GGML_QUANT_SIZES[kept_as]
    size_bytes = weight.numel() // block * block_bytes
    array = torch.empty(
        0
    ).numpy()  # the writer wants a number format, and overrules it by the one we say
    writer.add_tensor_info(name, list(weight.shape), array.dtype, size_bytes, raw_dtype=kept_as)


def _kept_as(name: str, weight: torch.Tensor, gguf_type: GgufType) -> gguf.GGMLQuantizationType:
    """Return how one weight is kept: vectors exactly, and rows that are no whole blocks in F16."""
    if weight.dim() == 1:
        return gguf.GGMLQuantizationType.F32
    wanted = TYPES[
        GGUF_EMBEDDING_TYPES.get(gguf_type, gguf_type) if name in EMBEDDINGS else gguf_type
    ][0]
    block = gguf.GGML_QUANT_SIZES[wanted][0]
    return wanted if weight.shape[-1] % block == 0 else gguf.GGMLQuantizationType.F16


def _laid_out(name: str, weight: torch.Tensor, config: Any) -> torch.Tensor:
    """Return a weight in the order llama.cpp wants: for Llama it turns neighbours, transformers turns halves."""
    if ARCHITECTURES[config.model_type] != gguf.MODEL_ARCH.LLAMA:
        return weight
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    count = heads.get(name.split(".")[-2])
    if count is None:
        return weight
    halves = weight.view(count, 2, -1, *weight.shape[1:])
    return halves.swapaxes(1, 2).reshape(weight.shape)


def _head_size(config: Any) -> int:
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
