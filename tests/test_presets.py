import pytest

from workbench.config import STARTER_MODEL
from workbench.errors import WorkbenchError
from workbench.models.catalogue import CatalogueEntry, catalogue
from workbench.presets import find_recipe, load_presets, methods, recipes
from workbench.settings import PRESETS_DIR


def test_every_shipped_preset_loads_and_says_why():
    for preset in [*recipes().values(), *methods().values(), *catalogue().values()]:
        assert len(preset.why) > 20


def test_every_method_of_the_schema_has_a_preset():
    assert len(methods()) == 18
    assert {path.stem for path in (PRESETS_DIR / "methods").iterdir()} == set(methods())


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
