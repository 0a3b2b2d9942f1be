"""What cannot work together, known before anything starts: pure, in words for the page.

What is here was found by trying every method on small random models of fourteen architectures.
"""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from shutil import which

from workbench.config import ALL_LINEAR, TrainingConfig, split_names
from workbench.models.facts import ModelFacts
from workbench.models.headers import linear_layers
from workbench.presets import MethodPreset, methods

SQUEEZED_AS_WE_DO = "bitsandbytes"
# What torch looks for by default (torch 2.13, torch/_inductor/cpp_builder.py); elsewhere g++.
COMPILERS = {"darwin": "clang++", "win32": "cl"}
# A learning rate of LoRA; what is chosen where nothing keeps general skills is at most 4e-4.
FORGETS_ABOVE = 5e-4
FOUR_BIT_BLOCK = 32  # bitsandbytes 0.50 packs 4-bit weights on CPU in blocks of 32 outputs


def unavailable_methods(model: ModelFacts) -> dict[str, str]:
    """Return why a method cannot train a model, by method id; those not named can.

    Args:
        model: What is known of the model; nothing is ruled out where its architecture is not known yet.
    """
    kind = str(model.architecture.get("model_type", ""))
    found = {name: _reason(method, kind) for name, method in methods().items()}
    if model.squeezed_with:
        squeezed = {
            name
            for name, m in methods().items()
            if m.base != "plain" or m.saves == "model" or m.changes_the_base
        }
        reason = "This model's weights are already squeezed, so it needs a method that adds to them, such as LoRA."
        found |= dict.fromkeys(squeezed, reason)
    return {name: reason for name, reason in found.items() if reason}


def _reason(method: MethodPreset, model_type: str) -> str:
    if not model_type or not method.model_types or model_type in method.model_types:
        return ""
    return f"It works with {', '.join(method.model_types)} models only; this one is {model_type}."


def find_conflicts(config: TrainingConfig, model: ModelFacts) -> list[str]:
    """Return a sentence for everything in the settings that cannot work."""
    found: list[str] = []
    if reason := unavailable_methods(model).get(config.method):
        found.append(f"{methods()[config.method].label} cannot train {_name(config)}. {reason}")
    if (
        config.activation_checkpointing not in (None, "off")
        and not methods()[config.method].recomputes
    ):
        found.append(
            f"{methods()[config.method].label} cannot compute its layers twice. Set activation_checkpointing to "
            "off or auto; a smaller micro_batch_tokens saves memory, too."
        )
    if model.squeezed_with not in ("", SQUEEZED_AS_WE_DO):
        found.append(
            f"The weights of {_name(config)} are squeezed with {model.squeezed_with}, which cannot be trained here. "
            "Take the model it was made from; QLoRA squeezes it to 4 bits."
        )
    found += _unknown_layers(config, model) + _unknown_parts(config, model)
    layers = model.architecture.get("num_hidden_layers")
    if config.uses("trained_layers") and layers and (config.trained_layers or 0) > layers:
        found.append(f"trained_layers is {config.trained_layers}; the model has {layers} layers.")
    context = model.context_tokens
    if context and (config.max_length or 0) > context:
        found.append(
            f"max_length is {config.max_length:,}; the model reads at most {context:,} tokens."
        )
    if config.report_to != "none" and not find_spec(config.report_to):
        found.append(
            f"{config.report_to} is not installed, so nothing can be reported to it. Install it (pip install "
            f"{config.report_to}) and start the workbench again, or set Report to to none."
        )
    if config.compile and (missing := missing_to_compile()):
        found.append(
            f"Compile needs {missing}, which is not installed. Install it and start the workbench again, or set "
            "compile to false."
        )
    found += _width_conflicts(config, model.architecture)
    return found


def missing_to_compile() -> str:
    """Return what torch needs to build programs and does not find; empty for nothing."""
    compiler = COMPILERS.get(sys.platform, "g++")
    if not which(compiler):
        return f"a C++ compiler ({compiler}; on Debian and Ubuntu the package g++)"
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        return "Python's header files (on Debian and Ubuntu the package python3-dev)"
    return ""


def find_warnings(config: TrainingConfig, validation_rows: int) -> list[str]:
    """Return a sentence for everything that works but is seldom wanted, or does nothing."""
    found: list[str] = []
    method = methods()[config.method]
    forgets_above = FORGETS_ABOVE * method.learning_rate_scale
    if (
        not config.keep_general
        and method.learning_rate is None  # those with a rate of their own learn little else
        and (config.learning_rate or 0) > forgets_above
    ):
        found.append(
            "At this learning rate, without keeping general skills, the model may forget what it knew."
        )
    if config.label_smoothing and config.keep_general:
        found.append("Label smoothing and keeping general skills pull in different directions.")
    if not validation_rows and (config.early_stopping or config.final_model == "best"):
        found.append(
            "No row is held back to check with (Validation share), so nothing says which step was the best: "
            "Stop early after and a final model of the best step do nothing."
        )
    return found


def _width_conflicts(config: TrainingConfig, architecture: Mapping[str, object]) -> list[str]:
    width = architecture.get("hidden_size")
    if not isinstance(width, int):
        return []
    if config.uses("oft_block_size") and width % config.oft_block_size:
        return [
            f"oft_block_size is {config.oft_block_size}; it must divide the model's width, {width:,}."
        ]
    if methods()[config.method].base == "nf4" and width % FOUR_BIT_BLOCK:
        return [
            f"4 bits need a model whose width is a multiple of {FOUR_BIT_BLOCK}; it is {width:,}."
        ]
    return []


def _unknown_layers(config: TrainingConfig, model: ModelFacts) -> list[str]:
    """Find target modules that no linear layer is called by, as PEFT would: its name, or the end of it."""
    layers = {f".{layer}" for layer in linear_layers(model.shapes)}
    if not config.uses("target_modules") or config.target_modules == ALL_LINEAR or not layers:
        return []
    unknown = [
        name
        for name in split_names(config.target_modules)
        if not any(layer.endswith(f".{name}") for layer in layers)
    ]
    if not unknown:
        return []
    offered = sorted({layer.rpartition(".")[2] for layer in layers})
    return [
        f"target_modules: the model has no linear layer called {' or '.join(unknown)}. Set it to all-linear, or "
        f"to some of {', '.join(offered)}."
    ]


def _unknown_parts(config: TrainingConfig, model: ModelFacts) -> list[str]:
    """Find trained parts that no weight has in its name."""
    parts = {part for name in model.shapes for part in name.split(".")}
    if model.architecture.get("tie_word_embeddings"):
        parts.discard("lm_head")  # it is the embeddings, and goes by their name
    if not config.uses("trained_parts") or not parts:
        return []
    unknown = [name for name in split_names(config.trained_parts) if name not in parts]
    if not unknown:
        return []
    return [
        f"trained_parts: the model has no part called {' or '.join(unknown)}. Set it to layers, or to names such "
        "as mlp, self_attn or norm."
    ]


def _name(config: TrainingConfig) -> str:
    return config.model.rsplit("/", 1)[-1]
