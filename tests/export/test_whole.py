"""Merged models and GGUF files of tiny models: they say what the run's own model says, or are not there."""

from __future__ import annotations

import json

import gguf
import peft
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.export.made import build_model, export, make_run
from workbench.compute import Compute
from workbench.errors import WorkbenchError
from workbench.export import gguf_file, merging, whole
from workbench.export.gguf_tokenizer import adds_bos
from workbench.models.rendering import load_tokenizer, prompt_ids
from workbench.presets import methods
from workbench.training.loading import keep_gradients_after_evaluation

QUESTIONS = ["What comes after 3?", "Who are you?", "after the number"]
MERGED = [name for name, method in methods().items() if method.mergeable]


def answers(model, tokenizer, count=16):
    """Greedy, one question at a time, with nothing of the workbench but its chat template."""
    found = []
    for question in QUESTIONS:
        ids = torch.tensor([prompt_ids(tokenizer, [{"role": "user", "content": question}])])
        written = model.eval().generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=count,
            do_sample=False, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.eos_token_id,
        )  # fmt: skip
        found.append(written[0, ids.shape[1] :].tolist())
    return found


def own_model(run, base_dir):
    """The run's own model, as PEFT loads it, on the base as the method squeezes it."""
    method = methods()[run.config.method]
    if method.saves == "model":
        return AutoModelForCausalLM.from_pretrained(run.model_dir, dtype=torch.float32)
    base = AutoModelForCausalLM.from_pretrained(
        base_dir, dtype=torch.float32,
        quantization_config=Compute("cpu", "fp32").quantization(method.base),
    )  # fmt: skip
    if method.base == "nf4":  # as in training, on every CPU
        keep_gradients_after_evaluation(base)
    return peft.PeftModel.from_pretrained(base, run.model_dir)


def from_gguf(path):
    where = {"pretrained_model_name_or_path": path.parent, "gguf_file": path.name}
    model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32)
    return model, AutoTokenizer.from_pretrained(**where)


@pytest.mark.parametrize("method", MERGED)
def test_a_merged_model_answers_as_the_run_does(services, alpaca_file, model_dir, tmp_path, method):
    run = make_run(services, alpaca_file, model_dir, method)
    result = export(services, run, "merged", tmp_path / "merged")
    assert result.checks["distance"] < (0.15 if method == "lora-8bit" else 1e-4)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    expected = answers(own_model(run, model_dir), tokenizer)
    if method != "lora-8bit":  # in training what goes into a layer is rounded, too
        assert answers(merged, tokenizer) == expected
        assert result.checks["same_answers"] == result.checks["prompts"]
    base = AutoModelForCausalLM.from_pretrained(model_dir)
    assert answers(base, tokenizer) != expected
    config = json.loads((tmp_path / "merged" / "config.json").read_text())
    assert "quantization_config" not in config


@pytest.mark.parametrize("method", ["lora", "full"])
def test_adapter_merged_and_gguf_write_the_same_text(
    services, alpaca_file, model_dir, tmp_path, method
):
    run = make_run(services, alpaca_file, model_dir, method)
    export(services, run, "merged", tmp_path / "merged")
    export(services, run, "gguf", tmp_path / "merged.gguf")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    tokenizer = load_tokenizer(tmp_path / "merged")
    expected = answers(own_model(run, model_dir), tokenizer)
    assert answers(merged, tokenizer) == expected
    assert answers(*from_gguf(tmp_path / "merged.gguf")) == expected


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_a_gguf_of_a_bf16_base_is_the_merged_model(
    services, alpaca_file, bf16_dir, tmp_path, method
):
    run = make_run(services, alpaca_file, bf16_dir, method)
    export(services, run, "merged", tmp_path / "merged")
    result = export(services, run, "gguf", tmp_path / "merged.gguf")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert merged.dtype == torch.bfloat16  # that of the base
    tokenizer = load_tokenizer(tmp_path / "merged")
    model, gguf_tokenizer = from_gguf(tmp_path / "merged.gguf")
    assert answers(model, gguf_tokenizer) == answers(merged.float(), tokenizer)
    assert result.checks["gguf"]["distance"] < 1e-4  # bf16 fits into fp16
    assert gguf_tokenizer.chat_template == tokenizer.chat_template


