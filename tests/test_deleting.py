"""What may be deleted when."""

from __future__ import annotations

import pytest

from tests.made_runs import make_run
from tests.test_copies import child_of, with_checkpoint
from workbench.deleting import delete_run
from workbench.errors import WorkbenchError


def test_a_run_that_another_one_is_to_begin_with_stays(services):
    parent = with_checkpoint(make_run(services.runs, "parent"))
    child = child_of(services, parent, outcome="failed")
    with pytest.raises(WorkbenchError, match="begins with what this one learned"):
        delete_run(services, parent)
    with_checkpoint(child)
    delete_run(services, parent)
    assert services.runs.ids() == [child.id]
