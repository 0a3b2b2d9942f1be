"""The workbench's own trainer."""

from job import InOrder, Record, arguments, read_job
from transformers import TrainingArguments

from workbench.compute import choose_compute
from workbench.config import build_config
from workbench.models.rendering import TokenizedExample, load_tokenizer
from workbench.training.batches import micro_batches
from workbench.training.fused_lora import fuse_lora
from workbench.training.loading import load_model
from workbench.training.loss import AnswerLoss
from workbench.training.methods import build_optimizer, make_trainable, optimizer_arguments
from workbench.training.trainer import ExampleList, WorkbenchTrainer

TOKENS_AT_ONCE = 2048  # as the plan chooses

job = read_job()
record = Record()
config = build_config(
    {
        "method": job["method"],
        "lora_rank": job["rank"],
        "lora_alpha": 2 * job["rank"],
        "learning_rate": job["rate"],
        "batch_size": job["examples_per_step"],
        "micro_batch_tokens": TOKENS_AT_ONCE,
        "precision": "auto" if job["bf16"] else "fp32",
    }
)
compute = choose_compute(config.precision)
model, is_padded = load_model(job["model"], config, compute)
model = make_trainable(model, config, job["steps"])
fuse_lora(model)
examples = [TokenizedExample(e["input_ids"], e["labels"]) for e in job["examples"]]
shortest = min(examples, key=lambda example: len(example.input_ids))
(batch,) = micro_batches([shortest], TOKENS_AT_ONCE, padded=is_padded, pad_id=0)


class OrderedTrainer(InOrder, WorkbenchTrainer):
    pass


trainer = OrderedTrainer(
    loss=AnswerLoss.of(model, compute, batch),
    token_budget=TOKENS_AT_ONCE,
    padded=is_padded,
    on_step=lambda figures: None,
    on_warning=print,
    validation={},
    args=TrainingArguments(
        **arguments(job),
        disable_tqdm=True,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        **optimizer_arguments(config),
    ),
    train_dataset=ExampleList(examples),
    optimizers=(build_optimizer(model, config), None),
    processing_class=load_tokenizer(job["model"]),
    callbacks=[record],
)
trainer.train()
model.save_pretrained(job["output"])
record.write(job)
