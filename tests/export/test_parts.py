"""The parts that know no torch: paths, sums, cards, bundles, usage."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tests.made_runs import make_run
from workbench.cli import build_parser
from workbench.errors import WorkbenchError
from workbench.export.adapter import rank_for_vllm
from workbench.export.bundle import Scrubber
from workbench.export.card import LICENCES, base_name, model_card, plain, stopped_words
from workbench.export.process import make_request
from workbench.export.request import KINDS, check_request, check_room, needed_bytes
from workbench.export.sums import measure, measure_folder, sums_text
from workbench.export.usage import ollama_name, usage_lines
from workbench.models.catalogue import catalogue
from workbench.models.facts import ModelFacts
from workbench.models.sources import find_model
from workbench.presets import methods
from workbench.runs.events import read_events
from workbench.runs.record import Record
from workbench.runs.store import RunStore
from workbench.settings import PROJECT_DIR

HOSTILE = '---\n"] evil: [yes\n# <script>alert(1)</script> | `x` ../../etc/passwd\x00'


@pytest.fixture
def run(settings):
    made = make_run(RunStore(settings))
    made.model_dir.mkdir()
    (made.model_dir / "adapter_model.safetensors").write_bytes(b"x" * 10)
    return made


def test_the_pure_parts_need_no_torch():
    modules = ["request", "process", "card", "usage", "bundle", "adapter", "sums", "ollama"]
    modules += ["gguf_tokenizer", "gguf_sentencepiece", "job", "history", "hub"]
    code = "import sys\n" + "\n".join(f"import workbench.export.{name}" for name in modules)
    code += "\nsys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [
        ("adapter", "there", "is there already"),
        ("gguf", "model", "does not end in .gguf"),
        ("bundle", "run.tar", "does not end in .zip"),
        ("merged", "model.zip", "looks like a file"),
        ("adapter", "nowhere/model", "There is no folder"),
        ("gguf", "summed.gguf", "summed.gguf.sha256 is there already"),
    ],
)
def test_a_path_that_cannot_be_is_refused(run, tmp_path, kind, name, words):
    (tmp_path / "there").mkdir()
    (tmp_path / "summed.gguf.sha256").touch()
    with pytest.raises(WorkbenchError, match=words):
        check_request(make_request(kind, tmp_path / name), run)


def test_a_link_to_nowhere_is_there_already(run, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(WorkbenchError, match="is there already"):
        check_request(make_request("adapter", tmp_path / "link"), run)


@pytest.mark.parametrize("method", ["prompt", "ptuning", "prefix", "adapter"])
def test_what_cannot_be_merged_says_so(settings, tmp_path, method):
    run = make_run(RunStore(settings), values={"method": method})
    run.model_dir.mkdir()
    for kind in ("merged", "gguf", "ollama"):
        out = tmp_path / ("x.gguf" if kind == "gguf" else "x")
        with pytest.raises(WorkbenchError, match=r"cannot be merged.*Export the adapter"):
            check_request(make_request(kind, out), run)
    check_request(make_request("adapter", tmp_path / "x"), run)


@pytest.mark.parametrize("method", ["full", "freeze", "galore", "apollo"])
def test_a_whole_model_is_no_adapter(settings, tmp_path, method):
    run = make_run(RunStore(settings), values={"method": method})
    run.model_dir.mkdir()
    with pytest.raises(WorkbenchError, match=r"no adapter.*Export the merged model"):
        check_request(make_request("adapter", tmp_path / "x"), run)


def test_a_bundle_of_a_run_that_continues_another_is_refused(run, tmp_path):
    child = replace(run, continues=True)
    with pytest.raises(WorkbenchError, match="continues another run"):
        check_request(make_request("bundle", tmp_path / "b.zip"), child)
    check_request(make_request("card", tmp_path / "c.md"), child)


@pytest.mark.parametrize(("kind", "name"), [("bundle", "b.zip"), ("card", "c.md")])
def test_a_failed_run_has_no_bundle_and_no_card(settings, tmp_path, kind, name):
    run = make_run(RunStore(settings), outcome="failed")
    with pytest.raises(WorkbenchError, match="no finished model"):
        check_request(make_request(kind, tmp_path / name), run)


def test_where_a_run_was_stopped_is_said(settings):
    run = make_run(RunStore(settings), steps=5, outcome="stopped")
    events = read_events(run.events_path)[0]
    assert stopped_words(Record(events)) == "The training was stopped at step 5 of 5."
    finished = make_run(RunStore(settings))
    assert stopped_words(Record(read_events(finished.events_path)[0])) == ""


def test_a_run_without_a_model_is_refused(settings, tmp_path):
    run = make_run(RunStore(settings))
    with pytest.raises(WorkbenchError, match="no finished model"):
        check_request(make_request("adapter", tmp_path / "x"), run)
    with pytest.raises(WorkbenchError, match="no checkpoint of step 7"):
        check_request(make_request("adapter", tmp_path / "x", checkpoint=7), run)


def test_two_exports_to_one_path_have_names_of_their_own(tmp_path):
    one, other = (make_request("merged", tmp_path / "x") for _ in range(2))
    assert one.partial != other.partial
    assert one.partial_path.parent == tmp_path  # the same disk, so that renaming is one step


def test_room_is_looked_for_before(run, tmp_path, monkeypatch):
    request = make_request("gguf", tmp_path / "x.gguf")
    facts = ModelFacts(1_000_000)
    assert needed_bytes(request, run, tmp_path, facts) == 2_000_000
    small = replace(request, gguf_type="Q8_0")
    assert needed_bytes(small, run, tmp_path, facts) == 1_062_500
    assert needed_bytes(make_request("merged", tmp_path / "x"), run, tmp_path, facts) == 2_000_000
    usage = type("Usage", (), {"free": 60_000_000})
    monkeypatch.setattr("workbench.export.request.shutil.disk_usage", lambda path: usage)
    check_room(request.out_path, 1_000_000)
    with pytest.raises(WorkbenchError, match=r"60 MB free; the export needs about 150 MB"):
        check_room(request.out_path, 100_000_000)


def test_embeddings_of_the_smallest_types_are_counted_as_they_are_kept(run, tmp_path):
    model = catalogue()["smollm2-135m-instruct"]
    facts = ModelFacts(model.parameters, model.architecture)
    embeddings = 49_152 * 576  # the head is the same
    rest = model.parameters - embeddings
    for name, coarse in (("Q5_0", 22 / 32), ("Q4_0", 18 / 32)):
        request = make_request("gguf", tmp_path / "x.gguf", gguf_type=name)
        expected = rest * coarse + embeddings * 34 / 32
        assert needed_bytes(request, run, tmp_path, facts) == pytest.approx(expected)


def test_sums_are_those_of_sha256sum(tmp_path):
    names = ["a.txt", "with space.bin", "back\\slash", "line\nbreak", "ü.txt"]
    for name in names:
        (tmp_path / name).write_text(name)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inner").write_bytes(b"")
    files = measure_folder(tmp_path)
    assert len(files) == len(names) + 1
    assert measure(tmp_path / "a.txt", "a").sha256 == hashlib.sha256(b"a.txt").hexdigest()
    (tmp_path / "SHA256SUMS").write_text(sums_text(files))
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stderr


def test_every_licence_of_the_catalogue_has_its_name_on_the_hub():
    assert {entry.licence for entry in catalogue().values()} <= set(LICENCES)


def card(run, model="smollm2-135m-instruct", kind="adapter", **changes):
    record = Record(read_events(run.events_path)[0])
    return model_card(replace(run, **changes), record, find_model(model), kind, ["a line"])


def test_a_card_says_where_the_model_comes_from(run):
    text = card(run)
    _, matter, body = text.split("---\n", 2)
    assert yaml.safe_load(matter) == {
        "base_model": "HuggingFaceTB/SmolLM2-135M-Instruct",
        "base_model_relation": "adapter",
        "license": "apache-2.0",
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": ["finetune-workbench", "conversational", "lora"],
    }
    assert "# run\n" in body
    assert f"| counting.json | learning | 8 | 1 | `{'0' * 64}` |" in body
    assert "| loss on the rows held back | 2.100 | 1.600 |" in body
    assert "| loss on general questions (what it rises was forgotten) | 1.000 | 1.020 |" in body
    assert "10 steps on 72 rows" in body
    assert "method: lora" in body


def test_a_hostile_name_stays_a_name(run):
    text = card(run, name=HOSTILE)
    _, matter, body = text.split("---\n", 2)
    assert "evil" not in yaml.safe_load(matter)
    heading = next(line for line in body.splitlines() if line.startswith("# "))
    assert "\\<script\\>" in heading
    assert "\\| \\`x\\`" in heading
    assert len([line for line in body.splitlines() if line.startswith("# ")]) == 1


def test_a_folder_goes_by_its_name(run, tmp_path):
    folder = tmp_path / "my-model"
    folder.mkdir()
    source = find_model(str(folder), allow_folder=True)
    assert base_name(source) == "my-model"
    text = model_card(run, Record(), source, "merged", [])
    assert str(tmp_path) not in text
    assert "licence is not known" in text
    assert "base_model:" not in text


def test_plain_text_is_shown_as_it_is():
    assert plain("a\n b_c *d* [e](f)") == r"a b\_c \*d\* \[e\](f)"


def test_paths_and_tokens_are_taken_out(run, settings):
    home = Path.home()
    scrubber = Scrubber.of(run, find_model("smollm2-135m-instruct"), settings.home_dir)
    said = {
        "log": f"see {run.directory}/log.txt and {settings.home_dir}/models",
        "list": [f"{home}/secret", 3, None],
        "token": "failed with hf_" + "a" * 34 + ".",
        "other": "ghp_" + "b" * 36,
    }
    assert scrubber.value(said) == {
        "log": "see RUN/log.txt and WORKSPACE/models",
        "list": ["HOME/secret", 3, None],
        "token": "failed with hf_….",
        "other": "ghp_…",
    }


def test_usage_quotes_what_needs_it():
    assert ollama_name("/a/My Model (2)!/") == "my-model-2"
    assert ollama_name("日本") == "tuned"
    assert usage_lines("ollama", "/a/it's", "b")[0] == """cd '/a/it'"'"'s'"""
    lines = usage_lines("merged", 'a"b', "b")
    assert len(lines) == 4
    compile("\n".join(lines), "usage", "exec")
    lines = usage_lines("adapter", "ad.zip", "base")
    assert 'ZipFile("ad.zip").extractall("ad")' in lines[0]
    assert '"base"), "ad")' in lines[2]


def vllm_words(lines):
    (line,) = [line for line in lines if "vllm serve" in line]
    return shlex.split(line.removeprefix("# vLLM, in the terminal: "))


def test_vllm_is_told_how_to_serve_it(tmp_path):
    assert vllm_words(usage_lines("merged", "/a b/m", "base")) == ["vllm", "serve", "/a b/m"]
    words = vllm_words(usage_lines("adapter", "/a b/x.zip", "o/base", rank=17))
    assert words == [
        "vllm", "serve", "o/base", "--enable-lora", "--max-lora-rank", "32",
        "--lora-modules", "tuned=/a b/x",
    ]  # fmt: skip
    assert "--max-lora-rank" not in vllm_words(usage_lines("adapter", "x", "b", rank=16))
    assert len(usage_lines("adapter", "x", "b")) == len(usage_lines("adapter", "x", "b", rank=999))
    path = tmp_path / "adapter_config.json"
    for config, rank in (
        ({"peft_type": "LORA", "r": 4, "rank_pattern": {"x": 8}}, 8),
        ({"peft_type": "LORA", "r": 4}, 4),
        ({"peft_type": "LORA", "r": 4, "use_dora": True}, 0),
        ({"peft_type": "LORA", "r": 4, "modules_to_save": ["lm_head"]}, 0),
        ({"peft_type": "IA3"}, 0),
    ):
        path.write_text(json.dumps(config))
        assert rank_for_vllm(path) == rank


def test_commands_in_the_guide_are_understood():
    guide = (PROJECT_DIR / "docs" / "export.md").read_text(encoding="utf-8")
    commands = re.findall(r"^workbench (export .+)$", guide, re.MULTILINE)
    assert len(commands) >= 2
    for command in commands:
        words = command.replace("[", "").replace("]", "").replace("KIND", "gguf")
        words = words.replace(" N ", " 3 ").replace("--strength X", "--strength 0.5")
        build_parser().parse_args(shlex.split(words))


def test_the_guide_names_every_kind_and_method():
    guide = (PROJECT_DIR / "docs" / "export.md").read_text(encoding="utf-8")
    for kind in KINDS:
        assert f"`{kind}`" in guide
    for method in methods().values():
        assert method.label.removesuffix(" (4-bit)").lower() in guide.lower()
