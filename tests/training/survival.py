"""Kill a run's trainer, its server or both, in every phase, and hold it against one that was never disturbed.

The test does it a few times; ``python -m tests.training.survival --kills 30`` as often as wanted.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
from safetensors import safe_open

from tests.tiny_model import build_tiny_model
from tests.waiting import wait_until
from workbench.config import build_config
from workbench.runs.checkpoints import complete_checkpoints
from workbench.runs.events import Event, StepEvent, read_events
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
KILLED = ("trainer", "server", "both")
PHASES = ("starting", "preparing data", "loading", "training", "saving")
LONGEST_SECONDS = {"training": 3.0, "loading": 0.5}  # after a phase began; the others are short
LIMIT_SECONDS = 120.0
SERVER = (
    "import sys, time; from workbench.settings import Settings; from workbench.services import Services;"
    "s = Services.for_workspace(Settings.from_environment()); s.look_after_runs(); time.sleep(1e6)"
)
ONE_REQUEST = (
    "import sys; from workbench.settings import Settings; from workbench.services import Services;"
    "s = Services.for_workspace(Settings.from_environment()); r = s.runs.get(sys.argv[1]);"
    "s.supervisor.start(r) if not r.process_path.exists() else s.supervisor.resume(r)"
)


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
    plan = services.plan(build_config(SETTINGS, {"model": str(model)}), chosen)
    return services.create_run(plan, chosen, "survivor")


def python(services: Services, code: str, *arguments: str) -> subprocess.Popen:
    """Start Python code in a process of its own, in the workspace."""
    environment = os.environ | {"WORKBENCH_HOME": str(services.settings.home_dir)}
    return subprocess.Popen([sys.executable, "-c", code, *arguments], env=environment)


class Server:
    """What looks after the runs: the page's server without the page. Can be killed and started again."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self.process = python(services, SERVER)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def start_again(self) -> None:
        self.process = python(self._services, SERVER)


@contextlib.contextmanager
def serving(services: Services) -> Iterator[Server]:
    server = Server(services)
    yield server
    server.kill()


def go_on(services: Services, run) -> None:
    """Press Start or Resume, in a process that leaves right after."""
    assert python(services, ONE_REQUEST, run.id).wait() == 0


def events(run) -> list[Event]:
    return read_events(run.events_path)[0]


def curve(run) -> dict[int, tuple[float, float]]:
    """Return loss and gradient norm of each step; a step done twice must have come out the same."""
    found: dict[int, tuple[float, float]] = {}
    for event in events(run):
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


def wait_for_phase(services: Services, run, phase: str, more_seconds: float):
    """Wait until the run is so far, and a moment longer, or has ended; return how it stands."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while (snapshot := services.supervisor.snapshot(run)).is_active and snapshot.phase != phase:
        assert time.monotonic() < deadline, snapshot
        time.sleep(0.01)  # some phases are short
    time.sleep(more_seconds)
    return services.supervisor.snapshot(run)


def kill_trainer(run) -> None:
    """Kill it, and wait until it is gone."""
    pid = json.loads(run.process_path.read_text())["pid"]
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(pid).kill()
    wait_until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie")


def check_what_is_there(run, shown: list[Event]) -> None:
    """Whatever was shown is still told, whatever counts as whole can be read, and nobody trains twice."""
    assert events(run)[: len(shown)] == shown
    assert len(processes_of(str(run.directory))) <= 1
    whole = [one.directory for one in complete_checkpoints(run.checkpoints_dir)]
    for directory in [*whole, *([run.model_dir] if run.model_dir.exists() else [])]:
        for path in directory.glob("*.json"):
            json.loads(path.read_text(encoding="utf-8"))
        with safe_open(directory / "adapter_model.safetensors", "pt") as file:
            assert [file.get_tensor(name) for name in file.keys()]  # noqa: SIM118 - not a dict


def processes_of(word: str) -> list[list[str]]:
    """Return the command lines of what still runs with a word among its arguments."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.status() != "zombie" and word in " ".join(process.cmdline()):
                found.append(process.cmdline())
    return found


def survive(services: Services, run, kills: list[tuple[str, str]], seed: int) -> list[str]:
    """Kill it so often, then let it finish.

    Args:
        services: Of its workspace, where nothing else runs.
        run: Not started.
        kills: Who is killed, and in which phase.
        seed: Decides the moments.

    Returns:
        What was killed and when: as many as came before the run had ended.
    """
    moments, done = random.Random(seed), []
    with serving(services) as server:
        go_on(services, run)
        for who, phase in kills:
            now = wait_for_phase(
                services, run, phase, moments.uniform(0.0, LONGEST_SECONDS.get(phase, 0.02))
            )
            if not now.is_active:
                break
            shown = events(run)
            if who != "trainer":
                server.kill()
            if who != "server":
                kill_trainer(run)
            done.append(f"{who} while {now.phase}, step {now.step}")
            check_what_is_there(run, shown)
            if who != "trainer":
                server.start_again()
            if (
                who != "server"
                and make_services(services.settings.home_dir).supervisor.snapshot(run).can_resume
            ):
                go_on(services, run)
        snapshot = wait_until_it_ends(services, run)
        assert snapshot.state == "finished", snapshot
        assert snapshot.model_saved
        check_what_is_there(run, [])
    assert processes_of(str(services.settings.home_dir)) == []
    return done


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
        chosen = list(
            itertools.islice(
                zip(itertools.cycle(KILLED), itertools.cycle(PHASES), strict=False), options.kills
            )
        )
        number = 0
        counts: Counter[str] = Counter()
        while chosen:
            number += 1
            run = create(services, data, model)
            done = survive(services, run, chosen, options.seed + number)
            chosen = chosen[len(done) :]
            counts.update(line.split(",")[0] for line in done)
            assert curve(run) == curve(calm)
            print(f"run {number}: {len(done)} kills: {'; '.join(done)}: the same curve", flush=True)
    for what, count in sorted(counts.items()):
        print(f"{count:3} {what}")


if __name__ == "__main__":
    main()
