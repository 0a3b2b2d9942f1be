import pytest

from workbench.config import build_config
from workbench.errors import WorkbenchError
from workbench.measurements import (
    Measurement,
    MeasurementStore,
    ProbeFailure,
    read_outcome,
    write_outcome,
)

MEASURED = Measurement(100.0, 2_000_000_000, 9.0, "cpu", "fp32")


def test_a_measurement_is_found_again_where_nothing_that_counts_has_changed(tmp_path):
    store = MeasurementStore(tmp_path / "m", "machine")
    config = build_config({"epochs": 1})
    store.keep(config, 500, MEASURED)
    assert store.find(config, 500) == MEASURED
    assert store.find(config.model_copy(update={"epochs": 9, "learning_rate": 1e-5}), 500)
    for changes in ({"evaluate_after": 0}, {"best_by": "accuracy"}, {"report_to": "trackio"}):
        assert store.find(config.model_copy(update=changes), 500) == MEASURED
    for changes in ({"lora_rank": 64}, {"method": "full"}, {"keep_general": False}):
        assert store.find(config.model_copy(update=changes), 500) is None
    assert store.find(config, 600) is None
    assert MeasurementStore(tmp_path / "m", "another").find(config, 500) is None


@pytest.mark.parametrize("outcome", [MEASURED, ProbeFailure("It broke.", "Mend it.")])
def test_an_outcome_comes_back(tmp_path, outcome):
    assert read_outcome(tmp_path) is None
    write_outcome(tmp_path, outcome)
    assert read_outcome(tmp_path) == outcome


def test_a_test_drive_is_measured_and_the_plan_rests_on_it(services, tiny_model_dir):
    values = {"model": str(tiny_model_dir), "batch_size": 2, "max_length": 256}
    config = services.configure(None, values, allow_folder=True)
    data = services.choose_data({"sample-identity": 1.0})
    measured = services.test_drive(config, data)
    assert measured.tokens_per_second > 0
    assert measured.peak_memory_bytes > 0
    after = services.plan(config, data)
    assert after.measurement == measured
    assert after.peak_memory_bytes == measured.peak_memory_bytes
    assert after.seconds_source == "measured in a test drive"
    assert services.runs.ids() == []
    assert list((services.settings.home_dir / "probes").iterdir()) == []


def test_a_test_drive_that_fails_says_why(services, tiny_model_dir, tmp_path):
    values = {"model": str(tiny_model_dir), "max_length": 16}
    config = services.configure(None, values, allow_folder=True)
    data = services.choose_data({"sample-identity": 1.0})
    with pytest.raises(WorkbenchError, match="longer than the maximum length"):
        services.test_drive(config, data)


def test_what_an_earlier_way_of_training_measured_is_not_found(tmp_path, monkeypatch):
    store, config = MeasurementStore(tmp_path, "this computer"), build_config()
    store.keep(config, 100, MEASURED)
    assert store.find(config, 100) == MEASURED
    monkeypatch.setattr("workbench.measurements.TRAINER_GENERATION", -1)
    assert store.find(config, 100) is None
