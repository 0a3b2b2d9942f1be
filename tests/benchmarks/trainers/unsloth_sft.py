"""Unsloth as its notebooks use it: its model, its checkpointing, TRL's ``SFTTrainer``.

Needs a graphics card, and a Python that has Unsloth installed. It has not been run yet, because no card was there: see
from the first loss and gradient norm, which must be those of the others, whether the labels are taken as they are.
(The file is not called ``unsloth.py``, or it would be imported in place of the package.)
"""

from unsloth import FastLanguageModel  # it changes what is imported after it

# isort: split
from datasets import Dataset
from job import InOrder, Record, arguments, read_job
from trl import SFTConfig, SFTTrainer

LINEAR_LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

job = read_job()
record = Record(job)
longest_tokens = max(len(example["input_ids"]) for example in job["examples"])
model, tokenizer = FastLanguageModel.from_pretrained(
    job["model"],
    max_seq_length=longest_tokens,
    load_in_4bit=job["method"] == "qlora",
    full_finetuning=job["method"] == "full",
)
if job["method"] != "full":
    model = FastLanguageModel.get_peft_model(
        model,
        r=job["rank"],
        lora_alpha=2 * job["rank"],
        lora_dropout=0,
        bias="none",
        target_modules=LINEAR_LAYERS,
        use_gradient_checkpointing="unsloth",
        random_state=job["seed"],
    )


class OrderedTrainer(InOrder, SFTTrainer):
    pass


trainer = OrderedTrainer(
    model=model,
    args=SFTConfig(**arguments(job), bf16=job["bf16"], max_length=longest_tokens, packing=False),
    train_dataset=Dataset.from_list(job["examples"]),
    processing_class=tokenizer,
    callbacks=[record],
)
trainer.train()
trainer.save_model(job["output"])
record.write()
