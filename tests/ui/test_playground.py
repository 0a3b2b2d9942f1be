"""The playground's conversation and what it shows, without a browser or a model."""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass, field
from html import unescape

import pytest

from tests.made_runs import make_run
from tests.waiting import wait_until
from workbench.chat import Reply, Stop, learned_model
from workbench.data.conversations import read_conversations
from workbench.data.split import split_rows
from workbench.deleting import delete_dataset
from workbench.errors import WorkbenchError
from workbench.good_answers import keep_answer
from workbench.models.catalogue import catalogue
from workbench.models.manner import BASE, THINKING
from workbench.presets import methods
from workbench.runs.chats import Chat
from workbench.runs.checkpoints import checkpoint_instead, mark_complete
from workbench.runs.examples import example_questions
from workbench.runs.store import DataPart, DataReference
from workbench.ui.app import build_app
from workbench.ui.playground_tab import GENERAL, model_line, suggestion_rows
from workbench.ui.playground_talk import (
    NO_ANSWER,
    STOPPED,
    WAITING,
    Talk,
    answered,
    answers,
    model_choices,
    safe_markdown,
    shown,
)
from workbench.ui.playground_tools import _next_prompt
from workbench.ui.run_choices import runs_to_ask
from workbench.ui.views import plain

BOTH = {"left": "tuned", "right": "base"}
SETTINGS = {
    "system": "", "temperature": 0, "max_tokens": 20, "strength": 0.5, "top_p": 0.9, "top_k": 0,
    "repetition_penalty": 1.1, "seed": "",
}  # fmt: skip


@dataclass
class FakeChat:
    """Answers with the model's name and the number of messages it got."""

    note: str = ""
    finish_reason: str = "stop"
    asked: list = field(default_factory=list)
    users: int = 1

    def replies(self, model, messages, stop=None, **sampling):
        self.asked.append((model, list(messages), sampling))
        return self._replies(model, messages, stop)

    def _replies(self, model, messages, stop):
        text = f"{model} {len(messages)}" if messages[-1]["content"] != "hush" else ""
        yield Reply(text[:3], self.note)
        if self.finish_reason == "stopped":
            wait_until(lambda: stop.is_set)
            yield Reply(text[:3], self.note, "stopped")
            return
        yield Reply(text, self.note, self.finish_reason)


def talked(chat, talk, question, sides=BOTH, **changes):
    *_, last = answers(chat, talk.with_question(question, sides), sides, SETTINGS | changes)
    return last


def texts(messages):
    return [message["content"] for message in messages]


def test_both_sides_get_the_same_question_and_their_own_history():
    chat = FakeChat()
    talk, words = talked(chat, Talk(), "one")
    talk, _ = talked(chat, talk, "two")
    assert words == ""
    assert texts(talk.left) == ["one", "tuned 1", "two", "tuned 3"]
    assert texts(talk.right) == ["one", "base 1", "two", "base 3"]
    assert texts(chat.asked[-1][1]) == ["one", "base 1", "two"]


def test_a_question_that_got_no_answer_is_neither_gone_on_from_nor_learned(services):
    chat, sides = FakeChat(), {"left": "tuned"}
    talk, _ = talked(chat, Talk(), "one", sides)
    talk, _ = talked(chat, talk, "hush", sides)
    talk = talk.with_question("stopped before the first word", sides)
    assert texts(_next_prompt(talk, "", "")) == ["one", "tuned 1", "stopped before the first word"]
    assert texts(_next_prompt(talk, "two", "")) == ["one", "tuned 1", "two"]
    talk, _ = talked(chat, talk, "two", sides)
    assert texts(chat.asked[-1][1]) == ["one", "tuned 1", "two"]
    assert texts(answered(talk.left)) == ["one", "tuned 1", "two", "tuned 3"]


def test_the_same_seed_for_both_and_no_strength_for_the_base():
    chat = FakeChat()
    talked(chat, Talk(), "one")
    (_, _, tuned), (_, _, base) = chat.asked
    assert tuned["seed"] == base["seed"] is not None
    assert (tuned["strength"], "strength" in base) == (0.5, False)
    talked(chat, Talk(), "one", seed=" 7 ")
    assert chat.asked[-1][2]["seed"] == 7
    with pytest.raises(WorkbenchError, match="The seed is 'x', which is no whole number"):
        talked(chat, Talk(), "one", seed="x")


