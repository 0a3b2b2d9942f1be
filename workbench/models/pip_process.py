"""pip, as ``python -m workbench.models.pip_process ARGUMENTS``: it ends when who started it has gone."""

from __future__ import annotations

import runpy

from workbench.processes import end_with_parent

if __name__ == "__main__":
    end_with_parent()
    runpy.run_module("pip", run_name="__main__", alter_sys=True)
