"""Start, watch and stop training processes. They outlive the page, the server and the terminal.

The channel is files, never a pipe: a new server finds a running process again by the pid in
``process.json`` *and* the run directory on the process's command line, so that a reused pid is not
mistaken for it. The create time is recorded, too, but not compared: it counts from the boot time, which
moves when the clock is set or a laptop wakes up (25 s in one test run), and a live run would seem lost.

One run trains at a time; the others wait in line. Whoever looks after the workspace calls ``advance``: the
page's server, a terminal that waits for its run, and every training process when it ends. When none waits any
more, runs that have ended are evaluated, in a process of its own that leaves as soon as the next run comes.
"""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psutil
from filelock import BaseFileLock, FileLock, Timeout

from workbench.child_progress import is_held
from workbench.errors import WorkbenchError
from workbench.processes import FREQUENT_RETURN, start_child
from workbench.runs import queue
from workbench.runs.events import FinishedEvent, StepEvent, append_event, read_events, skim_events
from workbench.runs.record import Record
from workbench.runs.status import AT_ONCE, SILENT, RunSnapshot, Signs, derive_status
from workbench.runs.store import Run, RunStore, read_json, write_json
from workbench.settings import Settings, cards_of_team, ensure_dir

TRAINER = ("-m", "workbench.training")
TEAM = ("-m", "torch.distributed.run", "--standalone")
EVALUATOR = ("-m", "workbench.evaluation.after_training")
SUCCESSION = "workbench.runs"  # what a run's process starts at its end, see there
LEAVING_SECONDS = 30
STOP_DEADLINE_SECONDS = 600  # without any sign of life; a long step or a large save must fit
RECORDS_KEPT = 8
WAITING_SECONDS = 0.05
GLANCE_SECONDS = 0.2  # for a moment a lock is held by others who only look whether it is


