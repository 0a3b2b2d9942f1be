from workbench.config import STARTER_MODEL
from workbench.models.sources import find_model


def test_the_token_of_one_hub_is_never_shown_to_the_other():
    at_hub, at_modelscope = find_model("owner/name"), find_model("modelscope:owner/name")
    assert at_hub.token_environment("hf_1")["HF_TOKEN"] == "hf_1"
    assert at_modelscope.token_environment("ms-1")["MODELSCOPE_API_TOKEN"] == "ms-1"
    assert at_hub.token_environment(" ms-1") == at_modelscope.token_environment("hf_1") == {}
    assert find_model(STARTER_MODEL).token_environment("hf_1") == {}
