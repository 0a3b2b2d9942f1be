"""Stands in for ``python -m workbench.training``: plays a script, honours Stop, can crash or hang.

The script is the run's name: ``finish``, ``crash``, ``hang``, ``leave`` (hang with a helper and a successor) or ``steps``.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

from workbench.runs.events import FinishedEvent, PhaseEvent, StartEvent, StepEvent, append_event
from workbench.runs.store import open_run

STEPS = 200


def main(run_dir: Path) -> None:
    run = open_run(run_dir)

    def emit(event):
        append_event(run.events_path, event)

    emit(PhaseEvent(phase="training"))
    if run.name == "crash":
        os._exit(9)
    if run.name == "leave":
        sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
        children = [subprocess.Popen([*sleep, word]) for word in ("helper", "workbench.runs")]
        (run.directory / "children").write_text(" ".join(str(child.pid) for child in children))
    if run.name in ("hang", "leave"):
        time.sleep(600)
    if run.name == "finish":
        run.model_dir.mkdir()
        emit(FinishedEvent(outcome="finished", message="Done.", model_saved=True))
        return
    emit(
        StartEvent(
            total_steps=STEPS, train_rows=8, validation_rows=0, left_out_rows=0, supervised_tokens=8,
            parameters=1, trained_parameters=1, device="cpu", precision="fp32", threads=1,
        )
    )  # fmt: skip
    for step in range(1, STEPS + 1):
        emit(
            StepEvent(
                step=step, epoch=0.1, loss=1 / step, learning_rate=1e-3, grad_norm=1.0, tokens=10,
                seconds=0.05, memory_bytes=1,
            )
        )  # fmt: skip
        time.sleep(0.05)
        if run.stop_path.exists():
            emit(FinishedEvent(outcome="stopped", message=f"Stopped after step {step}."))
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]))
