"""Have a judge asked while the page may be closed: a thread holds the key, which is nowhere else."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from workbench.errors import WorkbenchError
from workbench.evaluation.judging import Judge, judge_rows, leaving_words, rows_to_judge
from workbench.evaluation.result import Evaluation


@dataclass
class _Work:
    """One judging: of which run, how far it is, and how it ended."""

    run_id: str
    total: int
    leaving: str
    done: int = 0
    stopped: bool = False
    failure: str = ""


class JudgingLine:
    """What a page has judged, one evaluation at a time. What was said is kept if the server ends."""

    def __init__(self) -> None:
        self._work: _Work | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def start(self, judge: Judge, evaluation: Evaluation) -> None:
        """Begin with the rows this judge has not seen.

        Raises:
            WorkbenchError: A judge is asked already, or it has seen every row.
        """
        rows = rows_to_judge(judge, evaluation)
        if not rows:
            raise WorkbenchError("This judge has seen every row.", "Its verdict is in the card.")
        with self._lock:
            if self.is_working:
                raise WorkbenchError("A judge is being asked already.", "Stop that first.")
            leaving = leaving_words(judge, len(rows))
            work = self._work = _Work(evaluation.run.id, len(rows), leaving)

            def ask() -> None:
                try:
                    for _ in judge_rows(judge, evaluation, rows):
                        work.done += 1
                        if work.stopped:
                            return
                except WorkbenchError as error:
                    work.failure = f"{error.message} {error.hint}"
                except OSError as error:
                    work.failure = f"What it said could not be written: {error.strerror or error}."
                except Exception as error:  # a thread that dies would look like one that is done
                    work.failure = f"Asking the judge failed: {error}."
                    raise

            self._thread = threading.Thread(target=ask, daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Ask no more after the present row."""
        if self._work:
            self._work.stopped = True

    @property
    def is_working(self) -> bool:
        return bool(self._thread and self._thread.is_alive())

    def words(self, run_id: str | None) -> str:
        """Say how far the judging of a run is, or how it ended; empty where there was none."""
        # The thread first: one that ends has said so.
        is_working, work = self.is_working, self._work
        if work is None or work.run_id != run_id:
            return ""
        if is_working:
            return f"{work.leaving} Judged {work.done:,} of {work.total:,}…"
        if work.failure:
            return work.failure
        if work.stopped and work.done < work.total:
            return f"Stopped after {work.done:,} of {work.total:,} rows, which are kept."
        return f"Judged {work.done:,} rows. The card above says whom it prefers."
