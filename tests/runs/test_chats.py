"""Chats and votes that are kept with a run."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.made_runs import make_run
from workbench.cli import main
from workbench.deleting import delete_run
from workbench.errors import WorkbenchError
from workbench.runs.chats import Chat, chat_document, delete_chat, find_chats, get_chat, keep_chat
from workbench.runs.votes import SAME, Vote, add_vote, count_votes, read_votes, votes_path

SETTINGS = {"temperature": 0, "strength": 0.5, "system": "Be kind."}


@pytest.fixture
def run(services):
    return make_run(services.runs)


def turn(question, answer):
    return ({"role": "user", "content": question}, {"role": "assistant", "content": answer})


def chat_of(run, question="Qui est là ?", answers=("Tuned é.", "Base."), models=("tuned", "base")):
    said = tuple(turn(question, answer) for answer in answers)
    return Chat(run.id, models, said, SETTINGS)


def test_a_chat_comes_back_as_it_was(run):
    kept = keep_chat(run, chat_of(run))
    assert get_chat(run, kept.id) == kept
    assert find_chats(run) == ([kept], [])
    assert (kept.title, kept.question, kept.answers) == (
        "Qui est là ?", "Qui est là ?", ("Tuned é.", "Base."),
    )  # fmt: skip


def test_a_chat_with_one_model(run):
    kept = keep_chat(run, chat_of(run, answers=("Only.",), models=("step-50",)))
    assert get_chat(run, kept.id) == kept


def test_a_chat_with_another_run_goes_on_and_stays_one(services, run):
    other = make_run(services.runs, "Other, 2nd")
    first = keep_chat(run, chat_of(run, models=("tuned", f"run-{other.id}")))
    second = keep_chat(run, replace(first, settings={"turn": 2}))
    assert find_chats(run) == ([second], [])
    assert second.id == first.id


def test_a_chat_that_goes_on_stays_one(run):
    first = keep_chat(run, chat_of(run))
    longer = tuple(messages + turn("And?", "Yes.") for messages in first.conversations)
    second = keep_chat(run, replace(first, conversations=longer))
    assert find_chats(run) == ([second], [])
    assert (second.id, second.title, second.question) == (first.id, "Qui est là ?", "And?")


def test_two_pages_that_go_on_with_one_chat_overwrite_nothing(run):
    opened = keep_chat(run, chat_of(run))
    first = keep_chat(run, replace(opened, settings={"page": 1}))
    second = keep_chat(run, replace(opened, settings={"page": 2}))
    assert first.id == opened.id != second.id
    assert [chat.settings for chat in find_chats(run)[0]] == [{"page": 2}, {"page": 1}]


def test_a_chat_that_was_deleted_meanwhile_is_kept_anew(run):
    kept = keep_chat(run, chat_of(run))
    delete_chat(run, kept.id)
    delete_chat(run, kept.id)  # by another page, too
    assert find_chats(run) == ([], [])
    assert keep_chat(run, kept).id != kept.id


GOOD = {
    "settings": {},
    "changed": 1.0,
    "conversations": [{"model": "base", "messages": turn("a", "b")}],
}


@pytest.mark.parametrize(
    "changes",
    [
        {"conversations": []},
        {"conversations": 3 * GOOD["conversations"]},
        {"conversations": [{"model": "../x", "messages": turn("a", "b")}]},
        {"conversations": [{"model": "run-../x", "messages": turn("a", "b")}]},
        {"conversations": [{"model": "base", "messages": []}]},
        {"conversations": [{"model": "base", "messages": turn("a", "b")[:1]}]},
        {"conversations": [{"model": "base", "messages": turn("a", 1)}]},
        {"settings": None},
        {"changed": "yesterday"},
        None,
    ],
)
def test_a_damaged_file_is_said_and_hides_no_other(run, changes):
    kept = keep_chat(run, chat_of(run))
    damaged = run.directory / "conversations" / "20260101-000000-00000a.json"
    damaged.write_text(json.dumps(GOOD), encoding="utf-8")
    assert len(find_chats(run)[0]) == 2
    damaged.write_text("{" if changes is None else json.dumps(GOOD | changes), encoding="utf-8")
    assert find_chats(run) == ([kept], [damaged.name])
    with pytest.raises(WorkbenchError):
        get_chat(run, damaged.stem)


@pytest.mark.parametrize("chat_id", ["../run", "", "20260101-000000-00000a/../../run"])
def test_no_id_leads_elsewhere(run, chat_id):
    for act in (get_chat, delete_chat):
        with pytest.raises(WorkbenchError):
            act(run, chat_id)
    assert (run.directory / "run.json").exists()


def test_a_run_that_was_deleted_stays_deleted(services, run):
    kept = keep_chat(run, chat_of(run))
    delete_run(services, run)
    for keep in (lambda: keep_chat(run, kept), lambda: add_vote(run, Vote.on(kept, SAME))):
        with pytest.raises(OSError, match="No such file"):
            keep()
    assert not run.directory.exists()


def test_a_chat_as_json(run):
    document = chat_document(run, chat_of(run))
    assert (document["run"], document["base_model"]) == (run.id, run.config.model)
    assert [side["model"] for side in document["conversations"]] == ["tuned", "base"]
    assert document["settings"] == SETTINGS


def test_votes_are_counted_whichever_side_a_model_was_on(run):
    swapped = chat_of(run, "b?", models=("base", "tuned"))
    for chat, better in (
        (chat_of(run, "a?"), "tuned"), (swapped, "tuned"), (chat_of(run, "c?"), "base"),
        (chat_of(run, "d?"), SAME), (chat_of(run, models=("tuned", "step-5")), "step-5"),
    ):  # fmt: skip
        add_vote(run, Vote.on(chat, better))
    assert count_votes(read_votes(run)) == {
        ("base", "tuned"): {"tuned": 2, "base": 1, SAME: 1},
        ("step-5", "tuned"): {"step-5": 1},
    }
    vote = read_votes(run)[1]
    assert (vote.models, vote.question, vote.settings) == (("base", "tuned"), "b?", SETTINGS)
    assert vote.answers == ("Tuned é.", "Base.")


def test_the_last_vote_on_the_same_answers_counts(run):
    chat = keep_chat(run, chat_of(run))
    for better in ("tuned", SAME, "base"):
        add_vote(run, Vote.on(chat, better))
    add_vote(run, Vote.on(chat_of(run, answers=("Other.", "Base.")), "tuned"))
    assert [vote.better for vote in read_votes(run)] == ["base", "tuned"]


def test_a_torn_line_costs_one_vote(run):
    assert read_votes(run) == []
    for question in ("a?", "b?", "c?"):
        add_vote(run, Vote.on(chat_of(run, question), SAME))
        if question == "b?":
            votes_path(run).write_bytes(votes_path(run).read_bytes()[:-20])
    assert [vote.question for vote in read_votes(run)] == ["a?", "c?"]


def test_the_terminal_shows_the_votes(run, capsys):
    add_vote(run, Vote.on(chat_of(run), "tuned"))
    assert main(["show", run.id, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["votes"] == [
        {"models": ["base", "tuned"], "better": {"base": 0, "tuned": 1, SAME: 0}}
    ]
