"""Ask several runs one after the other while the page may be closed: a thread starts each one's process."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import replace

from workbench.child_progress import Progress
from workbench.errors import WorkbenchError
from workbench.evaluation.process import WORDS, cancel, look, start, watch
from workbench.evaluation.request import EvaluationRequest
from workbench.failures import explain
from workbench.runs.store import Run
from workbench.settings import Settings


class AskingLine:
    """What a page has runs asked, one comparison at a time.

    A comparison is known by its request, whose ``compared`` names the runs. A server that ends in between has asked
    only some of them; starting the same again asks the rest.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._present: EvaluationRequest | None = None
        self._failed: Progress | None = None  # why the present one could not go on
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def start(
        self, request: EvaluationRequest, asked: Sequence[tuple[Run, EvaluationRequest]]
    ) -> None:
        """Begin, unless the same is under way; another comparison asks no more runs.

        Args:
            request: The comparison.
            asked: What to ask each run, as ``comparing.compared_requests`` returns it.
        """
        with self._lock:
            if self._works_on(request):
                return
            self._present, self._failed = request, None
            self._thread = threading.Thread(target=self._work, args=(request, asked), daemon=True)
            self._thread.start()

    def stop(self, request: EvaluationRequest, runs: Sequence[Run]) -> None:
        """Stop; what was answered is kept."""
        with self._lock:
            self._present = None
        for run, now in _moments(request, runs):
            if now.state == "running":
                cancel(run, request)

    def look(self, request: EvaluationRequest, runs: Sequence[Run]) -> Progress | None:
        """Return how far it is: of the run that is asked now, else the last word that is no success."""
        is_working = self._works_on(request)  # before the processes: one that ends then has said so
        moments = list(_moments(request, runs))
        for run, now in moments:
            if now.state == "running":
                return replace(now, words=f"{run.name}: {now.words}")
        if is_working:
            return Progress()
        if self._failed and self._present == request:
            return self._failed
        ended = [now for _, now in moments]
        return next((now for now in ended if now.state != "finished"), next(iter(ended), None))

    def _works_on(self, request: EvaluationRequest) -> bool:
        return bool(self._thread and self._thread.is_alive() and self._present == request)

    def _work(
        self, present: EvaluationRequest, asked: Sequence[tuple[Run, EvaluationRequest]]
    ) -> None:
        from workbench.evaluation.result import is_answered  # its libraries take seconds

        try:
            for run, request in asked:
                if self._present != present:
                    return
                if not is_answered(run, request):
                    child = start(run, request, self._settings)
                    *_, last = watch(request.directory(run), child)
                    if last.state != "finished":
                        return
        except (
            WorkbenchError,
            OSError,
        ) as error:  # a run was deleted meanwhile, or the disk is full
            traceback.print_exc()
            failure = explain(error, "The comparison", WORDS)
            with self._lock:
                if self._present == present:
                    self._failed = Progress(
                        "", state="failed", message=failure.message, hint=failure.hint
                    )


def _moments(request: EvaluationRequest, runs: Sequence[Run]) -> Iterator[tuple[Run, Progress]]:
    for run in runs:
        if now := look(request.directory(run)):
            yield run, now