def test_another_runs_model_has_the_strength_that_is_kept_with_it():
    chat = FakeChat()
    other = "run-20260101-000000-other"
    talked(chat, Talk(), "one", {"left": "step-10", "right": other})
    assert [(model, sampling.get("strength")) for model, _, sampling in chat.asked] == [
        ("step-10", 0.5),
        (other, None),
    ]


def test_what_was_written_before_stop_stays_on_both_sides():
    chat, stop = FakeChat(finish_reason="stopped"), Stop()
    talk = Talk().with_question("one", BOTH)
    for step in answers(chat, talk, BOTH, SETTINGS, stop):
        if texts(step[0].left)[-1] or texts(step[0].right)[-1]:
            stop.set()
    now, words = step
    assert (texts(now.left), texts(now.right)) == (["one", "tun"], ["one", "bas"])
    assert words == STOPPED


def test_both_sides_are_written_at_once():
    meeting, chat = threading.Barrier(2, timeout=10), FakeChat()

    def replies(model, messages, **sampling):
        meeting.wait()  # breaks if the other side has not begun
        yield Reply(model, "", "stop")

    chat.replies = replies
    talk, _ = talked(chat, Talk(), "one")
    assert (texts(talk.left)[-1], texts(talk.right)[-1]) == ("tuned", "base")


@pytest.mark.parametrize("leaves", [True, False])
def test_who_fails_or_leaves_ends_both_sides_and_not_what_the_person_can_stop(leaves):
    chat, stop, ended = FakeChat(), Stop(), threading.Event()

    def replies(model, messages, stop, **sampling):
        if model == "base" and not leaves:
            raise WorkbenchError("It is gone.")
        yield Reply(model)
        wait_until(lambda: stop.is_set)
        ended.set()

    chat.replies = replies
    written = answers(chat, Talk().with_question("one", BOTH), BOTH, SETTINGS, stop)
    if leaves:
        next(written), next(written)
        written.close()
    else:
        with pytest.raises(WorkbenchError, match="It is gone"):
            list(written)
    assert ended.wait(10)
    assert not stop.is_set


def test_who_waits_for_another_answer_is_told_at_once():
    talk = Talk().with_question("one", BOTH)
    words = [words for _, words in answers(FakeChat(users=2), talk, BOTH, SETTINGS)]
    assert words[:2] == [WAITING, "Tuned model and Before training answer…"]
    words = [words for _, words in answers(FakeChat(), talk, BOTH, SETTINGS)]
    assert WAITING not in words


def test_the_system_prompt_comes_first():
    chat = FakeChat()
    talked(chat, Talk(), "one", system=" Be kind. ")
    assert chat.asked[0][1][0] == {"role": "system", "content": "Be kind."}
    assert (
        _next_prompt(Talk(), "one", " Be kind. ") == chat.asked[0][1]
    )  # what the page shows of it


def test_one_model_alone():
    talk, _ = talked(FakeChat(), Talk(), "one", {"left": "step-10"})
    assert (texts(talk.left), talk.right) == (["one", "step-10 1"], ())


def test_what_there_is_to_say_is_said_once():
    _, words = talked(FakeChat("Left out.", "length"), Talk(), "one")
    assert words.count("Left out.") == 1
    assert words.count("was cut at its longest length") == 1


def test_a_chat_that_was_kept_goes_on():
    talk, _ = talked(FakeChat(), Talk(), "one")
    for sides in (BOTH, {"left": "tuned"}):
        conversations = tuple(talk.side(side) for side in sides)
        again = Talk.of(Chat("run", tuple(sides.values()), conversations, SETTINGS))
        assert (again.left, again.right) == (talk.left, talk.right if len(sides) == 2 else ())


def test_an_empty_answer_says_so():
    talk, _ = talked(FakeChat(), Talk(), "hush")
    assert texts(talk.left) == ["hush", NO_ANSWER]


def test_going_back_to_a_question():
    chat = FakeChat()
    talk = Talk()
    for question in ("one", "two", "three"):
        talk, _ = talked(chat, talk, question)
    assert (talk.turns, talk.question(1)) == (3, "two")
    assert texts(talk.before(1).right) == ["one", "base 1"]


def test_a_place_for_an_answer_is_not_shown_until_it_begins():
    talk = Talk().with_question("one", BOTH)
    assert shown(talk.left) == [{"role": "user", "content": "one"}]
    stopped = talk.with_question("two", BOTH)  # nothing came, and the next was asked
    assert len(shown(stopped.left)) == 3  # so places on the page stay those of the conversation


