"""The short way through a model gives what the model gives."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, PeftModel, PrefixTuningConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from workbench.asking import products, quick
from workbench.asking.products import WAYS, Way, as_rows, as_vectors, fastest_way, in_parts
from workbench.compute import Compute

PROMPT = torch.tensor([[5, 6, 7, 8, 9]])
PARTS = Way(torch.float32, in_parts)
TOKENS = 6
SIZES = {
    "vocab_size": 64, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 64,
}  # fmt: skip


def quick_model(model, way=PARTS):
    return quick.quick_model(model, way)


def written(model, compute=None, prompt=PROMPT):
    """Return the logits of every token of an answer."""
    with torch.inference_mode(), (compute or Compute("cpu", "fp32")).autocast():
        made = model.generate(
            prompt, max_new_tokens=TOKENS, min_new_tokens=TOKENS, do_sample=False, eos_token_id=0,
            return_dict_in_generate=True, output_logits=True,
        )  # fmt: skip
    return torch.cat(made.logits).float()


def quickly(model, short, adapter=None, compute=None, prompt=PROMPT, beside=()):
    """Return the same, written the short way; ``beside`` are answers that are written along with it."""
    with torch.inference_mode(), (compute or Compute("cpu", "fp32")).autocast():
        read = model(input_ids=prompt, use_cache=True)
        found, factors = [read.logits[:, -1].float()], short.prepare(adapter)
        for _ in range(TOKENS - 1):
            found[-1][:, 0] = -torch.inf  # as min_new_tokens does
            row = quick.QuickRow(int(found[-1].argmax()), read.past_key_values, factors)
            found.append(short.step([*beside, row])[-1:])
    return torch.cat(found)


def with_lora(base, tmp_path, **changes):
    options = {"r": 4, "lora_alpha": 12, "task_type": "CAUSAL_LM", "target_modules": "all-linear"}
    made = get_peft_model(base, LoraConfig(**options | changes))
    torch.manual_seed(1)
    for weight in made.parameters():
        if weight.requires_grad:
            torch.nn.init.normal_(weight, std=0.2)
    made.save_pretrained(tmp_path / "adapter")
    return made.eval()


def tiny(directory, dtype=torch.float32):
    return AutoModelForCausalLM.from_pretrained(directory, dtype=dtype).eval()


def assert_same(found, expected):
    """Compare logits; those of the token that ends an answer were not allowed."""
    torch.testing.assert_close(found[:, 1:], expected[:, 1:], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "v_proj"], ["down_proj"]])
def test_an_adapter_and_no_adapter_answer_as_before(tiny_model_dir, tmp_path, targets):
    model = with_lora(tiny(tiny_model_dir), tmp_path, target_modules=targets)
    tuned = written(model)
    with model.disable_adapter():
        base = written(model)
        short = quick_model(model)
    assert_same(quickly(model, short, "default"), tuned)
    with model.disable_adapter():
        assert_same(quickly(model, short), base)
    assert not torch.allclose(tuned, base, atol=1e-2)


def test_answers_beside_each_other_have_each_its_own_adapter(tiny_model_dir, tmp_path):
    model = with_lora(tiny(tiny_model_dir), tmp_path)
    tuned = written(model)
    with model.disable_adapter(), torch.inference_mode():
        short = quick_model(model)
        base = written(model)
        longer = model(input_ids=torch.arange(5, 30)[None], use_cache=True).past_key_values
        factors = short.prepare(None)
    other = quick.QuickRow(7, longer, factors)
    assert_same(quickly(model, short, "default", beside=[other]), tuned)
    assert longer.get_seq_length() == 25 + TOKENS - 1
    with model.disable_adapter():
        other = quick.QuickRow(7, longer, short.prepare("default"))
        assert_same(quickly(model, short, beside=[other]), base)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: f"{way.dtype}-{way.times.__name__}")
def test_bf16_rounds_no_more_than_the_models_own_way(tiny_model_dir, tmp_path, way):
    compute = Compute("cpu", "bf16")
    adapter = with_lora(tiny(tiny_model_dir), tmp_path)
    exact = written(adapter)
    model = PeftModel.from_pretrained(tiny(tiny_model_dir, way.dtype), tmp_path / "adapter").eval()
    own_way = written(model, compute)
    with compute.autocast(), model.disable_adapter():
        short = quick_model(model, way)
    short_way = quickly(model, short, "default", compute)
    error = (own_way[:2] - exact[:2])[:, 1:].abs().max()
    # Later tokens may differ.
    assert (short_way[:2] - exact[:2])[:, 1:].abs().max() <= 1.5 * error


def test_strength_counts(tiny_model_dir, tmp_path):
    model = with_lora(tiny(tiny_model_dir), tmp_path)
    with model.disable_adapter():
        short = quick_model(model)
    for module in model.modules():
        if isinstance(module, LoraLayer):
            module.scaling["default"] *= 0.5
    half = written(model)
    assert_same(quickly(model, short, "default"), half)


def test_an_adapter_that_is_more_than_a_sum_has_no_short_way(tiny_model_dir, tmp_path):
    model = with_lora(tiny(tiny_model_dir), tmp_path, use_dora=True)
    with model.disable_adapter():
        short = quick_model(model)
    assert short.prepare("default") is None
    assert short.prepare(None) is not None


def test_weights_are_there_once_and_still_the_same(tiny_model_dir):
    model = tiny(tiny_model_dir)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    assert quick_model(model)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, before[name])
    attention = model.model.layers[0].self_attn
    q, k = attention.q_proj.weight, attention.k_proj.weight
    assert k.data_ptr() == q.data_ptr() + q.nbytes


def test_weights_that_were_moved_since_are_read_where_they_are(tiny_model_dir):
    model = tiny(tiny_model_dir)
    short = quick_model(model)
    weight = model.model.layers[0].self_attn.k_proj.weight
    weight.data = weight.data * 1.5
    assert_same(quickly(model, short), written(model))


def test_a_model_with_biases_is_quick():
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(Qwen2Config(**SIZES)).eval()
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(weight)
    assert_same(quickly(model, quick_model(model)), written(model))


def test_other_kinds_of_model_are_left_alone():
    gemma = Gemma2ForCausalLM(Gemma2Config(**SIZES, query_pre_attn_scalar=16)).eval()
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=64, n_embd=64, n_layer=2, n_head=4)).eval()
    sizes = {"vocab_size": 64, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2}
    neox = GPTNeoXForCausalLM(GPTNeoXConfig(**sizes, num_attention_heads=4)).eval()
    assert quick_model(neox) is None
    assert quick_model(gemma) is None
    assert quick_model(gpt2) is None


def test_layers_that_would_say_something_else_are_left_alone(tiny_model_dir, monkeypatch):
    model = tiny(tiny_model_dir)
    model.model.layers[0].mlp.forward = lambda x: x  # it has the parts, and does not use them
    assert quick_model(model) is None


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("outputs", [64, 63])  # one can be parted, the other cannot
@pytest.mark.parametrize("times", [in_parts, as_rows, as_vectors])
def test_every_way_multiplies(rows, outputs, times):
    weight, x = torch.randn(outputs, 32), torch.randn(rows, 32)
    torch.testing.assert_close(times(weight, x), x @ weight.T)


def test_the_fastest_way_is_taken_and_the_exact_one_where_it_is_nearly_as_fast(monkeypatch):
    clock, costs = [0.0], {}

    def way(dtype, name):
        def times(weight, x):
            clock[0] += costs[name]

        return Way(dtype, times)

    ways = [way(torch.float32, "exact"), way(torch.float32, "slow"), way(torch.bfloat16, "short")]
    monkeypatch.setattr(products, "WAYS", ways)
    monkeypatch.setattr(products.time, "perf_counter", lambda: clock[0])
    costs |= {"exact": 1.0, "slow": 3.0, "short": 0.9}
    both = [torch.float32, torch.bfloat16]
    assert fastest_way(both, 8, 16) is ways[0]
    costs["short"] = 0.5
    assert fastest_way(both, 8, 16) is ways[2]
    assert fastest_way([torch.float32], 8, 16) is ways[0]


def test_an_answer_longer_than_the_room_in_the_cache(tiny_model_dir, monkeypatch):
    monkeypatch.setattr(quick, "ROOM_TOKENS", 2)
    model = tiny(tiny_model_dir)
    for prompt in (PROMPT, PROMPT[:, :1]):
        plain = written(model, prompt=prompt)
        assert_same(quickly(model, quick_model(model), prompt=prompt), plain)


def test_a_cache_that_forgets_is_left_to_forget():
    torch.manual_seed(0)
    sizes = SIZES | {"sliding_window": 4, "use_sliding_window": True, "max_window_layers": 0}
    model = Qwen2ForCausalLM(Qwen2Config(**sizes)).eval()
    assert_same(quickly(model, quick_model(model)), written(model))


def test_what_sees_or_turns_otherwise_has_no_short_way(tmp_path):
    torch.manual_seed(0)
    sizes = SIZES | {"sliding_window": 4, "use_sliding_window": True, "max_window_layers": 0}
    prefix = PrefixTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM")
    for changes, is_quick in ((SIZES, True), (sizes, False)):
        model = get_peft_model(Qwen2ForCausalLM(Qwen2Config(**changes)), prefix).eval()
        with model.disable_adapter():
            assert (quick_model(model) is not None) == is_quick
    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10_000.0}
    model = Qwen2ForCausalLM(Qwen2Config(**SIZES, rope_parameters=rope)).eval()
    assert quick_model(model) is None
