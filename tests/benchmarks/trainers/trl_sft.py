"""TRL's ``SFTTrainer`` with its defaults."""

import torch
from datasets import Dataset
from job import Record, lora, read_job
from transformers import AutoTokenizer
from trl import SFTConfig, SFTTrainer

job = read_job()
record = Record()


class InOrder(SFTTrainer):
    def _get_train_sampler(self, *args):
        return torch.utils.data.SequentialSampler(self.train_dataset)


trainer = InOrder(
    model=job["model"],
    args=SFTConfig(
        output_dir=job["output"],
        max_steps=job["steps"],
        per_device_train_batch_size=job["batch"],
        gradient_accumulation_steps=job["examples_per_step"] // job["batch"],
        learning_rate=job["rate"],
        lr_scheduler_type="constant",
        use_cpu=not torch.cuda.is_available(),
        logging_steps=1,
        report_to="none",
        save_strategy="no",
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
