"""``transformers.Trainer`` as it comes: padded batches, all logits."""

import torch
from job import InOrder, Record, arguments, lora, padded, read_job
from peft import get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

job = read_job()
tokenizer = AutoTokenizer.from_pretrained(job["model"])
model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32)
if job["method"] == "lora":
    model = get_peft_model(model, lora(job))
record = Record()


class OrderedTrainer(InOrder, Trainer):
    pass


trainer = OrderedTrainer(
    model=model,
    args=TrainingArguments(
        **arguments(job),
        bf16=job["bf16"],
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
