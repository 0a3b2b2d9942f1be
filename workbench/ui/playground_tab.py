"""Playground tab: ask a run's models the same thing and read the answers side by side."""

from __future__ import annotations

from collections.abc import Iterator
from html import unescape
from typing import Any, NamedTuple

import gradio as gr

from workbench.chat import IDLE_SECONDS, Stop, comparable_words, learned_model, served_models
from workbench.errors import WorkbenchError
from workbench.models.manner import manner_words
from workbench.models.sources import source_of
from workbench.runs.chats import Chat, delete_chat, get_chat
from workbench.runs.checkpoints import instead_words
from workbench.runs.examples import ExampleQuestion, example_questions
from workbench.runs.store import Run
from workbench.services import Services
from workbench.ui.guard import FOLLOW, PRIVATE, QUIET, user_errors
from workbench.ui.playground_batch import build_batch_panel
from workbench.ui.playground_earlier import build_earlier_panel, keep_said
from workbench.ui.playground_pair import build_pair_panel
from workbench.ui.playground_program import build_program_panel
from workbench.ui.playground_settings import build_answer_settings
from workbench.ui.playground_strength import build_strength_panel
from workbench.ui.playground_talk import (
    NOTHING,
    STOPPED,
    STOPPED_EARLY,
    WAITING,
    Side,
    Talk,
    answers,
    model_choices,
    model_label,
    shown,
)
from workbench.ui.playground_tools import build_tools
from workbench.ui.run_choices import choice_to_ask, run_to_ask, runs_to_ask
from workbench.ui.views import plain

GENERAL = ExampleQuestion("", "What is the capital of France?", "", False)
SUGGESTIONS = 5
SUGGESTIONS_LABEL = (
    "Try one of these: how it answers rows that were held back says more than rows it learned"
)
LOOK_SECONDS = 5.0
ALWAYS_THERE = [(model_label(name), name) for name in ("tuned", "base")]
Examples = tuple[ExampleQuestion, ...]
HELP = (
    "Both models get the same question and settings. After "
    f"{IDLE_SECONDS / 60:.0f} minutes without a question they leave the memory; the next one loads them again."
)


class _Writing(NamedTuple):
    """An answer that is written now: how to end it, and the run and the models of both sides."""

    stop: Stop
    of: tuple[str, str, str]


