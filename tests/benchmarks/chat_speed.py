"""How fast the chat answers with the starter model and an adapter, beside plain ``generate`` and llama.cpp.

::

    .venv/bin/workbench models --download smollm2-135m-instruct
    .venv/bin/python -m tests.benchmarks.chat_speed [--tokens 128] [--rounds 3] [--llama PYTHON]

All take turns on the same prompt, greedy, in a process of their own; the best round counts, for other programs
can only slow a computer down. The chat is asked over HTTP, as the page asks it. ``PYTHON`` is one that has
llama-cpp-python, which must be compiled; it reads the same tuned model, exported as GGUF of several types.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2

from tests.export.made import export
from workbench.chat_server import start_chat_server
from workbench.config import STARTER_MODEL
from workbench.hardware import cpu_cores
from workbench.services import Services
from workbench.settings import Settings, child_environment

QUESTION = "Write a long story about a dog that learns to sail."
PLAIN = """
import json, sys, time
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

model_dir, adapter_dir, question, tokens, threads = sys.argv[1:]
torch.set_num_threads(int(threads))
tokenizer = AutoTokenizer.from_pretrained(model_dir)
base = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
model = PeftModel.from_pretrained(base, adapter_dir).eval()
chat = [{"role": "user", "content": question}]
prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_tensors="pt")

def seconds(count):
    began = time.perf_counter()
    with torch.inference_mode():
        answer = model.generate(**prompt, max_new_tokens=count, do_sample=False)
    return time.perf_counter() - began, answer[0, prompt["input_ids"].shape[1]:]

seconds(4)
for _ in sys.stdin:
    first, _ = seconds(1)
    whole, answer = seconds(int(tokens))
    text = tokenizer.decode(answer, skip_special_tokens=True)
    print(json.dumps([first, (len(answer) - 1) / (whole - first), text]), flush=True)
"""

LLAMA = """
import json, sys, time
from llama_cpp import Llama

path, question, tokens, threads = sys.argv[1:]
model = Llama(path, n_ctx=2048, n_threads=int(threads), n_threads_batch=int(threads), verbose=False)
chat = [{"role": "user", "content": question}]

for _ in sys.stdin:
    model.reset()  # else it remembers how the prompt begins
    began, first, count, text = time.perf_counter(), 0.0, 0, ""
    for chunk in model.create_chat_completion(
        chat, temperature=0.0, repeat_penalty=1.0, max_tokens=int(tokens), stream=True
    ):
        if piece := chunk["choices"][0]["delta"].get("content"):
            first = first or time.perf_counter() - began
            text, count = text + piece, count + 1
    whole = time.perf_counter() - began
    print(json.dumps([first, (count - 1) / (whole - first), text]), flush=True)
"""
BOTH = "chat, both at once"
PLAIN_TUNED = "plain generate, tuned"
GGUF_TYPES = ("BF16", "Q8_0", "Q4_0")


def make_run(home_dir: Path, models_dir: Path):
    """Make a run of the starter model whose adapter is random and small: it answers, not quite as before."""
    home_dir.mkdir(exist_ok=True)
    (home_dir / "models").symlink_to(models_dir)
    services = Services.for_workspace(Settings(home_dir=home_dir))
    data = services.choose_data({"sample-identity": 1})
    plan = services.plan(services.configure(None, {}), data)
    run = services.create_run(plan, data, "speed")
    code = (
        "import sys, torch\n"
        "from peft import LoraConfig, get_peft_model\n"
        "from transformers import AutoModelForCausalLM\n"
        "torch.manual_seed(0)\n"
        "config = LoraConfig(r=16, lora_alpha=32, target_modules='all-linear', task_type='CAUSAL_LM')\n"
        "model = get_peft_model(AutoModelForCausalLM.from_pretrained(sys.argv[1]), config)\n"
        "[torch.nn.init.normal_(w, std=0.005) for n, w in model.named_parameters() if 'lora_B' in n]\n"
        "model.save_pretrained(sys.argv[2])\n"
    )
    model_dir = models_dir / STARTER_MODEL
    subprocess.run([sys.executable, "-c", code, model_dir, run.model_dir], check=True)
    return services.settings, run, model_dir


def ask(server, model: str, tokens: int) -> tuple[float, float, str]:
    """Return seconds to the first text, tokens a second after it, and the answer."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": QUESTION}],
        "max_tokens": tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    url = f"http://127.0.0.1:{server.port}/v1/chat/completions"
    headers = {"Authorization": f"Bearer {server.token}"}
    began, first, text = time.perf_counter(), 0.0, ""
    with httpx2.stream("POST", url, json=body, headers=headers, timeout=600) as response:
        for line in response.iter_lines():
            if not line.startswith("data: {"):
                continue
            chunk = json.loads(line.removeprefix("data: "))
            if chunk["choices"] and (piece := chunk["choices"][0]["delta"].get("content")):
                first = first or time.perf_counter() - began
                text += piece
    whole = time.perf_counter() - began
    return first, (chunk["usage"]["completion_tokens"] - 1) / (whole - first), text


