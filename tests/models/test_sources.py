from workbench.config import STARTER_MODEL, build_config
from workbench.models.sources import find_model, source_of


def test_the_token_of_one_hub_is_never_shown_to_the_other():
    at_hub, at_modelscope = find_model("owner/name"), find_model("modelscope:owner/name")
    assert at_hub.token_environment("hf_1")["HF_TOKEN"] == "hf_1"
    assert at_modelscope.token_environment("ms-1")["MODELSCOPE_API_TOKEN"] == "ms-1"
    assert at_hub.token_environment(" ms-1") == at_modelscope.token_environment("hf_1") == {}
    assert find_model(STARTER_MODEL).token_environment("hf_1") == {}


def test_a_name_on_a_hub_stays_one_where_a_folder_is_called_the_same(tmp_path, monkeypatch):
    folder = tmp_path / "owner" / "name"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    at_hub = source_of(build_config({"model": "owner/name"}))
    assert (at_hub.kind, at_hub.location) == ("hub", "owner/name")
    typed = find_model("owner/name", allow_folder=True)
    assert (typed.kind, typed.id) == ("folder", str(folder))
    assert source_of(build_config({"model": typed.id})) == typed
