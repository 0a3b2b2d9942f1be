"""TRL's ``SFTTrainer`` with its defaults: bf16 (unless all compute in fp32), checkpointing.

With QLoRA (not run yet), the base is loaded with 4 bits as TRL's guide says.
"""

from datasets import Dataset
from job import InOrder, Record, arguments, lora, read_job, squeezing
from transformers import AutoTokenizer
from trl import SFTConfig, SFTTrainer

job = read_job()
record = Record(job)


class OrderedTrainer(InOrder, SFTTrainer):
    pass


trainer = OrderedTrainer(
    model=job["model"],
    args=SFTConfig(
        **arguments(job),
        bf16=job["bf16"],
        model_init_kwargs=squeezing(job) or None,
        disable_tqdm=True,
        dataset_kwargs={"skip_prepare_dataset": True},
    ),
    train_dataset=Dataset.from_list(job["examples"]),
    processing_class=AutoTokenizer.from_pretrained(job["model"]),
    peft_config=None if job["method"] == "full" else lora(job["rank"]),
    callbacks=[record],
)
trainer.train()
trainer.save_model(job["output"])
record.write()
