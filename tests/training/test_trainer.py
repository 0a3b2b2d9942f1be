"""The step is the same training as plain transformers: same loss, same gradients."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import AutoModelForCausalLM, TrainingArguments

from tests.tiny_model import build_tiny_model
from tests.training.trainable import make_ready
from workbench.compute import Compute
from workbench.config import build_config
from workbench.models.rendering import (
    IGNORED,
    TokenizedExample,
    load_tokenizer,
    tokenize_example,
)
from workbench.training.batches import micro_batches
from workbench.training.head import Cost
from workbench.training.loading import load_model
from workbench.training.loss import AnswerLoss
from workbench.training.trainer import ExampleList, WorkbenchTrainer

CPU = Compute("cpu", "fp32")
ANSWERS = ["Yes.", "It is a rather long answer, with a clause.", "No", "Perhaps, we shall see."]
MORE_ANSWERS = ["Never, and that is that.", "A", "Why not?", "It depends on what you mean by it."]
BUDGETS = [16, 60, 120, 100_000]
PROBE = [TokenizedExample([5, 6, 7], [IGNORED, 6, 7])]


@pytest.fixture(scope="module")
def examples(tiny_model_dir):
    return tokenize(tiny_model_dir, ANSWERS)


@pytest.fixture(scope="module")
def eight_examples(tiny_model_dir):
    return tokenize(tiny_model_dir, ANSWERS + MORE_ANSWERS)


def tokenize(model_dir, answers):
    tokenizer = load_tokenizer(model_dir)
    return [
        tokenize_example(
            tokenizer,
            [
                {"role": "user", "content": f"Question {number}?" * (number + 1)},
                {"role": "assistant", "content": answer},
            ],
        )
        for number, answer in enumerate(answers)
    ]


def build_trainer(model_dir, tmp_path, method, budget, *, padded=False, validation=None, told=None):
    told = [] if told is None else told
    config = build_config({"method": method, "model": str(model_dir), "lora_rank": 4})
    torch.manual_seed(0)
    base, _ = load_model(model_dir, config, CPU)
    if padded:
        base.set_attn_implementation("sdpa")
    model = make_ready(base, config)
    return WorkbenchTrainer(
        loss=AnswerLoss.of(model, CPU, next(micro_batches(PROBE, 99, padded=padded, pad_id=0))),
        token_budget=budget,
        padded=padded,
        on_step=told.append,
        on_warning=told.append,
        args=TrainingArguments(output_dir=str(tmp_path), report_to="none", use_cpu=True),
        train_dataset=ExampleList([]),
        validation=validation or {},
        processing_class=load_tokenizer(model_dir),
    )


def gradients(model):
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def reference_step(model, examples, rows):
    """Loss and gradients of plain transformers: padded batches of so many rows, accumulated."""
    model.zero_grad()
    counted = sum(example.supervised_tokens for example in examples)
    total = 0.0
    for first in range(0, len(examples), rows):
        batch = padded_batch(examples[first : first + rows])
        loss = model(**batch, num_items_in_batch=counted).loss
        loss.backward()
        total += loss.item()
    return total, gradients(model)


def padded_batch(examples):
    width = max(len(e.input_ids) for e in examples)
    ids = torch.zeros(len(examples), width, dtype=torch.int64)
    labels = torch.full_like(ids, IGNORED)
    mask = torch.zeros_like(ids)
    for row, example in enumerate(examples):
        length = len(example.input_ids)
        ids[row, :length] = torch.tensor(example.input_ids)
        labels[row, :length] = torch.tensor(example.labels)
        mask[row, :length] = 1
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


@pytest.mark.parametrize("method", ["lora", "full", "qlora"])
@pytest.mark.parametrize("budget", BUDGETS)
def test_loss_and_gradients_equal_plain_transformers(
    tiny_model_dir, tmp_path, eight_examples, method, budget
):
    trainer = build_trainer(tiny_model_dir, tmp_path, method, budget)
    loss = trainer.training_step(trainer.model, {"examples": eight_examples}).item()
    ours = gradients(trainer.model)
    trainer.model.get_base_model().set_attn_implementation("sdpa") if method != "full" else (
        trainer.model.set_attn_implementation("sdpa")
    )
    for rows in (8, 4, 1):  # one batch of 8, 2 of 4, 8 of 1
        expected_loss, expected = reference_step(trainer.model, eight_examples, rows)
        assert loss == pytest.approx(expected_loss, rel=1e-5), rows
        assert ours.keys() == expected.keys()
        for name in expected:
            difference = (ours[name] - expected[name]).norm() / expected[name].norm().clamp_min(
                1e-12
            )
            assert difference < 1e-4, (name, rows)


@pytest.mark.parametrize("budget", BUDGETS)
def test_the_padded_path_gives_the_same_loss(tiny_model_dir, tmp_path, examples, budget):
    packed = build_trainer(tiny_model_dir, tmp_path, "full", 100_000)
    padded = build_trainer(tiny_model_dir, tmp_path, "full", budget, padded=True)
    expected = packed.training_step(packed.model, {"examples": examples}).item()
    loss = padded.training_step(padded.model, {"examples": examples}).item()
    assert loss == pytest.approx(expected, rel=1e-5)


def test_packed_examples_never_see_each_other(tiny_model_dir, examples):
    config = build_config({"model": str(tiny_model_dir), "method": "full"})
    model, padded = load_model(tiny_model_dir, config, CPU)
    assert not padded
    model.eval()
    alone = AutoModelForCausalLM.from_pretrained(tiny_model_dir, dtype=torch.float32).eval()
    (batch,) = micro_batches(examples, 100_000, padded=False, pad_id=0)
    with torch.no_grad():
        shared = batch.inputs["shared_start"]
        assert shared > 0
        start, *rests = model(**batch.inputs).logits[0].split(batch.inputs["sequence_lengths"])
        by_length = sorted(examples, key=lambda e: len(e.input_ids))
        for rest, example in zip(rests, by_length, strict=True):
            solo = alone(torch.tensor([example.input_ids])).logits[0]
            torch.testing.assert_close(torch.cat([start, rest]), solo, rtol=1e-4, atol=1e-5)


def test_nothing_changes_where_examples_begin_differently(tiny_model_dir, tmp_path, examples):
    from_the_question = [
        TokenizedExample(e.input_ids[at:], e.labels[at:]) for at, e in enumerate(examples, 3)
    ]
    (batch,) = micro_batches(from_the_question, 100_000, padded=False, pad_id=0)
    assert batch.inputs["shared_start"] == 0
    trainer = build_trainer(tiny_model_dir, tmp_path, "full", 100_000)
    loss = trainer.training_step(trainer.model, {"examples": from_the_question}).item()
    trainer.model.set_attn_implementation("sdpa")
    assert loss == pytest.approx(reference_step(trainer.model, from_the_question, 4)[0], rel=1e-5)


def test_evaluation_is_the_mean_over_all_supervised_tokens(tiny_model_dir, tmp_path, examples):
    sets = {"one": examples[:1], "three": examples[1:], "none": []}
    trainer = build_trainer(tiny_model_dir, tmp_path, "full", 60, validation=sets)
    metrics = trainer.evaluate()
    trainer.model.set_attn_implementation("sdpa")
    expected = reference_step(trainer.model, examples, 4)[0]
    assert metrics["eval_loss"] == pytest.approx(expected, rel=1e-5)
    assert metrics["eval_by_dataset"].keys() == {"one", "three"}
    for name, loss in metrics["eval_by_dataset"].items():
        assert loss == pytest.approx(reference_step(trainer.model, sets[name], 4)[0], rel=1e-5)


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_every_adapter_still_gets_a_gradient_after_an_evaluation(
    tiny_model_dir, tmp_path, examples, method, monkeypatch
):
    # The bug needs a CPU with AVX512-BF16; make every CPU behave like one, so that repacking the
    # weights in eval mode would show: the repacked kernel has no backward.
    from bitsandbytes.nn import modules

    monkeypatch.setattr(modules, "has_avx512bf16", lambda: True)
    repacked = []
    monkeypatch.setattr(
        modules,
        "_convert_weight_packed_for_cpu",
        lambda data, state, *rest: repacked.append(1) or (data, state),
    )
    trainer = build_trainer(tiny_model_dir, tmp_path, method, 60, validation={"mine": examples})
    trainer.evaluate()
    trainer.training_step(trainer.model, {"examples": examples})
    trained = [(n, p) for n, p in trainer.model.named_parameters() if p.requires_grad]
    assert len(trained) == 2 * 7 * 2  # A and B of 7 linear layers in 2 blocks
    assert not repacked
    for name, parameter in trained:
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_a_loss_that_is_not_a_number_ends_the_run(tiny_model_dir, tmp_path, examples):
    from workbench.errors import WorkbenchError

    told = []
    trainer = build_trainer(tiny_model_dir, tmp_path, "full", 60, told=told)
    trainer.train_dataset = ExampleList(examples)
    with torch.no_grad():
        trainer.model.lm_head.weight[:] = float("nan")
    with pytest.raises(WorkbenchError, match=r"at step 1: training has diverged"):
        trainer.train()
    (figures,) = told
    assert math.isnan(figures.token_accuracy)


def test_what_is_not_a_number_is_left_out_and_told(tiny_model_dir, tmp_path, examples):
    told = []
    trainer = build_trainer(tiny_model_dir, tmp_path, "full", 16, told=told)
    good, cost = trainer._loss.cost, iter([float("nan"), 1.0, 1.0, 1.0])

    class Loss:
        def cost(self, batch, smoothing):
            found = good(batch, smoothing)
            return Cost(found.loss * next(cost), found.correct)

    trainer._loss = Loss()
    shortest, *others = sorted(examples, key=lambda e: len(e.input_ids))
    loss = trainer.training_step(trainer.model, {"examples": examples}).item()
    assert all(p.grad.isfinite().all() for p in trainer.model.parameters())
    assert loss == pytest.approx(trainer_loss(tiny_model_dir, tmp_path, others), rel=1e-5)
    _, warning = told
    assert f"left out {shortest.supervised_tokens} of " in warning


def trainer_loss(model_dir, tmp_path, examples):
    trainer = build_trainer(model_dir, tmp_path, "full", 100_000)
    return trainer.training_step(trainer.model, {"examples": examples}).item()


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("CUDA out of memory. Tried to")])
def test_short_memory_halves_the_budget_and_the_step_stays_the_same(
    tiny_model_dir, tmp_path, examples, error
):
    expected = build_trainer(tiny_model_dir, tmp_path, "lora", 100_000)
    loss = expected.training_step(expected.model, {"examples": examples}).item()
    told = []
    trainer = build_trainer(tiny_model_dir, tmp_path, "lora", 400, told=told)
    cost = trainer._loss.cost
    sizes = []

    class Loss:
        def cost(self, batch, smoothing):
            sizes.append(batch.tokens)
            if batch.tokens > 100:
                raise error
            return cost(batch, smoothing)

    trainer._loss = Loss()
    assert trainer.training_step(trainer.model, {"examples": examples}).item() == pytest.approx(
        loss
    )
    theirs = gradients(expected.model)
    for name, gradient in gradients(trainer.model).items():
        torch.testing.assert_close(gradient, theirs[name], rtol=1e-4, atol=1e-7)
    *warnings, figures = told
    assert warnings
    assert "Memory was short at step 1" in warnings[0]
    assert "200 tokens at a time" in warnings[0]
    assert max(sizes) > 100
    assert 0 <= figures.token_accuracy <= 1
    computed = micro_batches(examples, 100, padded=False, pad_id=0)
    assert figures.tokens == sum(batch.tokens for batch in computed)


def test_what_a_step_had_before_memory_was_short_counts_once(tiny_model_dir, tmp_path, examples):
    expected = build_trainer(tiny_model_dir, tmp_path, "lora", 100_000)
    expected.training_step(expected.model, {"examples": examples})
    trainer = build_trainer(tiny_model_dir, tmp_path, "lora", 130)
    cost, calls = trainer._loss.cost, iter([False, True])

    class Loss:
        def cost(self, batch, smoothing):
            if next(calls, False):  # the second micro-batch: the first has left a gradient
                raise MemoryError
            return cost(batch, smoothing)

    trainer._loss = Loss()
    trainer.training_step(trainer.model, {"examples": examples})
    theirs = gradients(expected.model)
    for name, gradient in gradients(trainer.model).items():
        torch.testing.assert_close(gradient, theirs[name], rtol=1e-4, atol=1e-7)


def test_short_memory_in_a_check_halves_the_budget_and_the_loss_stays_the_same(
    tiny_model_dir, tmp_path, examples
):
    told = []
    trainer = build_trainer(
        tiny_model_dir, tmp_path, "full", 400, validation={"mine": examples}, told=told
    )
    expected = trainer.evaluate()["eval_loss"]
    total = trainer._loss.total

    class Loss:
        def total(self, batches):
            batches = list(batches)
            if max(batch.tokens for batch in batches) > 200:
                raise MemoryError
            return total(batches)

    trainer._loss = Loss()
    assert trainer.evaluate()["eval_loss"] == pytest.approx(expected, rel=1e-5)
    assert trainer.mean_loss(examples) == pytest.approx(expected, rel=1e-5)
    (warning,) = told
    assert "200 tokens at a time" in warning


def test_general_examples_whose_cost_is_not_a_number_are_left_out_and_told(
    tiny_model_dir, tmp_path, examples
):
    told = []
    trainer = build_trainer(tiny_model_dir, tmp_path, "full", 100_000, told=told)
    trainer.training_step(trainer.model, {"examples": examples})
    expected = gradients(trainer.model)
    trainer.model.zero_grad()

    class Skills:
        def examples_of_step(self, step, count):
            return examples[:count]

        def summed_divergence(self, logits, batch):
            return logits.sum() * float("nan")

    trainer._general = (Skills(), 2)
    trainer.training_step(trainer.model, {"examples": examples})
    for name, gradient in gradients(trainer.model).items():
        torch.testing.assert_close(gradient, expected[name])
    assert "left out 2 general examples" in told[1]


def test_steps_and_the_order_of_examples_do_not_depend_on_the_budget(
    tiny_model_dir, tmp_path, eight_examples
):
    def steps(budget):
        trainer = build_trainer(tiny_model_dir, tmp_path, "lora", budget)
        trainer.train_dataset = ExampleList(eight_examples)
        trainer._train_batch_size = 3
        trainer.args.num_train_epochs = 2
        usual, seen = trainer.training_step, []

        def step(model, inputs, count=None):
            seen.append([tuple(example.input_ids) for example in inputs["examples"]])
            return usual(model, inputs, count)

        trainer.training_step = step
        trainer.train()
        return seen

    few, many = steps(60), steps(100_000)
    assert [len(step) for step in few] == [3, 3, 2] * 2
    assert few[:3] != few[3:]
    assert few == many


def test_memory_that_is_short_for_another_reason_ends_the_run(tiny_model_dir, tmp_path, examples):
    trainer = build_trainer(tiny_model_dir, tmp_path, "lora", 100)

    class Loss:
        def cost(self, batch, smoothing):
            raise MemoryError

    trainer._loss = Loss()
    with pytest.raises(MemoryError):
        trainer.training_step(trainer.model, {"examples": examples})


def test_a_sliding_window_model_takes_the_padded_path(tmp_path):
    from transformers import MistralConfig, MistralForCausalLM

    directory = build_tiny_model(tmp_path / "base")
    config = MistralConfig(
        vocab_size=258,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        sliding_window=8,
    )
    MistralForCausalLM(config).save_pretrained(directory)
    _, padded = load_model(directory, build_config({"method": "full"}), CPU)
    assert padded
    rows = tokenize(directory, ANSWERS)
    assert min(len(row.input_ids) for row in rows) > config.sliding_window
    for budget in (16, 200, 100_000):
        trainer = build_trainer(directory, tmp_path, "full", budget, padded=True)
        loss = trainer.training_step(trainer.model, {"examples": rows}).item()
        ours = gradients(trainer.model)
        expected_loss, expected = reference_step(trainer.model, rows, 2)
        assert loss == pytest.approx(expected_loss, rel=1e-5)
        for name, gradient in expected.items():
            assert (ours[name] - gradient).norm() <= 1e-4 * gradient.norm() + 1e-12, name
