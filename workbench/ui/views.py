"""What the page says: pure functions from facts to text. Imports no gradio.

HTML is made here only, from our own words and escaped values.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from html import escape

from workbench.config import TrainingConfig, field_extra
from workbench.data.formats import Message
from workbench.downloads import FetchProgress
from workbench.plan import Plan
from workbench.runs.events import SampleEvent
from workbench.runs.reading import Reading
from workbench.runs.status import RunSnapshot
from workbench.runs.store import Run
from workbench.runs.strength import AS_TRAINED, strength_words
from workbench.words import describe_bytes, describe_clock, describe_duration

STATE_WORDS = {
    "queued": "Waiting in line",
    "starting": "Starting",
    "running": "Training",
    "stopping": "Stopping",
    "finished": "Finished",
    "stopped": "Stopped",
    "failed": "Failed",
    "lost": "Lost",
}
FIT_WORDS = {
    "fits": "It fits.",
    "tight": "It is tight: close other programs.",
    "will not fit": "It will not fit.",
    "unknown": "",
}
PHASE_WORDS = {
    "starting": "Starting the training process",
    "downloading": "Downloading the model",
    "preparing data": "Preparing the data",
    "loading": "Loading the model",
    "training": "Training",
    "saving": "Saving the tuned model",
    "leaving": "Giving the memory back",
}
ALWAYS_IN_PLAN = ("epochs", "learning_rate", "batch_size")
IN_PLAN = (
    *ALWAYS_IN_PLAN,
    "activation_checkpointing",
)  # the last one where it is on: it costs time
SAMPLES_SHOWN = 12  # of each question; the first, the last, and some between


def plain(text: str) -> str:
    """Return text that Markdown shows as it is; an address is no link, in which it would show more than it is."""
    escaped = escape(text, quote=False)
    signs = (f"\\{char}" if char in "\\`*_{}[]()#+-.!|~$" else char for char in escaped)
    return "".join(signs).replace("://", "\\://")


def conversation_messages(messages: Sequence[Message]) -> list[dict[str, str]]:
    """Return one conversation as a chat component takes it."""
    return [
        {
            "role": "assistant" if message["role"] == "assistant" else "user",
            "content": chat_text(
                f"System prompt: {message['content']}"
                if message["role"] == "system"
                else message["content"]
            ),
        }
        for message in messages
    ]


def chat_text(text: str) -> str:
    """Return text that a chat component shows as it is; it would take tags for HTML."""
    return escape(text, quote=False)


def plan_sentence(plan: Plan) -> str:
    """Say in one line what Start will do and how long it takes."""
    if plan.seconds is None:
        return f"**{plan.total_steps:,} steps.** How long they take is {plan.seconds_source}."
    return (
        f"**About {describe_duration(plan.seconds)}** on this computer for {plan.total_steps:,} steps "
        f"({plan.seconds_source})."
    )


def plan_details(plan: Plan) -> str:
    """Say what will happen and why, as Markdown."""
    config, work = plan.config, plan.work
    lines = [
        f"- **{work.train_rows:,} examples** to learn from, **{work.validation_rows:,}** held back to check",
        f"- **{work.total_tokens:,} tokens** to read, **{work.supervised_tokens:,}** of them to learn to write"
        f"{_length_words(plan)}",
    ]
    if plan.step_seconds is not None:
        shown = (
            f"{plan.step_seconds:.2g}" if plan.step_seconds < 10 else f"{plan.step_seconds:,.0f}"
        )
        lines.append(f"- about **{shown} seconds** a step")
    lines += [
        f"- {_setting_words(config, name)}, because {plain(reason)}"
        for name, reason in plan.reasons.items()
        if name in IN_PLAN
        and not (name == "epochs" and config.max_steps)  # the steps decide then
        and not (name == "activation_checkpointing" and config.activation_checkpointing == "off")
    ]
    if plan.evaluated_rows:
        lines.append(f"- then, in the background, {_evaluation_words(plan)}")
    lines += [f"- **Note:** {plain(warning)}" for warning in plan.warnings]
    return "\n".join(["### The plan", "", plan_sentence(plan), "", *lines])


def plan_choices(plan: Plan) -> str:
    """Say why everything else has its value that was chosen automatically, as Markdown."""
    lines = [
        f"- {_setting_words(plan.config, name)}: {plain(reason)}"
        for name, reason in plan.reasons.items()
        if name not in ALWAYS_IN_PLAN and plan.config.uses(name)
    ]
    if plan.config.precision == "auto":
        precision, reason = plan.precision
        lines.append(f"- Precision **{precision}**: {plain(reason)}")
    return "\n".join(lines)


def _evaluation_words(plan: Plan) -> str:
    seconds = plan.evaluation_seconds
    rows = f"**{plan.evaluated_rows:,}** of the rows held back are asked before and after training"
    return f"about **{describe_duration(seconds)}** in which {rows}" if seconds else rows


def plan_needs(plan: Plan) -> str:
    """Draw memory and disk against what there is, as HTML."""
    machine = plan.machine
    if plan.peak_memory_bytes is None:
        return (
            '<p class="wb-help">What memory it needs is known once the model is here, or after '
            "<i>Check size and licence</i> under <i>Models on this computer</i>.</p>"
        )
    how = "measured" if plan.measurement else "estimated"
    needs = [_need("Memory", plan.peak_memory_bytes, machine.free_memory_bytes, how, plan.fit)]
    if plan.disk_bytes is not None:
        fit = "will not fit" if plan.disk_is_short else "fits"
        needs.append(_need("Disk", plan.disk_bytes, machine.free_disk_bytes, "at most", fit))
    return f'<div class="wb-needs">{"".join(needs)}<p>{FIT_WORDS[plan.fit]}</p></div>'


def _need(label: str, needed: int, free: int | None, how: str, fit: str) -> str:
    share = min(100.0, 100 * needed / free) if free else 0.0
    of = f" of {describe_bytes(free)} free" if free is not None else ""
    return (
        f'<div class="wb-need wb-{fit.replace(" ", "-")}">{label}: <b>{describe_bytes(needed)}</b>'
        f'{of} ({how})<div class="wb-bar"><div style="width:{share:.0f}%"></div></div></div>'
    )


def _length_words(plan: Plan) -> str:
    if plan.too_long_rows is None:
        return ", roughly"
    if not plan.too_long_rows:
        return ""
    fate = "left out" if plan.config.too_long == "drop" else "cut"
    return (
        f"; **{plan.too_long_rows:,} {'row is' if plan.too_long_rows == 1 else 'rows are'} longer than "
        f"{plan.config.limit_tokens:,} tokens and {fate}**"
    )


def run_status(
    run: Run | None, snapshot: RunSnapshot | None, strength: float = AS_TRAINED, origin: str = ""
) -> str:
    """Draw state, progress bar and figures of a run, the strength kept with it and its origin, as HTML."""
    if run is None or snapshot is None:
        return (
            '<div class="wb-status"><div class="wb-headline">Nothing trained yet</div>'
            "<p>Press Start. The chart appears here, and you may close this page meanwhile.</p></div>"
        )
    share = _progress_share(snapshot)
    moving = " wb-unknown" if share is None and snapshot.is_active else ""
    width = 0 if share is None else round(100 * share, 1)
    figures = "".join(
        f'<div class="wb-figure"><span>{escape(label)}</span><b>{escape(value)}</b></div>'
        for label, value in _figures(snapshot)
    )
    said = (snapshot.message, snapshot.hint, strength_words(strength), origin)
    words = " ".join(part for part in said if part)
    warnings = "".join(f'<p class="wb-warning">{escape(text)}</p>' for text in snapshot.warnings)
    rows = _rows_by_dataset(snapshot)
    return (
        f'<div class="wb-status wb-{snapshot.state}" data-state="{snapshot.state}">'
        f'<div class="wb-headline">{escape(run.name)}: {_headline(snapshot)}</div>'
        f'<div class="wb-bar{moving}" role="progressbar" aria-valuenow="{width}" aria-valuemin="0" '
        f'aria-valuemax="100"><div style="width:{width}%"></div></div>'
        f'<div class="wb-figures">{figures}</div>'
        f"{f'<p>{escape(rows)}</p>' if rows else ''}"
        f"{f'<p>{escape(words)}</p>' if words else ''}{warnings}</div>"
    )


def line_words(waiting: Sequence[Run]) -> str:
    """Say which runs wait, as HTML; empty when none does."""
    if not waiting:
        return ""
    names = "".join(f"<li>{escape(run.name)}</li>" for run in waiting)
    return f'<div class="wb-banner">Waiting in line, the next one first:<ol>{names}</ol></div>'


def reading_words(reading: Reading | None) -> str:
    """Say what the loss means, as HTML."""
    if reading is None:
        return ""
    return (
        f'<div class="wb-reading" data-kind="{escape(reading.kind)}"><b>{escape(reading.sentence)}</b> '
        f"{escape(reading.suggestion)}</div>"
    )


def samples_table(samples: Sequence[SampleEvent]) -> str:
    """Draw what each question was answered, step by step, as HTML."""
    return "".join(
        f'<div class="wb-sample"><h4>{escape(question)}</h4>{_expected_words(events[0])}<table>'
        + "".join(
            f"<tr><th>{_step_words(event.step)}</th><td>{escape(event.answer) or '<i>nothing</i>'}</td></tr>"
            for event in _spread(events)
        )
        + "</table></div>"
        for question, events in _by_question(samples).items()
    )


def _by_question(samples: Sequence[SampleEvent]) -> dict[str, list[SampleEvent]]:
    found: dict[str, list[SampleEvent]] = {}
    for event in samples:
        found.setdefault(event.question, []).append(event)
    return found


def _expected_words(event: SampleEvent) -> str:
    return (
        f'<p class="wb-help">In your data: {escape(event.expected)}</p>' if event.expected else ""
    )


def _step_words(step: int) -> str:
    return f"Step {step:,}" if step else "Before"


def _spread(events: Sequence[SampleEvent]) -> list[SampleEvent]:
    """Return some of the events, evenly spread, the first and the last among them."""
    count = min(len(events), SAMPLES_SHOWN)
    last = len(events) - 1
    return [events[round(place * last / max(1, count - 1))] for place in range(count)]


def fetch_banner(label: str, progress: FetchProgress | None, is_here: bool) -> str:
    """Say how far the download of a model is, as HTML; empty when there is nothing to say."""
    if is_here or progress is None or progress.state == "done":
        return ""
    if progress.state == "failed":
        return (
            f'<div class="wb-banner wb-failed">{escape(label)} is not here yet. '
            f"{escape(progress.message)} Training tries again by itself.</div>"
        )
    if progress.state == "cancelled":
        return (
            f'<div class="wb-banner">The download of {escape(label)} was cancelled. The files that '
            "were complete are kept; Download fetches the others.</div>"
        )
    if progress.state == "converting":
        words = f"{progress.message}, once"
    else:
        words = describe_bytes(progress.done_bytes)
        words += f" of {describe_bytes(progress.total_bytes)}" if progress.total_bytes else ""
    share = progress.done_bytes / progress.total_bytes if progress.total_bytes else 0
    return (
        f'<div class="wb-banner">Fetching {escape(label)}: {escape(words)}. You can go on meanwhile.'
        f'<div class="wb-bar"><div style="width:{100 * share:.0f}%"></div></div></div>'
    )


def run_label(run: Run) -> str:
    """Name a run in a list: what it is called, on what model, and when it was started."""
    when = time.strftime("%d %b %H:%M:%S", time.localtime(run.created))
    return f"{run.name} ({run.config.model}, {when})"


def _headline(snapshot: RunSnapshot) -> str:
    if snapshot.state == "running" or snapshot.phase == "leaving":
        return PHASE_WORDS[snapshot.phase]
    if snapshot.state == "starting":
        return PHASE_WORDS["starting"]
    if snapshot.state == "stopping":
        return _stopping_words(snapshot)
    return STATE_WORDS[snapshot.state]


def _stopping_words(snapshot: RunSnapshot) -> str:
    if snapshot.phase == "saving":
        return "Saving what it learned"
    if snapshot.phase != "training":
        return "Stopping before any step"
    return (
        "Stopping after this step, then saving" if snapshot.step else "Stopping in the first step"
    )


def _progress_share(snapshot: RunSnapshot) -> float | None:
    """Return how much of the present phase is done, or ``None`` where nobody knows."""
    if snapshot.state == "finished":
        return 1.0
    if snapshot.total_steps:
        return min(1.0, snapshot.step / snapshot.total_steps)
    download = snapshot.download
    if snapshot.phase == "downloading" and download and download.total_bytes:
        return download.done_bytes / download.total_bytes
    return None


def _figures(snapshot: RunSnapshot) -> list[tuple[str, str]]:
    figures: list[tuple[str, str]] = []
    if snapshot.total_steps:
        figures.append(("Step", f"{snapshot.step:,} of {snapshot.total_steps:,}"))
    elif snapshot.phase == "downloading" and snapshot.download:
        download = snapshot.download
        size = f"{describe_bytes(download.done_bytes)} of {describe_bytes(download.total_bytes)}"
        figures.append(("Download", download.message or size))
    if snapshot.is_active and snapshot.eta_seconds is not None:
        figures.append(("Time left", describe_clock(snapshot.eta_seconds)))
    figures.append(
        ("Time so far" if snapshot.is_active else "Took", describe_clock(snapshot.elapsed_seconds))
    )
    if snapshot.steps and snapshot.steps[-1].loss is not None:
        figures.append(("Training loss", f"{snapshot.steps[-1].loss:.3f}"))
    if snapshot.evaluations and snapshot.evaluations[-1].loss is not None:
        figures.append(("Validation loss", f"{snapshot.evaluations[-1].loss:.3f}"))
        by_dataset = snapshot.evaluations[-1].by_dataset
        figures += [(f"… {name}", f"{loss:.3f}") for name, loss in by_dataset.items()]
    if words := _general_words(snapshot):
        figures.append(("General skills", words))
    if snapshot.tokens_per_second:
        figures.append(("Speed", f"{snapshot.tokens_per_second:,.0f} tokens/s"))
    if snapshot.memory_bytes:
        on_gpu = bool(snapshot.start and snapshot.start.device == "cuda")
        label = "GPU memory" if on_gpu else "Memory"
        figures.append((label, describe_bytes(snapshot.memory_bytes)))
    return figures


def _general_words(snapshot: RunSnapshot) -> str:
    """Say how the loss on general questions changed; empty until it was measured twice."""
    losses = [event.loss for event in snapshot.general if event.loss is not None]
    if len(losses) < 2:
        return ""
    change = losses[-1] / losses[0] - 1
    return f"loss {losses[0]:.2f} → {losses[-1]:.2f} ({change:+.1%})"


def _rows_by_dataset(snapshot: RunSnapshot) -> str:
    """Say what an epoch has of each dataset and what checks it; empty when there is only one."""
    by_dataset = snapshot.start.by_dataset if snapshot.start else {}
    if len(by_dataset) < 2:
        return ""
    counts = [
        f"{name} {train_rows:,} to learn from and {validation_rows:,} to check with"
        for name, (train_rows, validation_rows) in by_dataset.items()
    ]
    return f"Examples in an epoch: {'; '.join(counts)}."


def _setting_words(config: TrainingConfig, name: str) -> str:
    value, unit = getattr(config, name), field_extra(name)["unit"]
    label = TrainingConfig.model_fields[name].title
    shown = value if isinstance(value, str) else f"{value:g}"
    return f"{label} **{shown}**{f' {unit}' if unit else ''}"
