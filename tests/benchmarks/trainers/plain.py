"""``transformers.Trainer`` as it comes: padded batches, all logits."""

import torch
from job import Record, lora, padded, read_job
from peft import get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

job = read_job()
tokenizer = AutoTokenizer.from_pretrained(job["model"])
model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32)
if job["method"] == "lora":
    model = get_peft_model(model, lora(job))
record = Record()


class InOrder(Trainer):
    def _get_train_sampler(self, *args):
        return torch.utils.data.SequentialSampler(self.train_dataset)


trainer = InOrder(
    model=model,
    args=TrainingArguments(
        output_dir=job["output"],
        max_steps=job["steps"],
        per_device_train_batch_size=job["batch"],
        gradient_accumulation_steps=job["examples_per_step"] // job["batch"],
        learning_rate=job["rate"],
        lr_scheduler_type="constant",
        bf16=job["bf16"],
        use_cpu=not torch.cuda.is_available(),
        logging_steps=1,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        remove_unused_columns=False,
    ),
    train_dataset=job["examples"],
    data_collator=lambda examples: padded(examples, tokenizer.pad_token_id or 0),
    callbacks=[record],
)
trainer.train()
model.save_pretrained(job["output"])
record.write(job)
