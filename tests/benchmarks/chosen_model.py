"""Which model a benchmark measures: the starter, one by name, or random weights of a known shape.

Speed and memory do not depend on what the weights are, so a shape needs no download of gigabytes.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from workbench.config import STARTER_MODEL
from workbench.models.catalogue import catalogue
from workbench.models.rendering import load_tokenizer
from workbench.models.sources import ModelSource, find_model
from workbench.models.store import ModelStore
from workbench.settings import Settings

SHAPES = {"0.5B": "qwen2.5-0.5b-instruct", "7B": "qwen2.5-7b-instruct"}
TINY = {  # to try the benchmark itself
    "model_type": "qwen2",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 1024,
    "tie_word_embeddings": True,
}


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Let a benchmark's command line say which model."""
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument(
        "--model", default=STARTER_MODEL, help="a catalogue id, a Hub id or a folder"
    )
    chosen.add_argument("--shape", choices=[*SHAPES, "tiny"], help="random weights of this shape")
    parser.add_argument(
        "--tokenizer", type=Path, help="the folder of the tokenizer for --shape; else the starter's"
    )


def choose_model(options: argparse.Namespace, settings: Settings, folder: Path) -> ModelSource:
    """Return the model that was asked for, which is on this computer then.

    Args:
        options: As ``add_model_options`` made them.
        settings: The workspace that has the models.
        folder: Where a model of random weights is made; as long as the folder is there.
    """
    models = ModelStore(settings)
    if not options.shape:
        source = find_model(options.model, allow_folder=True)
        models.ensure(source, lambda progress: None)
        return source
    tokenizer_dir = options.tokenizer
    if tokenizer_dir is None:
        tokenizer_dir = models.ensure(find_model(STARTER_MODEL), lambda progress: None)
    made_dir = make_model(options.shape, load_tokenizer(tokenizer_dir), folder / options.shape)
    return find_model(str(made_dir), allow_folder=True)


def make_model(shape: str, tokenizer: Any, directory: Path) -> Path:
    """Save a model with random weights in bf16, and a tokenizer; return its folder.

    Args:
        shape: One of ``SHAPES``, or ``tiny``.
        tokenizer: Whose ids the model will read; the vocabulary grows where it has too few.
        directory: To be made.
    """
    sizes = dict(TINY if shape == "tiny" else catalogue()[SHAPES[shape]].architecture)
    sizes["vocab_size"] = max(sizes["vocab_size"], len(tokenizer))
    config = AutoConfig.for_model(
        **sizes, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    del model
    torch.cuda.empty_cache()  # other processes need the memory now
    return directory
