import json
from dataclasses import replace

import numpy as np
import pytest

from workbench.config import build_config, is_automatic_allowed, setting_fields
from workbench.facts import DataFacts, Machine
from workbench.measurements import Measurement
from workbench.models.catalogue import catalogue
from workbench.models.facts import ModelFacts
from workbench.plan import GENERAL_CHECK_ROWS, make_plan
from workbench.presets import methods
from workbench.settings import SAMPLES_DIR

STARTER = ModelFacts(134_515_008, {"hidden_size": 576})
TWO_CORES = Machine(cpu_cores=2, device="cpu")


def plan(values=None, rows=240, model=STARTER, machine=TWO_CORES):
    config = build_config(values or {})
    return make_plan(config, [DataFacts(rows, 200.0)], model, methods()[config.method], machine)


@pytest.mark.parametrize("method", methods())
def test_every_automatic_setting_gets_a_value_and_a_reason(method):
    made = plan({"method": method})
    for name in setting_fields():
        if is_automatic_allowed(name) and name != "max_steps" and made.config.uses(name):
            assert getattr(made.config, name) is not None, name
            assert made.reasons[name], name


def test_what_the_person_set_stays_and_needs_no_reason():
    made = plan({"epochs": 7, "learning_rate": 3e-5})
    assert (made.config.epochs, made.config.learning_rate) == (7, 3e-5)
    assert "epochs" not in made.reasons


def test_reasons_name_the_rows():
    assert "228 rows" in plan(rows=240).reasons["epochs"]


def test_how_long_a_mixture_of_experts_takes_is_not_made_up():
    made = plan(model=ModelFacts(30_000_000_000, {"num_experts": 128}))
    assert (made.seconds, made.peak_memory_bytes, made.disk_bytes) == (None, None, None)


@pytest.mark.parametrize(
    ("rows", "held_back"), [(1, 0), (29, 0), (30, 10), (240, 12), (50_000, 200)]
)
def test_rows_are_held_back_once_there_are_enough(rows, held_back):
    made = plan(rows=rows)
    assert made.work.validation_rows == held_back
    assert made.work.train_rows == rows - held_back


def test_a_mix_counts_rows_by_their_weight_and_tokens_by_their_length():
    def mixed(*data, **options):
        config = build_config({"epochs": 1, "batch_size": 10})
        return make_plan(config, data, STARTER, methods()["lora"], TWO_CORES, **options)

    made = mixed(DataFacts(100, 200.0, 2.0), DataFacts(200, 2000.0, 0.5))
    assert made.work.validation_rows == 15
    assert made.work.train_rows == 2 * 95 + 95
    assert made.total_steps == 29
    assert made.work.total_tokens > 2 * mixed(DataFacts(285, 200.0)).work.total_tokens
    checked = mixed(DataFacts(100, 200.0), separate_validation_rows=40)
    assert (checked.work.train_rows, checked.work.validation_rows) == (100, 40)
    assert checked.config.validation_share == 0


def test_counted_tokens_replace_the_estimate_and_long_rows_are_told():
    lengths = np.array([50] * 90 + [5000] * 10)
    data = DataFacts(100, 200.0, token_lengths=lengths)
    values = {
        "epochs": 1,
        "batch_size": 10,
        "validation_share": 0.0,
        "max_length": 1000,
        "keep_general": False,
    }

    def counted(**more):
        config = build_config(values | more)
        return make_plan(config, [data], STARTER, methods()["lora"], TWO_CORES)

    dropped, cut = counted(), counted(too_long="cut")
    assert (dropped.work.train_rows, dropped.work.total_tokens, dropped.too_long_rows) == (
        90,
        4500,
        10,
    )
    assert (cut.work.train_rows, cut.work.total_tokens, cut.too_long_rows) == (100, 14500, 10)
    assert counted(max_length=5000).too_long_rows == 0
    assert plan().too_long_rows is None


def test_tokens_that_the_loss_counts_are_those_of_the_answers_and_of_no_general_example():
    def counted(rows, tokens, supervised):
        return DataFacts(
            rows,
            200.0,
            token_lengths=np.full(rows, tokens),
            supervised_lengths=np.full(rows, supervised),
        )

    data = [counted(30, 100, 90), counted(15, 20, 2)]
    for general in (True, False):
        config = build_config(
            {"epochs": 2, "batch_size": 10, "validation_share": 0.0, "keep_general": general}
        )
        work = make_plan(config, data, STARTER, methods()["lora"], TWO_CORES).work
        assert work.supervised_tokens == 2 * (30 * 90 + 15 * 2)
        general_rows = 10 * round(0.25 * 10) if general else 0
        assert work.total_tokens == 2 * (30 * 100 + 15 * 20) + general_rows * 102


