import pytest
import yaml

from workbench.config import TrainingConfig, build_config, describe_bounds, setting_fields
from workbench.errors import WorkbenchError


def test_every_setting_has_a_label_and_one_sentence_of_help():
    for name, field in setting_fields().items():
        assert field.title, name
        assert field.description.endswith("."), name


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            {"learning_rate": "5"},
            "Learning rate cannot be '5'. It must be a number above 0 up to 0.1",
        ),
        ({"epochs": "many"}, "Epochs cannot be 'many'. It must be a number above 0 up to 1,000"),
        ({"batch_size": 0}, "Batch size cannot be 0. It must be a whole number from 1 up to 1,024"),
        (
            {"method": "magic"},
            "Method cannot be 'magic'. It must be one of lora, qlora, lora-8bit,",
        ),
        ({"lora_rank": ""}, "LoRA rank cannot be ''"),
        ({"learnign_rate": 1}, "There is no setting called 'learnign_rate'. Settings: model,"),
        ({"target_modules": "../x"}, "It must be all-linear, or names of layers"),
        ({"seed": 1.5}, "Seed cannot be 1.5"),
    ],
)
def test_a_wrong_value_is_one_sentence_that_says_what_is_allowed(values, words):
    with pytest.raises(WorkbenchError) as error:
        build_config(values)
    assert words in str(error.value)


def test_all_wrong_settings_are_reported_at_once():
    with pytest.raises(WorkbenchError, match=r"Epochs.*Seed"):
        build_config({"epochs": -1, "seed": -1})


@pytest.mark.parametrize("word", ["auto", "", "none", "AUTO", None])
def test_automatic_is_spelled_in_several_ways(word):
    assert build_config({"epochs": word}).epochs is None


def test_later_layers_win_and_text_becomes_numbers():
    config = build_config({"epochs": 1, "seed": 1}, {"epochs": "2.5", "learning_rate": "1e-4"})
    assert (config.epochs, config.seed, config.learning_rate) == (2.5, 1, 1e-4)


def test_a_config_survives_yaml():
    config = build_config({"learning_rate": 1e-5, "target_modules": "q_proj, v_proj"})
    assert (
        TrainingConfig.model_validate(yaml.safe_load(yaml.safe_dump(config.model_dump()))) == config
    )
    assert config.target_module_names == ["q_proj", "v_proj"]


@pytest.mark.parametrize(
    ("values", "rows", "steps"),
    [
        ({"epochs": 3, "batch_size": 8}, 80, 30),
        ({"epochs": 3, "batch_size": 8}, 81, 33),
        ({"epochs": 0.01, "batch_size": 8}, 80, 1),
        ({"epochs": 3, "batch_size": 8, "max_steps": 5}, 80, 5),
    ],
)
def test_total_steps(values, rows, steps):
    assert build_config(values).total_steps(rows) == steps


def test_adapter_settings_do_not_apply_to_full_tuning():
    assert not build_config({"method": "full"}).uses("lora_rank")
    assert build_config({"method": "qlora"}).uses("lora_rank")
    assert build_config({"method": "full"}).uses("epochs")


def test_every_setting_can_describe_its_bounds():
    assert all(describe_bounds(name) for name in setting_fields())
