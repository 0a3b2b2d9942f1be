import pytest

from workbench.errors import WorkbenchError
from workbench.settings import (
    FOR_ONE_CHILD,
    Settings,
    child_environment,
    ensure_dir,
    hub_token,
    token_environment,
)


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::"])
def test_other_addresses_need_a_password(settings, host, monkeypatch):
    with pytest.raises(WorkbenchError, match="WORKBENCH_PASSWORD"):
        settings.with_address(host, None).check_address_is_safe()
    monkeypatch.setenv("WORKBENCH_PASSWORD", "secret")
    Settings.from_environment().with_address(host, None).check_address_is_safe()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_loopback_is_the_default_and_needs_none(settings, host):
    assert settings.host == "127.0.0.1"
    settings.with_address(host, 8000).check_address_is_safe()


@pytest.mark.parametrize("value", ["abc", "0", "99999", "-1"])
def test_a_wrong_port_is_a_sentence(monkeypatch, value):
    monkeypatch.setenv("WORKBENCH_PORT", value)
    with pytest.raises(WorkbenchError, match="WORKBENCH_PORT"):
        Settings.from_environment()


def test_children_do_not_get_the_password(monkeypatch):
    monkeypatch.setenv("WORKBENCH_PASSWORD", "secret")
    assert "secret" not in child_environment().values()


def test_a_typed_token_is_for_one_child_and_not_for_its_children(monkeypatch):
    for name, value in token_environment("HF_TOKEN", "secret").items():
        monkeypatch.setenv(name, value)
    assert hub_token() == "secret"
    assert not {"HF_TOKEN", FOR_ONE_CHILD} & child_environment().keys()
    monkeypatch.delenv(FOR_ONE_CHILD)  # one that the workbench was started with
    assert child_environment()["HF_TOKEN"] == "secret"
    assert token_environment("HF_TOKEN", "") == {}


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkbenchError, match="WORKBENCH_HOME"):
        ensure_dir(tmp_path / "file" / "below")


def test_secrets_are_not_shown_with_the_settings(tmp_path):
    secrets = {"password": "one", "api_key": "two", "judge_key": "three"}
    assert not [word for word in secrets.values() if word in repr(Settings(tmp_path, **secrets))]
