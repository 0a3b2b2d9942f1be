"""Keeping general skills, on the tiny model for real."""

from __future__ import annotations

import json
import os
import shutil

import pytest
import torch

from workbench.compute import Compute
from workbench.config import build_config
from workbench.models.rendering import IGNORED, TokenizedExample, load_tokenizer
from workbench.training.base_answers import (
    LIKELIEST,
    answers_path,
    base_answers,
    kept_answers,
    likeliest,
)
from workbench.training.batches import micro_batches
from workbench.training.data import prepare_data
from workbench.training.general import GeneralSkills
from workbench.training.loading import load_model
from workbench.training.loss import AnswerLoss

CPU = Compute("cpu", "fp32")


def example(length, seed, prompt=2):
    ids = torch.randint(2, 258, (length,), generator=torch.Generator().manual_seed(seed)).tolist()
    return TokenizedExample(ids, [IGNORED] * prompt + ids[prompt:])


GENERAL = [example(20 + 3 * n, seed=n) for n in range(5)]


@pytest.fixture
def model(tiny_model_dir):
    return load_model(tiny_model_dir, build_config({"method": "full"}), CPU)[0].eval()


def cut(examples, budget=64):
    return micro_batches(examples, budget, padded=False, pad_id=1)


def skills_of(model, budget=64):
    return GeneralSkills(GENERAL, answers_of(model, budget), seed=1)


def answers_of(model, budget=64):
    return base_answers(GENERAL, lambda rows: cut(rows, budget), AnswerLoss(model, CPU).logits)


def divergence(skills, model, examples, budget=64):
    parts = [
        skills.summed_divergence(AnswerLoss(model, CPU).logits(batch), batch)
        for batch in cut(examples, budget)
    ]
    return sum(parts)


def learn(model, skills=None):
    """Teach one example by heart."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(40):
        (batch,) = cut([example(30, seed=100)])
        (AnswerLoss(model, CPU).cost(batch).loss / len(batch.targets)).backward()
        if skills:
            rows = skills.examples_of_step(step, 2)
            (divergence(skills, model, rows) / sum(e.supervised_tokens for e in rows)).backward()
        optimizer.step()
        optimizer.zero_grad()
    return AnswerLoss(model, CPU).cost(batch).loss.item() / len(batch.targets)


def test_a_model_that_has_not_changed_has_not_diverged(model):
    assert divergence(skills_of(model), model, GENERAL).item() == pytest.approx(0, abs=1e-4)


def test_it_is_the_divergence_of_the_whole_distribution_where_all_tokens_are_listed():
    before, now = torch.randn(3, LIKELIEST), torch.randn(3, LIKELIEST)
    batch = next(iter(cut([example(4, seed=0, prompt=1)])))
    answers = base_answers(batch.examples, lambda rows: [batch], lambda b: before)
    skills = GeneralSkills(list(batch.examples), answers, seed=1)
    expected = torch.nn.functional.kl_div(
        now.log_softmax(-1), before.log_softmax(-1), log_target=True, reduction="sum"
    )
    assert skills.summed_divergence(now, batch).item() == pytest.approx(expected.item(), rel=1e-3)


def test_only_the_likeliest_are_kept_and_the_others_count_as_one():
    logits = torch.zeros(1, 4 * LIKELIEST)
    log_probabilities, token_ids = likeliest(logits)
    assert log_probabilities.shape == token_ids.shape == (1, LIKELIEST)
    assert log_probabilities.exp().sum().item() == pytest.approx(0.25)


def test_how_a_step_is_cut_does_not_matter(model):
    skills = skills_of(model)
    learn(model)
    whole, parts = (divergence(skills, model, GENERAL, budget).item() for budget in (1000, 30))
    assert whole == pytest.approx(parts, rel=1e-4)
    assert whole > 1


def test_every_example_has_its_turn_before_one_returns(model):
    skills = skills_of(model)
    first_turn = [e for step in range(5) for e in skills.examples_of_step(step, 1)]
    assert sorted(map(id, first_turn)) == sorted(map(id, GENERAL))
    assert skills.examples_of_step(3, 2) == skills.examples_of_step(3, 2)


def test_the_model_learns_and_keeps_what_it_was(tiny_model_dir, model):
    skills = skills_of(model)
    other = load_model(tiny_model_dir, build_config({"method": "full"}), CPU)[0]
    free, held = learn(other), learn(model, skills)
    assert free < 1
    assert held < 1
    kept, lost = (divergence(skills, trained, GENERAL).item() for trained in (model, other))
    assert kept < lost / 5


def test_a_run_is_held_by_the_questions_that_were_picked(services, tiny_model_dir, tmp_path):
    path = tmp_path / "mine.json"
    rows = [{"instruction": f"Is {n} a number?", "output": "It is."} for n in range(12)]
    path.write_text(json.dumps(rows))
    mine = services.datasets.add(path, path.name)
    values = {"model": str(tiny_model_dir), "general_data": mine.id, "max_length": 256}
    data = services.choose_data({"sample-identity": 1.0})
    plan = services.plan(build_config(values), data)
    run = services.create_run(plan, data, "mine")
    tokenizer = load_tokenizer(tiny_model_dir)
    found = prepare_data(run, tokenizer, tiny_model_dir, lambda event: None).general
    texts = [tokenizer.decode(example.input_ids) for example in found]
    assert len(texts) == 12
    assert all("a number?" in text for text in texts)


def test_the_base_model_is_asked_once(model, tmp_path):
    asked = []

    def ask():
        asked.append(1)
        return answers_of(model)

    first, again = (kept_answers(tmp_path / "base.npz", GENERAL, ask) for _ in range(2))
    assert len(asked) == 1
    for one, other in zip(first, again, strict=True):
        torch.testing.assert_close(one.log_probabilities, other.log_probabilities, rtol=0, atol=0)
        assert one.token_ids.equal(other.token_ids)
    (tmp_path / "base.npz").write_bytes(b"torn")
    kept_answers(tmp_path / "base.npz", GENERAL, ask)
    assert len(asked) == 2


def test_another_model_precision_or_example_is_asked_anew(tiny_model_dir, tmp_path):
    model_dir = shutil.copytree(tiny_model_dir, tmp_path / "model")
    seen = {
        answers_path(tmp_path / "data.jsonl", model_dir, loaded_as, examples)
        for loaded_as in ("fp32 plain", "bf16 plain")
        for examples in (GENERAL, GENERAL[:2])
    }
    (weights,) = model_dir.glob("*.safetensors")
    os.utime(weights, (1, 1))
    seen.add(answers_path(tmp_path / "data.jsonl", model_dir, "fp32 plain", GENERAL))
    assert len(seen) == 5
