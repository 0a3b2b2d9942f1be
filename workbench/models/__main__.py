"""Fetch one model ahead of time: ``python -m workbench.models MODEL_ID``. Progress goes to a file.

An access token comes as ``HF_TOKEN``.
"""

from __future__ import annotations

import sys

from workbench.downloads import FetchProgress, leave
from workbench.errors import StopRequested, WorkbenchError
from workbench.models.sources import find_model
from workbench.models.store import ModelStore
from workbench.settings import Settings


def main() -> int:
    """Return 0 when the model is here, 1 when it could not be fetched."""
    store, source = ModelStore(Settings.from_environment()), find_model(sys.argv[1])

    def leave_when_cancelled(progress: FetchProgress) -> None:
        if store.is_cancelled(source):
            store.note_cancelled(source, progress)
            raise StopRequested

    try:
        store.ensure(source, leave_when_cancelled)
    except StopRequested:
        return 1
    except WorkbenchError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    leave(main())
