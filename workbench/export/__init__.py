"""Take home what a run learned; a child process: ``python -m workbench.export RUN_DIR REQUEST``."""