HTML = (
    '<img src="http://evil.example/x"> <script>boom()</script> </div> <!-- x --> <http://a.example>'
)


@pytest.mark.parametrize(
    "text",
    [
        HTML,
        f"\\`{HTML}\\`",
        f"| a ` | {HTML} ` b |",
        f"`a\n{HTML}`",
        f"``` `\n{HTML}\n```",
        f"    ```\n{HTML}",
        f"- ```\n  ```\n{HTML}",
        f"~~~\n```\n~~~\n{HTML}",
        f"> ```\n\n```\n{HTML}\n```",
    ],
)
def test_no_html_outside_of_code(text):
    assert "<" not in safe_markdown(text)
    assert unescape(safe_markdown(text)) == text


def test_no_html_in_what_a_model_answers():
    chat = FakeChat(note="")
    chat.replies = lambda *_, **__: iter([Reply(HTML, "", "stop")])
    talk, _ = talked(chat, Talk(), "one")
    for side in (talk.left, talk.right):
        assert "<" not in shown(side)[-1]["content"]
        assert shown(side)[-1]["role"] == "assistant"


def test_code_stays_as_it_is():
    for code in (
        "`a < b && <b>`",
        f"```html\n{HTML}\n```",
        "```\n<b>\n",
        "```c++\n#include <x>\n````",
    ):
        assert safe_markdown(code) == code
    assert safe_markdown(f"```\n<b>\n```\n{HTML}").count("<") == 1


def test_pictures_become_links():
    assert safe_markdown("![a](http://x.example/y.png)") == "&#33;[a](http://x.example/y.png)"
    assert "![" not in safe_markdown("a![b][c]\n\n[c]: http://x.example")


@pytest.mark.parametrize(
    "text", ["a < b && c > d", "&lt;b&gt; is how one writes <b>", "x![y]", "ü & é"]
)
def test_a_question_goes_back_as_it_was_written(text):
    assert unescape(safe_markdown(text)) == text


def test_plain_text_can_be_copied_as_it_is():
    for text in ("a < b && c > d", "5 < 6, R&D, *bold*, 1. one\n- two"):
        assert safe_markdown(text) == text


def test_a_run_offers_its_models_and_complete_checkpoints(services):
    run = make_run(services.runs)
    for step, is_complete in ((10, True), (9, True), (11, False)):
        directory = run.checkpoints_dir / f"checkpoint-{step}"
        directory.mkdir(parents=True)
        if is_complete:
            mark_complete(directory)
    checkpoints = [("Checkpoint of step 9", "step-9"), ("Checkpoint of step 10", "step-10")]
    assert model_choices(run) == [("Before training", "base"), *checkpoints]
    assert learned_model(run) == "step-10"
    run.model_dir.mkdir()
    tuned = ("Tuned model", "tuned")
    assert model_choices(run) == [("Before training", "base"), tuned, *checkpoints]
    assert learned_model(run) == "tuned"
    other = make_run(services.runs, "other", values={"method": "rslora"})
    for found in (other, make_run(services.runs, values={"method": "qlora"})):
        found.model_dir.mkdir()
    make_run(services.runs, values={"method": "lora"})  # it has no model yet
    label, name = model_choices(run)[-1]
    assert name == f"run-{other.id}"
    assert re.fullmatch(r"Run other \(\d\d \w+ [\d:]{8}\)", label)
    assert [name for _, name in model_choices(other)] == ["base", "tuned", f"run-{run.id}"]
    pissa = make_run(services.runs, values={"method": "pissa"})
    (run.checkpoints_dir).rename(pissa.checkpoints_dir)
    assert [name for _, name in model_choices(pissa)] == ["base"]
    assert checkpoint_instead(pissa) is None


def test_a_run_without_a_model_is_offered_as_its_newest_checkpoint(services):
    failed = make_run(services.runs, "failed", outcome="failed")
    finished = make_run(services.runs, "finished")
    finished.model_dir.mkdir()
    for run in (failed, finished):
        (run.checkpoints_dir / "checkpoint-8").mkdir(parents=True)
        mark_complete(run.checkpoints_dir / "checkpoint-8")
    make_run(services.runs, "nothing", outcome="failed")
    (_, first), (label, second) = runs_to_ask(services)
    assert (first, second) == (finished.id, failed.id)
    assert label.endswith(": checkpoint of step 8, not finished")
    assert "newest checkpoint answers: that of step 8." in model_line(services, failed)
    assert "newest checkpoint" not in model_line(services, finished)
    failed.waiting_path.write_text('{"place": 1}')  # it goes on
    assert [run_id for _, run_id in runs_to_ask(services)] == [finished.id]