def build_playground_tab(services: Services, page: gr.Blocks, tab: gr.Tab) -> None:
    """Lay the tab out and wire it."""
    with gr.Row(equal_height=True):
        run_choice = gr.Dropdown(
            runs_to_ask(services),
            label="Run",
            info="Every run that has saved a model or a checkpoint.",
            scale=2,
            elem_id="playground-run",
        )
        # Both have a value from the beginning: a question may come before a run's own choices do.
        left_choice = gr.Dropdown(
            ALWAYS_THERE,
            value="tuned",
            label="Left",
            info="Who answers here.",
            min_width=160,
            elem_id="playground-left",
        )
        right_choice = gr.Dropdown(
            ALWAYS_THERE,
            value="base",
            label="Right",
            info="Who answers here.",
            min_width=160,
            elem_id="playground-right",
        )
    model = gr.Markdown(elem_id="playground-model", elem_classes="wb-help")
    with gr.Row():
        left = _chatbot("playground-tuned")
        right = _chatbot("playground-base")
    expected = gr.Markdown(visible=False, elem_id="playground-expected")
    note = gr.Markdown(elem_id="playground-note", elem_classes="wb-help")
    with gr.Row(equal_height=True):
        question = gr.Textbox(
            show_label=False,
            placeholder="Ask something, then press Enter",
            max_lines=6,
            scale=6,
            elem_id="playground-question",
        )
        send = gr.Button(
            "Send", variant="primary", scale=1, min_width=90, elem_id="playground-send"
        )
        stop_button = gr.Button("Stop", scale=1, min_width=90, elem_id="playground-stop")
        clear = gr.Button("Clear", scale=1, min_width=90, elem_id="playground-clear")
    talk = gr.State(Talk())
    chat = gr.State(None)  # what was said up to the last answer that is complete, as it is kept
    pair = build_pair_panel(services, chat)
    earlier = build_earlier_panel(services, run_choice)
    suggestions = gr.Dataset(
        components=["textbox", "textbox", "textbox"],
        headers=["Question", "What your data answers", "In training"],
        samples=suggestion_rows((GENERAL,)),
        label=SUGGESTIONS_LABEL,
        type="index",
        elem_id="playground-examples",
    )
    gr.Markdown(HELP, elem_classes="wb-help")
    examples = gr.State((GENERAL,))
    of_run, of_models = gr.State(None), gr.State(None)  # what the examples, and the talk, are of
    was_loaded = gr.State("")
    with gr.Accordion("Advanced", open=False, elem_id="playground-advanced"):
        answering_how = build_answer_settings()
        strength = build_strength_panel(services, run_choice)
        settings = answering_how | {"strength": strength.slider}
        build_tools(services, run_choice, question, talk, chat, settings, note)
    build_batch_panel(services, page, run_choice)
    build_program_panel(services, run_choice)

    writing: dict[str | None, _Writing] = {}  # the answer that is written now, by visit

    @user_errors
    def ask(text: str, request: gr.Request, **asked: Any) -> Iterator[Any]:
        yield from answer(text, asked["said"].turns, request, **asked)

    @user_errors
    def again(event: gr.RetryData, request: gr.Request, **asked: Any) -> Iterator[Any]:
        turn = _turn(event.index, asked["said"])
        if turn >= 0:  # else it was cleared meanwhile
            yield from answer(asked["said"].question(turn), turn, request, **asked)

    @user_errors
    def edit(event: gr.EditData, request: gr.Request, **asked: Any) -> Iterator[Any]:
        turn = _turn(event.index, asked["said"])
        yield from answer(_text(event.value), turn, request, **asked)

    def stop_here(request: gr.Request) -> None:
        """End the answer of this visit; what is written stays."""
        if now := writing.get(request.session_hash):
            now.stop.set()
            services.chat.stop_loading()

    def give_up(request: gr.Request) -> None:
        """End the answer of this visit, if there is one, and forget it."""
        stop_here(request)
        writing.pop(request.session_hash, None)

    def answer(
        text: str,
        turn: int,
        request: gr.Request,
        run_id: str | None,
        said: Talk,
        left: str,
        right: str,
        known: Examples,
        kept: Chat | None,
        last: Any,
        **values: Any,
    ) -> Iterator[Any]:
        """Let both sides answer a question, after what was said before ``turn``, and keep it."""
        run, left, right = _who_answers(services, run_id, left, right)
        if not text.strip():
            raise WorkbenchError("The question is empty.", "Write something to ask.")
        sides, of_now = _sides(left, right), (run.id, left, right)
        if of_now != last:  # the models were changed just now, and both sides are not empty yet
            said, turn, kept = Talk(), 0, None
        begun = said.before(turn).with_question(text, sides)
        hint = _expected(text, known)
        give_up(request)
        stop = Stop()
        mine = writing[request.session_hash] = _Writing(stop, of_now)
        is_loaded = services.chat.run_id == run.id
        loading = "Reading…" if is_loaded else "Loading the models, about 10 seconds…"
        loading = WAITING if services.chat.users else loading
        as_before, hidden = [gr.skip(), gr.skip()], [gr.skip(), gr.Column(visible=False)]
        now, words = begun, STOPPED
        try:
            both = [shown(begun.left), shown(begun.right)]
            yield [begun, *both, "", loading, hint, *hidden, gr.skip(), of_now]
            with services.chat_with(run, stop) as loaded:
                for now, words in answers(loaded, begun, sides, values, stop):
                    both = [shown(now.left), shown(now.right)]
                    yield [now, *both, "", words, hint, *as_before, run.id, of_now]
        except WorkbenchError:
            if not stop.is_set:
                raise
        finally:
            is_shown = writing.get(request.session_hash) is mine
            if is_shown:
                del writing[request.session_hash]
        if not is_shown:
            # Cleared; what was shown last may have come later than that.
            if request.session_hash not in writing:
                yield [*empty(request), gr.skip(), gr.skip()]
            return
        said_now = tuple(now.side(side) for side in sides)
        # Without a message there is nothing to press Retry at.
        both = [shown(now.left, STOPPED_EARLY), shown(now.right, STOPPED_EARLY)]
        if not any(messages[-1]["content"] for messages in said_now):
            yield [now, *both, "", "Stopped.", hint, *as_before, gr.skip(), of_now]
            return
        complete = Chat(run.id, tuple(sides.values()), said_now, values)
        # A question that is changed in the middle begins another conversation: the rest of this one stays kept.
        goes_on = turn >= said.turns - 1
        kept, problem = keep_said(run, complete, kept if goes_on else None)
        words = f"{words} {problem}".strip()
        yield [now, *both, "", words, hint, kept, gr.skip(), run.id, of_now]

    def describe(run_id: str | None, last: tuple[str, str] | None) -> list[Any]:
        """Show what a run lets one ask, and questions from its own data."""
        if not run_id:
            return [gr.skip()] * len(described)
        run = services.runs.get(run_id)
        now = (run_id, learned_model(run))  # it may have gone on, and saved its model since
        if now == last:  # a busy page also says "changed" of the same run
            return [gr.skip()] * len(described)
        choices = model_choices(run)
        found = (*example_questions(run, SUGGESTIONS), GENERAL)
        return [
            model_line(services, run),
            gr.Dropdown(choices, value=now[1]),
            gr.Dropdown([*choices, ("Nothing", NOTHING)], value="base"),
            gr.Dataset(samples=suggestion_rows(found)),
            found,
            *strength.show(run),
            now,
        ]

    def begin(
        run_id: str | None, left_model: str, right_model: str, last: Any, request: gr.Request
    ) -> list[Any]:
        """Empty both sides and name them after who answers."""
        now = (run_id, left_model, right_model)
        written = writing.get(request.session_hash)
        if now == last or (written and now == written.of):  # a quick person's first question
            return [gr.skip()] * len(begun)
        give_up(request)
        return [*_filled(None, left_model, right_model), now]

    def empty(request: gr.Request) -> list[Any]:
        give_up(request)
        return [Talk(), [], [], "", "", gr.Markdown(visible=False), None, gr.skip()]

    @user_errors
    def open_earlier(run_id: str, chat_id: str) -> list[Any]:
        """Show a conversation that was kept, with who answered and how."""
        run = services.runs.get(run_id)
        found = get_chat(run, chat_id)
        left_model, right_model = (*found.models, NOTHING)[:2]
        for model in found.models:
            if model not in served_models(run):
                raise WorkbenchError(
                    f"{model_label(model)} is not kept any more, and this conversation was with it.",
                    f"It can still be read: conversations/{chat_id}.json in the folder of the run.",
                )
        how = [found.settings.get(name, gr.skip()) for name in settings]
        now = (run_id, left_model, right_model)
        return [*_filled(found, left_model, right_model), now, left_model, right_model, *how]

    @user_errors
    def delete_earlier(run_id: str, chat_id: str) -> None:
        delete_chat(services.runs.get(run_id), chat_id)

    @user_errors
    def show_kept(run_id: str | None, said: Chat | None) -> list[Any]:
        if said and said.run_id != run_id:  # another run was chosen just now, or that one deleted
            said = None
        return [*pair.show(said), *earlier.show(run_id, said)]

    def suggest(index: int, known: Examples) -> list[Any]:
        return [known[index].question, known[index].system]

    def look(was_loaded: str, run_id: str | None) -> list[Any]:
        """Say it when the models have left the memory; take another run when this one was deleted."""
        loaded = services.chat.run_id
        if loaded == was_loaded:
            return [gr.skip()] * 3
        if loaded:
            return [loaded, gr.skip(), gr.skip()]
        words, runs = services.chat.why_gone, runs_to_ask(services)
        if run_id not in [choice for _, choice in runs]:
            gr.Info(words)
            return ["", gr.skip(), choice_to_ask(services, run_id or "")]
        return ["", f"{words} The next question loads them again.", gr.skip()]

    outputs = [talk, left, right, question, note, expected, chat, pair.panel]
    asked = {"run_id": run_choice, "said": talk, "left": left_choice, "right": right_choice}
    options = {
        # The last two: an end before the next look would go unsaid; who is asked already needs no beginning.
        "outputs": [*outputs, was_loaded, of_models],
        "inputs_kwargs": asked | {"known": examples, "kept": chat, "last": of_models} | settings,
        **QUIET,  # all visitors at once: the chat process says who waits
    }
    answering = [
        *(trigger(ask, question, **options) for trigger in (send.click, question.submit)),
        *(trigger(again, None, **options) for trigger in (left.retry, right.retry)),
        *(trigger(edit, None, **options) for trigger in (left.edit, right.edit)),
    ]
    stop_button.click(stop_here, None, None, **QUIET)
    cleared = clear.click(empty, None, outputs, cancels=answering, **QUIET)

    chosen = [run_choice, left_choice, right_choice, of_models]
    described = [
        model, left_choice, right_choice, suggestions, examples, *strength.outputs, of_run
    ]  # fmt: skip
    begun = [*outputs, of_models]
    on_run = gr.on(
        [page.load, run_choice.change], describe, [run_choice, of_run], described, **FOLLOW
    )
    on_tab = tab.select(
        lambda chosen: choice_to_ask(services, chosen), run_choice, run_choice, **QUIET
    ).then(describe, [run_choice, of_run], described, **FOLLOW)
    picked = [run_choice.input, left_choice.input, right_choice.input]
    this_one = [run_choice, earlier.choice]
    opened = [*begun, left_choice, right_choice, *settings.values()]
    deleted = earlier.really.click(delete_earlier, this_one, None, cancels=answering, **PRIVATE)
    for follow in (
        *(event.success for event in answering),
        cleared.success,
        *(event.then(begin, chosen, begun, **FOLLOW).success for event in (on_run, on_tab)),
        gr.on(picked, begin, chosen, begun, cancels=answering, **FOLLOW).success,
        earlier.choice.input(open_earlier, this_one, opened, cancels=answering, **FOLLOW).then,
        deleted.success(empty, None, outputs, **QUIET).success,
    ):
        follow(show_kept, [run_choice, chat], [*pair.outputs, *earlier.outputs], **FOLLOW)
    suggestions.click(suggest, [suggestions, examples], [question, settings["system"]], **QUIET)
    gr.Timer(LOOK_SECONDS).tick(
        look, [was_loaded, run_choice], [was_loaded, note, run_choice], **QUIET
    )


