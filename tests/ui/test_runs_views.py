import time
from dataclasses import replace

import pytest

from tests.made_runs import DATA, PART, make_run
from workbench.errors import WorkbenchError
from workbench.export.process import ExportResult
from workbench.export.sums import ExportedFile
from workbench.runs.side_by_side import (
    NOT_USED,
    OTHER_MODELS,
    OTHER_ROWS,
    distinct_names,
    split_settings,
)
from workbench.services import Services
from workbench.ui.compare_views import (
    caveats,
    comparison_html,
    figure_rows,
    key_html,
)
from workbench.ui.runs_compare import existing_runs
from workbench.ui.runs_tab import list_runs
from workbench.ui.runs_views import (
    HEADERS,
    MOST_ROWS,
    ORDERS,
    RunEntry,
    check_deletable,
    count_words,
    delete_question,
    find_entries,
    loss_words,
    parent_words,
    read_tags,
    runs_table,
    sort_entries,
    state_words,
)
from workbench.ui.views import run_status

NASTY = '<img src=x onerror="alert(1)">'


def entries_of(services, *names, **told):
    for name in names:
        make_run(services.runs, name, **told)
    return list_runs(services)


def test_a_row_has_what_one_looks_for(services):
    run = make_run(services.runs, "first")
    services.runs.label(run, "First try", ["short", "good"], "What a long\nanswer costs")
    row = dict(zip(HEADERS, runs_table(list_runs(services))[0], strict=True))
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.created))
    assert row == {
        "Name": "First try",
        "State": "Finished",
        "Model": "SmolLM2 135M (starter)",
        "Method": "LoRA",
        "Data": "counting.json",
        "Loss": "1.400",
        "Took": "0:10",
        "When": when,
        "Tags": "good, short",
        "Note": "What a long answer costs",
        "Folder": run.id,
    }


def test_the_newest_run_is_the_first_and_a_row_ends_with_what_tells_it_apart(services):
    table = runs_table(entries_of(services, "a", "b", "c"))
    assert [row[0] for row in table] == ["c", "b", "a"]
    assert [services.runs.get(row[-1]).name for row in table] == ["c", "b", "a"]


def test_without_validation_the_training_loss_is_shown_as_such(services):
    [entry] = entries_of(services, "a", validation=())
    assert loss_words(entry.snapshot) == "1.000 (training)"
    assert loss_words(replace(entry.snapshot, steps=())) == ""


def test_a_run_that_trains_says_how_far_it_is(services):
    [entry] = entries_of(services, "a", steps=40)
    half = replace(entry.snapshot, state="running", step=20)
    assert state_words(half) == "Training, 50%"
    assert state_words(replace(half, state="queued", place=2)) == "Waiting in line, place 2"


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("", "cba"),
        ("  ", "cba"),
        ("B", "b"),
        ("qlora", "b"),
        ("smollm2 COUNTING", "cba"),
        ("smollm2 nothing-of-that", ""),
        ("failed", "c"),
        ("keeper", "a"),
        ("temperature finished", "a"),
    ],
)
def test_a_search_finds_runs_that_have_all_words(services, words, found):
    kept = make_run(services.runs, "a")
    services.runs.label(kept, "a", ["Keeper"], "Try a lower temperature")
    make_run(services.runs, "b", {"method": "qlora"})
    make_run(services.runs, "c", outcome="failed")
    shown = find_entries(list_runs(services), words)
    assert "".join(entry.run.name for entry in shown) == found


def test_runs_come_in_the_order_that_is_wanted(services):
    make_run(services.runs, "B", validation=(2.0, 1.2), steps=20)
    make_run(services.runs, "c", validation=(2.0, 1.1))
    make_run(services.runs, "a", validation=())
    entries = list_runs(services)
    orders = {
        order: "".join(entry.run.name for entry in sort_entries(entries, order)) for order in ORDERS
    }
    assert orders == {"newest": "acB", "loss": "cBa", "longest": "Bac", "name": "aBc"}


def test_the_note_below_the_table_says_how_many_there_are():
    assert "press Start" in count_words(0, 0)
    assert count_words(1, 1).startswith("1 run.")
    assert count_words(3, 12).startswith("3 of 12 runs.")
    assert count_words(0, 12) == "None of your 12 runs has all of these words."


def test_of_500_runs_the_first_are_listed_and_all_are_found(services):
    run = make_run(services.runs, "many")
    [entry] = list_runs(services)
    many = [RunEntry(replace(run, name=f"run-{n}"), entry.snapshot) for n in range(500)]
    table = runs_table(many)
    assert len(table) == MOST_ROWS
    assert table[-1][0] == f"run-{MOST_ROWS - 1}"
    assert f"The first {MOST_ROWS} are listed" in count_words(500, 500)
    assert "are listed" not in count_words(MOST_ROWS, 500)
    assert len(find_entries(many, "run-49")) == 11


def test_a_damaged_run_and_one_that_was_deleted_are_left_out(services):
    make_run(services.runs, "good")
    bad = make_run(services.runs, "bad")
    (bad.directory / "run.json").write_text("{")
    unreadable = make_run(services.runs, "unreadable")
    unreadable.events_path.unlink()
    unreadable.events_path.mkdir()
    gone = make_run(services.runs, "gone")
    services.runs.delete(gone)
    opened = Services.for_workspace(services.settings)  # which has not read them before
    assert [entry.run.name for entry in list_runs(opened)] == ["good"]
    assert existing_runs(opened, [gone.id, bad.id, "../x"]) == []


def test_tags_are_separated_by_commas():
    assert read_tags(" first try, ,short,") == ["first try", "short"]
    assert read_tags("") == []


