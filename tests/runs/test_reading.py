"""The loss in words, on curves as runs make them: noisy, with fixed seeds."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.runs.events import EvaluationEvent, StepEvent
from workbench.runs.reading import read_loss

SEEDS = range(20)


def steps(losses):
    return [
        StepEvent(
            step=number, epoch=0.0, loss=loss if loss is None else float(loss), learning_rate=1e-4,
            grad_norm=1.0, tokens=100, seconds=1.0, memory_bytes=10**9,
        )
        for number, loss in enumerate(losses, 1)
    ]  # fmt: skip


def checks(losses, every):
    """Validation losses before the first step and after every so many."""
    return [
        EvaluationEvent(step=number * every, loss=loss, seconds=1.0)
        for number, loss in enumerate(losses)
    ]


def noisy(curve, seed, noise=0.15):
    """A loss jumps by a share of itself: a batch has easy rows or hard ones."""
    return curve * np.exp(np.random.default_rng(seed).normal(0, noise, len(curve)))


def falling(count, first=2.5, last=1.0, half_life=40.0):
    return last + (first - last) * 0.5 ** (np.arange(count) / half_life)


def kind(losses, evaluations=(), total_steps=None):
    return read_loss(steps(losses), evaluations, total_steps or len(losses)).kind


def test_before_the_first_step_there_is_nothing_to_say():
    assert read_loss([], [], 100) is None


@pytest.mark.parametrize("losses", [[2.0], [2.0] * 19, [2.0, None, 2.0]])
def test_few_steps_tell_nothing(losses):
    assert kind(losses, total_steps=1000) == "too few steps"


def test_few_steps_at_the_end_ask_for_more_and_before_it_for_patience():
    assert "epochs" in read_loss(steps([2.0] * 12), [], 12).suggestion
    assert "Wait" in read_loss(steps([2.0] * 12), [], 200).suggestion
    assert read_loss(steps([2.0]), [], 9).sentence.startswith("1 step is too few")


def test_a_flat_beginning_may_be_warm_up():
    flat = noisy(np.full(60, 2.5), seed=1)
    assert kind(flat, total_steps=1000) == "too few steps"
    assert kind(flat, total_steps=200) == "never learned"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_curve_that_falls_is_still_learning(seed):
    losses = noisy(falling(400, half_life=150), seed)
    running = read_loss(steps(losses[:300]), [], 400)
    assert running.kind == "still learning"
    assert "Change nothing" in running.suggestion
    ended = read_loss(steps(losses), [], 400)
    assert ended.kind == "still learning"
    assert "more epochs" in ended.suggestion


def test_a_run_that_ended_early_is_not_told_to_go_on():
    losses = noisy(falling(300), seed=1)
    for count in (60, 300):
        running = read_loss(steps(losses[:count]), [], 1000)
        ended = read_loss(steps(losses[:count]), [], 1000, is_over=True)
        assert running.suggestion != ended.suggestion
        assert not any(word in ended.suggestion for word in ("go on", "stop now", "Wait"))


@pytest.mark.parametrize("curve", [np.full(200, 2.5), np.linspace(2.5, 2.48, 400)])
def test_a_curve_that_never_fell_never_learned(curve):
    kinds = [kind(noisy(curve, seed)) for seed in SEEDS]
    assert kinds.count("never learned") >= len(SEEDS) - 1


@pytest.mark.parametrize(
    ("total_steps", "expected"), [(1000, "learned what it could"), (400, "finished well")]
)
def test_a_curve_that_fell_and_stays_learned_what_it_could(total_steps, expected):
    kinds = [kind(noisy(falling(400), seed), total_steps=total_steps) for seed in SEEDS]
    assert kinds.count(expected) >= len(SEEDS) - 1  # noise may look like a fall once in a while


def test_a_fall_that_may_be_noise_is_not_called_nothing():
    curves = [noisy(falling(30, half_life=5), seed, noise=0.3) for seed in SEEDS]
    readings = [read_loss(steps(losses), [], 30) for losses in curves]
    assert [reading.kind for reading in readings].count("never learned") <= 1
    assert any("seems to fall" in reading.sentence for reading in readings)


def test_finished_well_says_whether_it_could_be_by_heart():
    losses = noisy(falling(400), seed=1)
    alone = read_loss(steps(losses), [], 400)
    checked = read_loss(steps(losses), checks([2.5, 1.4, 1.15, 1.1, 1.11], every=100), 400)
    assert alone.kind == checked.kind == "finished well"
    assert "by heart" in alone.sentence
    assert "rows held back" in checked.sentence


@pytest.mark.parametrize("seed", SEEDS)
def test_a_validation_loss_that_rises_while_training_falls_is_overfitting(seed):
    losses = noisy(falling(300, last=0.1, half_life=60), seed)
    reading = read_loss(steps(losses), checks([2.6, 1.9, 1.6, 1.55, 1.7, 1.95, 2.2], every=50), 300)
    assert reading.kind == "overfitting"
    assert "Since step 150 " in reading.sentence
    assert "from 1.55 to 2.2" in reading.sentence
    assert "about 150 steps" in reading.suggestion


def test_overfitting_shows_with_a_check_each_epoch():
    losses = noisy(falling(300, last=0.1, half_life=60), seed=3)
    assert kind(losses, checks([2.6, 1.5, 1.9], every=100)) == "overfitting"
    assert kind(losses, checks([2.6, 1.5, 1.6], every=100)) != "overfitting"
    assert kind(losses, checks([2.6, 1.5, 1.6, 1.7], every=100)) == "overfitting"


def test_a_validation_loss_that_rises_from_the_start_names_no_number_of_steps():
    reading = read_loss(steps(noisy(falling(100), seed=4)), checks([2.0, 2.5, 2.9], every=50), 100)
    assert reading.kind == "overfitting"
    assert reading.sentence.startswith("From the start")
    assert "0 steps" not in reading.suggestion


@pytest.mark.parametrize("seed", SEEDS)
def test_a_validation_loss_that_jitters_is_not_overfitting(seed):
    jittery = noisy(falling(41, half_life=4, last=1.1), seed + 100, noise=0.04)
    assert kind(noisy(falling(400), seed=1), checks(jittery, every=10)) == "finished well"


def test_a_check_without_a_number_is_left_out():
    losses = noisy(falling(300, last=0.1, half_life=60), seed=3)
    assert kind(losses, checks([2.6, None, 1.5, 1.7, 1.8], every=75)) == "overfitting"
    assert kind(losses, checks([None, None], every=300)) != "overfitting"


@pytest.mark.parametrize("seed", SEEDS)
def test_both_losses_rising_is_divergence_not_overfitting(seed):
    curve = np.concatenate([falling(150), np.linspace(1.2, 6.0, 100)])
    validation = checks([2.5, 1.6, 1.3, 1.4, 3.0, 6.0], every=50)
    assert kind(noisy(curve, seed), validation) == "diverged"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_loss_that_rises_far_above_the_start_diverged(seed):
    losses = noisy(np.concatenate([np.full(30, 2.5), np.linspace(2.5, 9.0, 70)]), seed)
    reading = read_loss(steps(losses), [], 1000)
    assert reading.kind == "diverged"
    assert "learning rate a third" in reading.suggestion


@pytest.mark.parametrize("seed", SEEDS)
def test_a_late_divergence_shows_at_once(seed):
    losses = noisy(np.concatenate([falling(900), np.full(20, 4.0)]), seed)
    assert kind(losses[:900], total_steps=1000) == "learned what it could"
    assert kind(losses, total_steps=1000) == "diverged"


@pytest.mark.parametrize(
    ("height", "place"), [(50.0, 100), (50.0, 200), (50.0, 399), (None, 100), (None, 200)]
)
def test_a_spike_is_not_divergence(height, place):
    losses = list(noisy(falling(400), seed=5))
    losses[place] = height
    assert kind(losses) == "finished well"


def test_a_loss_that_is_no_number_any_more_diverged_and_says_since_when():
    losses = [*noisy(falling(100), seed=6), None, None]
    for count in (101, 102):
        reading = read_loss(steps(losses[:count]), [], 1000)
        assert reading.kind == "diverged"
        assert "Since step 101 " in reading.sentence
    assert kind(losses[:100], total_steps=1000) != "diverged"


def test_a_run_without_a_single_number_diverged():
    reading = read_loss(steps([None] * 5), [], 1000)
    assert reading.kind == "diverged"
    assert "Since step 1 " in reading.sentence


def test_a_run_that_recovered_from_no_numbers_is_read_by_the_rest():
    losses = [*noisy(falling(400), seed=7)]
    losses[200:210] = [None] * 10
    assert kind(losses) == "finished well"


@pytest.mark.parametrize("seed", SEEDS)
def test_stairs_of_epochs_are_no_divergence(seed):
    stairs = np.repeat([2.5, 1.6, 0.9, 0.5], 100) + np.tile(np.linspace(0, 0.15, 100), 4)
    for count in (110, 210, 310, 400):
        assert kind(noisy(stairs[:count], seed), total_steps=400) != "diverged"


def test_twenty_steps_say_something():
    assert kind([2.0] * 19) == "too few steps"
    assert kind([2.0] * 20) == "never learned"


@pytest.mark.parametrize("validation", [[2.6, 1.5, 2.0, 1.52], [2.6, 1.5, 1.52, 2.0]])
def test_one_unlucky_check_is_not_overfitting(validation):
    losses = noisy(falling(300, last=0.1, half_life=60), seed=3)
    assert kind(losses, checks(validation, every=100)) != "overfitting"


def test_a_training_loss_that_rises_too_is_not_overfitting():
    curve = np.concatenate([falling(200, half_life=30), np.linspace(1.0, 1.3, 200)])
    validation = checks([2.6, 1.5, 1.3, 1.5, 1.8], every=100)
    assert kind(noisy(curve, seed=3, noise=0.05), validation) != "overfitting"


@pytest.mark.parametrize("curve", [
    np.linspace(2.5, 2.9, 200),  # where little was learned, little can be lost
    np.repeat([2.5, 0.5, 1.2], [70, 130, 50]),  # a third of it
])  # fmt: skip
def test_a_rise_by_less_than_what_counts_is_no_divergence(curve):
    assert kind(noisy(curve, seed=1, noise=0.03)) != "diverged"
