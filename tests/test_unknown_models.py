"""A model that was typed and is not here: what cannot work is told before a run is made and anything downloaded."""

from __future__ import annotations

import html
import shutil
from types import SimpleNamespace

import pytest

from tests.made_runs import make_run
from workbench.cli import main
from workbench.copies import start_copy
from workbench.errors import WorkbenchError
from workbench.models import store as store_module
from workbench.models.hub import HubModel
from workbench.models.sources import find_model
from workbench.runs.store import DataReference
from workbench.runs.supervisor import Supervisor
from workbench.ui.app import build_app

NAME = "owner/odd"
SMALL = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 300,
}
LARGE = {"hidden_size": 65536, "intermediate_size": 262144, "num_hidden_layers": 200}


@pytest.fixture
def asked(monkeypatch):
    """Answer for the Hub: what it ``says`` of the model; ``tokens`` lists what it was asked with."""

    asked = SimpleNamespace(says=SMALL, tokens=[])

    def look_up(repository, file, token=""):
        if isinstance(asked.says, WorkbenchError):
            raise asked.says
        asked.tokens.append(token)
        return HubModel("main", {"model.safetensors": 1000}, "", False, asked.says)

    monkeypatch.setattr(store_module, "look_up_on_hub", look_up)
    return asked


@pytest.fixture
def started(monkeypatch):
    """The runs that were started, none for real."""
    runs = []
    monkeypatch.setattr(Supervisor, "start", lambda supervisor, run, *more: runs.append(run))
    return runs


def press_start(services, **chosen):
    """Press Start on the page, with what was chosen in these fields."""
    (press,) = [f for f in build_app(services).fns.values() if f.name == "start_run"]
    values = {component.elem_id or component: component.value for component in press.inputs}
    values |= {name.replace("_", "-"): value for name, value in chosen.items()}
    press.fn(*values.values())


@pytest.fixture(params=["page", "terminal", "copy"])
def start(request, services, capsys):
    """Start a run with this model and method; return what was said against it."""

    def on_page(method):
        press_start(
            services,
            data_choice="sample-identity",
            configure_model=NAME,
            configure_method=method,
        )

    def in_terminal(method):
        arguments = ["--data", "sample-identity", "--model", NAME, "--method", method]
        if main(["train", *arguments, "--detach", "--set", "max_length=64"]):
            raise WorkbenchError(capsys.readouterr().err)

    def as_copy(method):
        part = services.part(services.datasets.usable("sample-identity"))
        old = make_run(services.runs, data=DataReference((part,), None, 0.1, 42))
        start_copy(services, old, {"model": NAME, "method": method})

    chosen = {"page": on_page, "terminal": in_terminal, "copy": as_copy}[request.param]

    def run(method="lora"):
        try:
            chosen(method)
        except Exception as error:  # noqa: BLE001 - on the page it is a notice of gradio's
            return str(error)
        return ""

    return run


@pytest.mark.parametrize(
    ("says", "method", "words"),
    [
        (SMALL | {"model_type": "gpt2"}, "adapter", "this one is gpt2"),
        (SMALL | {"quantization_config": {"quant_method": "awq"}}, "lora", "squeezed with awq"),
        (SMALL | LARGE, "lora", "free"),
        (WorkbenchError("No connection."), "lora", "No connection."),
    ],
    ids=["method", "squeezed", "too large", "offline"],
)
def test_what_cannot_work_is_told_before_a_run_is_made(asked, started, start, says, method, words):
    asked.says = says
    assert words in start(method)
    assert started == []


def test_what_can_work_is_looked_up_once_and_starts(asked, started, start):
    assert [start(), start()] == ["", ""]
    assert asked.tokens == [""]
    assert [run.config.model for run in started] == [NAME, NAME]


def test_what_is_too_large_is_started_anyway_in_the_way_there_is(asked, started, start, request):
    asked.says = SMALL | LARGE
    said = start()
    page, terminal = 'tick "Start anyway' in html.unescape(said), "--force starts" in said
    ways = {"page": (True, False), "terminal": (False, True), "copy": (False, False)}
    assert (page, terminal) == ways[request.node.callspec.params["start"]]


def test_a_plan_without_a_network_does_without(asked, capsys):
    asked.says = WorkbenchError("No connection.")
    assert main(["plan", "--data", "sample-identity", "--model", NAME]) == 0
    assert "Note: No connection." in capsys.readouterr().err


def test_a_token_that_was_typed_goes_with_the_question_and_the_run_until_the_model_is_here(
    asked, services, tiny_model_dir, monkeypatch
):
    given = []
    monkeypatch.setattr(Supervisor, "start", lambda supervisor, run, secrets: given.append(secrets))
    chosen = {"data_choice": "sample-identity", "configure_model": NAME}
    press_start(services, **chosen, models_token=" hf_secret ")
    assert asked.tokens == ["hf_secret"]
    assert given[0]["HF_TOKEN"] == "hf_secret"
    shutil.copytree(tiny_model_dir, services.models.directory(find_model(NAME)))
    press_start(services, **chosen, models_token="hf_secret")
    assert given[1] == {}
