"""Playground tab: a file of questions is answered by a process of its own; the answers as a table and as files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from workbench.alone import check_alone, make_room_to_ask
from workbench.chat import OTHER_RUN, learned_model
from workbench.child_progress import Progress
from workbench.config import ANSWER_TOKENS
from workbench.errors import WorkbenchError
from workbench.evaluation.answers import Answer
from workbench.evaluation.process import look, request_stop, start
from workbench.evaluation.questions import (
    AnsweredRow,
    AnswerTable,
    answers_csv,
    answers_jsonl,
    newest_questions,
    questions_request,
    read_answer_table,
    table_words,
)
from workbench.evaluation.request import BASE, TUNED, EvaluationRequest
from workbench.runs.strength import kept_strength
from workbench.services import Services
from workbench.ui.guard import FOLLOW, PRIVATE, QUIET, user_errors
from workbench.ui.playground_talk import NO_ANSWER, model_choices, model_label
from workbench.ui.run_choices import run_to_ask
from workbench.ui.saving import save_on_click

POLL_SECONDS = 1.0
MOST_ROWS = 200  # in the page; the files have all
COLUMN_WIDTHS = {1: ["10%", "45%", "45%"], 2: ["10%", "30%", "30%", "30%"]}  # by number of models
NOTHING_DRAWN = ""
TOO_LONG = "(The question is longer than the model can read.)"
HELP = (
    "One question a line in a `.txt` file, or rows as for training: JSON, JSON lines, CSV or Excel with a column "
    "`question`, `prompt` or `instruction`; answers in it are not used. Every question stands alone, and gets the "
    "likeliest answer (temperature 0); the settings under *Advanced* do not count here, a column `system` does. You may "
    "close the page meanwhile."
)


def build_batch_panel(services: Services, page: gr.Blocks, run_choice: gr.Dropdown) -> None:
    """Lay it out and wire it; what is shown is the file that the run was asked last."""
    limit_mb = services.settings.upload_limit_bytes // 2**20
    with gr.Accordion("Ask many questions from a file", open=False, elem_id="playground-batch"):
        gr.Markdown(HELP, elem_classes="wb-help")
        with gr.Row():
            upload = gr.File(
                label=f"Drop a file of questions here, up to {limit_mb:,} MB",
                height=180,
                elem_id="playground-batch-file",
            )
            with gr.Column(min_width=300):
                who = gr.Dropdown(
                    [(model_label(name), name) for name in (TUNED, BASE)],
                    value=TUNED,
                    label="Who answers",
                    elem_id="playground-batch-model",
                )
                also_base = gr.Checkbox(
                    label="Also the model before training, to compare",
                    elem_id="playground-batch-base",
                )
                tokens = gr.Slider(
                    16, 1024, value=ANSWER_TOKENS, step=8, label="Longest answer (tokens)",
                    info="A token is about 4 letters.", elem_id="playground-batch-tokens",
                )  # fmt: skip
        with gr.Row():
            go = gr.Button(
                "Ask all", variant="primary", min_width=120, elem_id="playground-batch-go"
            )
            stop = gr.Button(
                "Stop", min_width=90, interactive=False, elem_id="playground-batch-stop"
            )
        status = gr.Textbox(
            show_label=False,
            container=False,
            interactive=False,
            visible=False,
            max_lines=4,
            elem_id="playground-batch-status",
        )
        with gr.Column(visible=False) as answered:
            table = gr.Dataframe(
                show_label=False, interactive=False, wrap=True, max_height=420, datatype="str",
                elem_id="playground-batch-rows",
            )  # fmt: skip
            with gr.Row():
                csv_button = gr.Button(
                    "Save the answers (CSV)", size="sm", elem_id="playground-batch-csv"
                )
                jsonl_button = gr.Button(
                    "Save the answers (JSON lines)", size="sm", elem_id="playground-batch-jsonl"
                )
    timer = gr.Timer(POLL_SECONDS, active=False)
    drawn = gr.State(NOTHING_DRAWN)  # what the table shows, in one word

    @user_errors
    def begin(
        run_id: str | None, path: str | None, model: str, with_base: bool, longest: int
    ) -> Iterator[list[Any]]:
        run = run_to_ask(services, run_id)
        if not path:
            raise WorkbenchError("There is no file yet.", "Drop one with your questions first.")
        before = newest_questions(run)
        progress = look(before.directory(run)) if before else None
        if progress is not None and progress.state == "running":
            raise WorkbenchError("This run answers a file just now.", "Wait, or press Stop.")
        check_alone(services)
        yield [gr.Textbox("Reading the file…", visible=True), NOTHING_DRAWN]
        request = questions_request(
            run,
            services.settings,
            Path(path),
            Path(path).name,
            base=with_base or model == BASE,
            tuned=model != BASE,
            checkpoint=_step(model),
            answer_tokens=int(longest),
            strength=kept_strength(run),
        )
        make_room_to_ask(services)
        start(run, request, services.settings)

    @user_errors
    def end(run_id: str | None) -> None:
        run = services.runs.get(run_id or "")
        if request := newest_questions(run):
            request_stop(request.directory(run))

    @user_errors
    def show(run_id: str | None, already_drawn: str) -> list[Any]:
        """Show how far the newest file is, and what is answered so far."""
        off = [gr.Timer(active=False), gr.Button(interactive=False)]
        try:
            run = services.runs.get(run_id or "")
            request = newest_questions(run)
        except WorkbenchError:  # none chosen, or deleted meanwhile
            request = None
        if request is None:
            hidden = [gr.Textbox(visible=False), gr.Column(visible=False)]
            return [*hidden, gr.skip(), NOTHING_DRAWN, *off]
        progress = look(request.directory(run)) or Progress(state="finished")
        is_running = progress.state == "running"
        switches = [gr.Timer(active=True), gr.Button(interactive=True)] if is_running else off
        try:
            to_draw = f"{progress.state} {_changes(request.answer_paths(run).values())}"
            if to_draw == already_drawn:
                line = gr.Textbox(_progress_words(progress)) if is_running else gr.skip()
                return [line, gr.skip(), gr.skip(), to_draw, *switches]
            answers = read_answer_table(run, request)
        except WorkbenchError as error:  # its checkpoint was deleted, say
            line = gr.Textbox(str(error), visible=True)
            return [line, gr.Column(visible=False), gr.skip(), NOTHING_DRAWN, *off]
        return [
            gr.Textbox(_status_words(progress, request, answers), visible=True),
            gr.Column(visible=bool(answers.rows)),
            gr.Dataframe(
                table_cells(answers),
                headers=_headers(request, answers),
                column_widths=COLUMN_WIDTHS[len(answers.models)],
            ),
            to_draw,
            *switches,
        ]

    def describe(run_id: str | None, chosen: str) -> Any:
        """Offer the models there are for a run."""
        if not run_id:
            return gr.skip()
        run = services.runs.get(run_id)
        offered = model_choices(run)
        choices = [choice for choice in offered if not choice[1].startswith(OTHER_RUN)]
        known = chosen in [name for _, name in choices]
        return gr.Dropdown(choices, value=chosen if known else learned_model(run))

    outputs = [status, answered, table, drawn, timer, stop]
    asked = [run_choice, upload, who, also_base, tokens]
    # Afterwards show it also when the file was wrong: then what was there before.
    go.click(begin, asked, [status, drawn], concurrency_limit=1, **PRIVATE).then(
        show, [run_choice, drawn], outputs, **QUIET
    )
    stop.click(end, run_choice, None, **QUIET)
    timer.tick(show, [run_choice, drawn], outputs, **QUIET)
    gr.on([page.load, run_choice.change], show, [run_choice, drawn], outputs, **FOLLOW)
    gr.on([page.load, run_choice.change], describe, [run_choice, who], who, **FOLLOW)
    files = ((csv_button, answers_csv, ".csv"), (jsonl_button, answers_jsonl, ".jsonl"))
    for button, write, ending in files:
        save_on_click(button, partial(answers_file, services, write, ending), run_choice)


def answers_file(
    services: Services, write: Callable[[Sequence[AnsweredRow]], str], ending: str, run_id: str
) -> tuple[str, str]:
    """Return name and text of a file with the answers to a run's newest questions."""
    run = services.runs.get(run_id)
    request = newest_questions(run)
    return f"answers-{run.id}{ending}", write(
        read_answer_table(run, request).rows if request else []
    )


