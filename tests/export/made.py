"""Runs as training leaves them, of every method, without any training; and tokenizers that join letters."""

from __future__ import annotations

import json

import torch

from tests.made_runs import end_process, tell
from tests.tiny_model import CHAT_TEMPLATE, build_tiny_model
from workbench.asking.loading import standard_attention
from workbench.child_progress import ProgressWriter
from workbench.compute import Compute
from workbench.config import build_config
from workbench.export.job import Export
from workbench.export.process import make_request
from workbench.models.rendering import load_tokenizer
from workbench.training.loading import load_model
from workbench.training.methods import make_trainable, prepare_saving
from workbench.training.saving import save_model

TEXT = ["What comes after the number? The next number comes after it, of course." * 3]


def build_model(directory, dtype=torch.float32, **changes):
    """A tiny Llama whose tokenizer has merges, and whose answers do not hang on rounding."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|im_start|>", "<|im_end|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|im_start|>", eos_token="<|im_end|>",
        pad_token="<|im_end|>", chat_template=CHAT_TEMPLATE,
    )  # fmt: skip
    # Some embeddings have no token, as in Qwen's models.
    settings = {"initializer_range": 0.3, "vocab_size": len(fast) + 4}
    build_tiny_model(directory, **(settings | changes))
    fast.save_pretrained(directory)
    if dtype != torch.float32:
        AutoModelForCausalLM.from_pretrained(directory, dtype=dtype).save_pretrained(directory)
    return directory


SENTENCEPIECE_TEXT = [
    "What comes after the number? The next number comes after it, of course.",
    "the other one, and then another    and another\n\n    number = next(numbers)",
    "你好 你好吗 我很好 数字",
]


FIRST_TOKEN = "{{ bos_token }}"
TURNS = (
    "{% for message in messages %}[{{ message['role'] }}] {{ message['content'] }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


def build_sentencepiece_model(directory, template=FIRST_TOKEN + TURNS, *, legacy=False):
    """A tiny Llama with a tokenizer as Llama 2 and Mistral have: SentencePiece's merges, bytes for what it does not know."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from tokenizers.processors import TemplateProcessing
    from transformers import LlamaTokenizer
    from transformers.tokenization_utils_base import generate_merges

    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
    trained.decoder = decoders.Metaspace()
    trained.train_from_iterator(
        SENTENCEPIECE_TEXT * 3,
        trainers.BpeTrainer(vocab_size=240, show_progress=False, max_token_length=8),
    )
    learned = json.loads(trained.to_str())["model"]
    joined = list(dict.fromkeys("".join(pair) for pair in learned["merges"]))
    letters = [token for token in learned["vocab"] if len(token) == 1]
    # Any two tokens that make a third do so, the earlier ones first: SentencePiece knows no list of pairs.
    scores = {token: -place for place, token in enumerate([*joined, *letters])}
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *scores]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    made = LlamaTokenizer(
        vocab=vocabulary, merges=generate_merges(vocabulary, scores), legacy=legacy, chat_template=template,
    )  # fmt: skip
    made.add_special_tokens({"additional_special_tokens": ["<|tool|>"]})
    made.add_tokens([AddedToken("[note]", normalized=False)])
    made.pad_token = "</s>"
    made.backend_tokenizer.post_processor = TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", made.bos_token_id)]
    )
    # Some embeddings have no token.
    build_tiny_model(
        directory, initializer_range=0.3, vocab_size=len(made) + 4, bos_token_id=1, eos_token_id=2
    )
    made.save_pretrained(directory)
    path = directory / "tokenizer_config.json"  # transformers does not save this
    path.write_text(json.dumps(json.loads(path.read_text()) | {"legacy": legacy}))
    return directory


def make_run(services, file, model_dir, method="lora", name="tuned", scale=0.05):
    """A finished run of any method whose weights have moved."""
    values = {"model": str(model_dir), "method": method, "max_steps": 10, "max_length": 256}
    values |= {"lora_rank": 4, "learning_rate": 1e-3}
    if method == "freeze":
        values["trained_layers"] = 1
    data = services.choose_data({services.datasets.add(file, file.name).id: 1.0})
    plan = services.plan(build_config(values), data)
    run = services.create_run(plan, data, name)
    tell(run)
    end_process(run)
    save(run, model_dir, scale)
    return run


def save(run, model_dir, scale):
    torch.manual_seed(1)
    model, _ = load_model(model_dir, run.config, Compute("cpu", "fp32"))
    model = make_trainable(model, run.config, 10)
    saving = prepare_saving(model, run.config, run.directory / "initial")
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(scale * torch.randn_like(weight))
    base = getattr(model, "get_base_model", lambda: model)()
    base.set_attn_implementation(standard_attention(base))
    save_model(model, load_tokenizer(model_dir), run, model_dir, saving)


def export(services, run, kind, out, **choices):
    """Export in this very process."""
    request = make_request(kind, out, **choices)
    progress = ProgressWriter(run.directory / "progress.jsonl")
    return Export(run, request, services.settings, progress, lambda: False).work()
