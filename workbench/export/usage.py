"""How to use an export, in a few lines that a person can copy. Pure."""

from __future__ import annotations

import json
import re
import shlex

from workbench.export.request import Kind

QUESTION = "Who are you?"


# vLLM takes no other ranks (vllm.config.LoRAConfig), and 16 unless told.
VLLM_RANKS = (16, 32, 64, 128, 256, 320, 512)


def usage_lines(
    kind: Kind, where: str, base: str, details: tuple[str, ...] = (), rank: int = 0
) -> list[str]:
    """Return the lines.

    Args:
        kind: What was exported.
        where: Its path, or its name where the path differs from computer to computer.
        base: What the base model is loaded by: its name on the hub, or its folder.
        details: For a bundle, what follows ``workbench train``.
        rank: Of an adapter that vLLM reads, its rank; else 0.
    """
    quoted = json.dumps(where, ensure_ascii=False)
    if kind == "adapter":
        folder = json.dumps(where.removesuffix(".zip"), ensure_ascii=False)
        base_quoted = json.dumps(base, ensure_ascii=False)
        unpack = (
            f"import zipfile; zipfile.ZipFile({quoted}).extractall({folder})  # unpack it, once"
        )
        return [
            *([unpack] if where.endswith(".zip") else []),
            "from peft import PeftModel; from transformers import AutoModelForCausalLM, AutoTokenizer",
            f"model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained({base_quoted}), {folder})",
            f"tokenizer = AutoTokenizer.from_pretrained({folder})",
            *_vllm_adapter_lines(where.removesuffix(".zip"), base, rank),
        ]
    if kind == "merged":
        question = json.dumps([{"role": "user", "content": QUESTION}])
        return [
            "from transformers import pipeline",
            f'chat = pipeline("text-generation", {quoted})',
            f'print(chat({question}, max_new_tokens=200)[0]["generated_text"][-1]["content"])',
            f"# vLLM, in the terminal: vllm serve {shlex.quote(where)}",
        ]
    path = shlex.quote(where)
    if kind == "gguf":
        return [
            f"llama-cli -m {path} --jinja            # llama.cpp: talk to it in the terminal",
            f"llama-server -m {path} --jinja         # llama.cpp: a page and an OpenAI-compatible server",
            f"lms import {path}                      # LM Studio: add it to your models",
        ]
    if kind == "ollama":
        name = ollama_name(where)
        return [f"cd {path}", f"ollama create {name} -f Modelfile", f"ollama run {name}"]
    folder = shlex.quote(where.removesuffix(".zip"))
    return [
        f"python -m zipfile -e {path} {folder}",
        f"cd {folder}",
        " ".join(("workbench train", *details)),
    ]


def _vllm_adapter_lines(folder: str, base: str, rank: int) -> list[str]:
    """Return how vLLM serves an adapter: https://docs.vllm.ai/en/latest/features/lora.html."""
    room = next((size for size in VLLM_RANKS if size >= rank), 0)
    if not rank or not room:
        return []
    most = f" --max-lora-rank {room}" if room > VLLM_RANKS[0] else ""
    module = shlex.quote(f"tuned={folder}")
    command = f"vllm serve {shlex.quote(base)} --enable-lora{most} --lora-modules {module}"
    return [f"# vLLM, in the terminal: {command}"]


def hub_gguf_lines(repository: str, gguf_type: str) -> list[str]:
    """Return how to use a GGUF file on the Hugging Face Hub; these programs fetch it by themselves."""
    name = f"{repository}:{gguf_type}"
    return [
        f"llama-cli -hf {name} --jinja            # llama.cpp: talk to it in the terminal",
        f"llama-server -hf {name} --jinja         # llama.cpp: a page and an OpenAI-compatible server",
        f"ollama run hf.co/{name}                 # Ollama",
    ]


def language(kind: Kind) -> str:
    """Return what the lines are written in, as Markdown names it."""
    return "python" if kind in ("adapter", "merged") else "sh"


def ollama_name(where: str) -> str:
    """Return a name that Ollama takes: small letters, digits, dashes."""
    name = re.split(r"[\\/]", where.rstrip("\\/"))[-1].lower()
    return re.sub(r"[^a-z0-9]+", "-", name).strip("-") or "tuned"
