"""What the documents say is what the program does."""

from __future__ import annotations

import argparse
import re
import shlex

import pytest

from workbench.cli import build_parser
from workbench.config import describe_bounds, field_extra, setting_fields
from workbench.data.check import check_file
from workbench.data.problems import KINDS
from workbench.data.store import SAMPLES
from workbench.presets import methods
from workbench.settings import PROJECT_DIR, SAMPLES_DIR

README = (PROJECT_DIR / "README.md").read_text(encoding="utf-8")


def settings_table() -> str:
    """The table of settings as it stands in the README; print it to refresh the README."""
    lines = ["| setting | default | takes | does |", "|---|---|---|---|"]
    for name, field in setting_fields().items():
        default = "auto" if field.default is None and name != "max_steps" else field.default
        default = "no limit" if default is None else default
        unit = f" ({field_extra(name)['unit']})" if field_extra(name)["unit"] else ""
        lines.append(
            f"| `{name}` | {default} | {describe_bounds(name)}{unit} | {field.description} |"
        )
    return "\n".join(lines)


def problems_table() -> str:
    """The table of problems as it stands in docs/data.md; print it to refresh the file."""
    lines = ["| code | severity | means | mended by |", "|---|---|---|---|"]
    for code, kind in KINDS.items():
        fix = f"`--{kind.fix}`" if kind.fix else ""
        fix = f"`--drop {code}`" if kind.fix == "drop" else fix
        words = kind.many or kind.one
        words = f"{words[0].upper()}{words[1:]}. {kind.advice}"
        lines.append(f"| `{code}` | {kind.severity} | {words} | {fix} |")
    return "\n".join(lines)


def test_every_problem_is_documented_as_it_is():
    assert problems_table() in (PROJECT_DIR / "docs" / "data.md").read_text(encoding="utf-8")


def test_the_readme_lists_every_setting_as_it_is():
    for line in settings_table().splitlines():
        assert line in README


def test_the_readme_names_every_method():
    table = README.split("| method | for |")[1].split("\n\n")[0]
    named = re.split(r"[|,]\s*", table)
    assert [m.label for m in methods().values() if m.label not in map(str.strip, named)] == []


@pytest.mark.parametrize(
    "command", re.findall(r"^\.venv/bin/workbench (.+)$", README, re.MULTILINE)
)
def test_commands_in_the_readme_are_understood(command):
    build_parser().parse_args(shlex.split(command))


def test_every_verb_is_in_the_readme():
    (verbs,) = (a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    assert len(verbs.choices) > 15
    for verb in verbs.choices:
        assert f"`workbench {verb}" in README, verb


def test_the_example_in_the_readme_is_valid_data(tmp_path):
    example = re.search(r"```json\n(.+?)```", README, re.DOTALL)
    path = tmp_path / "example.json"
    path.write_text(example[1], encoding="utf-8")
    report = check_file(path, "example.json")
    assert (report.usable_rows, report.errors) == (2, ())


@pytest.mark.parametrize("file", [file for file, _ in SAMPLES.values()])
def test_the_samples_are_described_with_their_size(file):
    described = (SAMPLES_DIR / "README.md").read_text(encoding="utf-8")
    for name in (file, file.replace(".json", "-heldout.json")):
        rows = check_file(SAMPLES_DIR / name, name).usable_rows
        assert re.search(rf"`{re.escape(name)}` \| {rows} \|", described), name


def test_pictures_and_links_exist():
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (PROJECT_DIR / target).exists(), target


def test_the_tests_that_the_guide_to_training_names_are_there():
    guide = (PROJECT_DIR / "docs/training.md").read_text(encoding="utf-8")
    code = "".join(p.read_text("utf-8") for p in (PROJECT_DIR / "tests").rglob("test_*.py"))
    named = re.findall(r"`(test_\w+)`", guide)
    assert len(named) > 15
    assert [name for name in named if f"def {name}(" not in code] == []


def verbs() -> dict[str, argparse.ArgumentParser]:
    """The commands, by name."""
    (found,) = (a for a in build_parser()._actions if isinstance(a, argparse._SubParsersAction))
    return found.choices


@pytest.mark.parametrize("verb", verbs())
def test_the_readme_names_every_option_of_a_command(verb):
    shown = [verb, "train"] if verb == "plan" else [verb]  # which has "the options of `train`"
    rows = " ".join(
        row for name in shown for row in re.findall(rf"^\| `workbench {name}\b.*$", README, re.M)
    )
    options = {name for action in verbs()[verb]._actions for name in action.option_strings}
    missing = {name for name in options - {"--help"} if name.startswith("--") and name not in rows}
    assert not missing


@pytest.mark.parametrize(
    "path", sorted((PROJECT_DIR / "workbench").glob("[a-z]*.py")), ids=lambda path: path.name
)
def test_the_layout_names_every_file(path):
    assert path.name in (PROJECT_DIR / "CONTRIBUTING.md").read_text(encoding="utf-8")