def ask_both(server, tokens: int) -> tuple[float, float, str]:
    """Ask both models at once; return the later first token, and how many tokens a second both have together."""
    with ThreadPoolExecutor(2) as threads:
        tuned, base = threads.map(lambda model: ask(server, model, tokens), ("tuned", "base"))
    return max(tuned[0], base[0]), tuned[1] + base[1], tuned[2]


def start(python: str, code: str, *arguments: object) -> subprocess.Popen[str]:
    """Start a program that answers each time it is sent a line."""
    return subprocess.Popen(
        [python, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=child_environment(),
    )  # fmt: skip


def measure(tokens: int, rounds: int, llama: str | None) -> dict[str, tuple[float, float]]:
    """Return first token (seconds) and speed (tokens/s) of each side, the best of some rounds."""
    found: dict[str, list[tuple[float, float, str]]] = {}
    models_dir = Settings.from_environment().models_dir
    with tempfile.TemporaryDirectory() as folder:
        settings, run, model_dir = make_run(Path(folder) / "home", models_dir)
        asked = [QUESTION, tokens, cpu_cores()]
        others = {PLAIN_TUNED: start(sys.executable, PLAIN, model_dir, run.model_dir, *asked)}
        for kind in GGUF_TYPES if llama else ():
            path = Path(folder) / f"{kind}.gguf"
            export(Services.for_workspace(settings), run, "gguf", path, gguf_type=kind)
            others[f"llama.cpp, {kind}"] = start(llama, LLAMA, path, *asked)
        server = start_chat_server(run, settings)
        try:
            server.wait_until_ready()
            for _ in range(rounds):
                for model in ("tuned", "base"):
                    found.setdefault(f"chat, {model}", []).append(ask(server, model, tokens))
                found.setdefault(BOTH, []).append(ask_both(server, tokens))
                for name, other in others.items():
                    print(file=other.stdin, flush=True)
                    found.setdefault(name, []).append(json.loads(other.stdout.readline()))
        finally:
            server.end()
            for other in others.values():
                other.kill()
                other.wait()
    for name in others:
        if found["chat, tuned"][0][2].strip() != found[name][0][2].strip():
            print(f"Note: {name} gave another answer than the chat (other precision).")
    return {
        name: (min(first for first, _, _ in times), max(speed for _, speed, _ in times))
        for name, times in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--llama", metavar="PYTHON", help="one that has llama-cpp-python")
    options = parser.parse_args()
    print(f"{'':24}{'first token':>12}{'then':>16}   ({cpu_cores()} cores)")
    for name, (first, speed) in measure(options.tokens, options.rounds, options.llama).items():
        print(f"{name:24}{first:>10.2f} s{speed:>9.1f} tokens/s")


if __name__ == "__main__":
    main()
