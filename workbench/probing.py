"""Test drive: start a process that does two real steps, and wait for what it measured."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from workbench.errors import WorkbenchError
from workbench.measurements import Measurement, ProbeFailure, read_outcome
from workbench.processes import FREQUENT_RETURN, start_child
from workbench.runs.store import Run
from workbench.settings import Settings

LIMIT_SECONDS = 900  # two steps of the longest examples; more is no use to anybody who waits


def test_drive(run: Run, settings: Settings) -> Measurement:
    """Measure a run that will not be kept; its directory is deleted.

    Args:
        run: Made for this, outside the runs of the workspace.
        settings: Where the workspace is.

    Raises:
        WorkbenchError: It failed, took too long, or was ended by the operating system.
    """
    log_path = settings.logs_dir / "probe.log"
    environment = FREQUENT_RETURN if run.hands_memory_back else {}
    arguments = ["-m", "workbench.training.probe", str(run.directory)]
    child = start_child(arguments, settings, log_path, environment=environment)
    try:
        code = child.wait(LIMIT_SECONDS)
        outcome = read_outcome(run.directory)
    except subprocess.TimeoutExpired as error:
        raise WorkbenchError(
            f"The test drive was not done after {LIMIT_SECONDS // 60} minutes.",
            "Take a smaller model or a shorter maximum length.",
        ) from error
    finally:
        child.kill()
        child.wait()
        shutil.rmtree(run.directory, ignore_errors=True)
    return _measured(outcome, code, log_path)


def _measured(outcome: Measurement | ProbeFailure | None, code: int, log_path: Path) -> Measurement:
    if isinstance(outcome, ProbeFailure):
        raise WorkbenchError(f"The test drive failed: {outcome.message}", outcome.hint)
    if outcome is None:
        raise WorkbenchError(
            f"The test drive was ended by the operating system (code {code}): most often memory ran out.",
            f"Take a smaller model or QLoRA. The details are in {log_path}.",
        )
    return outcome
