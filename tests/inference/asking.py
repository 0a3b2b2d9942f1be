"""Ask an engine a question without a server around it, or a chat process for the pieces of its answer."""

from __future__ import annotations

from workbench.inference.answer import Question, Sampling


def begin(engine, name, prompt, *, strength=None, is_stopped=lambda: False, **choice):
    """Begin an answer, and return it with the list that its text comes to."""
    pieces, asked = [], engine.find(name, strength)
    question = Question(asked, prompt, Sampling(**choice), pieces.append, is_stopped)
    return engine.begin(question), pieces


def go_on(engine, answers):
    """Write one more token of each."""
    for answer, logits in zip(answers, engine.next_logits(answers), strict=True):
        answer.choose(logits)


def write(engine, name, prompt, **options):
    """Write a whole answer; return its text and how it ended."""
    answer, pieces = begin(engine, name, prompt, **options)
    while not answer.is_over:
        go_on(engine, [answer])
    return "".join(pieces), answer.outcome


def stream(chat, name, messages, **sampling):
    """Yield an answer piece by piece."""
    said = ""
    for reply in chat.replies(name, messages, **sampling):
        if reply.text != said:
            yield reply.text.removeprefix(said)
            said = reply.text
