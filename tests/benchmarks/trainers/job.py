"""What every trainer of the benchmark shares: the job, how it begins, and a record of each step.

Runs in the environment of each trainer, so it needs nothing of the workbench.
"""

import json
import sys
import threading
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil
import torch
from transformers import TrainerCallback

SAMPLING_SECONDS = 0.02
# Whose versions decide how fast a trainer is.
PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "bitsandbytes",
    "liger-kernel",
    "trl",
    "llamafactory",
    "unsloth",
)


def read_job():
    """Return the job that the benchmark wrote: examples, model, method, steps, where to save."""
    job = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(job["threads"])
    torch.manual_seed(job["seed"])
    return job


def padded(examples, pad_id):
    """Return (rows, longest) int64 tensors of ids, labels and mask, filled up on the right."""
    width = max(len(example["input_ids"]) for example in examples)

    def fill(values, filler):
        return values + [filler] * (width - len(values))

    return {
        "input_ids": torch.tensor([fill(e["input_ids"], pad_id) for e in examples]),
        "labels": torch.tensor([fill(e["labels"], -100) for e in examples]),
        "attention_mask": torch.tensor([fill([1] * len(e["input_ids"]), 0) for e in examples]),
    }


def lora(rank):
    """Return the LoRA of every job for PEFT."""
    from peft import LoraConfig

    return LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def squeezing(job):
    """Return what ``from_pretrained`` is told for QLoRA, as published: NF4, double quantization; else nothing."""
    if job["method"] != "qlora":
        return {}
    from transformers import BitsAndBytesConfig

    compute_dtype = torch.bfloat16 if job["bf16"] else torch.float32
    return {
        "quantization_config": BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=compute_dtype,
        )
    }


def arguments(job):
    """Return what the arguments of every transformers-like trainer say alike."""
    return {
        "output_dir": job["output"],
        "max_steps": job["steps"],
        "per_device_train_batch_size": job["batch"],
        "gradient_accumulation_steps": job["examples_per_step"] // job["batch"],
        "learning_rate": job["rate"],
        "lr_scheduler_type": "constant",
        "seed": job["seed"],
        "use_cpu": not torch.cuda.is_available(),
        "logging_steps": 1,
        "report_to": "none",
        "save_strategy": "no",
    }


def begin_alike(model, start):
    """Give the adapter of a model the weights in a file, which every trainer begins with.

    Args:
        model: With PEFT's adapter.
        start: The file, or empty where none is to be loaded, as in full tuning.
    """
    if not start:
        return
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    loaded = set_peft_model_state_dict(model, load_file(start))
    missing = [name for name in loaded.missing_keys if "lora_" in name]
    if missing or loaded.unexpected_keys:
        raise SystemExit(f"Another adapter than in {start}: {missing} {loaded.unexpected_keys}")


def now():
    """Return seconds, when the graphics card has done all it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


class InOrder:
    """Mixed into a Trainer, it takes the examples as they come."""

    def _get_train_sampler(self, *args):
        return torch.utils.data.SequentialSampler(self.train_dataset)


class Record(TrainerCallback):
    """Seconds, computed tokens, loss and gradient norm of each step, and the peak memory of the process.

    When training begins, it also sees to it that the adapter is the same for all.
    """

    def __init__(self, job):
        self.seconds, self.computed, self.losses, self.norms = [], [], [], []
        self._job = job
        self._peak = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self):
        process = psutil.Process()
        while not self._ended.wait(SAMPLING_SECONDS):
            self._peak = max(self._peak, process.memory_info().rss)

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        begin_alike(model, self._job["start"])
        model.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, model, args, inputs):
        """Add the tokens of a forward pass, padding included; what rows share is as often there as it is computed."""
        self._tokens += inputs["input_ids"].numel()

    def on_step_begin(self, args, state, control, **kwargs):
        self._tokens = 0
        self._started = now()

    def on_step_end(self, args, state, control, **kwargs):
        self.seconds.append(now() - self._started)
        self.computed.append(self._tokens)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if logs and "loss" in logs:
            self.losses.append(float(logs["loss"]))
            self.norms.append(float(logs.get("grad_norm", 0.0)))

    def write(self):
        """Write the result where the benchmark looks for it."""
        self._ended.set()
        cuda = torch.cuda.is_available()
        result = {
            "seconds": self.seconds,
            "computed_tokens": self.computed,
            "losses": self.losses,
            "gradient_norms": self.norms,
            "peak_bytes": torch.cuda.max_memory_allocated() if cuda else self._peak,
            "versions": versions(),
        }
        Path(self._job["result"]).write_text(json.dumps(result))


def versions():
    """Return the versions of those packages that this trainer could use."""
    found = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found
