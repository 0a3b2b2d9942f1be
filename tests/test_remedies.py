from dataclasses import replace

import pytest

from workbench.config import build_config
from workbench.facts import DataFacts, Machine
from workbench.models.catalogue import catalogue
from workbench.models.facts import ModelFacts
from workbench.plan import make_plan
from workbench.presets import methods
from workbench.remedies import find_remedies, find_shortage, safer_copy

GB = 1_000_000_000


def plan_on(free_gb, config, free_disk_gb=1000):
    entry = catalogue()[config.model]
    machine = Machine(
        2, free_memory_bytes=round(free_gb * GB), free_disk_bytes=round(free_disk_gb * GB)
    )
    facts = ModelFacts(entry.parameters, entry.architecture)
    return make_plan(config, [DataFacts(1000, 2000.0)], facts, methods()[config.method], machine)


@pytest.mark.parametrize(("free_gb", "fit"), [(100, "fits"), (0.1, "will not fit")])
def test_what_is_needed_is_held_against_what_is_free(free_gb, fit):
    assert plan_on(free_gb, build_config({})).fit == fit


def test_what_is_not_known_is_not_promised():
    machine = Machine(2)
    config = build_config({})
    made = make_plan(config, [DataFacts(10, 10.0)], ModelFacts(), methods()["lora"], machine)
    assert made.fit == "unknown"
    assert made.peak_memory_bytes is None
    assert find_shortage(made) is None


def test_pieces_shrink_and_layers_are_computed_twice_before_it_gives_up():
    roomy, short = plan_on(100, build_config({})), plan_on(2, build_config({}))
    assert roomy.config.micro_batch_tokens == 4096
    assert roomy.config.activation_checkpointing == "off"
    assert short.config.micro_batch_tokens < 2048
    assert short.fit == "fits"
    assert "memory would be short" in short.reasons["micro_batch_tokens"]
    assert plan_on(1.2, build_config({})).config.activation_checkpointing == "on"


def test_the_smallest_share_of_layers_is_computed_twice_that_fits():
    found = [plan_on(free_gb / 20, build_config({})) for free_gb in range(60, 20, -1)]
    shares = [made.config.activation_checkpointing for made in found]
    assert list(dict.fromkeys(shares)) == ["off", "1/4", "1/2", "3/4", "on"]
    half = found[shares.index("1/2")]
    assert half.reasons["activation_checkpointing"].startswith("half of the layers")
    assert half.fit == "fits"
    less = plan_on(
        half.machine.free_memory_bytes / GB,
        build_config({"activation_checkpointing": "1/4", "micro_batch_tokens": 1024}),
    )
    assert less.fit != "fits"
    assert half.step_seconds == pytest.approx(found[0].step_seconds * 7 / 6)


def test_a_method_that_cannot_compute_its_layers_twice_is_not_made_to():
    short = plan_on(1, build_config({"method": "prefix"}))
    assert short.config.micro_batch_tokens == 512
    assert short.config.activation_checkpointing == "off"
    assert "cannot compute" in short.reasons["activation_checkpointing"]
    again = safer_copy(short.config, "memory")
    assert again.changes["micro_batch_tokens"] == 128
    assert "activation_checkpointing" not in again.changes


def test_a_run_that_does_not_fit_is_refused_with_what_would_help():
    config = build_config({"method": "full", "model": "qwen2.5-7b-instruct"})
    shortage = find_shortage(plan_on(16, config))
    assert "16.0 GB free" in shortage.message
    labels = [r.label for r in find_remedies(config, lambda changed: plan_on(16, changed))]
    assert "Squeeze the model to 4 bits (QLoRA)" in labels
    assert "Train an adapter instead (LoRA)" not in labels
    assert any(label.startswith("Take ") for label in labels)


def test_a_full_disk_is_a_shortage():
    made = plan_on(100, build_config({"method": "full"}), free_disk_gb=0.5)
    assert "0.5" in find_shortage(made).message or "500 MB" in find_shortage(made).message
    assert find_shortage(replace(made, disk_bytes=None)) is None


def test_memory_is_handed_back_only_where_there_is_not_plenty():
    assert not plan_on(100, build_config({})).hands_memory_back
    assert plan_on(4, build_config({})).hands_memory_back


def test_more_tokens_at_once_are_not_worth_handing_memory_back():
    found = [plan_on(free_gb, build_config({})) for free_gb in range(5, 20)]
    tokens = [(made.config.micro_batch_tokens, made.hands_memory_back) for made in found]
    assert list(dict.fromkeys(tokens)) == [(2048, True), (2048, False), (4096, False)]
    asked = plan_on(7, build_config({"micro_batch_tokens": 3000}))
    assert (asked.config.micro_batch_tokens, asked.config.activation_checkpointing) == (3000, "off")
    assert asked.hands_memory_back


def chosen(**values):
    return build_config(
        {"learning_rate": 9e-4, "micro_batch_tokens": 2048, "max_length": 1024} | values
    )


def test_after_short_memory_a_copy_reads_fewer_tokens_at_a_time():
    remedy = safer_copy(chosen(), "memory")
    assert "512 tokens at a time instead of 2,048, texts cut at 512" in remedy.label
    safer = chosen(**remedy.changes)
    assert (safer.micro_batch_tokens, safer.max_length, safer.too_long) == (512, 512, "cut")
    short = safer_copy(chosen(max_length=256), "memory")
    assert "max_length" not in short.changes


@pytest.mark.parametrize("budget", [64, 128])
def test_a_safer_copy_never_reads_more_and_is_none_where_nothing_changes(budget):
    config = chosen(micro_batch_tokens=budget)
    remedy = safer_copy(config, "memory")
    assert "tokens at a time" not in remedy.label
    changed = chosen(**({"micro_batch_tokens": budget} | remedy.changes))
    assert changed.token_budget == budget
    assert safer_copy(changed, "memory") is None


def test_after_a_loss_that_is_no_number_a_copy_learns_slower():
    assert safer_copy(chosen(), "diverged").changes == {"learning_rate": 3e-4}


def test_after_damage_a_copy_begins_anew_with_the_same_settings():
    remedy = safer_copy(chosen(), "damaged")
    assert (remedy.label, remedy.changes) == ("Start a copy from the beginning", {})


def test_where_nothing_would_help_there_is_no_copy():
    assert safer_copy(chosen(), "disk") is None
    assert safer_copy(chosen(), "") is None
