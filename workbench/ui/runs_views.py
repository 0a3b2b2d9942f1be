"""What the Runs tab says of runs: pure functions from runs to rows and sentences. Imports no gradio."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from workbench.errors import WorkbenchError
from workbench.export.process import ExportResult
from workbench.runs.side_by_side import data_names, method_label, model_label, when_words
from workbench.runs.status import RunSnapshot
from workbench.runs.store import Run
from workbench.ui.data_views import shorten
from workbench.ui.views import STATE_WORDS, plain
from workbench.words import describe_bytes, describe_clock

HEADERS = [
    "Name",
    "State",
    "Loss",
    "Model",
    "Method",
    "Data",
    "Took",
    "When",
    "Tags",
    "Note",
    "Folder",
]
ORDERS = {
    "newest": "Newest first",
    "loss": "Lowest loss first",
    "longest": "Longest first",
    "name": "By name",
}
MOST_ROWS = 100  # a browser takes more than a second to draw a table of 500
NO_RUNS = (
    "**No run yet.** Choose data in *1. Data* and press Start in *3. Train*. Every run is kept and listed "
    "here, so that you can compare them."
)
LOSS_HELP = (
    "Loss is the best validation loss, measured on rows held back; where none are, the last training loss. "
    "Lower is better."
)


@dataclass(frozen=True)
class RunEntry:
    """A run and how it is or how it went."""

    run: Run
    snapshot: RunSnapshot


def find_entries(entries: Iterable[RunEntry], words: str) -> list[RunEntry]:
    """Return the runs that have all of the words somewhere; case makes no difference."""
    wanted = words.casefold().split()
    if not wanted:
        return list(entries)
    return [entry for entry in entries if _has_all(entry, wanted)]


def sort_entries(entries: Sequence[RunEntry], order: str) -> list[RunEntry]:
    """Return runs, which come the newest first, in one of ``ORDERS``; what is not measured comes last."""
    if order == "loss":
        return sorted(entries, key=_loss_rank)
    if order == "longest":
        return sorted(entries, key=lambda entry: -entry.snapshot.elapsed_seconds)
    if order == "name":
        return sorted(entries, key=lambda entry: entry.run.name.casefold())
    return list(entries)


def runs_table(entries: Sequence[RunEntry]) -> list[list[str]]:
    """Return a row of text for each of the first runs, under ``HEADERS``; the last cell is its id."""
    listed = entries[:MOST_ROWS]
    return [[*(shorten(cell) for cell in _cells(entry)), entry.run.id] for entry in listed]


def count_words(shown: int, all_runs: int) -> str:
    """Say what the table shows, as Markdown."""
    if not all_runs:
        return NO_RUNS
    noun = "run" if all_runs == 1 else "runs"
    if not shown:
        return f"None of your {all_runs:,} {noun} has all of these words."
    counts = f"{shown:,} of {all_runs:,}" if shown < all_runs else f"{all_runs:,}"
    first = f" The first {MOST_ROWS} are listed: search for others." if shown > MOST_ROWS else ""
    return f"{counts} {noun}.{first} {LOSS_HELP}"


def state_words(snapshot: RunSnapshot) -> str:
    """Say in a word what a run is doing; how far it is while it trains."""
    words = STATE_WORDS[snapshot.state]
    if snapshot.state == "queued":
        return f"{words}, place {snapshot.place}" if snapshot.place else words
    if snapshot.is_active and snapshot.total_steps:
        return f"{words}, {snapshot.step / snapshot.total_steps:.0%}"
    return words


def loss_words(snapshot: RunSnapshot) -> str:
    """Return the best validation loss, else the last training loss; empty without either."""
    best, last = best_loss(snapshot), last_loss(snapshot)
    if best is not None:
        return f"{best:.3f}"
    return "" if last is None else f"{last:.3f} (training)"


def best_loss(snapshot: RunSnapshot) -> float | None:
    """Return the lowest validation loss."""
    return snapshot.best_evaluation.loss if snapshot.best_evaluation else None


def last_loss(snapshot: RunSnapshot) -> float | None:
    """Return the training loss of the last step."""
    return snapshot.steps[-1].loss if snapshot.steps else None


def duration_words(snapshot: RunSnapshot) -> str:
    """Say how long a run took, or has taken so far; empty before it has begun."""
    return describe_clock(snapshot.elapsed_seconds) if snapshot.elapsed_seconds else ""


def read_tags(text: str) -> list[str]:
    """Return the tags of a text such as ``first try, short answers``."""
    return [tag.strip() for tag in text.split(",") if tag.strip()]


def delete_question(
    run: Run,
    checkpoints_bytes: int,
    model_bytes: int,
    all_bytes: int,
    exports: Sequence[ExportResult],
) -> str:
    """Ask whether to delete a run, and say what that frees and what stays, as Markdown.

    Args:
        run: The run.
        checkpoints_bytes: Of its checkpoints.
        model_bytes: Of its tuned model.
        all_bytes: Of its whole directory.
        exports: What was exported of it and lies on this computer.
    """
    parts = [("its checkpoints", checkpoints_bytes), ("its tuned model", model_bytes)]
    named = [f"{name} ({describe_bytes(size)})" for name, size in parts if size]
    gone = ", ".join([*named, "its settings, chart, log, conversations and votes"])
    return (
        f"**Delete “{plain(run.name)}”?** That frees {describe_bytes(all_bytes)}: {gone}. "
        f"It cannot be undone.{_exports_words(exports)}"
    )


def parent_words(run: Run, parent: Run | None) -> str:
    """Say which run a run was made from; empty where from none.

    Args:
        run: The run.
        parent: The run whose id it has as its parent, unless that was deleted.
    """
    if run.parent is None:
        return ""
    name = f"“{parent.name}”" if parent else f"{run.parent}, which was deleted"
    return f"Goes on with what {name} learned." if run.continues else f"Made from {name}."


def check_deletable(run: Run, snapshot: RunSnapshot) -> None:
    """Refuse to delete a run that has not ended.

    Raises:
        WorkbenchError: Says why.
    """
    if snapshot.state == "queued":
        raise WorkbenchError(
            f"“{run.name}” waits for its turn to train.",
            "Stop it in 3. Train first, then delete it.",
        )
    if snapshot.is_active:
        raise WorkbenchError(
            f"“{run.name}” is training now, and its process still writes to it.",
            "Stop it in 3. Train first, or wait until it has finished.",
        )


def _exports_words(exports: Sequence[ExportResult]) -> str:
    if not exports:
        return ""
    size = describe_bytes(sum(export.size_bytes for export in exports))
    if len(exports) == 1:
        return f" Its export ({size}) stays on this disk and is listed nowhere then."
    return f" Its {len(exports):,} exports ({size}) stay on this disk and are listed nowhere then."


def _cells(entry: RunEntry) -> Sequence[str]:
    run, snapshot = entry.run, entry.snapshot
    return (
        run.name,
        state_words(snapshot),
        loss_words(snapshot),
        model_label(run),
        method_label(run),
        data_names(run),
        duration_words(snapshot),
        when_words(run),
        ", ".join(run.tags),
        " ".join(run.note.split()),
    )


def _loss_rank(entry: RunEntry) -> tuple[int, float]:
    """Order by validation loss, then those that have only a training loss by that."""
    losses = (best_loss(entry.snapshot), last_loss(entry.snapshot))
    return next(
        ((rank, loss) for rank, loss in enumerate(losses) if loss is not None), (len(losses), 0.0)
    )


def _has_all(entry: RunEntry, words: Sequence[str]) -> bool:
    run = entry.run
    texts = [*_cells(entry), run.config.model, run.config.method]
    searched = "\n".join(texts).casefold()
    return all(word in searched for word in words)