def table_cells(answers: AnswerTable) -> list[list[str]]:
    """Return what the table shows: number, question, and what each model said."""
    return [
        [str(row.row), row.question, *(_said(answer) for answer in row.answers.values())]
        for row in answers.rows[:MOST_ROWS]
    ]


def _said(answer: Answer | None) -> str:
    if answer is None:
        return ""
    return TOO_LONG if answer.text is None else answer.text or NO_ANSWER


def _headers(request: EvaluationRequest, answers: AnswerTable) -> list[str]:
    tuned = TUNED if request.checkpoint is None else f"step-{request.checkpoint}"
    names = [BASE if name == BASE else tuned for name in answers.models]
    return ["Row", "Question", *map(model_label, names)]


def _status_words(progress: Progress, request: EvaluationRequest, answers: AnswerTable) -> str:
    if progress.state == "running":
        return _progress_words(progress)
    words = table_words(request, answers)
    if len(answers.rows) > MOST_ROWS:
        words += f" The first {MOST_ROWS:,} are shown; the files have all."
    if progress.state == "stopped":
        return f"Stopped. {words} With the same file and settings, Ask all goes on from there."
    return f"{_progress_words(progress)} {words}".strip()


def _progress_words(progress: Progress) -> str:
    from workbench.ui.evaluate_views import progress_words  # its libraries take a second

    return progress_words(progress)


def _changes(paths: Iterable[Path]) -> list[tuple[str, int]]:
    """Return what is another value when another file has answers, or more of them."""
    return [(str(path), path.stat().st_size if path.exists() else 0) for path in paths]


def _step(model: str) -> int | None:
    """Return the step of a checkpoint's name; ``None`` for the others."""
    return int(model.removeprefix("step-")) if model.startswith("step-") else None