def test_what_all_rows_begin_with_is_computed_once_a_step_except_where_rows_are_padded():
    lengths = np.full(100, 50)
    values = {"batch_size": 10, "validation_share": 0.0, "keep_general": False}

    def work(shared_start, machine=TWO_CORES, architecture=STARTER.architecture, **more):
        config = build_config(values | more)
        data = DataFacts(100, 200.0, token_lengths=lengths, shared_start=shared_start)
        model = replace(STARTER, architecture=architecture)
        return make_plan(config, [data], model, methods()[config.method], machine).work

    assert work(20).computed_per_step == 500 - 9 * 20
    assert work(20).hardest_tokens == 500 - 9 * 20
    assert work(20).tokens_per_step == 500
    windowed = {"model_type": "gemma2"}
    for padded in (
        work(20, Machine(8, device="cuda")),
        work(20, method="prefix"),
        work(20, neftune_alpha=5.0),
        work(20, architecture=windowed),
    ):
        assert padded.computed_per_step == padded.hardest_tokens == 500
    newer_card = work(20, Machine(8, device="cuda", precision="bf16"))
    assert newer_card.computed_per_step == newer_card.hardest_tokens == 500 - 9 * 20
    config, machine = build_config(values), TWO_CORES
    seconds = [
        make_plan(
            config,
            [DataFacts(100, 200.0, token_lengths=lengths, shared_start=shared)],
            STARTER,
            methods()["lora"],
            machine,
        ).seconds
        for shared in (0, 20)
    ]
    assert seconds[0] > seconds[1]


def test_learning_rate_falls_with_width_and_for_full_tuning():
    small, large = (
        plan({"keep_general": False}).config.learning_rate,
        plan(model=ModelFacts(7_000_000_000, {"hidden_size": 4096})),
    )
    assert small > large.config.learning_rate == pytest.approx(2e-4)
    assert plan({"method": "full"}).config.learning_rate == pytest.approx(small / 10)


@pytest.mark.parametrize(
    ("values", "epochs", "rate"),
    [
        ({}, 2, 9e-4),
        ({"keep_general": False}, 3, 4e-4),
        ({"epochs": 3}, 3, 4e-4),  # as long as that, so high a rate was never tried
        ({"epochs": 1}, 1, 9e-4),
        ({"max_steps": 2000}, 2, 4e-4),  # many more passes than that
        ({"max_steps": 20}, 2, 9e-4),
        ({"learning_rate": 1e-4}, 3, 1e-4),
        ({"method": "rslora"}, 3, 2e-4),
        ({"method": "ia3"}, 3, 3e-3),
    ],
)
def test_a_small_model_learns_fast_where_it_keeps_its_skills(values, epochs, rate):
    config = plan(values, rows=200).config
    assert (config.epochs, config.learning_rate) == (epochs, pytest.approx(rate))


def test_more_rows_mean_fewer_epochs():
    epochs = [plan(rows=rows).config.epochs for rows in (100, 2_000, 60_000)]
    assert epochs == sorted(epochs, reverse=True)


def test_watched_questions_take_time_before_and_after_also_when_nothing_is_held_back():
    def seconds(watched_rows, validation_share):
        values = {"watched_rows": watched_rows, "validation_share": validation_share}
        return plan(values).seconds

    at_the_ends = seconds(2, 0.0) - seconds(0, 0.0)
    assert 0 < at_the_ends < seconds(2, 0.1) - seconds(0, 0.1)


def test_answers_take_longer_where_weights_are_unpacked_for_every_word():
    def answers(method):
        often, never = (
            plan({"method": method, "watched_rows": rows, "max_steps": 10}).seconds
            for rows in (2, 0)
        )
        return often - never

    assert answers("qlora") > 3 * answers("lora") > 0


def test_a_whole_model_takes_time_to_be_written():
    starter = catalogue()["smollm2-135m-instruct"]
    model = ModelFacts(starter.parameters, starter.architecture)

    def checkpoints(method):
        often, once = (
            plan({"method": method, "save_steps": steps, "max_steps": 10}, model=model).seconds
            for steps in (1, 10)
        )
        return often - once

    assert checkpoints("full") > 20 * checkpoints("lora") > 0


def test_a_large_model_without_a_card_is_slow_and_that_is_said():
    large = ModelFacts(7_000_000_000, {"hidden_size": 4096})
    (warning,) = plan(model=large).warnings
    assert "7.0 billion weights is slow" in warning
    assert plan(model=large, machine=Machine(8, device="cuda")).warnings == ()
    assert plan().warnings == ()


