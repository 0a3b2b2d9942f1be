"""The training process: ``python -m workbench.training RUN_DIR``. Torch lives here.

It reads the run directory, and speaks in one way only: ``emit(event)``.
"""
