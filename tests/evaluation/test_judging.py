"""A judge on loopback: what it is sent, how its words count, and that nothing is sent by itself."""

from __future__ import annotations

import json
import threading

import gradio as gr
import pytest

from tests.evaluation.test_report import part_of, run_with, say
from tests.evaluation.test_tab import built, handler
from tests.fake_judge import FakeJudge
from tests.waiting import wait_until
from workbench.cli import main
from workbench.errors import WorkbenchError
from workbench.evaluation import judging
from workbench.evaluation.document import as_json
from workbench.evaluation.judging import Judge, leaving_words, read_verdict
from workbench.evaluation.judging_line import JudgingLine
from workbench.evaluation.request import BASE, TUNED, EvaluationRequest
from workbench.evaluation.result import find_evaluation, read_evaluation
from workbench.evaluation.rows import select_rows
from workbench.ui.evaluate_tab import HELD_BACK, SAVED_MODEL

KEY = "sk-very-secret"


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr(judging, "PAUSE_SECONDS", 0.0)
    with FakeJudge().serve() as fake:
        yield fake


@pytest.fixture
def run(services):
    """Of ten rows held back the tuned answer is better in five, worse in two, the same in one, as good in two."""
    rows = [{"instruction": f"Say {n}", "output": f"{n}"} for n in range(40)]
    run = run_with(services, part_of(services, rows))
    request = EvaluationRequest()
    asked = [row.index for row in select_rows(run, request).rows]
    say(run, request, BASE, {i: "a!" if place < 2 else "a" for place, i in enumerate(asked)})
    tuned = ["b"] * 2 + ["b!!"] * 5 + ["a"] + ["b"] * 2
    say(run, request, TUNED, dict(zip(asked, tuned, strict=True)))
    return run


def command(run, fake, *more):
    return main(["evaluate", run.id, "--judge", f"{fake.endpoint}/v1", "--judge-model", "j", *more])


def test_wins_ties_and_losses(run, fake, capsys, monkeypatch):
    monkeypatch.setenv("WORKBENCH_JUDGE_KEY", KEY)
    assert command(run, fake, "--json") == 0
    out, err = capsys.readouterr()
    (judged,) = json.loads(out)["judged"]
    assert (judged["wins"], judged["ties"], judged["losses"]) == (5, 3, 2)
    assert judged["ahead"]["value"] == pytest.approx(0.3)
    assert judged["win_share"]["low"] < 0.5 < judged["win_share"]["high"]
    assert len(fake.asked) == 18  # both orders, and nothing where both answers are the same
    assert {header["Authorization"] for header in fake.headers} == {f"Bearer {KEY}"}
    assert "answers of 10 rows are sent to" in err
    kept = b"".join(p.read_bytes() for p in run.directory.rglob("*") if p.is_file())
    assert KEY.encode() not in kept
    assert KEY not in out + err


def test_the_card_says_who_judged_and_the_page_shows_it_too(run, fake, capsys):
    assert find_evaluation(run, EvaluationRequest()).judged == []
    assert command(run, fake) == 0
    words = (
        f"The judge j at {fake.endpoint}/v1 prefers the tuned model in 5 rows, the base model in 2"
    )
    assert words in capsys.readouterr().out
    assert find_evaluation(run, EvaluationRequest()).judged[0].wins == 5
    assert "Authorization" not in fake.headers[0]


def test_a_verdict_that_follows_the_order_is_a_tie(run, fake):
    fake.reply = lambda question, first, second: "Verdict: A"
    assert command(run, fake) == 0
    (judged,) = read_evaluation(run, EvaluationRequest()).judged
    assert (judged.wins, judged.ties, judged.losses, judged.flipped) == (0, 10, 0, 9)


