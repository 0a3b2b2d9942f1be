"""TRL's ``SFTTrainer`` with its defaults: bf16 (unless all compute in fp32), checkpointing."""

from datasets import Dataset
from job import InOrder, Record, arguments, lora, read_job
from transformers import AutoTokenizer
from trl import SFTConfig, SFTTrainer

job = read_job()
record = Record()


class OrderedTrainer(InOrder, SFTTrainer):
    pass


trainer = OrderedTrainer(
    model=job["model"],
    args=SFTConfig(
        **arguments(job),
        bf16=job["bf16"],
        disable_tqdm=True,
        dataset_kwargs={"skip_prepare_dataset": True},
    ),
    train_dataset=Dataset.from_list(job["examples"]),
    processing_class=AutoTokenizer.from_pretrained(job["model"]),
    peft_config=lora(job) if job["method"] == "lora" else None,
    callbacks=[record],
)
trainer.train()
trainer.save_model(job["output"])
record.write(job)
