"""Every method with the starter model, from Start to an answer: ``python -m tests.training.every_method``.

Each run is killed after its first checkpoint and goes on; then its model is loaded in another process and chats beside
the one it started from, and both are evaluated on rows that were held back. The tests do the same with a tiny model.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from tests.training.survival import kill_trainer
from tests.waiting import wait_until
from workbench.config import build_config
from workbench.evaluation.process import start, watch
from workbench.evaluation.request import EvaluationRequest, write_request
from workbench.evaluation.result import read_evaluation
from workbench.presets import methods
from workbench.runs.store import Run
from workbench.services import Services
from workbench.settings import Settings

STEPS = 4
LIMIT_SECONDS = 900
SETTINGS = {
    "max_steps": STEPS,
    "save_steps": 2,
    "batch_size": 2,
    "watched_rows": 1,
    "evaluate_after": 0,
    "keep_general": False,
}
QUESTION = {"role": "user", "content": "Who are you?"}
SAMPLING = {"temperature": 0, "max_tokens": 12}


def train(services: Services, method: str) -> Run:
    """Train so far that there is a checkpoint, kill it, and let it go on to its end."""
    data = services.choose_data({"sample-identity": 1.0})
    plan = services.plan(build_config(SETTINGS | {"method": method}), data)
    run = services.create_run(plan, data, method)
    services.supervisor.start(run)

    def is_saved():
        snapshot = services.supervisor.snapshot(run)
        assert snapshot.is_active or snapshot.checkpoints, snapshot
        return snapshot.checkpoints

    wait_until(is_saved, LIMIT_SECONDS)
    kill_trainer(run)
    assert services.supervisor.snapshot(run).can_resume, services.supervisor.snapshot(run)
    services.supervisor.resume(run)
    assert services.supervisor.wait(run, LIMIT_SECONDS)
    snapshot = services.supervisor.snapshot(run)
    assert (snapshot.state, snapshot.model_saved) == ("finished", True), snapshot
    assert [step.step for step in snapshot.steps] == list(range(1, STEPS + 1))
    return run


def chat(services: Services, run: Run) -> dict[str, str]:
    """Return what the tuned model and the one it started from answer."""
    said = {}
    with services.chat_with(run) as loaded:
        for model in ("tuned", "base"):
            *_, reply = loaded.replies(model, [QUESTION], **SAMPLING)
            said[model] = reply.text
    services.chat.close()
    assert all(said.values()), said
    return said


def evaluate(services: Services, run: Run) -> tuple[float, float]:
    """Return the loss per token of both models on two rows that were held back."""
    request = EvaluationRequest(limit=2)
    write_request(run, request)
    directory = request.directory(run)
    *_, last = watch(directory, start(run, request, services.settings))
    assert last.state == "finished", last
    evaluation = read_evaluation(run, request)
    assert evaluation.is_complete
    base, tuned = (evaluation.metrics[side].figures["loss"].value for side in ("base", "tuned"))
    return base, tuned


def main() -> None:
    """Print a line for each method."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", nargs="+", choices=list(methods()), default=list(methods()))
    options = parser.parse_args()
    settings = Settings.from_environment()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "models").symlink_to(settings.models_dir)
        services = Services.for_workspace(Settings(home_dir=home))
        for method in options.methods:
            began = time.monotonic()
            run = train(services, method)
            said = chat(services, run)
            base, tuned = evaluate(services, run)
            print(
                f"{method}: killed, resumed, {time.monotonic() - began:.0f} s; loss {base:.3f} to {tuned:.3f}; "
                f"says {said['tuned']!r} (before: {said['base']!r})",
                flush=True,
            )


if __name__ == "__main__":
    main()