def model_line(services: Services, run: Run) -> str:
    """Name the model that a run tuned, and say what is unusual about asking it, as Markdown."""
    unusual = [instead_words(run), comparable_words(run)]
    try:
        source = source_of(run.config)
    except WorkbenchError:  # a folder that is gone
        words = " ".join(filter(None, unusual))
        return f"Tuned from **{plain(run.config.model)}**. {words}".rstrip()
    manner = manner_words(source, services.models.directory(source))
    words = " ".join(filter(None, (plain(manner), *unusual)))
    return f"Tuned from **{plain(source.label)}**. {words}".rstrip()


def _chatbot(element_id: str) -> gr.Chatbot:
    return gr.Chatbot(
        height=380,
        allow_tags=False,
        latex_delimiters=[],  # a price in dollars is no formula
        buttons=["copy"],
        editable="user",
        feedback_options=None,
        placeholder="The answer appears here.",
        elem_id=element_id,
    )


def _filled(said: Chat | None, left_model: str, right_model: str) -> list[Any]:
    """Show a chat, or an empty one, under the names of who answers."""
    talk = Talk.of(said) if said else Talk()
    right_label = model_label(right_model or "base")
    return [
        talk,
        gr.Chatbot(shown(talk.left), label=model_label(left_model)),
        gr.Chatbot(shown(talk.right), label=right_label, visible=right_model != NOTHING),
        gr.skip(),
        "",
        gr.Markdown(visible=False),
        said,
        gr.skip(),
    ]


