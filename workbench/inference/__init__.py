"""The chat process: ``python -m workbench.inference RUN_DIR``, an OpenAI-compatible server on loopback."""
