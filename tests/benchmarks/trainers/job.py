"""What every trainer of the benchmark shares: the job, and a record of each step.

Runs in the environment of each trainer, so it needs nothing of the workbench.
"""

import json
import sys
import threading
import time
from pathlib import Path

import psutil
import torch
from transformers import TrainerCallback

SAMPLING_SECONDS = 0.02


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


def lora(job):
    """Return the LoRA of the job for PEFT."""
    from peft import LoraConfig

    return LoraConfig(
        r=job["rank"],
        lora_alpha=2 * job["rank"],
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def arguments(job):
    """Return what the arguments of every transformers-like trainer say alike."""
    return {
        "output_dir": job["output"],
        "max_steps": job["steps"],
        "per_device_train_batch_size": job["batch"],
        "gradient_accumulation_steps": job["examples_per_step"] // job["batch"],
        "learning_rate": job["rate"],
        "lr_scheduler_type": "constant",
        "use_cpu": not torch.cuda.is_available(),
        "logging_steps": 1,
        "report_to": "none",
        "save_strategy": "no",
    }


class InOrder:
    """Mixed into a Trainer, it takes the examples as they come."""

    def _get_train_sampler(self, *args):
        return torch.utils.data.SequentialSampler(self.train_dataset)


class Record(TrainerCallback):
    """Seconds, loss and gradient norm of each step, and the peak memory of the process."""

    def __init__(self):
        self.seconds, self.losses, self.norms = [], [], []
        self._peak = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self):
        process = psutil.Process()
        while not self._ended.wait(SAMPLING_SECONDS):
            self._peak = max(self._peak, process.memory_info().rss)

    def on_step_begin(self, args, state, control, **kwargs):
        self._started = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        self.seconds.append(time.perf_counter() - self._started)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if logs and "loss" in logs:
            self.losses.append(float(logs["loss"]))
            self.norms.append(float(logs.get("grad_norm", 0.0)))

    def write(self, job):
        """Write the result where the benchmark looks for it."""
        self._ended.set()
        cuda = torch.cuda.is_available()
        result = {
            "seconds": self.seconds,
            "losses": self.losses,
            "gradient_norms": self.norms,
            "peak_bytes": torch.cuda.max_memory_allocated() if cuda else self._peak,
        }
        Path(job["result"]).write_text(json.dumps(result))
