"""The line of runs that wait for the device. Each has a ``waiting.json`` with a number; the lowest is next.

Callers hold the workspace's lock while they change it, see ``Supervisor``.
"""

from __future__ import annotations

from collections.abc import Sequence

from workbench.runs.store import Run, RunStore, read_json, write_json


def waiting_runs(store: RunStore) -> list[Run]:
    """Return the runs that wait, the next one first."""
    return sorted((run for run in store.all() if run.waiting_path.exists()), key=_place)


def join(store: RunStore, run: Run) -> None:
    """Put a run at the end of the line."""
    places = [_place(other) for other in waiting_runs(store)]
    write_json(run.waiting_path, {"place": max(places, default=0) + 1})


def leave(run: Run) -> None:
    """Take a run out of the line."""
    run.waiting_path.unlink(missing_ok=True)


def move(store: RunStore, run: Run, by: int) -> None:
    """Move a run in the line, -1 for one place nearer to its turn; at the ends nothing happens."""
    line = waiting_runs(store)
    ids = [other.id for other in line]
    if run.id not in ids:
        return
    old = ids.index(run.id)
    line.insert(min(max(old + by, 0), len(line) - 1), line.pop(old))
    _renumber(line)


def _renumber(line: Sequence[Run]) -> None:
    for place, run in enumerate(line, start=1):
        write_json(run.waiting_path, {"place": place})


def _place(run: Run) -> float:
    try:
        return float(read_json(run.waiting_path)["place"])
    except (OSError, ValueError, KeyError, TypeError):  # it has left the line meanwhile, or is torn
        return 0.0