def test_a_model_that_says_something_else_is_not_kept(run, services, tmp_path, monkeypatch):
    """The adapter is forgotten: what a careless merge would write."""
    monkeypatch.setattr(whole, "merge", lambda model, dtype, advance: model.unload())
    for kind, name in (("merged", "merged"), ("gguf", "merged.gguf"), ("ollama", "folder")):
        with pytest.raises(WorkbenchError, match="does not say what the tuned model says"):
            export(services, run, kind, tmp_path / name)
        assert not (tmp_path / name).exists()


@pytest.mark.parametrize("gguf_type", ["F16", "Q4_0"])
def test_a_file_that_says_something_else_is_not_kept(
    run, services, tmp_path, monkeypatch, gguf_type
):
    """Queries and keys in the order of transformers instead of llama.cpp's: the classic mistake."""
    monkeypatch.setattr(gguf_file, "_laid_out", lambda name, weight, config: weight)
    with pytest.raises(WorkbenchError, match="The GGUF file does not say"):
        export(services, run, "gguf", tmp_path / "merged.gguf", gguf_type=gguf_type)
    assert not (tmp_path / "merged.gguf").exists()


def test_what_rounding_would_swallow_is_told(services, alpaca_file, bf16_dir, tmp_path):
    run = make_run(services, alpaca_file, bf16_dir, scale=1e-5)
    with pytest.raises(WorkbenchError, match="little of it would be left"):
        export(services, run, "merged", tmp_path / "merged")


def test_4_bit_bases_are_merged_unpacked(services, alpaca_file, model_dir, tmp_path):
    """Every weight is the unpacked one plus the product of the two small ones, in fp32."""
    run = make_run(services, alpaca_file, model_dir, "qlora")
    export(services, run, "merged", tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").state_dict()
    own = own_model(run, model_dir)
    layer = own.base_model.model.model.layers[1].mlp.down_proj
    weight = layer.base_layer.weight
    from bitsandbytes.functional import dequantize_4bit

    unpacked = dequantize_4bit(weight.data, weight.quant_state).float()
    added = layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    expected = unpacked + layer.scaling["default"] * added
    torch.testing.assert_close(merged["model.layers.1.mlp.down_proj.weight"], expected.detach())


def test_merging_adds_in_fp32_and_rounds_once(services, alpaca_file, bf16_dir, tmp_path):
    run = make_run(services, alpaca_file, bf16_dir, scale=0.01)
    export(services, run, "merged", tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged").state_dict()
    own = own_model(run, bf16_dir).merge_and_unload().state_dict()  # all of it in fp32
    for name, weight in merged.items():
        assert torch.equal(weight, own[name].bfloat16()), name


@pytest.mark.parametrize("gguf_type", ["BF16", "Q8_0", "Q5_0", "Q4_0"])
def test_other_ways_of_keeping_weights(run, services, tmp_path, gguf_type):
    path = tmp_path / "small.gguf"
    result = export(services, run, "gguf", path, gguf_type=gguf_type)
    reader = gguf.GGUFReader(path)
    kinds = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    assert kinds["blk.0.attn_q.weight"] == gguf_type
    assert kinds["blk.0.attn_norm.weight"] == "F32"
    # llama.cpp, too, keeps embeddings finer than the rest.
    embeddings = "Q8_0" if gguf_type in ("Q5_0", "Q4_0") else gguf_type
    assert kinds["token_embd.weight"] == embeddings
    assert (
        reader.fields["general.file_type"].contents() == gguf.LlamaFileType[f"MOSTLY_{gguf_type}"]
    )
    assert result.checks["gguf"]["distance"] > 0
    told = [note for note in result.notes if "is coarse" in note]
    assert len(told) == (gguf_type in ("Q5_0", "Q4_0"))


ROPE = {
    "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 128,
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("untied", {"tie_word_embeddings": False}),
        ("llama3", {"rope_parameters": ROPE}),
        ("qwen2", {}),
        ("qwen3", {"head_dim": 128}),
    ],
)
def test_relatives_of_llama(services, alpaca_file, tmp_path, name, changes):
    base_dir = build_model(tmp_path / "base", **changes)
    if name.startswith("qwen"):
        other_architecture(base_dir, name, changes)
    run = make_run(services, alpaca_file, base_dir)
    result = export(services, run, "gguf", tmp_path / "x.gguf")
    assert result.checks["gguf"]["distance"] < 0.01
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(tmp_path / "x.gguf").tensors}
    assert ("output.weight" in tensors) == (name == "untied")
    if name == "llama3":  # as computed in llama.cpp's converter: 1, something between, the factor
        factors = tensors["rope_freqs.weight"].data
        assert factors[0] == pytest.approx(1.0)
        assert factors[-1] == pytest.approx(8.0)


