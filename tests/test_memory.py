import pytest

from workbench.config import RECOMPUTED_SHARES, build_config
from workbench.memory import Shape, estimate_memory, trained_weights
from workbench.models.catalogue import catalogue
from workbench.models.facts import ModelFacts
from workbench.presets import methods

STARTER = catalogue()["smollm2-135m-instruct"]
FACTS = ModelFacts(STARTER.parameters, STARTER.architecture)


def estimate(method="lora", tokens=2000, facts=FACTS, **changes):
    given = {"device": "cpu", "precision": "fp32", "recomputed_share": 0.0} | changes
    return estimate_memory(
        build_config({"method": method, "trained_layers": 4, "virtual_tokens": 20}),
        facts,
        methods()[method],
        micro_batch_tokens=tokens,
        supervised_tokens=round(0.66 * tokens),
        longest_row_tokens=256,
        shared_start=0,
        **given,
    )


@pytest.mark.parametrize("model_id", catalogue())
def test_the_sizes_of_a_model_give_its_number_of_weights(model_id):
    entry = catalogue()[model_id]
    assert Shape.of(entry.architecture).weights == pytest.approx(entry.parameters, rel=0.002)


# Measured with two real steps on 2 CPU cores (bf16: with AVX512-BF16, 8 rows of one length), freed memory handed back; see
# the benchmark.
@pytest.mark.parametrize(
    ("method", "tokens", "precision", "measured_bytes"),
    [
        ("lora", 1208, "fp32", 2.75e9),
        ("lora", 1988, "fp32", 4.01e9),
        ("lora", 1916, "fp32", 3.90e9),
        ("full", 1208, "fp32", 3.79e9),
        ("lora", 1034, "bf16", 1.4e9),
        ("lora", 1962, "bf16", 2.3e9),
        ("lora", 3802, "bf16", 4.1e9),
        ("qlora", 1034, "bf16", 1.5e9),
        ("qlora", 1962, "bf16", 2.3e9),
        ("qlora", 3802, "bf16", 4.2e9),
        ("full", 1034, "bf16", 3.2e9),
        ("full", 1962, "bf16", 4.0e9),
    ],
)
def test_the_estimate_is_within_a_fifth_of_what_was_measured(
    method, tokens, precision, measured_bytes
):
    peak = estimate(method, tokens, precision=precision).peak_bytes
    assert peak == pytest.approx(measured_bytes, rel=0.2)


def test_what_saves_memory_saves_memory():
    plain = estimate().peak_bytes
    assert estimate(recomputed_share=1.0).peak_bytes < 0.6 * plain
    assert estimate(tokens=1000).peak_bytes < 0.65 * plain
    assert estimate("qlora").weights < 0.4 * estimate().weights
    assert estimate("full").peak_bytes > plain
    assert estimate("galore").learning < estimate("full").learning
    assert estimate(device="cuda", precision="bf16").peak_bytes < 0.7 * plain


@pytest.mark.parametrize("model_id", catalogue())
def test_every_further_share_of_layers_computed_twice_saves_memory(model_id):
    entry = catalogue()[model_id]
    facts = ModelFacts(entry.parameters, entry.architecture)
    peaks = [
        estimate(facts=facts, recomputed_share=share).peak_bytes
        for share in RECOMPUTED_SHARES.values()
    ]
    assert peaks == sorted(peaks, reverse=True)
    assert len(set(peaks)) == len(peaks)


def test_half_the_layers_computed_twice_leave_half_the_activations():
    whole, half = (estimate(recomputed_share=share).activations for share in (0.0, 0.5))
    entering = 15 * 2000 * 576 * 4  # of 30 layers; 2,000 tokens of 576 numbers in fp32
    assert half == whole / 2 + entering


def test_what_the_heads_gradient_is_made_of_is_not_planned_where_logits_are_bent():
    """Then it is made of all words, of which nothing is copied."""
    entry = catalogue()["gemma-2-2b-it"]
    straight = {k: v for k, v in entry.architecture.items() if k != "final_logit_softcapping"}
    bent, other = (
        estimate(facts=ModelFacts(entry.parameters, sizes), precision="bf16").peak_bytes
        for sizes in (entry.architecture, straight)
    )
    assert other - bent == pytest.approx(2 * 0.4 * 256_000 * (512 + 2304))


def test_a_model_whose_files_are_squeezed_is_as_small_in_memory():
    sizes = catalogue()["qwen2.5-7b-instruct"].architecture

    def weights(method, **squeezed):
        facts = ModelFacts(7_600_000_000, sizes | squeezed)
        on_gpu = {"device": "cuda", "precision": "bf16", "recomputed_share": 0.0}
        tokens = {
            "micro_batch_tokens": 2000,
            "supervised_tokens": 1000,
            "longest_row_tokens": 256,
            "shared_start": 0,
        }
        options = tokens | on_gpu
        config = build_config({"method": method})
        return estimate_memory(config, facts, methods()[method], **options).weights

    in_4_bits = weights("lora", quantization_config={"load_in_4bit": True})
    assert in_4_bits == weights("qlora") < 0.4 * weights("lora")
    in_8_bits = weights("lora", quantization_config={"load_in_8bit": True})
    assert in_8_bits == weights("lora-8bit")
    assert weights("lora", quantization_config=None) == weights("lora")


@pytest.mark.parametrize("method", methods())
def test_every_method_has_an_estimate(method):
    config = build_config({"method": method, "trained_layers": 4, "virtual_tokens": 20})
    learning = trained_weights(Shape.of(FACTS.architecture), config)
    assert 0 < learning <= 1.01 * STARTER.parameters
    assert estimate(method).peak_bytes > 1e8


def test_freeze_counts_what_its_names_stand_for():
    def learn(parts):
        config = build_config({"method": "freeze", "trained_layers": 4, "trained_parts": parts})
        return trained_weights(Shape.of(FACTS.architecture), config)

    of_layer = Shape.of(FACTS.architecture).layer_weights
    assert learn("layers") == 4 * of_layer
    assert learn("self_attn,mlp") == learn("unheard_of") == 30 * of_layer
    assert learn("mlp") == learn("gate_proj,up_proj,down_proj") == 30 * 3 * 576 * 1536
    assert learn("q_proj,lm_head") == 30 * 576 * 576 + 49_152 * 576
    assert learn("input_layernorm") == 0


def test_a_method_without_a_formula_is_an_error_and_not_taken_for_lora():
    unknown = build_config({}).model_copy(update={"method": "unheard-of"})
    with pytest.raises(KeyError, match="unheard-of"):
        trained_weights(Shape.of(FACTS.architecture), unknown)


def test_a_model_whose_sizes_are_not_known_has_no_estimate():
    facts = ModelFacts(1, {"model_type": "mystery"})
    config = build_config({})
    assert (
        estimate_memory(
            config,
            facts,
            methods()["lora"],
            micro_batch_tokens=1,
            supervised_tokens=1,
            longest_row_tokens=1,
            shared_start=0,
            device="cpu",
            precision="fp32",
            recomputed_share=0.0,
        )
        is None
    )
