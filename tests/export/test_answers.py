"""What was exported answers as the Playground did, and the lines that say how to use it mean what is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.export.made import export, make_run
from tests.export.test_whole import QUESTIONS, answers, from_gguf
from tests.inference.asking import write
from workbench.export.usage import hub_gguf_lines
from workbench.inference.engine import Engine
from workbench.models.rendering import load_tokenizer

TOKENS = 16


@pytest.fixture
def run(services, alpaca_file, model_dir):
    made = make_run(services, alpaca_file, model_dir)
    config_path = made.directory / "config.yaml"  # computing in bf16, merging is not exact
    config_path.write_text(config_path.read_text().replace("precision: auto", "precision: fp32"))
    return services.runs.get(made.id)


def playground(run, base_dir, name):
    """What the process behind the Playground writes."""
    engine, found = Engine(run, base_dir), []
    for question in QUESTIONS:
        prompt = engine.chat_prompt([{"role": "user", "content": question}], TOKENS)
        found.append(write(engine, name, prompt)[0].strip())
    return found


def texts(model, tokenizer):
    written = answers(model, tokenizer, TOKENS)
    return [tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in written]


def readable(text):
    """Without what only a random model writes: embeddings without a token, and halves of letters."""
    return re.sub(r"\[PAD\d+\]|\ufffd", "", text).strip()


def test_playground_merged_model_and_gguf_write_the_same(run, services, model_dir, tmp_path):
    expected = playground(run, model_dir, "tuned")
    assert expected != playground(run, model_dir, "base")
    assert all(expected)
    export(services, run, "merged", tmp_path / "merged")
    export(services, run, "gguf", tmp_path / "m.gguf")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    assert texts(merged, load_tokenizer(tmp_path / "merged")) == expected
    written = texts(*from_gguf(tmp_path / "m.gguf"))
    assert list(map(readable, written)) == list(map(readable, expected))


def test_llama_cpp_writes_the_same(run, services, model_dir, tmp_path):
    llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python comes as source")
    export(services, run, "gguf", tmp_path / "m.gguf")
    model = llama_cpp.Llama(str(tmp_path / "m.gguf"), n_ctx=256, verbose=False)
    found = []
    for question in QUESTIONS:
        said = model.create_chat_completion(
            [{"role": "user", "content": question}], temperature=0.0, repeat_penalty=1.0, max_tokens=TOKENS,
        )  # fmt: skip
        text = readable(said["choices"][0]["message"]["content"].strip())
        # It goes on where the last token is half a letter ("Stop incomplete bytes from passing").
        found.append(text[:-1] if said["usage"]["completion_tokens"] > TOKENS else text)
    expected = playground(run, model_dir, "tuned")
    assert found == list(map(readable, expected))


def words(line):
    return shlex.split(line, comments=True)


def test_the_lines_for_llama_cpp_and_lm_studio_name_the_file(run, services, tmp_path):
    path = tmp_path / "it's my model.gguf"
    cli, server, studio = map(words, export(services, run, "gguf", path).usage)
    assert cli == ["llama-cli", "-m", str(path), "--jinja"]
    assert server == ["llama-server", "-m", str(path), "--jinja"]
    assert studio == ["lms", "import", str(path)]
    assert path.read_bytes()[:4] == b"GGUF"
    (name,) = {words(line)[2] for line in hub_gguf_lines("maria/juniper", "Q8_0")[:2]}
    assert name == "maria/juniper:Q8_0"


def test_the_lines_for_ollama_name_what_is_there(run, services, tmp_path):
    result = export(services, run, "ollama", tmp_path / "My Model")
    (cd, folder), create, begin = map(words, result.usage)
    assert (cd, Path(folder)) == ("cd", tmp_path / "My Model")
    assert create == ["ollama", "create", "my-model", "-f", "Modelfile"]
    assert begin == ["ollama", "run", "my-model"]
    modelfile = (Path(folder) / "Modelfile").read_text()
    weights = re.search(r"^FROM (.+)$", modelfile, re.MULTILINE)[1]
    assert (Path(folder) / weights).read_bytes()[:4] == b"GGUF"
    assert modelfile.count('"""') == 2  # the template, whole


def test_the_lines_for_a_bundle_name_the_file(run, services, tmp_path):
    path = tmp_path / "run 1.zip"
    unpack, enter, train = map(words, export(services, run, "bundle", path).usage)
    assert unpack == ["python", "-m", "zipfile", "-e", str(path), str(path.with_suffix(""))]
    assert enter == ["cd", str(path.with_suffix(""))]
    assert train[:4] == ["workbench", "train", "--config", "config.yaml"]