def test_checking_often_takes_time():
    often, seldom = (plan({"eval_steps": steps}, rows=2_000).seconds for steps in (1, 100))
    assert often > 1.5 * seldom


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"method": "full", "keep_general": False}, None),
        ({"method": "full", "keep_general": False, "learning_rate": 2e-4}, "may forget"),
        ({"keep_general": False, "learning_rate": 9e-4}, "may forget"),
        ({"keep_general": True, "learning_rate": 9e-4}, None),
        ({"early_stopping": 2, "validation_share": 0}, "No row is held back"),
        ({"final_model": "best", "validation_share": 0}, "No row is held back"),
        ({"early_stopping": 2, "final_model": "best"}, None),
        *(({"method": name, "keep_general": False}, None) for name in methods()),
    ],
)
def test_what_is_seldom_wanted_is_said_and_no_default_is(values, words):
    warnings = plan(values, rows=200).warnings
    assert [words in warning for warning in warnings] == ([True] if words else [])


def test_seconds_scale_with_tokens_and_are_unknown_without_a_measurement_on_a_gpu():
    assert plan({"epochs": 6}).seconds > plan({"epochs": 3}).seconds
    assert plan(machine=Machine(8, device="cuda")).seconds is None
    assert plan(model=ModelFacts()).seconds is None
    measured = plan(machine=Machine(8, device="cuda", measured_tokens_per_second=1000.0))
    assert "last run" in measured.seconds_source


def test_the_evaluation_afterwards_is_counted_apart():
    made, never = plan(rows=2000), plan({"evaluate_after": 0}, rows=2000)
    assert (made.evaluated_rows, never.evaluated_rows) == (100, 0)
    assert made.seconds == never.seconds
    assert never.evaluation_seconds == 0
    few = plan({"evaluate_after": 10}, rows=2000)
    assert 0 < few.evaluation_seconds < made.evaluation_seconds
    assert plan({"validation_share": 0}).evaluation_seconds == 0
    assert plan(model=ModelFacts()).evaluation_seconds is None


def test_full_tuning_and_qlora_take_longer_than_lora():
    seconds = [plan({"method": m, "epochs": 3}).seconds for m in ("lora", "full", "qlora")]
    assert seconds == sorted(seconds)


@pytest.mark.parametrize(
    ("lengths", "context", "limit", "words"),
    [
        ([40, 183], 8192, 192, "longest row has 183"),
        ([40] * 399 + [9_000], 8192, 64, "99.5%"),
        ([40, 6_000], 4096, 4096, "cannot read more"),
        ([40, 700], 512, 512, "cannot read more"),
    ],
)
def test_the_maximum_length_follows_the_rows_and_what_the_model_can_read(
    lengths, context, limit, words
):
    model = ModelFacts(1, {"max_position_embeddings": context})
    data = DataFacts(len(lengths), 200.0, token_lengths=np.array(lengths))
    made = make_plan(build_config({}), [data], model, methods()["lora"], TWO_CORES)
    assert made.config.max_length == limit
    assert words in made.reasons["max_length"]
    assert plan(model=model).config.max_length == min(1024, context)


@pytest.mark.parametrize("quickest", ["fp32", "bf16"])
def test_memory_is_that_of_the_number_format_it_will_compute_in(quickest):
    machine = Machine(2, precision=quickest, precision_reason="so it is")
    sizes = catalogue()["smollm2-135m-instruct"]
    model = ModelFacts(sizes.parameters, sizes.architecture)

    def made(precision):
        values = {"precision": precision, "batch_size": 16}
        return plan(values, model=model, machine=machine)

    half, full, chosen = made("bf16"), made("fp32"), made("auto")
    assert half.peak_memory_bytes < 0.9 * full.peak_memory_bytes
    assert chosen.peak_memory_bytes == made(quickest).peak_memory_bytes
    assert (half.precision, chosen.precision) == (("bf16", "you chose it"), (quickest, "so it is"))


def test_a_test_drive_knows_the_number_format():
    config = build_config({})
    measured = Measurement(100.0, 10**9, 5.0, "cpu", "bf16")
    arguments = [config, [DataFacts(240, 200.0)], STARTER, methods()["lora"], TWO_CORES]
    assert make_plan(*arguments, measurement=measured).precision[0] == "bf16"


def test_short_runs_warm_up_longer():
    assert plan({"max_steps": 100}).config.warmup_ratio == 0.1
    assert plan({"max_steps": 1000}).config.warmup_ratio == 0.03


def test_the_plan_counts_the_questions_that_check_general_skills():
    rows = json.loads((SAMPLES_DIR / "general-heldout.json").read_text(encoding="utf-8"))
    assert len(rows) == GENERAL_CHECK_ROWS