def _who_answers(
    services: Services, run_id: str | None, left: str, right: str
) -> tuple[Run, str, str]:
    """Return the run and the models of both sides; a question may come before the choices of the run do.

    Raises:
        WorkbenchError: There is no run.
    """
    run = run_to_ask(services, run_id)
    learned = learned_model(run)
    return run, learned if left == "tuned" else left, learned if right == "tuned" else right


def _sides(left: str, right: str) -> dict[Side, str]:
    """Return who answers where."""
    sides: dict[Side, str] = {"left": left}
    return sides if right == NOTHING else sides | {"right": right}


def _turn(index: Any, said: Talk) -> int:
    """Return which question a message of the page belongs to; the last one if it is gone."""
    return min(int(index) // 2, said.turns - 1)


def _expected(text: str, known: Examples) -> Any:
    for example in known:
        if example.expected and example.question == text:
            return gr.Markdown(f"**In your data:** {plain(example.expected)}", visible=True)
    return gr.Markdown(visible=False)


def suggestion_rows(found: Examples) -> list[list[str]]:
    """Return question, expected answer, and whether training had the row, of each suggestion."""
    return [[example.question, example.expected, _origin(example)] for example in found]


def _origin(example: ExampleQuestion) -> str:
    if not example.expected:
        return "not from your data"
    return "held back: not learned" if example.is_held_back else "learned"


def _text(content: Any) -> str:
    """Undo what ``safe_markdown`` did to a question; gradio may hand a message over as a list of blocks."""
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return unescape("".join(block["text"] for block in blocks if block.get("type") == "text"))
