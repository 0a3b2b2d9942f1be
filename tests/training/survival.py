"""Kill a run at random moments, let it go on each time, and hold it against one that was never disturbed.

The test does it a few times; ``python -m tests.training.survival --kills 30`` as often as wanted.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from tests.tiny_model import build_tiny_model
from workbench.config import build_config
from workbench.runs.events import StepEvent, read_events
from workbench.services import Services
from workbench.settings import Settings

STEPS = 40
SETTINGS = {
    "max_steps": STEPS,
    "save_steps": 3,
    "eval_steps": 10,
    "batch_size": 4,
    "max_length": 256,
    "lora_rank": 4,
    "lora_dropout": 0.1,
    "learning_rate": 5e-3,
    "watched_rows": 1,
    "evaluate_after": 0,
}
LONGEST_SECONDS = 12.0  # from the start of a process: every phase has its turn
LIMIT_SECONDS = 120.0


def rows() -> list[dict[str, str]]:
    return [
        {"instruction": f"What comes after {n}?", "output": f"{n + 1} comes next."}
        for n in range(40)
    ]


def make_services(home: Path) -> Services:
    return Services.for_workspace(Settings(home_dir=home))


def create(services: Services, data: Path, model: Path):
    info = services.datasets.add(data, data.name)
    chosen = services.choose_data({info.id: 1.0})
    plan = services.plan(build_config(SETTINGS, {"model": str(model)}), chosen, allow_folder=True)
    return services.create_run(plan, chosen, "survivor")


def resume_from_a_process_that_is_gone(services: Services, run) -> None:
    """Let the run go on as a server does that is killed right after."""
    code = (
        "import sys; from workbench.settings import Settings; from workbench.services import Services;"
        "s = Services.for_workspace(Settings.from_environment()); r = s.runs.get(sys.argv[1]);"
        "s.supervisor.start(r) if not r.process_path.exists() else s.supervisor.resume(r)"
    )
    environment = os.environ | {"WORKBENCH_HOME": str(services.settings.home_dir)}
    subprocess.run([sys.executable, "-c", code, run.id], check=True, env=environment)


def curve(run) -> dict[int, tuple[float, float]]:
    """Return loss and gradient norm of each step; a step done twice must have come out the same."""
    found: dict[int, tuple[float, float]] = {}
    for event in read_events(run.events_path)[0]:
        if isinstance(event, StepEvent):
            figures = event.loss, event.grad_norm
            assert found.setdefault(event.step, figures) == figures, f"step {event.step} differs"
    return found


def wait_until_it_ends(services: Services, run):
    deadline = time.monotonic() + LIMIT_SECONDS
    while (snapshot := services.supervisor.snapshot(run)).is_active:
        assert time.monotonic() < deadline, snapshot
        time.sleep(0.2)
    return services.supervisor.snapshot(run)


def survive(services: Services, run, kills: int, seed: int) -> list[str]:
    """Kill it so often, then let it finish; return in which phase each kill came."""
    moments, phases = random.Random(seed), []
    for _ in range(kills):
        if services.supervisor.snapshot(run).state == "finished":
            break
        resume_from_a_process_that_is_gone(services, run)
        wait_seconds = moments.uniform(0.0, LONGEST_SECONDS)
        deadline = time.monotonic() + wait_seconds
        while time.monotonic() < deadline and services.supervisor.snapshot(run).is_active:
            time.sleep(0.01)
        before = services.supervisor.snapshot(run)
        pid = json.loads(run.process_path.read_text())["pid"]
        if before.is_active:
            psutil.Process(pid).kill()
        phases.append(f"{before.phase}, step {before.step}")
        while psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie":
            time.sleep(0.01)
    if services.supervisor.snapshot(run).state != "finished":
        resume_from_a_process_that_is_gone(services, run)
    snapshot = wait_until_it_ends(services, run)
    assert snapshot.state == "finished", snapshot
    assert snapshot.model_saved
    return phases


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home, model = Path(folder, "home"), build_tiny_model(Path(folder, "model"))
        data = Path(folder, "counting.json")
        data.write_text(json.dumps(rows()))
        services = make_services(home)
        calm = create(services, data, model)
        services.supervisor.start(calm)
        assert wait_until_it_ends(services, calm).state == "finished"
        kills, number = 0, 0
        while kills < options.kills:
            number += 1
            run = create(services, data, model)
            phases = survive(services, run, options.kills - kills, options.seed + number)
            kills += len(phases)
            assert curve(run) == curve(calm)
            print(
                f"run {number}: {len(phases)} kills: {'; '.join(phases)}: the same curve",
                flush=True,
            )


if __name__ == "__main__":
    main()
