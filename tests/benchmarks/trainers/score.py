"""The loss of what a trainer saved, by plain transformers, one row at a time."""

import json
from pathlib import Path

import torch
from job import padded, read_job
from peft import PeftModel
from transformers import AutoModelForCausalLM

job = read_job()
adapter = Path(job["adapter"])
if (adapter / "adapter_config.json").exists():
    base = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32)
    model = PeftModel.from_pretrained(base, adapter)
else:
    model = AutoModelForCausalLM.from_pretrained(adapter, dtype=torch.float32)
model.eval()
loss, tokens = 0.0, 0
with torch.no_grad():
    for example in job["examples"]:
        count = sum(label != -100 for label in example["labels"][1:])
        loss += model(**padded([example], 0)).loss.item() * count
        tokens += count
Path(job["result"]).write_text(json.dumps({"loss": loss / tokens}))