def other_architecture(base_dir, name, changes):
    from transformers import AutoConfig

    sizes = AutoConfig.from_pretrained(base_dir).to_dict()
    kept = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers")
    kept += ("num_attention_heads", "num_key_value_heads", "max_position_embeddings")
    kept += ("tie_word_embeddings", "bos_token_id", "eos_token_id", "pad_token_id")
    values = {key: sizes[key] for key in kept} | {"initializer_range": 0.3} | changes
    torch.manual_seed(0)
    config = AutoConfig.for_model(name, **values)
    model = AutoModelForCausalLM.from_config(config)
    for parameter, weight in model.named_parameters():
        if parameter.endswith("bias"):  # zero in a new model, not in a real one
            torch.nn.init.normal_(weight, std=0.3)
    model.save_pretrained(base_dir)


def test_what_cannot_be_written_is_told_before_the_work(services, alpaca_file, tmp_path):
    base_dir = build_model(tmp_path / "base")
    run = make_run(services, alpaca_file, base_dir)
    rope = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}
    config = json.loads((base_dir / "config.json").read_text())
    (base_dir / "config.json").write_text(json.dumps(config | {"rope_parameters": rope}))
    with pytest.raises(WorkbenchError, match=r"llama, positions linear.*llama, mistral, qwen2"):
        export(services, run, "gguf", tmp_path / "x.gguf")


def test_an_export_for_ollama_is_whole(run, services, tmp_path):
    folder = tmp_path / "My Model"
    result = export(services, run, "ollama", folder)
    assert {path.name for path in folder.iterdir()} == {
        "model.gguf", "Modelfile", "README.md", "SHA256SUMS",
    }  # fmt: skip
    text = (folder / "Modelfile").read_text()
    assert text.startswith("FROM ./model.gguf\n")
    assert 'PARAMETER stop "<|im_end|>"' in text
    assert result.usage[1] == "ollama create my-model -f Modelfile"


def test_the_first_token_is_told(model_dir):
    from tokenizers.processors import TemplateProcessing

    tokenizer = load_tokenizer(model_dir)
    assert not adds_bos(tokenizer)
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", tokenizer.bos_token_id)]
    )
    assert adds_bos(tokenizer)


def test_three_lines_load_a_merged_model(run, services, tmp_path, capsys):
    result = export(services, run, "merged", tmp_path / "merged")
    exec("\n".join(result.usage).replace("=200", "=8"), {})
    assert capsys.readouterr().out.strip()


def test_layers_with_an_adapter_are_counted(run, model_dir):
    method = methods()["lora"]
    model = merging.load_adapter(model_dir, run.model_dir, method, Compute("cpu", "fp32"), 1.0)
    assert merging.layer_count(model) == 2 * 7
