"""What a run is given to learn from and to be checked with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from workbench.config import build_config
from workbench.models.rendering import load_tokenizer
from workbench.runs.events import WarningEvent
from workbench.runs.store import DataPart, DataReference, RunStore
from workbench.training.data import NOTHING_TO_CHECK_WITH, prepare_data


@pytest.fixture
def prepare(settings, services, tmp_path, tiny_model_dir):
    """Prepare a run on added datasets; return its parts and the warnings."""

    def run(datasets, validation=None, share=0.0, **values):
        parts = [_part(services, tmp_path, name, rows) for name, rows in datasets]
        checked = _part(services, tmp_path, *validation) if validation else None
        reference = DataReference(tuple(parts), checked, share, 42)
        made = RunStore(settings).create(
            build_config({"max_length": 1024} | values), reference, "r", {}, None
        )
        events = []
        prepared = prepare_data(made, load_tokenizer(tiny_model_dir), tiny_model_dir, events.append)
        return prepared.parts, [
            event.message for event in events if isinstance(event, WarningEvent)
        ]

    return run


def _part(services, tmp_path: Path, name: str, rows: list[dict[str, str]]) -> DataPart:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows))
    info = services.datasets.add(path, name)
    return DataPart(
        info.id, name, str(services.datasets.path(info.id)), info.sha256, len(rows), weight=1.0
    )


def about(word, count, *, questions=None):
    return [
        {"instruction": f"{word} {n % (questions or count)}?", "output": f"{word} {n}."}
        for n in range(count)
    ]


def test_datasets_of_one_name_stay_apart(prepare):
    names = ["a.json (2)", "a.json", "a.json", "b.json"]
    parts, _ = prepare([(name, about(f"w{n}", 3)) for n, name in enumerate(names)])
    assert [part.name for part in parts] == ["a.json (2)", "a.json", "a.json (3)", "b.json"]


def test_each_dataset_holds_its_own_share_back(prepare):
    parts, warnings = prepare([("a", about("a", 20)), ("b", about("b", 40))], share=0.1)
    assert [(len(part.train), len(part.validation)) for part in parts] == [(18, 2), (36, 4)]
    assert warnings == []


def test_a_dataset_of_its_own_checks_and_nothing_is_held_back(prepare):
    parts, warnings = prepare([("a", about("a", 20))], ("b", about("b", 5)), share=0.1)
    assert [(len(part.train), len(part.validation)) for part in parts] == [(20, 0), (0, 5)]
    assert warnings == []


def test_when_nothing_is_left_to_check_with_the_person_is_told(prepare):
    same = about("a", 40, questions=1)
    assert prepare([("a", same)], share=0.1)[1] == [NOTHING_TO_CHECK_WITH]
    too_long = about("b" * 300, 5)
    _, warnings = prepare([("a", about("a", 20))], ("b", too_long), max_length=200)
    assert warnings[-1] == NOTHING_TO_CHECK_WITH
