from dataclasses import replace

import pytest

from workbench.config import build_config, setting_fields
from workbench.downloads import FetchProgress
from workbench.runs.events import (
    DownloadEvent,
    EvaluationEvent,
    FinishedEvent,
    PhaseEvent,
    StartEvent,
    StepEvent,
)
from workbench.runs.record import Record
from workbench.runs.status import Signs, derive_status
from workbench.ui.form import (
    SEPARATE,
    build_field,
    field_names,
    instead_of,
    preset_values,
    read_form,
)
from workbench.ui.playground_tab import _text
from workbench.ui.views import (
    chat_text,
    conversation_messages,
    fetch_banner,
    plain,
    plan_choices,
    plan_details,
    run_status,
)

NASTY = '<img src=x onerror="alert(1)">'


def test_every_setting_is_on_the_page_once():
    assert set(field_names()) | SEPARATE == set(setting_fields())


@pytest.mark.parametrize("name", field_names())
def test_every_field_has_label_help_and_an_id(name):
    field = build_field(name)
    assert field.label
    assert field.info.endswith(".")
    assert field.elem_id == f"configure-{name.replace('_', '-')}"


def test_a_form_comes_back_as_the_same_config():
    config = build_config({"epochs": 2.5, "lora_rank": 8, "method": "qlora"})
    names = list(setting_fields())
    settings = config.model_dump(exclude={"schema_version"})
    assert build_config(read_form(names, preset_values(settings, names))) == config


def test_a_starting_point_leaves_model_and_method_as_they_are_unless_it_names_them():
    names = ["model", "method", "epochs", "lora_rank"]
    kept = {"__type__": "update"}  # gr.skip()
    assert preset_values({"lora_rank": 8}, names) == [kept, kept, None, 8]
    assert preset_values({"method": "lora", "epochs": 2}, names) == [kept, "lora", "2", 16]


def test_what_a_starting_point_chose_goes_with_it_and_what_a_person_chose_stays():
    card = {"model": "qwen3-4b-instruct-2507", "method": "qlora", "batch_size": 8}
    usual = {"model": "smollm2-135m-instruct", "method": "lora"}
    assert instead_of(card, {"model": card["model"], "method": "qlora"}) == usual
    assert instead_of(card, {"model": "qwen3-0.6b", "method": "qlora"}) == {"method": "lora"}
    assert instead_of({}, {"model": "qwen3-0.6b", "method": "qlora"}) == {}


def test_numbers_from_the_browser_are_whole_where_they_are():
    assert read_form(["lora_rank", "lora_dropout"], [8.0, 0.5]) == {
        "lora_rank": 8,
        "lora_dropout": 0.5,
    }
    assert build_config(read_form(["seed"], [7.0])).seed == 7


def snapshot(events, **flags):
    settings = {
        "place": None,
        "process_started": True,
        "process_alive": True,
        "stop_requested": False,
    }
    return derive_status(Record(events), Signs(**settings | flags))


def started(total_steps):
    return StartEvent(
        total_steps=total_steps, train_rows=8, validation_rows=0, left_out_rows=0,
        supervised_tokens=8, parameters=1, trained_parameters=1, device="cpu", precision="fp32",
        threads=1,
    )  # fmt: skip


def steps(count, loss=1.0):
    return [
        StepEvent(
            step=number, epoch=0.1, loss=loss, learning_rate=1e-3, grad_norm=1.0, tokens=10,
            seconds=1.0, memory_bytes=10**9,
        )
        for number in range(1, count + 1)
    ]  # fmt: skip


class FakeRun:
    name = NASTY
    id = "20260101-000000-x"


def test_what_a_person_typed_is_never_html():
    finished = FinishedEvent(outcome="failed", message=NASTY, hint=NASTY)
    shown = run_status(FakeRun(), snapshot([started(3), finished], process_alive=False))
    banner = fetch_banner(NASTY, FetchProgress("failed", message=NASTY), is_here=False)
    for text in (shown, banner, plain(NASTY)):
        assert "<img" not in text


