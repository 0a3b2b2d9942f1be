"""How fast the chat answers with the starter model and an adapter, beside plain ``generate``.

::

    .venv/bin/workbench models --download smollm2-135m-instruct
    .venv/bin/python -m tests.benchmarks.chat_speed [--tokens 128] [--rounds 3]

Both sides take turns on the same prompt, greedy, in a process of their own; the best round counts, for
other programs can only slow a computer down. The chat is asked over HTTP, as the page asks it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx2

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


def measure(tokens: int, rounds: int) -> dict[str, tuple[float, float]]:
    """Return first token (seconds) and speed (tokens/s) of each side, the best of some rounds."""
    found: dict[str, list[tuple[float, float, str]]] = {}
    models_dir = Settings.from_environment().models_dir
    with tempfile.TemporaryDirectory() as folder:
        settings, run, model_dir = make_run(Path(folder) / "home", models_dir)
        arguments = [model_dir, run.model_dir, QUESTION, str(tokens), str(cpu_cores())]
        plain = subprocess.Popen(
            [sys.executable, "-c", PLAIN, *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=child_environment(),
        )  # fmt: skip
        server = start_chat_server(run, settings)
        try:
            server.wait_until_ready()
            for _ in range(rounds):
                for model in ("tuned", "base"):
                    found.setdefault(f"chat, {model}", []).append(ask(server, model, tokens))
                print(file=plain.stdin, flush=True)
                found.setdefault("plain generate, tuned", []).append(
                    json.loads(plain.stdout.readline())
                )
        finally:
            server.end()
            plain.kill()
            plain.wait()
    if found["chat, tuned"][0][2] != found["plain generate, tuned"][0][2]:
        print("Note: the chat and plain generate gave different answers (other precision).")
    return {
        name: (min(first for first, _, _ in times), max(speed for _, speed, _ in times))
        for name, times in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    print(f"{'':24}{'first token':>12}{'then':>16}   ({cpu_cores()} cores)")
    for name, (first, speed) in measure(options.tokens, options.rounds).items():
        print(f"{name:24}{first:>10.2f} s{speed:>9.1f} tokens/s")


if __name__ == "__main__":
    main()
