import re

import pytest

from workbench.config import STARTER_MODEL
from workbench.errors import WorkbenchError
from workbench.starting_points import StartingPoints


@pytest.fixture
def points(services):
    return services.starting_points


def test_a_preset_of_ones_own_comes_back_with_what_differs_from_the_defaults(points):
    saved = points.save("  My  <b>style</b> ", {"epochs": "2", "lora_rank": 8, "batch_size": ""})
    assert saved.id.startswith("mine:my-b-style-b-")
    assert points.settings(saved.id) == {"epochs": 2.0, "lora_rank": 8}
    assert saved in points.all()
    points.delete(saved.id)
    assert saved not in points.all()


def test_a_preset_made_on_the_page_names_its_model_and_method(points):
    saved = points.save("Usual", {"model": STARTER_MODEL, "method": "lora", "epochs": ""})
    assert points.settings(saved.id) == {"model": STARTER_MODEL, "method": "lora"}


@pytest.mark.parametrize(
    ("label", "values", "words"),
    [
        ("", {}, "needs a name"),
        (" \n ", {}, "needs a name"),
        ("x", {"epochs": -1}, "Epochs cannot be -1"),
    ],
)
def test_what_cannot_be_saved_is_told(points, label, values, words):
    with pytest.raises(WorkbenchError, match=words):
        points.save(label, values)


def test_a_name_is_taken_once(points):
    points.save("Mine", {})
    with pytest.raises(WorkbenchError, match="already"):
        points.save("mine", {})


@pytest.mark.parametrize("label", ["教师", "Учитель", "Seven!", "Seven?", "../..", "C:\\x", "🎓"])
def test_any_name_will_do_and_no_two_are_the_same(points, services, label):
    points.save("Seven", {"epochs": 7})
    others = [points.save(other, {}) for other in ("Seven.", "学生")]
    saved = points.save(label, {"epochs": 2})
    assert points.settings(saved.id) == points.settings(f"mine:{label}") == {"epochs": 2.0}
    assert points.settings("mine:seven") == {"epochs": 7.0}
    assert {saved, *others} < set(points.all())
    names = [path.name for path in (services.settings.home_dir / "presets").iterdir()]
    assert len(names) == 4
    assert all(re.fullmatch(r"[a-z0-9-]+\.yaml", name) for name in names)
    points.delete(saved.id)
    assert saved not in points.all()


def test_a_preset_of_an_older_version_is_found_and_its_name_is_taken(points, services):
    folder = services.settings.home_dir / "presets"
    folder.mkdir(parents=True)
    (folder / "my-style.yaml").write_text("label: My style\nsettings: {epochs: 3}\n")
    with pytest.raises(WorkbenchError, match="already"):
        points.save("My Style", {})
    assert (
        points.save("my-style", {}).id != "mine:my-style"
    )  # another name, which is no reason to lose the first
    assert points.settings("mine:my-style") == points.settings("mine:My style") == {"epochs": 3.0}


@pytest.mark.parametrize("point_id", ["mine:nope", "mine:../../x", "run:nope", "nope"])
def test_what_is_not_there_is_a_sentence(points, point_id):
    with pytest.raises(WorkbenchError, match="There is no"):
        points.settings(point_id)


def test_a_broken_preset_is_named(points, services):
    points.save("Good", {})
    path = services.settings.home_dir / "presets" / "good.yaml"
    path.write_text("label: x\nsettings: {colour: red}\n", encoding="utf-8")
    assert "My preset: good (cannot be read)" in [point.label for point in points.all()]
    with pytest.raises(WorkbenchError, match="good cannot be used"):
        points.settings("mine:good")


def test_a_past_run_gives_its_settings_and_automatic_ones_stay_automatic(services):
    config = services.configure("extract-json", {"lora_rank": 8})
    data = services.choose_data({"sample-identity": 1.0})
    run = services.create_run(services.plan(config, data), data, "old")
    settings = services.starting_points.settings(f"run:{run.id}")
    assert settings["lora_rank"] == 8
    assert (settings["model"], settings["method"]) == (STARTER_MODEL, "lora")
    assert settings["epochs"] == 4
    assert "learning_rate" not in settings
    again = services.plan(services.configure(f"run:{run.id}", {}), data)
    assert again.config == run.config
    assert isinstance(services.starting_points, StartingPoints)
    for point_id in (f"run:{run.id}", "run:latest"):
        assert services.starting_points.run(point_id) == run
    for point_id in ("run:gone", "extract-json", ""):
        assert services.starting_points.run(point_id) is None
