"""What the playground says of answers, votes and conversations, without a browser or a model."""

from __future__ import annotations

from tests.made_runs import make_run
from workbench.deleting import delete_run
from workbench.runs.chats import Chat
from workbench.runs.votes import SAME, Vote
from workbench.ui.difference_views import HELP, SAME_WORDS, differences_html
from workbench.ui.playground_earlier import TITLE_CHARACTERS, chat_label, damaged_words, keep_said
from workbench.ui.playground_pair import votes_words


def chat_of(question="Who?", answers=("I am A.", "I am B."), models=("tuned", "base")):
    said = tuple(
        ({"role": "user", "content": question}, {"role": "assistant", "content": answer})
        for answer in answers
    )
    return Chat("run", models, said, {}, "", 0.0)


def test_differing_words_are_marked_and_nothing_is_html():
    shown = differences_html("Tuned <b>", "I am <img src=x> & A.", "Base", "I am B.")
    assert "<img" not in shown
    assert "<b>Tuned &lt;b&gt;</b><p>I am <mark>&lt;img src=x&gt; &amp; A</mark>.</p>" in shown
    assert "<p>I am <mark>B</mark>.</p>" in shown
    assert HELP in shown


def test_the_same_words_are_said_to_be_the_same():
    shown = differences_html("Tuned", "Yes.", "Base", "Yes. ")
    assert SAME_WORDS in shown
    assert "<mark>" not in shown


def test_votes_in_words():
    said = chat_of()
    assert "Which answer is better?" in votes_words([], said)
    others = [
        Vote.on(chat_of(f"{n}?"), better) for n, better in enumerate(("tuned", "tuned", SAME))
    ]
    other_models = Vote.on(chat_of(models=("tuned", "step-50")), "step-50")
    words = votes_words([*others, other_models], said)
    assert words == "Votes so far: Tuned model 2, before training 0, same 1."
    words = votes_words([*others, Vote.on(said, "base")], said)
    assert words.startswith("You said: before training is better. Votes so far: Tuned model 2,")
    assert votes_words(others, chat_of(models=("base", "base"))) == ""


def test_a_conversation_is_named_after_its_first_question():
    assert chat_label(chat_of("Who\n  are you?")).startswith("Who are you? (")
    title = chat_label(chat_of("很" * 200)).rsplit(" (", 1)[0]
    assert (len(title), title[-1]) == (TITLE_CHARACTERS, "…")


def test_an_answer_is_there_even_if_it_cannot_be_kept(services):
    run = make_run(services.runs)
    kept, words = keep_said(run, chat_of(), None)
    again, _ = keep_said(run, chat_of("And?"), kept)
    assert (words, again.id, again.question) == ("", kept.id, "And?")
    delete_run(services, run)
    lost, words = keep_said(run, chat_of(), None)
    assert lost == chat_of()
    assert words == "This conversation could not be kept: No such file or directory."


def test_damaged_files_are_said():
    assert damaged_words([]) == ""
    assert damaged_words(["a.json"]) == "1 file is damaged and left out: a.json."
    assert damaged_words(["a.json", "b.json"]).startswith("2 files are damaged")