def test_deleting_says_what_it_frees(services):
    run = make_run(services.runs, "a*b*")
    question = delete_question(run, 8_000_000, 4_000_000, 12_345_678, [])
    assert r"“a\*b\*”" in question
    assert "frees 12 MB: its checkpoints (8 MB), its tuned model (4 MB), its settings" in question
    assert "tuned model" not in delete_question(run, 0, 0, 5_000, [])
    assert "export" not in question
    made = ExportResult("gguf", "/x.gguf", (ExportedFile("x.gguf", 3_000_000, ""),), ())
    assert "Its export (3 MB) stays" in delete_question(run, 0, 0, 5_000, [made])
    assert "Its 2 exports (6 MB) stay" in delete_question(run, 0, 0, 5_000, [made, made])


@pytest.mark.parametrize("state", ["queued", "starting", "running", "stopping"])
def test_a_run_that_has_not_ended_is_not_deleted(services, state):
    [entry] = entries_of(services, "busy")
    with pytest.raises(WorkbenchError, match=r"“busy” (is training now|waits for its turn)"):
        check_deletable(entry.run, replace(entry.snapshot, state=state))
    check_deletable(entry.run, entry.snapshot)


def test_settings_that_differ_come_apart_from_those_that_are_the_same(services):
    one = make_run(services.runs, "one")
    two = make_run(services.runs, "two", {"learning_rate": 2e-3, "batch_size": 16})
    different, same = split_settings([one, two])
    assert different == [
        ("Learning rate", ["0.0001", "0.002"]),
        ("Batch size", ["8 examples per step", "16 examples per step"]),
    ]
    assert ("LoRA rank", ["16"]) in same
    assert ("Keep general skills", ["on"]) in same
    assert "OFT block size" not in dict(same)


def test_a_setting_that_one_method_does_not_use_says_so(services):
    lora = make_run(services.runs, "lora")
    full = make_run(services.runs, "full", {"method": "full"})
    different = dict(split_settings([lora, full])[0])
    assert different["Method"] == ["LoRA", "Full"]
    assert different["LoRA rank"] == ["16", NOT_USED]


def test_the_data_and_what_a_run_continues_are_settings_too(services):
    mix = replace(DATA, parts=(PART, replace(PART, id="e", name="e.json", weight=0.5)))
    one = make_run(services.runs, "one")
    two = replace(make_run(services.runs, "two", data=mix), parent=one.id, continues=True)
    different = dict(split_settings([one, two])[0])
    assert different["Data"] == ["counting.json", "counting.json + e.json (weight 0.5)"]
    assert different["Begins with"] == ["the base model", f"what {one.id} learned"]


def test_figures_stand_side_by_side_and_the_lowest_is_marked(services):
    make_run(services.runs, "worse", validation=(2.0, 1.9))
    rows = dict(figure_rows(entries_of(services, "better")))
    assert rows == {
        "State": ["Finished", "Finished"],
        "Best validation loss": ["1.400 at step 5 (lowest)", "1.900 at step 10"],
        "Last training loss": ["1.000", "1.000"],
        "General skills": ["loss +2.0%", "loss +2.0%"],
        "Steps": ["10 of 10", "10 of 10"],
        "Took": ["0:10", "0:10"],
        "Speed": ["400 tokens/s", "400 tokens/s"],
    }


def test_what_was_not_measured_is_said_or_left_out(services):
    make_run(services.runs, "checked")
    rows = dict(figure_rows(entries_of(services, "not", validation=(), general=())))
    assert rows["Best validation loss"] == ["not measured", "1.400 at step 5"]
    assert "General skills" not in dict(figure_rows(list_runs(services)[:1]))


def test_losses_that_cannot_be_compared_say_so_and_none_is_the_lowest(services):
    make_run(services.runs, "one")
    make_run(services.runs, "two", data=replace(DATA, seed=1))
    entries = list_runs(services)
    assert caveats(entries) == [OTHER_ROWS]
    assert "lowest" not in comparison_html(entries)
    make_run(services.runs, "three", {"model": "tests/tiny"})
    assert caveats(list_runs(services)[::2]) == [OTHER_MODELS]
    assert caveats(list_runs(services)[:1]) == []


def test_runs_of_one_name_are_told_apart(services):
    runs = [make_run(services.runs, name) for name in ("same", "same", "same", "other")]
    runs[0] = replace(runs[0], created=0.0)
    names = distinct_names(runs)
    assert len(set(names)) == 4
    assert names[0].startswith("same, 19")
    assert names[3] == "other"


def test_what_a_person_typed_is_text(services):
    named = replace(PART, name=NASTY)
    run = make_run(services.runs, "one", data=replace(DATA, parts=(named,)))
    services.runs.label(run, NASTY, [NASTY], NASTY)
    html = comparison_html(entries_of(services, "two")) + key_html([NASTY])
    question = delete_question(services.runs.get(run.id), 0, 0, 1, [])
    assert "<img" not in html + question
    assert html.count("&lt;img") >= 2


def test_all_settings_the_same_is_a_sentence(services):
    assert "All settings are the same." in comparison_html(entries_of(services, "one", "two"))


def test_a_run_says_what_it_was_made_from(services):
    first = make_run(services.runs, "first")
    copy, longer = (
        replace(make_run(services.runs, name), parent=first.id, continues=name == "longer")
        for name in ("copy", "longer")
    )
    assert parent_words(first, None) == ""
    assert parent_words(copy, first) == "Made from “first”."
    assert parent_words(longer, first) == "Goes on with what “first” learned."
    assert parent_words(copy, None) == f"Made from {first.id}, which was deleted."
    shown = run_status(copy, services.supervisor.summary(copy), origin="Made from “<b>first</b>”.")
    assert "Made from “&lt;b&gt;first" in shown
