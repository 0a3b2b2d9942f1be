"""LLaMA-Factory as its web page configures a run: batch 2, eight batches to a step, checkpointing, bf16 (unless
all compute in fp32). With QLoRA (not run yet), 4 bits as the page's choice of quantization sets them.
"""

from datasets import Dataset
from job import Record, arguments, read_job
from llamafactory.model import loader
from llamafactory.train.sft import workflow
from llamafactory.train.tuner import run_exp

job = read_job()
record = Record(job)
examples = Dataset.from_list(
    [example | {"attention_mask": [1] * len(example["input_ids"])} for example in job["examples"]]
)
workflow.get_dataset = lambda *args, **kwargs: {
    "train_dataset": examples
}  # the same ids and labels
if not job["bf16"]:
    # Otherwise frozen weights stay bf16, as they are stored, and so does what is computed with them.
    add_adapter = loader.init_adapter
    loader.init_adapter = lambda config, model, *rest: add_adapter(config, model.float(), *rest)
run_exp(
    {
        "stage": "sft",
        "do_train": True,
        "model_name_or_path": job["model"],
        "dataset": "alpaca_en_demo",
        "template": "default",
        "finetuning_type": "full" if job["method"] == "full" else "lora",
        **({"quantization_bit": 4} if job["method"] == "qlora" else {}),
        "lora_rank": job["rank"],
        "lora_alpha": 2 * job["rank"],
        "lora_target": "all",
        "cutoff_len": 2048,
        **arguments(job),
        "disable_shuffling": True,
        "bf16": job["bf16"],
    },
    callbacks=[record],
)
record.write()
