"""The loss of what a trainer saved, by plain transformers, one row at a time.

In fp32 on a processor, in bf16 on a graphics card; a base of 4 bits where the adapter learned on one.
"""

import json
from pathlib import Path

import torch
from job import padded, read_job, squeezing
from peft import PeftModel
from transformers import AutoModelForCausalLM

job = read_job()
adapter = Path(job["adapter"])
device = "cuda" if torch.cuda.is_available() else "cpu"
loading = {"dtype": torch.bfloat16 if device == "cuda" else torch.float32, "device_map": device}
if (adapter / "adapter_config.json").exists():
    base = AutoModelForCausalLM.from_pretrained(job["model"], **loading, **squeezing(job))
    model = PeftModel.from_pretrained(base, adapter)
else:
    model = AutoModelForCausalLM.from_pretrained(adapter, **loading)
model.eval()
loss, tokens = 0.0, 0
with torch.no_grad():
    for example in job["examples"]:
        count = sum(label != -100 for label in example["labels"][1:])
        inputs = {name: tensor.to(device) for name, tensor in padded([example], 0).items()}
        loss += model(**inputs).loss.item() * count
        tokens += count
Path(job["result"]).write_text(json.dumps({"loss": loss / tokens}))
