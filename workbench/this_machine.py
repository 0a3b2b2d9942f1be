"""What a plan is told of this computer: what it has, what will be free, and how quick runs were here."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from typing import Any

from workbench.config import TrainingConfig
from workbench.evaluation import process as evaluating
from workbench.facts import Machine
from workbench.hardware import Hardware
from workbench.runs.store import RunStore
from workbench.runs.supervisor import Supervisor


def machine_for(
    config: TrainingConfig, hardware: Hardware, runs: RunStore, supervisor: Supervisor
) -> Machine:
    """Return this computer as a run with these settings will find it.

    Args:
        config: The settings.
        hardware: What there is, and what is free now.
        runs: Earlier ones tell how quick it is, and in which precision.
        supervisor: Knows what trains now, and so gives its memory back before this run begins.
    """
    gpu = hardware.gpus[0] if hardware.gpus else None
    held = 0
    if not gpu:
        active = supervisor.active_run()
        held = supervisor.memory_bytes(active) if active else 0
        held += evaluating.memory_bytes(runs.all())
    free = hardware.free_memory_bytes
    machine = Machine(
        cpu_cores=hardware.cpu_cores,
        device="cuda" if gpu else "cpu",
        device_name=gpu.name if gpu else f"this computer ({hardware.cpu_cores} CPU cores)",
        free_memory_bytes=gpu.free_bytes if gpu else (None if free is None else free + held),
        free_disk_bytes=hardware.free_disk_bytes,
        has_liger=bool(gpu and find_spec("liger_kernel")),
        **_precision(hardware, runs, supervisor),
    )
    speed = _measured_speed(config, machine, runs, supervisor)
    return replace(machine, measured_tokens_per_second=speed)


def _precision(hardware: Hardware, runs: RunStore, supervisor: Supervisor) -> dict[str, Any]:
    """Return what ``auto`` will become: what the last run here found, else what the hardware is made for."""
    gpu = hardware.gpus[0] if hardware.gpus else None
    for run in runs.all():
        if run.config.precision != "auto":
            continue
        start = supervisor.summary(run).start
        if start and (start.device == "cuda") == bool(gpu):
            reason = "your last run here found it quicker"
            return {"precision": start.precision, "precision_reason": reason}
    name = gpu.name if gpu else "this processor"
    if gpu.has_bf16 if gpu else hardware.cpu_is_quick_in_bf16:
        return {"precision": "bf16", "precision_reason": f"{name} is quick in it"}
    return {"precision": "fp32", "precision_reason": f"{name} is not quick in bf16"}


def _measured_speed(
    config: TrainingConfig, machine: Machine, runs: RunStore, supervisor: Supervisor
) -> float | None:
    """Return tokens per second of the newest finished run with this model and method, computed as this one will."""
    precision = machine.precision if config.precision == "auto" else config.precision
    for run in runs.all():
        if (run.config.model, run.config.method) == (config.model, config.method):
            snapshot = supervisor.summary(run)
            start = snapshot.start
            is_alike = start and (start.device, start.precision) == (machine.device, precision)
            if is_alike and snapshot.state == "finished":
                return snapshot.tokens_per_second
    return None
