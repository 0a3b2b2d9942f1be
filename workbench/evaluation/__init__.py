"""Did it get better? ``python -m workbench.evaluation RUN_DIR REQUEST.json`` answers; what is made of it is pure."""
