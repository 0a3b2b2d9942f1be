"""Imports point one way, and the web process stays light."""

from __future__ import annotations

import ast
import subprocess
import sys

import pytest

from workbench.presets import methods
from workbench.settings import PROJECT_DIR

PACKAGE = PROJECT_DIR / "workbench"
HEAVY = {"torch", "transformers", "peft", "bitsandbytes", "accelerate", "datasets"}
CHILD_ROOMS = (
    "training",
    "inference",
    "evaluation",
    "export",
    "compute.py",
    "asking",
)  # the only places where torch may live

# Room: what it must not import from the package.
FORBIDDEN = {
    "ui": {"training", "inference", "compute", "asking"},
    "training": {"ui", "inference", "cli", "services", "plan", "chat"},
    "export": {"ui", "inference", "cli", "services", "plan", "chat"},
    "inference": {"ui", "training", "cli", "services", "plan"},
    "evaluation": {"ui", "inference", "cli", "services", "plan", "chat"},
    "asking": {
        "ui",
        "inference",
        "evaluation",
        "export",
        "runs",
        "data",
        "cli",
        "services",
        "plan",
    },
    "runs": {"ui", "training", "inference", "cli", "services", "chat", "plan"},
    "data": {"ui", "training", "inference", "runs", "cli", "services", "models", "plan"},
    "models": {"ui", "training", "inference", "runs", "cli", "services", "plan"},
}


def module_level_imports(path, *, whole_file=False):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = ast.walk(tree) if whole_file else tree.body
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def files():
    return sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_heavy_libraries_are_imported_only_where_they_live(path):
    if path.relative_to(PACKAGE).parts[0] in CHILD_ROOMS:
        return
    roots = {name.split(".")[0] for name in module_level_imports(path)}
    assert not roots & HEAVY


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_gradio_is_imported_only_by_the_page(path):
    roots = {name.split(".")[0] for name in module_level_imports(path, whole_file=True)}
    assert "gradio" not in roots or path.relative_to(PACKAGE).parts[0] == "ui"


@pytest.mark.parametrize("room", FORBIDDEN)
def test_imports_point_one_way(room):
    for path in (PACKAGE / room).glob("*.py"):
        imported = {
            name.split(".")[1]
            for name in module_level_imports(path, whole_file=True)
            if name.startswith("workbench.")
        }
        assert not imported & FORBIDDEN[room], path


def test_a_method_is_named_only_where_it_is_made():
    """What else is to be known of one stands in its preset, where who adds one finds it."""
    names = set(methods()) - {"adapter", "full", "prefix", "prompt"}  # also words for other things
    makes = {"config.py", "memory.py", "methods.py", "assembly.py"}
    offers_lora = {"remedies.py", "configure_choices.py"}
    for path in files():
        if path.name not in makes | offers_lora:
            tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            strings = [node.value for node in tree if isinstance(node, ast.Constant)]
            assert not names & {text for text in strings if isinstance(text, str)}, path


def test_nothing_below_the_command_line_imports_the_page():
    for path in files():
        relative = path.relative_to(PACKAGE)
        if relative.parts[0] in ("ui", "cli.py"):
            continue
        names = module_level_imports(path, whole_file=True)
        assert not any(name.startswith("workbench.ui") for name in names), path


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_code_that_came_with_a_model_is_never_run(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        trusted = {word.arg: word.value for word in call.keywords}.get("trust_remote_code")
        assert trusted is None or ast.unparse(trusted) == "False", ast.unparse(call)
        loads = ast.unparse(call.func) in (
            f"Auto{kind}.from_pretrained" for kind in ("Config", "Tokenizer", "ModelForCausalLM")
        )
        assert not loads or trusted is not None, ast.unparse(call)


def test_only_settings_reads_the_environment():
    # Two exceptions, each for the environment of a child: pip's, and the chat process's own token.
    allowed = {"settings.py", "starter.py", "inference/__main__.py"}
    readers = {
        str(path.relative_to(PACKAGE)).removeprefix("models/")
        for path in files()
        if "os.environ" in path.read_text(encoding="utf-8")
    }
    assert readers <= allowed


def test_the_page_loads_without_torch():
    code = "import workbench.ui.app, workbench.cli, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