def test_status_shows_figures_with_their_units():
    shown = run_status(FakeRun(), snapshot([PhaseEvent(phase="training"), started(10), *steps(4)]))
    for words in ("4 of 10", "Time left", "0:06", "10 tokens/s", "1.0 GB", 'aria-valuenow="40.0"'):
        assert words in shown


def test_a_download_shows_how_far_it_is():
    events = [
        PhaseEvent(phase="downloading"), DownloadEvent(done_bytes=46_000_000, total_bytes=92_000_000)
    ]  # fmt: skip
    shown = run_status(FakeRun(), snapshot(events))
    assert "46 MB of 92 MB" in shown
    assert 'aria-valuenow="50.0"' in shown


def test_a_mix_shows_the_rows_and_the_loss_of_each_dataset():
    start = replace(started(10), by_dataset={NASTY: [1072, 4], "two": [27, 6]})
    losses = {NASTY: 0.41, "two": 0.22}
    evaluation = EvaluationEvent(step=0, loss=0.3, seconds=1.0, by_dataset=losses)
    shown = run_status(FakeRun(), snapshot([start, evaluation]))
    assert "1,072 to learn from and 4 to check with; two 27 to learn from and 6" in shown
    assert "<b>0.410</b>" in shown
    assert "<img" not in shown
    assert "to learn from" not in run_status(FakeRun(), snapshot([started(10)]))


def test_the_banner_is_silent_when_the_model_is_here():
    assert fetch_banner("x", FetchProgress("downloading", 1, 2), is_here=True) == ""
    assert "1 MB of 2 MB" in fetch_banner(
        "x", FetchProgress("downloading", 10**6, 2 * 10**6), False
    )


def test_markdown_in_a_file_name_stays_text():
    assert plain("[a](javascript:b) *c*") == r"\[a\]\(javascript:b\) \*c\*"
    assert plain("https://a") == r"https\://a"  # not a link, in which the other signs would show


def test_a_system_prompt_is_labelled_in_the_preview():
    shown = conversation_messages([{"role": "system", "content": "Be kind."}])
    assert shown == [{"role": "user", "content": "System prompt: Be kind."}]


def test_the_plan_says_why(services):
    config = services.configure(None, {})
    made = services.plan(config, services.choose_data({"sample-identity": 1}))
    text = plan_details(made)
    assert "because" in text
    assert "examples" in text
    assert f"**{made.work.supervised_tokens:,}** of them to learn to write" in text
    for seconds, words in ((0.023, "0.023"), (3.14, "3.1"), (1234.0, "1,234")):
        timed = replace(made, step_seconds=seconds)
        assert f"**{words} seconds** a step" in plan_details(timed)
    assert "a step" not in plan_details(replace(made, step_seconds=None))
    assert made.work.supervised_tokens < made.work.total_tokens


@pytest.mark.parametrize("method", ["lora", "prompt", "freeze", "galore"])
def test_everything_that_was_chosen_is_told_with_its_reason(services, method):
    data = services.choose_data({"sample-identity": 1})
    made = services.plan(services.configure(None, {"method": method}), data)
    told = plan_details(made) + plan_choices(made)
    assert {"warmup_ratio", "max_length", "micro_batch_tokens"} < made.reasons.keys()
    for reason in [*made.reasons.values(), made.precision[1]]:
        assert plain(reason) in told
    given = services.plan(
        services.configure(None, {"warmup_ratio": 0.2, "precision": "fp32"}), data
    )
    assert "Warm-up" not in plan_choices(given)
    assert "Precision" not in plan_choices(given)


@pytest.mark.parametrize("text", [NASTY, "a < b && c > d", "&lt;b&gt; is how one writes <b>", "ü"])
def test_what_the_chat_shows_escaped_goes_to_the_model_as_it_was_written(text):
    assert _text(chat_text(text)) == text
    assert _text([{"type": "text", "text": chat_text(text)}]) == text
    assert "<" not in chat_text(text)
