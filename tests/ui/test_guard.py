"""What shows a choice shows the last one, in whatever order answers come."""

from __future__ import annotations

import gradio as gr

from workbench.ui.guard import follow


def answers(handler):
    with gr.Blocks() as page:
        box, shown = gr.Textbox(), gr.Textbox()
        follow([box.change], handler, [box], [shown])
    first, again = (page.fns[number].fn for number in sorted(page.fns))
    return first, again


def test_an_answer_to_an_older_question_is_replaced():
    first, again = answers(lambda text: [text * 2])
    [(shown, asked)] = first("old")
    assert shown == "oldold"
    assert [shown for shown, _ in again(asked, "new")] == ["newnew"]
    assert list(again(asked, "old")) == []


def test_a_handler_may_answer_bit_by_bit():
    def handler(text):
        yield ["working"]
        yield [text]

    first, _ = answers(handler)
    assert [shown for shown, _ in first("x")] == ["working", "x"]