def test_each_suggestion_says_truly_whether_it_was_learned(services, alpaca_file):
    info = services.datasets.add(alpaca_file, alpaca_file.name)
    path = services.datasets.path(info.id)
    part = DataPart(info.id, info.name, str(path), info.sha256, info.row_count)
    run = make_run(services.runs, data=DataReference((part,), None, 0.05, 1))
    shown = suggestion_rows((*example_questions(run, 5), GENERAL))
    _, validation = split_rows(read_conversations(path), 0.05, 1)
    held_back = {
        services.datasets.rows(info.id, row, 1)[0].messages[0]["content"] for row in validation
    }
    assert len(shown) == 6
    assert 0 < len(held_back) < 5
    assert shown[-1] == [GENERAL.question, "", "not from your data"]
    for question, _, words in shown[:-1]:
        assert words == ("held back: not learned" if question in held_back else "learned")


def test_the_line_below_the_run_says_what_is_unusual_about_its_model(services):
    models = {entry.kind: model_id for model_id, entry in catalogue().items()}
    lines = {
        kind: model_line(services, make_run(services.runs, values={"model": model}))
        for kind, model in models.items()
    }
    assert plain(BASE) in lines["base"]
    assert plain(THINKING) in lines["thinking"]
    assert "offered" not in "".join(lines.values())
    for method in ("full", "dora", "pissa", "ia3"):
        line = model_line(services, make_run(services.runs, values={"method": method}))
        assert f"this one is {methods()[method].label}." in line


def conversation(question, answer):
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def test_good_answers_become_one_dataset_that_grows(services):
    one, two = conversation("a?", "A."), conversation("b?", "B.")
    first = keep_answer(services, one)
    assert keep_answer(services, one).id == first.id  # once is enough
    system = [{"role": "system", "content": "Be kind."}]
    second = keep_answer(services, [*system, *two])
    assert (first.row_count, second.row_count) == (1, 2)
    assert [info.id for info in services.datasets.uploads()] == [second.id]
    rows = services.datasets.rows(second.id)
    assert [row.messages for row in rows] == [one, [*system, *two]]
    services.datasets.rename(second.id, "The best")
    third = keep_answer(services, conversation("c?", "C."))
    assert [(info.name, info.row_count) for info in services.datasets.uploads()] == [
        ("The best", 3)
    ]
    assert third.name == "The best"


def test_good_answers_that_a_run_learned_from_stay(services):
    first = keep_answer(services, conversation("a?", "A."))
    part = DataPart(first.id, first.name, "x", first.sha256, 1)
    make_run(services.runs, data=DataReference((part,), None, 0.0, 1))
    second = keep_answer(services, conversation("b?", "B."))
    assert {info.id for info in services.datasets.uploads()} == {first.id, second.id}


def test_every_good_answer_is_one_row_whatever_ends_lines_in_it(services):
    answers = [f"one{end}two" for end in ("\u2028", "\u2029", "\x85", "\x0c", "\r\n")]
    for answer in answers:
        info = keep_answer(services, conversation("a?", answer))
    kept = [row.messages[-1]["content"] for row in services.datasets.rows(info.id)]
    assert (kept, info.is_usable) == (answers, True)


def test_a_persons_own_file_of_that_name_stays(services, tmp_path):
    own_path = tmp_path / services.settings.good_answers_path.name
    own_path.write_text(json.dumps({"messages": conversation("mine?", "Mine.")}) + "\n")
    own = services.datasets.add(own_path, own_path.name)
    for question in ("a?", "b?"):
        kept = keep_answer(services, conversation(question, "A."))
    assert {info.id for info in services.datasets.uploads()} == {own.id, kept.id}
    assert kept.row_count == 2


def test_good_answers_that_were_deleted_do_not_come_back(services):
    delete_dataset(services, keep_answer(services, conversation("a?", "A.")).id)
    assert not services.settings.good_answers_path.exists()
    info = keep_answer(services, conversation("b?", "B."))
    assert [row.messages[0]["content"] for row in services.datasets.rows(info.id)] == ["b?"]


def test_a_question_may_come_before_the_choices_of_a_run(services):
    page = build_app(services)
    sides = {
        block.elem_id: block.value
        for block in page.blocks.values()
        if getattr(block, "elem_id", None) in ("playground-left", "playground-right")
    }
    assert sides == {"playground-left": "tuned", "playground-right": "base"}
