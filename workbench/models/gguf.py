"""Models in GGUF files become, once, a folder that can be trained."""

from __future__ import annotations

from pathlib import Path

from workbench.errors import WorkbenchError


def convert_gguf(gguf_path: Path, directory: Path) -> None:
    """Write the GGUF's weights, dequantized to bf16, and its tokenizer into ``directory``.

    The weights are those of the squeezed file, not of the original release.

    Raises:
        WorkbenchError: ``transformers`` cannot read this kind of model from GGUF.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    where = {"pretrained_model_name_or_path": gguf_path.parent, "gguf_file": gguf_path.name}
    try:
        tokenizer = AutoTokenizer.from_pretrained(**where, trust_remote_code=False)
        model = AutoModelForCausalLM.from_pretrained(
            **where,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.bfloat16,
            trust_remote_code=False,
        )
    except (ValueError, KeyError, NotImplementedError) as error:
        raise WorkbenchError(
            f"{gguf_path.name} cannot be converted: {error}",
            "Take the model as safetensors instead.",
        ) from error
    tokenizer.save_pretrained(directory)
    model.save_pretrained(directory)
