"""Fetch one model ahead of time: ``python -m workbench.models MODEL_ID``. Progress goes to a file."""

from __future__ import annotations

import sys

from workbench.errors import WorkbenchError
from workbench.models.catalogue import find_model
from workbench.models.store import ModelStore
from workbench.settings import Settings


def main() -> int:
    """Return 0 when the model is here, 1 when it could not be fetched."""
    try:
        ModelStore(Settings.from_environment()).ensure(
            find_model(sys.argv[1]), lambda progress: None
        )
    except WorkbenchError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
