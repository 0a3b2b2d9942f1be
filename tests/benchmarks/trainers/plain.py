"""``transformers.Trainer`` with PEFT as people use it: padded batches, all logits.

On a graphics card that computes in bf16, weights that do not learn are bf16, too; with QLoRA they have 4 bits,
prepared as PEFT's guide says.
"""

import torch
from job import InOrder, Record, arguments, lora, padded, read_job, squeezing
from peft import get_peft_model, prepare_model_for_kbit_training
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments

job = read_job()
record = Record(job)
tokenizer = AutoTokenizer.from_pretrained(job["model"])
in_bf16 = job["bf16"] and job["method"] != "full" and torch.cuda.is_available()
model = AutoModelForCausalLM.from_pretrained(
    job["model"], dtype=torch.bfloat16 if in_bf16 else torch.float32, **squeezing(job)
)
if job["method"] == "qlora":
    model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
if job["method"] != "full":
    model = get_peft_model(model, lora(job["rank"]))


class OrderedTrainer(InOrder, Trainer):
    pass


trainer = OrderedTrainer(
    model=model,
    args=TrainingArguments(
        **arguments(job),
        bf16=job["bf16"],
        gradient_checkpointing=job["checkpointing"],
        gradient_checkpointing_kwargs={"use_reentrant": False},
        disable_tqdm=True,
        remove_unused_columns=False,
    ),
    train_dataset=job["examples"],
    data_collator=lambda examples: padded(examples, tokenizer.pad_token_id or 0),
    callbacks=[record],
)
trainer.train()
model.save_pretrained(job["output"])
record.write()