def test_what_was_judged_is_not_asked_again_but_another_answer_is(run, fake):
    fake.refuse = [(500, "down")] * 4
    assert command(run, fake) == 2
    assert command(run, fake) == 0
    assert command(run, fake) == 0
    assert len(fake.asked) == 18
    request = EvaluationRequest()
    index = select_rows(run, request).rows[0].index
    say(run, request, TUNED, {index: "new!!!"})
    assert read_evaluation(run, request).judged[0].missing == 1
    assert command(run, fake) == 0
    assert len(fake.asked) == 20
    assert read_evaluation(run, request).judged[0].missing == 0


def test_it_goes_on_after_it_was_refused_in_the_middle(run, fake, capsys, monkeypatch):
    monkeypatch.setenv("WORKBENCH_JUDGE_KEY", KEY)
    seen = iter(range(10**6))

    def reply(question, first, second):
        if next(seen) == 7:
            fake.refuse = [(401, f"Incorrect API key provided: {KEY}")]
        return FakeJudge.fair(fake, question, first, second)

    fake.reply = reply
    assert command(run, fake) == 2
    error = capsys.readouterr().err
    assert "answered 401" in error
    assert KEY not in error
    asked = len(fake.asked)
    assert asked == 8
    assert read_evaluation(run, EvaluationRequest()).judged[0].missing == 6
    fake.reply = fake.fair
    assert command(run, fake) == 0
    assert read_evaluation(run, EvaluationRequest()).judged[0].missing == 0
    assert len(fake.asked) == 18


def test_a_busy_judge_is_asked_again_and_one_without_temperature_too(run, fake):
    fake.refuse = [(429, "slow down"), (503, "busy"), (400, "Unsupported value: 'temperature'")]
    assert command(run, fake) == 0
    assert "temperature" not in fake.asked[0]
    assert fake.asked[1]["temperature"] == 0


def test_a_reply_without_a_verdict_is_in_no_figure(run, fake):
    fake.reply = lambda question, first, second: "I would rather not say."
    assert command(run, fake) == 0
    (judged,) = read_evaluation(run, EvaluationRequest()).judged
    assert (judged.unclear, judged.ties, judged.ahead.count) == (9, 1, 1)


@pytest.mark.parametrize(
    ("reply", "base_is_first", "verdict"),
    [
        ("Verdict: A", True, "base"),
        ("Verdict: A", False, "tuned"),
        ("A is long. Verdict: A? No.\n**Verdict:** B", True, "tuned"),
        ("b", True, "tuned"),
        ("verdict: tie", True, "tie"),
        ("Answer B is better", True, None),
        ("Verdict: Both", True, None),
        ("Verdict: a tie", True, "tie"),
        ("Verdict: A and B are equal", True, None),
        ("**Verdict: A**\n", True, "base"),
        ("Verdict: B, because it is right.", True, "tuned"),
    ],
)
def test_reading_a_verdict(reply, base_is_first, verdict):
    assert read_verdict(reply, base_is_first) == verdict


def test_nothing_is_sent_unless_it_is_asked_for(run, fake):
    assert main(["evaluate", run.id]) == 0
    assert fake.headers == []
    assert as_json(read_evaluation(run, EvaluationRequest()))["judged"] == []


@pytest.mark.parametrize(
    "url",
    [
        "example.com/v1",
        "https://me:secret@example.com/v1",
        "https://example.com/v1?key=x",
        "https://example.com:abc/v1",
        "http://[::1/v1",
        "http://192.168.0.256:8000/v1",
        "https://api..example.com/v1",
    ],
)
def test_an_address_that_cannot_be_written_down_is_refused(url):
    with pytest.raises(WorkbenchError):
        Judge(url, "j")


@pytest.mark.parametrize("key", ["sk-…", "sk-a\nb"])
def test_a_key_that_no_header_can_carry_is_refused(key):
    with pytest.raises(WorkbenchError, match="Copy it again") as refused:
        Judge("https://example.com/v1", "j", key)
    assert key not in str(refused.value)


