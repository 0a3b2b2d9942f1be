"""Start, watch and stop training processes. They outlive the page, the server and the terminal.

The channel is files, never a pipe: a new server finds a running process again by the pid in
``process.json`` *and* the run directory on the process's command line, so that a reused pid is not
mistaken for it. The create time is recorded, too, but not compared: it counts from the boot time, which
moves when the clock is set or a laptop wakes up (25 s in one test run), and a live run would seem lost.
"""

from __future__ import annotations

import subprocess

import psutil
from filelock import FileLock

from workbench.errors import WorkbenchError
from workbench.processes import FREQUENT_RETURN, start_child
from workbench.runs.events import read_events
from workbench.runs.status import RunSnapshot, derive_status
from workbench.runs.store import Run, RunStore, read_json, write_json
from workbench.settings import Settings, ensure_dir

TRAINER = ("-m", "workbench.training")
LEAVING_SECONDS = 30


class Supervisor:
    """The training processes of one workspace.

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

    def start(self, run: Run, *, hand_memory_back: bool = False) -> None:
        """Start the run's process. One run trains at a time.

        Args:
            run: Which.
            hand_memory_back: Its allocator returns freed memory at once, which is slower.

        Raises:
            WorkbenchError: Another run is training, or this one was started before.
        """
        with FileLock(ensure_dir(self._store.root_dir) / ".start.lock"):
            self.check_free()
            if run.process_path.exists():
                raise WorkbenchError(f"{run.name} was started already.", "Start a new run.")
            arguments = [*self._trainer, str(run.directory)]
            environment = FREQUENT_RETURN if hand_memory_back else {}
            child = start_child(arguments, self._settings, run.log_path, environment=environment)
            self._children[run.id] = child
            created = psutil.Process(child.pid).create_time()
            write_json(run.process_path, {"pid": child.pid, "create_time": created})

    def check_free(self) -> None:
        """Refuse while a run trains.

        Raises:
            WorkbenchError: Names the run that is training.
        """
        active = self.active_run()
        # A run that has said its last word takes a moment to leave and give its memory back.
        if active and not self.snapshot(active).is_active and self.wait(active, LEAVING_SECONDS):
            active = None
        if active:
            raise WorkbenchError(
                f'"{active.name}" is still training, and one model trains at a time.',
                "Wait until it has finished, or stop it.",
            )

    def active_run(self) -> Run | None:
        """Return the run whose process is alive, if any."""
        for run_id in self._store.ids():
            run = self._store.get(run_id)
            if self._process(run):
                return run
        return None

    def snapshot(self, run: Run) -> RunSnapshot:
        """Return what the run is doing now."""
        # Look at the process first: a run that ends in between has then already written its events.
        alive = self._process(run) is not None
        events, _ = read_events(run.events_path)
        return derive_status(
            events,
            process_started=run.process_path.exists(),
            process_alive=alive,
            stop_requested=run.stop_path.exists(),
            created=run.created,
        )

    def request_stop(self, run: Run) -> None:
        """Ask the run to stop at the next safe point; what it learned so far is saved."""
        if self._process(run):
            run.stop_path.touch()

    def kill(self, run: Run) -> None:
        """End the run's process at once; what was not saved is lost."""
        process = self._process(run)
        if process:
            run.stop_path.touch()
            for member in [*process.children(recursive=True), process]:
                member.kill()
            process.wait(timeout=10)

    def wait(self, run: Run, timeout_seconds: float) -> bool:
        """Wait until the run's process has ended; say whether it has."""
        process = self._process(run)
        if process is None:
            return True
        try:
            process.wait(timeout=timeout_seconds)
        except psutil.TimeoutExpired:
            return False
        return True

    def _process(self, run: Run) -> psutil.Process | None:
        """Return the run's live process; a zombie or another process with its pid does not count."""
        child = self._children.get(run.id)
        if child is not None and child.poll() is not None:  # poll() also reaps it
            return None
        if not run.process_path.exists():
            return None
        try:
            process = psutil.Process(read_json(run.process_path)["pid"])
            ours = str(run.directory) in process.cmdline()
            return process if ours and process.status() != psutil.STATUS_ZOMBIE else None
        except (psutil.NoSuchProcess, psutil.AccessDenied):  # denied: somebody else's
            return None
