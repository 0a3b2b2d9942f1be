"""The workbench's own trainer, put together as a run puts it together, with what the plan chose."""

from job import InOrder, Record, arguments, read_job
from transformers import TrainingArguments

from workbench.compute import choose_compute
from workbench.config import TrainingConfig
from workbench.models.rendering import TokenizedExample, load_tokenizer
from workbench.training.batches import micro_batches
from workbench.training.fused_lora import fuse_lora
from workbench.training.liger import use_liger_kernels
from workbench.training.loading import load_model
from workbench.training.loss import AnswerLoss
from workbench.training.methods import build_optimizer, make_trainable, optimizer_arguments
from workbench.training.recomputing import recompute_layers
from workbench.training.trainer import ExampleList, WorkbenchTrainer

job = read_job()
record = Record(job)
config = TrainingConfig(**job["config"])
compute = choose_compute(config.precision)
tokenizer = load_tokenizer(job["model"])
model, is_padded = load_model(job["model"], config, compute, print)
if compute.device == "cuda":
    use_liger_kernels(model)
examples = [TokenizedExample(e["input_ids"], e["labels"]) for e in job["examples"]]
shortest = min(examples, key=lambda example: len(example.input_ids))
(batch,) = micro_batches(
    [shortest], config.token_budget, padded=is_padded, pad_id=tokenizer.pad_token_id or 0
)
base = AnswerLoss.of(model, compute, batch)
model = make_trainable(model, config, job["steps"])
fuse_lora(model)
if config.recomputed_share:
    recompute_layers(model, config.recomputed_share)


class OrderedTrainer(InOrder, WorkbenchTrainer):
    pass


trainer = OrderedTrainer(
    loss=base.of_tuned(model),
    token_budget=config.token_budget,
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
    processing_class=tokenizer,
    callbacks=[record],
)
trainer.train()
model.save_pretrained(job["output"])
record.write()
