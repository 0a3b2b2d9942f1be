import pytest

from workbench.config import STARTER_MODEL, TrainingConfig, build_config
from workbench.errors import WorkbenchError
from workbench.facts import DataFacts, Machine
from workbench.models.catalogue import CatalogueEntry, catalogue
from workbench.models.facts import ModelFacts
from workbench.plan import make_plan
from workbench.presets import find_recipe, load_presets, methods, recipes
from workbench.settings import PRESETS_DIR
from workbench.starting_points import NAMED


def test_every_shipped_preset_loads_and_says_why():
    for preset in [*recipes().values(), *methods().values(), *catalogue().values()]:
        assert len(preset.why) > 20


def test_every_method_of_the_schema_has_a_preset():
    assert len(methods()) == 18
    assert {path.stem for path in (PRESETS_DIR / "methods").iterdir()} == set(methods())


def test_what_is_true_of_a_method_fits_together():
    for name, method in methods().items():
        if method.saves == "model":
            assert method.mergeable, name
            assert not any((method.scalable, method.mixable, method.changes_the_base)), name
        assert method.scalable or not method.mixable, name
        assert method.mergeable or not method.scalable, name


def test_the_starter_model_is_the_first_choice():
    assert next(iter(catalogue())) == STARTER_MODEL


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("label: x\nsumary: y\n", "broken.yaml"),
        ("label: [", "broken.yaml"),
    ],
)
def test_a_broken_preset_names_the_file(tmp_path, text, words):
    (tmp_path / "broken.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(WorkbenchError, match=words):
        load_presets(tmp_path, CatalogueEntry)


def test_an_unknown_recipe_lists_the_known_ones():
    with pytest.raises(WorkbenchError, match="classify-text"):
        find_recipe("nope")


@pytest.mark.parametrize("name", recipes())
def test_a_recipe_can_be_planned_and_every_value_differs_from_the_default_and_says_why(
    name, services
):
    recipe = find_recipe(name)
    config = services.configure(name, {})
    plan = services.plan(config, services.choose_data({"sample-reviews": 1.0}))
    assert plan.total_steps > 0
    for setting, override in recipe.config.items():
        assert getattr(plan.config, setting) == override.value
        # What is chosen already stays, unless it is named: so the default is named where it is needed.
        assert setting in NAMED or override.value != getattr(TrainingConfig(), setting), setting
        assert len(override.why) > 20


def test_the_recipes_are_named_for_eight_intents():
    assert {recipe.label for recipe in recipes().values()} == {
        "Try it in three minutes", "Teach a style", "Teach facts and answers", "Classify text", "Extract JSON",
        "Follow a domain's jargon", "8 GB GPU", "24 GB GPU",
    }  # fmt: skip


def test_three_minutes_show_the_whole_way_checks_and_evaluation_too(services, monkeypatch):
    two_cores = Machine(2, free_memory_bytes=8 * 10**9)
    monkeypatch.setattr("workbench.services.machine_for", lambda *_: two_cores)
    config, data = (
        services.configure("try-it", {}),
        services.choose_data({"sample-identity": 1.0}),
    )
    plan = services.plan(config, data)
    assert plan.seconds <= 180
    assert plan.work.validation_rows > 0
    assert plan.evaluated_rows > 0


def test_what_a_person_sets_wins_over_the_recipe(services):
    assert services.configure("extract-json", {"epochs": 1}).epochs == 1


@pytest.mark.parametrize(("name", "card_bytes"), [("gpu-8gb", 8e9), ("gpu-24gb", 24e9)])
def test_a_recipe_for_a_card_fits_on_it(name, card_bytes):
    config = build_config(find_recipe(name).settings)
    entry = catalogue()[config.model]
    facts = ModelFacts(entry.parameters, entry.architecture)
    machine = Machine(
        8, device="cuda", free_memory_bytes=round(0.95 * card_bytes), precision="bf16"
    )
    rows = DataFacts(5000, 1500.0)
    assert make_plan(config, [rows], facts, methods()[config.method], machine).fit in (
        "fits",
        "tight",
    )