def test_a_judge_that_never_answered_leaves_nothing_behind(run, fake):
    fake.refuse = [(401, "no")]
    assert command(run, fake) == 2
    assert read_evaluation(run, EvaluationRequest()).judged == []


def test_a_judge_that_could_not_begin_leaves_nothing_behind(run, fake, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    judge, evaluation = Judge(fake.endpoint, "j"), read_evaluation(run, EvaluationRequest())
    with monkeypatch.context() as patched:
        patched.setattr("workbench.files.os.replace", full)
        with pytest.raises(OSError, match="No space"):
            list(judging.judge_rows(judge, evaluation, judging.rows_to_judge(judge, evaluation)))
    assert read_evaluation(run, EvaluationRequest()).judged == []


def test_a_judge_that_breaks_does_not_look_like_one_that_is_done(run, fake, monkeypatch):
    def breaks(*_):
        raise RuntimeError("something unforeseen")

    monkeypatch.setattr("workbench.evaluation.judging_line.judge_rows", breaks)
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    line = JudgingLine()
    line.start(Judge(fake.endpoint, "j"), read_evaluation(run, EvaluationRequest()))
    wait_until(lambda: not line.is_working)
    assert line.words(run.id) == "Asking the judge failed: something unforeseen."


def test_it_is_said_plainly_what_leaves_the_computer():
    assert "They leave this computer." in leaving_words(Judge("https://example.com/v1", "j"), 5)
    assert "not encrypted" in leaving_words(Judge("http://10.0.0.5/v1", "j"), 5)
    assert "on this computer" in leaving_words(Judge("http://127.0.0.1:8000/v1", "j"), 5)
    assert KEY not in repr(Judge("https://example.com/v1", "j", KEY))


def test_the_page_asks_in_the_background_and_keeps_no_key(run, services, fake):
    page = built(services)
    send = handler(page, "send")
    tell = handler(page, "tell_of_judge")
    choices = [run.id, [], SAVED_MODEL, HELD_BACK, ""]
    with pytest.raises(gr.Error, match="no address"):
        send("somewhere", "j", "", *choices)
    send(f"{fake.endpoint}/v1", "j", KEY, *choices)

    def ended():
        status, timer, stop, said = tell(run.id, 0)
        return (status, timer) if said and not stop.interactive else None

    status, timer = wait_until(ended)
    assert status.value == "Judged 10 rows. The card above says whom it prefers."
    assert not timer.active
    assert read_evaluation(run, EvaluationRequest()).judged[0].wins == 5
    assert fake.headers[0]["Authorization"] == f"Bearer {KEY}"
    assert not any(
        KEY.encode() in p.read_bytes() for p in services.settings.home_dir.rglob("*.json*")
    )
    with pytest.raises(gr.Error, match="seen every row"):
        send(f"{fake.endpoint}/v1", "j", KEY, *choices)


def test_the_page_stops_a_judge_and_tells_what_it_refused(run, services, fake):
    line = JudgingLine()
    reached, go_on = threading.Event(), threading.Event()

    def reply(question, first, second):
        reached.set()
        assert go_on.wait(10)
        return "Verdict: tie"

    fake.reply = reply
    evaluation, judge = read_evaluation(run, EvaluationRequest()), Judge(fake.endpoint, "j")
    line.start(judge, evaluation)
    assert reached.wait(10)
    assert "Judged 0 of 10" in line.words(run.id)
    assert line.words("another") == ""
    line.stop()
    go_on.set()
    wait_until(lambda: not line.is_working)
    assert line.words(run.id) == "Stopped after 1 of 10 rows, which are kept."
    fake.refuse = [(404, "no such model")]
    line.start(judge, evaluation)
    wait_until(lambda: not line.is_working)
    assert "answered 404" in line.words(run.id)
    assert read_evaluation(run, EvaluationRequest()).judged[0].missing == 9


def test_a_judge_is_for_one_run(run):
    assert main(["evaluate", run.id, run.id, "--judge", "http://127.0.0.1:1/v1"]) == 2