class Supervisor:
    """The training processes of one workspace. Safe to share between threads.

    Args:
        settings: Where the workspace is.
        store: Its runs.
        trainer: What follows ``python`` on the child's command line; tests put a fake here.
    """

    def __init__(
        self, settings: Settings, store: RunStore, trainer: tuple[str, ...] = TRAINER
    ) -> None:
        self._settings = settings
        self._store = store
        self._trainer = trainer
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._evaluator: subprocess.Popen[bytes] | None = None
        # What a run that shall stop wrote last, and when that was first seen.
        self._last_signs: tuple[list[str], float] = [], 0.0
        self._ended: dict[
            str, int
        ] = {}  # which process.json is known to name a process that is gone
        self._records: dict[
            str, tuple[int, Record]
        ] = {}  # bytes read so far, of the runs looked at
        self._summaries: dict[str, tuple[int, Record]] = {}  # the same with few steps, of every run
        self._reading = threading.Lock()

    def start(self, run: Run, secrets: Mapping[str, str] | None = None) -> None:
        """Put a new run in line; it begins at once when no other trains.

        Args:
            run: Which one.
            secrets: Added to the environment of its process if it begins at once; kept nowhere.

        Raises:
            WorkbenchError: This one was started before.
        """
        with self._lock():
            if run.process_path.exists() or run.waiting_path.exists():
                raise WorkbenchError(f"{run.name} was started already.", "Start a new run.")
            queue.join(self._store, run)
            self._start_next(run, secrets)

    def resume(self, run: Run, secrets: Mapping[str, str] | None = None) -> None:
        """Let a run that ended early go on from its last checkpoint, or from the beginning without one.

        Args:
            run: Which one.
            secrets: As for ``start``.

        Raises:
            WorkbenchError: It has finished, or has not ended.
        """
        with self._lock():
            if not self.snapshot(run).can_resume:
                raise WorkbenchError(
                    f'"{run.name}" cannot go on: it is {self.snapshot(run).state}.',
                    "Continue it as a new run instead.",
                )
            run.stop_path.unlink(missing_ok=True)
            run.process_path.unlink(missing_ok=True)
            queue.join(self._store, run)
            self._start_next(run, secrets)

    def advance(self, before_start: Callable[[], None] = lambda: None) -> None:
        """Start the next run in line if none trains, else end the one that does not answer to Stop.

        Args:
            before_start: Called before a run begins, to end what has memory that it needs.
        """
        if active := self.active_run():
            if self._ignores_stop(active):
                self.kill(active, SILENT)
        elif self.line() and not self.is_driving():
            before_start()
            with self._lock():
                self._start_next()

    def evaluate_due(self) -> None:
        """Begin to evaluate the runs that are due, in the background, if no run trains or waits."""
        if self._evaluator and self._evaluator.poll() is None:
            return
        due = any(run.evaluation_due_path.exists() for run in self._store.all())
        if due and self.is_idle():
            with contextlib.suppress(Timeout):
                with self.evaluating_lock():
                    pass  # whoever has it already sees by itself what is due
                log_path = self._settings.logs_dir / "evaluation.log"
                self._evaluator = start_child(EVALUATOR, self._settings, log_path)

    def evaluating_lock(self) -> BaseFileLock:
        """Return the lock of whoever evaluates the runs that are due; ``Timeout`` at once where it is taken."""
        return FileLock(ensure_dir(self._store.root_dir) / ".evaluating.lock", timeout=0)

    @contextlib.contextmanager
    def test_drive(self, before_start: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Let no run begin while the block runs; one that is started meanwhile waits in line, and begins then.

        Args:
            before_start: As for ``advance``.

        Raises:
            WorkbenchError: A run is training, or another test drive goes on.
        """
        self.check_free()  # may wait for a run that leaves
        with self._lock():
            self.check_free()
            try:
                held = self._driving_lock().acquire(timeout=GLANCE_SECONDS)
            except Timeout as error:
                raise WorkbenchError(
                    "Another test drive is going on.", "Try again when it is done."
                ) from error
        try:
            with held:
                yield
        finally:
            self.advance(before_start)

    def is_driving(self) -> bool:
        """Say whether a test drive goes on."""
        return is_held(Path(self._driving_lock().lock_file), GLANCE_SECONDS)

    def is_idle(self) -> bool:
        """Say whether no run trains and none waits."""
        return not self.line() and self.active_run() is None

    def move(self, run: Run, by: int) -> None:
        """Move a run in the line; -1 is one place nearer to its turn."""
        with self._lock():
            queue.move(self._store, run, by)

    def line(self) -> list[Run]:
        """Return the runs that wait, the next one first."""
        return queue.waiting_runs(self._store)

    def check_free(self) -> None:
        """Refuse while a run trains.

        Raises:
            WorkbenchError: Names the run that is training.
        """
        active = self.active_run()
        # A run that has said its last word takes a moment to leave and give its memory back.
        if active and self.snapshot(active).finished and self.wait(active, LEAVING_SECONDS):
            active = None
        if active:
            raise WorkbenchError(
                f'"{active.name}" is still training, and one model trains at a time.',
                "Wait until it has finished, or stop it.",
            )

    def active_run(self) -> Run | None:
        """Return the run whose process is alive, if any."""
        return next((run for run in self._store.all() if self._process(run)), None)

    def memory_bytes(self, run: Run) -> int:
        """Return the memory a run's process has now; 0 when it has none."""
        process = self._process(run)
        try:
            return int(process.memory_info().rss) if process else 0
        except psutil.NoSuchProcess:
            return 0

    def snapshot(self, run: Run) -> RunSnapshot:
        """Return what the run is doing now, with every step."""
        # Look at the process first: a run that ends in between has then already written its events.
        signs = self._signs(run)
        with self._reading:
            offset, record = self._records.pop(run.id, (0, Record()))
            events, offset = read_events(run.events_path, offset)
            record.extend(events)
            self._records[run.id] = offset, record  # the newest last
            while len(self._records) > RECORDS_KEPT:
                self._records.pop(next(iter(self._records)))
            return derive_status(record, signs)

    def summary(self, run: Run) -> RunSnapshot:
        """Return the same with only a few of the steps: quick for hundreds of runs."""
        signs = self._signs(run)
        with self._reading:
            offset, record = self._summaries.get(run.id, (0, Record()))
            events, offset = skim_events(run.events_path, offset)
            if events and isinstance(events[0], StepEvent) and isinstance(record.last, StepEvent):
                record.steps.pop()  # one stretch, of which the last is enough
            record.extend(events)
            self._summaries[run.id] = offset, record
            return derive_status(record, signs)

    def request_stop(self, run: Run) -> None:
        """Ask the run to stop at the next safe point; what it learned so far is saved.

        A run that waits is taken out of the line.
        """
        with self._lock():
            if run.waiting_path.exists():
                run.stop_path.touch()
                queue.leave(run)
                return
        if self._process(run):
            run.stop_path.touch()

    def kill(self, run: Run, why: str = AT_ONCE) -> None:
        """End the run's process at once; what came after its last checkpoint is lost.

        Args:
            run: Which one.
            why: ``AT_ONCE``, the person wants it; ``SILENT``, it does not answer to Stop.
        """
        process = self._process(run)
        if process is None:
            return
        with contextlib.suppress(OSError):  # the disk may be full
            run.stop_path.write_text(why, encoding="utf-8")
        with contextlib.suppress(psutil.NoSuchProcess):  # it ends by itself meanwhile
            for member in _working_on(process):
                member.kill()
            process.wait(timeout=10)

    def wait(self, run: Run, timeout_seconds: float) -> bool:
        """Wait until the run has ended, its turn in the line included; say whether it has."""
        deadline = time.monotonic() + timeout_seconds
        while self._process(run) or run.waiting_path.exists():
            if time.monotonic() > deadline:
                return False
            time.sleep(WAITING_SECONDS)
        return True

    def _lock(self) -> BaseFileLock:
        return FileLock(ensure_dir(self._store.root_dir) / ".start.lock")

    def _driving_lock(self) -> BaseFileLock:
        return FileLock(ensure_dir(self._store.root_dir) / ".test-drive.lock")

    def _start_next(
        self, joined: Run | None = None, secrets: Mapping[str, str] | None = None
    ) -> None:
        """Start the next run in line if none trains; ``secrets`` are for the one that just joined."""
        line = self.line()
        if not line or self.active_run() or self.is_driving():
            return
        run = line[0]
        try:
            self._launch(run, secrets if joined and run.id == joined.id else None)
        except OSError as error:
            with contextlib.suppress(OSError):  # the disk may be full
                append_event(
                    run.events_path,
                    FinishedEvent(
                        outcome="failed",
                        message=f"The training process could not be started: {error.strerror or error}.",
                        hint="Free some memory and disk space, then resume it.",
                    ),
                )
        finally:
            queue.leave(run)  # else it would be tried for ever

    def _launch(self, run: Run, secrets: Mapping[str, str] | None) -> None:
        arguments = [*self._trainer, str(run.directory)]
        environment = dict(secrets or {}) | (FREQUENT_RETURN if run.hands_memory_back else {})
        if (count := self._settings.processes) > 1:
            arguments = [*TEAM, "--nproc-per-node", str(count), *arguments]
            environment |= cards_of_team(count)
        child = start_child(arguments, self._settings, run.log_path, environment=environment)
        self._children[run.id] = child
        try:
            created = psutil.Process(child.pid).create_time()
            write_json(run.process_path, {"pid": child.pid, "create_time": created})
        except OSError:  # nobody would find it again
            child.kill()
            raise

    def _ignores_stop(self, run: Run) -> bool:
        if not run.stop_path.exists():
            return False
        watched = [path for path in (run.stop_path, run.events_path) if path.exists()]
        signs = [f"{path} {path.stat().st_mtime_ns}" for path in watched]
        if self._last_signs[0] != signs:
            self._last_signs = signs, time.monotonic()
        # Our own watch, not the times of the files: a laptop may have slept, or the clock been set.
        return time.monotonic() - self._last_signs[1] > STOP_DEADLINE_SECONDS

    def _signs(self, run: Run) -> Signs:
        alive = self._process(run) is not None
        place = None
        if run.waiting_path.exists() and not alive:
            ids = [other.id for other in self.line()]
            place = ids.index(run.id) + 1 if run.id in ids else None
        return Signs(
            place=place,
            process_started=run.process_path.exists(),
            process_alive=alive,
            stop_requested=run.stop_path.exists(),
            killed=_text_of(run.stop_path),
        )

    def _process(self, run: Run) -> psutil.Process | None:
        """Return the run's live process; a zombie or another process with its pid does not count."""
        child = self._children.get(run.id)
        if child is not None and child.poll() is not None:  # poll() also reaps it
            self._children.pop(run.id, None)  # several may look at once
        try:
            written = run.process_path.stat().st_mtime_ns
        except FileNotFoundError:
            return None
        if self._ended.get(run.id) == written:
            return None
        try:
            process = psutil.Process(read_json(run.process_path)["pid"])
            ours = str(run.directory) in process.cmdline()
            if ours and process.status() != psutil.STATUS_ZOMBIE:
                return process
        except (psutil.NoSuchProcess, psutil.AccessDenied):  # denied: somebody else's
            pass
        except (OSError, ValueError, KeyError, TypeError):  # torn, as after a power cut
            pass
        self._ended[run.id] = written
        return None


def _working_on(process: psutil.Process) -> list[psutil.Process]:
    """Return a run's process and those it works with, not the one it leaves behind to start the next run."""
    found = [process]
    for child in process.children():
        with contextlib.suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            if SUCCESSION not in child.cmdline():
                found = [*_working_on(child), *found]
    return found


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
